"""People's own words for a model: pasted or uploaded, judged, and cleaned when they agree."""

from __future__ import annotations

from typing import Any, Literal

import gradio as gr

from m2v_core.distillation.vocabulary import (
    CleanedVocabulary,
    VocabularyFile,
    check_length,
    clean_vocabulary,
    open_vocabulary,
    split_entries,
)
from m2v_core.errors import VocabularyError
from m2v_core.studio.space.settings import current_limits
from pages.components import notice, shows_errors
from pages.components.column_picker import chosen_column, columns_of, question
from pages.html import Markup, render

Source = Literal["paste", "upload"]

_PREVIEW_WORDS = 12


def _no_file(message: str) -> tuple[Any, str, Any, bool]:
    return columns_of(None), message, gr.Button(visible=False), False


def _no_words(message: str) -> tuple[Any, str, Any, bool]:
    return gr.skip(), message, gr.Button(visible=False), False


@shows_errors("This file can't be used", _no_file)
def lint_file(upload: str | None) -> tuple[Any, str, Any, bool]:
    """What the page says of a new file: its columns to pick from, and the judgement on the words."""
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
    """What the page says of the words, and whether it offers to clean them."""
    cleaned = read_words(source, pasted, upload, column)
    report = "" if cleaned is None else report_html(cleaned, _file_note(source, upload))
    if cleaned is None:
        return _no_words(report)
    n_problems = len(cleaned.problems)
    button = gr.Button(f"Clean: keep {len(cleaned.words):,}, leave out {n_problems:,}", visible=n_problems > 0)
    return gr.skip(), report, button, False


@shows_errors("These words can't be cleaned", _no_words)
def clean_words(
    source: Source, pasted: str | None, upload: str | None, column: str | None
) -> tuple[Any, str, Any, bool]:
    """The words without the unusable ones: in the box where they were pasted, or noted for the upload."""
    cleaned = read_words(source, pasted, upload, column)
    if cleaned is None:
        return _no_words("")
    kept = CleanedVocabulary(cleaned.words, [])
    note = f"{len(cleaned.problems):,} left out." if source == "upload" else ""
    text = "\n".join(cleaned.words) if source == "paste" else gr.skip()
    return text, report_html(kept, note), gr.Button(visible=False), True


def report_html(cleaned: CleanedVocabulary, note: str = "") -> Markup:
    """How many words there are, what is wrong with the others, and the first ones to recognise them by."""
    n_words = f"{len(cleaned.words):,} " + ("entry" if len(cleaned.words) == 1 else "entries")
    title = f"{n_words} ready" if not cleaned.problems else f"{n_words} usable, {len(cleaned.problems):,} not"
    shown = [_short(word) for word in cleaned.words[:_PREVIEW_WORDS]]
    preview = render("words.html", words=shown, has_more=len(cleaned.words) > _PREVIEW_WORDS)
    paragraphs = [*cleaned.summary(), *([note] if note else [])]
    kind: Literal["info", "good"] = "info" if cleaned.problems else "good"
    return notice(kind, title, paragraphs) + preview


def usable_words(
    source: Source, pasted: str | None, upload: str | None, column: str | None, is_cleaned: bool
) -> list[str]:
    """The words to distil.

    Raises:
        VocabularyError: There are none, or they have problems that nobody has agreed to leave out.
    """
    cleaned = read_words(source, pasted, upload, column)
    if cleaned is None:
        what = "Paste some words" if source == "paste" else "Upload a file"
        raise VocabularyError(f"There are no words yet. {what}, or choose the subwords of the teacher.")
    if cleaned.problems and not is_cleaned:
        n_problems = len(cleaned.problems)
        entries = "1 entry" if n_problems == 1 else f"{n_problems:,} entries"
        raise VocabularyError(f"{entries} of your vocabulary can't be used. Press Clean to leave them out.")
    return cleaned.words


def read_words(source: Source, pasted: str | None, upload: str | None, column: str | None) -> CleanedVocabulary | None:
    """The words as they are there, cleaned; None where there are none yet.

    Raises:
        VocabularyError: The file can't be read, or nobody has said which column holds the words.
        LimitError: There are more than are allowed here.
    """
    most = current_limits().vocabulary_words
    if source == "paste":
        if not pasted or not pasted.strip():
            return None
        cleaned = clean_vocabulary(split_entries(pasted, most))
    elif upload is None:
        return None
    else:
        vocabulary_file: VocabularyFile = open_vocabulary(upload, most)
        entries = vocabulary_file.entries(chosen_column(vocabulary_file, column))
        cleaned = clean_vocabulary(entries, vocabulary_file.first_line)
    check_length(len(cleaned.words), most)
    return cleaned


def _file_note(source: Source, upload: str | None) -> str:
    if source == "paste" or upload is None:
        return ""
    return open_vocabulary(upload, current_limits().vocabulary_words).warning() or ""


def _short(word: str) -> str:
    return word if len(word) <= 24 else word[:23] + "…"
