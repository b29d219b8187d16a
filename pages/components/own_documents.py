"""Users' documents: parsed, stored on the server for a while, and restored after a page reload."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import gradio as gr

from m2v_core.distillation.vocabulary import open_vocabulary
from m2v_core.encoder.texts import well_formed
from m2v_core.errors import LimitError, M2VError
from m2v_core.studio.jobs.text_store import TextStore
from m2v_core.studio.space.settings import current_limits
from pages.components import Values, data_folder, error_notice, notice, shows_errors
from pages.components.column_picker import chosen_column, columns_of, question
from pages.components.teacher_side import Documents

_MAX_SHOWN_CHARACTERS = 200_000  # of restored texts in the text box; longer texts are searchable but not shown
_DAY_SECONDS = 24 * 3600


@functools.cache
def text_store() -> TextStore:
    """The store of users' documents."""
    return TextStore(data_folder() / "documents", current_limits().documents_kept_days * _DAY_SECONDS)


def load_documents(
    owner: str | None,
    source: str,
    pasted: str,
    upload: str | None,
    column: str | None = None,
    is_emptied: bool = False,
) -> tuple[Documents | None, str, Any]:
    """Parse and store a user's documents; return them, a message, and an update of the Delete button.

    Pasted texts and an uploaded file are stored separately, so that switching the source keeps both.

    Args:
        source: The selected source, "paste" or "upload".
        pasted: The pasted text.
        upload: The uploaded file.
        column: The selected column, if the file is a table.
        is_emptied: Whether the user has just cleared the field, as opposed to opening an empty one.
    """
    documents, report = read_documents(source, pasted, upload, column)
    is_empty = documents is None and not report
    try:
        if owner and documents is not None:
            text_store().put(documents.texts, _slot(owner, source))
            text_store().put([source], _slot(owner, "source"))
        elif owner and is_empty and is_emptied:
            text_store().delete(_slot(owner, source))
        elif owner and is_empty:
            documents, report = _stored_documents(owner, source)
    except M2VError as error:  # they are still searchable
        report += error_notice(error, "These documents could not be stored and will be lost when you reload the page")
    return documents, report, gr.Button(visible=documents is not None)


def find_documents(owner: str | None) -> Values:
    """Restore the documents when the page opens."""
    last = text_store().get(_slot(owner, "source")) if owner else []
    message = ""
    for source in ("upload", "paste") if last == ["upload"] else ("paste", "upload"):
        documents, report = _stored_documents(owner, source) if owner else (None, "")
        if documents is not None:
            text = "\n".join(documents.texts)
            is_shown = source == "paste" and len(text) <= _MAX_SHOWN_CHARACTERS
            pasted = {"pasted": text} if is_shown else {}
            return {"source": source, **pasted, **_documents_values(documents, report)}
        message = message or report
    return _documents_values(None, message)


def _documents_values(documents: Documents | None, report: str) -> Values:
    return {"documents": documents, "report": report, "forget": gr.Button(visible=documents is not None)}


def delete_documents(owner: str | None, source: str) -> Values:
    """Delete the stored documents of one source, and update the page."""
    if owner:
        text_store().delete(_slot(owner, source))
    emptied: Values = {"pasted": ""} if source == "paste" else {"upload": None, "column": columns_of(None)}
    return emptied | _documents_values(None, "")


def _slot(owner: str, source: str) -> str:
    """Key of the documents of a source; owners' ids contain no slash."""
    return owner if source == "paste" else f"{owner}/{source}"


def _stored_documents(owner: str, source: str) -> tuple[Documents | None, str]:
    try:
        documents = as_documents(text_store().get(_slot(owner, source)))
    except M2VError as error:  # the limit may have been lowered
        return None, error_notice(error, "Your stored documents can't be used")
    if documents is None:
        return None, ""
    return documents, _ready(documents, ["Restored from your last visit."])


def _ready(documents: Documents, more: Sequence[str]) -> str:
    n_texts = len(documents.texts)
    return notice("good", f"{n_texts:,} {'text' if n_texts == 1 else 'texts'} ready", more)


@shows_errors("These documents can't be used", lambda message: (None, message))
def read_documents(
    source: str, pasted: str, upload: str | None, column: str | None = None
) -> tuple[Documents | None, str]:
    """Parse a user's documents; return them and a message."""
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
    """Return the lines with text as documents; None if there are none.

    Raises:
        LimitError: There are more than `spaces.yaml` allows.
    """
    texts = tuple(line.strip() for line in well_formed(list(lines)) if line.strip())
    if not texts:
        return None
    allowed = current_limits().documents
    if len(texts) > allowed:
        raise LimitError(
            f"The list has {len(texts):,} texts; the limit here is {allowed:,}. Shorten it, or search the texts with "
            "m2v_core.exploration.neighbors.DocumentNeighbors, which has no limit."
        )
    digest = hashlib.sha256("\n".join(texts).encode())
    return Documents(texts, digest.hexdigest())
