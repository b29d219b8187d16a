"""A person's own documents: read, kept until they forget them, and found again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import gradio as gr

from m2v_core.distillation.vocabulary import open_vocabulary
from m2v_core.encoder.texts import well_formed
from m2v_core.errors import LimitError, M2VError
from m2v_core.studio.jobs.kept_texts import KeptTexts
from m2v_core.studio.space.settings import current_limits
from pages.components import Values, data_folder, error_notice, notice, shows_errors
from pages.components.column_picker import chosen_column, columns_of, question
from pages.components.teacher_side import Documents

_MAX_SHOWN_CHARACTERS = 200_000  # of kept texts; more are ready all the same, but no text box likes them
_DAY_SECONDS = 24 * 3600


@functools.cache
def kept_texts() -> KeptTexts:
    """The documents that people have put in, as long as they are kept."""
    return KeptTexts(data_folder() / "documents", current_limits().documents_kept_days * _DAY_SECONDS)


def take_documents(
    owner: str | None,
    source: str,
    pasted: str,
    upload: str | None,
    column: str | None = None,
    is_emptied: bool = False,
) -> tuple[Documents | None, str, Any]:
    """A person's documents, kept for the next time they open the page; what the page says, and whether to forget.

    Pasted texts and an uploaded file are kept side by side, so that looking at one way in gives up nothing of the
    other.

    Args:
        source: The way in that is shown, "paste" or "upload".
        pasted: What its box holds.
        upload: The uploaded file.
        column: The column that was picked of it, if it is a table.
        is_emptied: Whether the person has just emptied it, and doesn't merely look at an empty one.
    """
    documents, report = read_documents(source, pasted, upload, column)
    is_empty = documents is None and not report
    try:
        if owner and documents is not None:
            kept_texts().keep(documents.texts, _slot(owner, source))
            kept_texts().keep([source], _slot(owner, "source"))
        elif owner and is_empty and is_emptied:
            kept_texts().forget(_slot(owner, source))
        elif owner and is_empty:
            documents, report = _kept_documents(owner, source)
    except M2VError as error:  # they can be searched all the same
        report += error_notice(error, "These documents will be gone after a refresh")
    return documents, report, gr.Button(visible=documents is not None)


def find_documents(owner: str | None) -> Values:
    """What the page shows when it opens: the documents that are still there."""
    last = kept_texts().find(_slot(owner, "source")) if owner else []
    said = ""
    for source in ("upload", "paste") if last == ["upload"] else ("paste", "upload"):
        documents, report = _kept_documents(owner, source) if owner else (None, "")
        if documents is not None:
            text = "\n".join(documents.texts)
            is_shown = source == "paste" and len(text) <= _MAX_SHOWN_CHARACTERS
            pasted = {"pasted": text} if is_shown else {}
            return {"source": source, **pasted, **_taken(documents, report)}
        said = said or report
    return _taken(None, said)


def _taken(documents: Documents | None, report: str) -> Values:
    return {"documents": documents, "report": report, "forget": gr.Button(visible=documents is not None)}


def forget_documents(owner: str | None, source: str) -> Values:
    """What the page shows once the server has removed what came by one way in."""
    if owner:
        kept_texts().forget(_slot(owner, source))
    emptied: Values = {"pasted": ""} if source == "paste" else {"upload": None, "column": columns_of(None)}
    return emptied | _taken(None, "")


def _slot(owner: str, source: str) -> str:
    """Under whose name texts are kept that came by one way; no owner's name has a stroke in it."""
    return owner if source == "paste" else f"{owner}/{source}"


def _kept_documents(owner: str, source: str) -> tuple[Documents | None, str]:
    try:
        documents = as_documents(kept_texts().find(_slot(owner, source)))
    except M2VError as error:  # the limit was higher once
        return None, error_notice(error, "The documents kept from the last time can't be used")
    if documents is None:
        return None, ""
    return documents, _ready(documents, ["Kept from the last time you were here."])


def _ready(documents: Documents, more: Sequence[str]) -> str:
    n_texts = len(documents.texts)
    return notice("good", f"{n_texts:,} {'text' if n_texts == 1 else 'texts'} ready", more)


@shows_errors("These documents can't be used", lambda message: (None, message))
def read_documents(
    source: str, pasted: str, upload: str | None, column: str | None = None
) -> tuple[Documents | None, str]:
    """A person's documents, and what the page says of them."""
    note = ""
    if source == "paste":
        lines = pasted.splitlines()
    elif upload is None:
        lines = []
    else:
        file = open_vocabulary(upload)
        chosen = chosen_column(file, column)
        if file.columns and chosen is None:
            return None, question("texts")
        lines = file.entries(chosen)
        note = " ".join(filter(None, [f"From the column {chosen!r}." if chosen else "", file.warning()]))
    documents = as_documents(lines)
    if documents is None:
        return None, ""
    return documents, _ready(documents, [note] if note else [])


def as_documents(lines: Sequence[str]) -> Documents | None:
    """The lines that hold text; None if there are none.

    Raises:
        LimitError: There are more than `spaces.yaml` allows.
    """
    texts = tuple(line.strip() for line in well_formed(list(lines)) if line.strip())
    if not texts:
        return None
    allowed = current_limits().documents
    if len(texts) > allowed:
        raise LimitError(
            f"These are {len(texts):,} texts, and {allowed:,} can be searched here at once. Leave some out, "
            "or search them with m2v_core.exploration.neighbors.DocumentNeighbors, which has no limit."
        )
    digest = hashlib.sha256("\n".join(texts).encode())
    return Documents(texts, digest.hexdigest())
