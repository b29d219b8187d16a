"""Users' vocabularies: pasted or uploaded, validated, and cleaned on request."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

import gradio as gr

from m2v_core.distillation.vocabulary import (
    CleanedVocabulary,
    VocabularyFile,
    check_length,
    clean_lines,
    open_vocabulary,
    split_entries,
)
from m2v_core.distillation.word_lists import languages
from m2v_core.errors import MissingExtraError, VocabularyError
from m2v_core.studio.space.settings import current_limits
from pages.components import notice, shows_errors
from pages.components.column_picker import chosen_column, columns_of, question
from pages.html import Markup, render

Source = Literal["paste", "upload", "language", "corpus"]

_PREVIEW_WORDS = 12


def _no_file(message: str) -> tuple[Any, str, Any, bool]:
    return columns_of(None), message, gr.Button(visible=False), False


def _no_words(message: str) -> tuple[Any, str, Any, bool]:
    return gr.skip(), message, gr.Button(visible=False), False


@shows_errors("This file can't be used", _no_file)
def lint_file(upload: str | None) -> tuple[Any, str, Any, bool]:
    """Validate a new file; update the column field, message and Clean button."""
    if upload is None:
        return _no_file("")
    vocabulary_file = open_vocabulary(upload, current_limits().vocabulary_words)
    picker = columns_of(vocabulary_file)
    if vocabulary_file.columns and vocabulary_file.default_column is None:
        return picker, question("words"), gr.Button(visible=False), False
    _, *rest = lint("upload", "", upload, vocabulary_file.default_column)
    return picker, *rest


@shows_errors("These words can't be used", _no_words)
def lint(source: Source, pasted: str | None, upload: str | None, column: str | None) -> tuple[Any, str, Any, bool]:
    """Validate the words; update the message and Clean button."""
    cleaned = read_words(source, pasted, upload, column)
    report = "" if cleaned is None else report_html(cleaned, _file_note(source, upload))
    if cleaned is None:
        return _no_words(report)
    n_problems = len(cleaned.problems)
    button = gr.Button(f"Clean: keep {len(cleaned.words):,}, skip {n_problems:,}", visible=n_problems > 0)
    return gr.skip(), report, button, False


@shows_errors("These words can't be cleaned", _no_words)
def clean_words(
    source: Source, pasted: str | None, upload: str | None, column: str | None
) -> tuple[Any, str, Any, bool]:
    """Remove invalid words from the text box, or mark the upload as cleaned."""
    cleaned = read_words(source, pasted, upload, column)
    if cleaned is None:
        return _no_words("")
    valid = CleanedVocabulary(cleaned.words, [], cleaned.counts_by_word)
    note = f"{len(cleaned.problems):,} skipped." if source == "upload" else ""
    text = "\n".join(cleaned.lines()) if source == "paste" else gr.skip()
    return text, report_html(valid, note), gr.Button(visible=False), True


def report_html(cleaned: CleanedVocabulary, note: str = "") -> Markup:
    """Show the number of valid words, the problems of the others, and a preview."""
    n_words = f"{len(cleaned.words):,} " + ("entry" if len(cleaned.words) == 1 else "entries")
    title = f"{n_words} ready" if not cleaned.problems else f"{n_words} valid, {len(cleaned.problems):,} invalid"
    shown = [_short(word) for word in cleaned.words[:_PREVIEW_WORDS]]
    preview = render("words.html", words=shown, has_more=len(cleaned.words) > _PREVIEW_WORDS)
    counted = "The counts determine the weight of each word." if cleaned.counts_by_word is not None else ""
    paragraphs = [*cleaned.summary(), *filter(None, [counted, note])]
    kind: Literal["info", "good"] = "info" if cleaned.problems else "good"
    return notice(kind, title, paragraphs) + preview


def vocabulary_lines(
    source: Source, pasted: str | None, upload: str | None, column: str | None, is_cleaned: bool
) -> list[str]:
    """Return the vocabulary as lines of a job, `word<TAB>count` if the words have counts.

    Raises:
        VocabularyError: There are no words, or some are invalid and the user has not cleaned them.
    """
    cleaned = read_words(source, pasted, upload, column)
    if cleaned is None:
        what = "Paste some words" if source == "paste" else "Upload a file"
        raise VocabularyError(f"There are no words yet. {what}, or choose the teacher's vocabulary.")
    if cleaned.problems and not is_cleaned:
        n_problems = len(cleaned.problems)
        entries = "1 entry" if n_problems == 1 else f"{n_problems:,} entries"
        raise VocabularyError(f"{entries} of your vocabulary can't be used. Click Clean to skip them.")
    return cleaned.lines()


def read_words(source: Source, pasted: str | None, upload: str | None, column: str | None) -> CleanedVocabulary | None:
    """Parse and clean the words; None if there are none yet, or if the vocabulary is automatic.

    Raises:
        VocabularyError: The file is invalid, or the user has to choose a column.
        LimitError: There are more words than allowed.
    """
    most = current_limits().vocabulary_words
    if source in ("language", "corpus"):
        return None
    if source == "paste":
        if not pasted or not pasted.strip():
            return None
        cleaned = clean_lines(split_entries(pasted, most))
    elif upload is None:
        return None
    else:
        vocabulary_file: VocabularyFile = open_vocabulary(upload, most)
        cleaned = vocabulary_file.cleaned(chosen_column(vocabulary_file, column))
    check_length(len(cleaned.words), most)
    return cleaned


def language_choices() -> list[tuple[str, str]]:
    """Choices of languages with word lists; without wordfreq only the teacher's."""
    choices = [("The teacher's language", "auto")]
    with suppress(MissingExtraError):
        choices += [(code, f"auto:{code}") for code in languages()]
    return choices


def _file_note(source: Source, upload: str | None) -> str:
    if source == "paste" or upload is None:
        return ""
    return open_vocabulary(upload, current_limits().vocabulary_words).warning() or ""


def _short(word: str) -> str:
    return word if len(word) <= 24 else word[:23] + "…"
