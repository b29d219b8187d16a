"""A person's own documents: read, kept until they forget them, and found again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import gradio as gr

from m2v_core.distillation.vocabulary import open_vocabulary
from m2v_core.errors import LimitError, M2VError
from m2v_core.jobs.kept_texts import KeptTexts
from m2v_core.space.settings import current_limits
from pages.components import data_folder, error_notice, notice
from pages.components.teacher_side import Documents

_MAX_SHOWN_CHARACTERS = 200_000  # of kept texts; more are ready all the same, but no text box likes them
_DAY_SECONDS = 24 * 3600


@functools.cache
def kept_texts() -> KeptTexts:
    """The documents that people have put in, as long as they are kept."""
    return KeptTexts(data_folder() / "documents", current_limits().documents_kept_days * _DAY_SECONDS)


def take_documents(
    owner: str | None, source: str, pasted: str, upload: str | None
) -> tuple[Documents | None, str, Any]:
    """A person's documents, kept for the next time they open the page; what the page says, and whether to forget."""
    documents, report = read_documents(source, pasted, upload)
    try:
        if owner and documents is not None:
            kept_texts().keep(documents.texts, owner)
        elif owner and source == "paste" and not pasted.strip():
            kept_texts().forget(owner)
    except M2VError as error:  # they can be searched all the same
        report += error_notice(error, "These documents will be gone after a refresh")
    return documents, report, gr.Button(visible=documents is not None)


def find_documents(owner: str | None) -> list[Any]:
    """What the page shows when it opens: texts, documents, what there is to say, and whether to forget."""
    documents = as_documents(kept_texts().find(owner)) if owner else None
    if documents is None:
        return [gr.skip(), None, "", gr.Button(visible=False)]
    text = "\n".join(documents.texts)
    n_texts = len(documents.texts)
    report = notice(
        "good", f"{n_texts:,} {'text' if n_texts == 1 else 'texts'} ready", ["Kept from the last time you were here."]
    )
    is_short = len(text) <= _MAX_SHOWN_CHARACTERS
    return [text if is_short else gr.skip(), documents, report, gr.Button(visible=True)]


def forget_documents(owner: str | None) -> list[Any]:
    """The page without documents, after the server has removed them."""
    if owner:
        kept_texts().forget(owner)
    return ["", None, None, "", gr.Button(visible=False)]


def read_documents(source: str, pasted: str, upload: str | None) -> tuple[Documents | None, str]:
    """A person's documents, and what the page says of them."""
    try:
        note = ""
        if source == "paste":
            lines = pasted.splitlines()
        elif upload is None:
            lines = []
        else:
            file = open_vocabulary(upload)
            lines = file.entries(file.default_column if file.columns else None)
            column = f"From the column {file.default_column!r}." if file.columns else ""
            note = " ".join(filter(None, [column, file.warning()]))
        documents = as_documents(lines)
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return None, error_notice(error, "These documents can't be used")
    if documents is None:
        return None, ""
    n_texts = len(documents.texts)
    return documents, notice("good", f"{n_texts:,} {'text' if n_texts == 1 else 'texts'} ready", [note] if note else [])


def as_documents(lines: Sequence[str]) -> Documents | None:
    """The lines that hold text; None if there are none.

    Raises:
        LimitError: There are more than `spaces.yaml` allows.
    """
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        return None
    allowed = current_limits().documents
    if len(texts) > allowed:
        raise LimitError(
            f"These are {len(texts):,} texts, and {allowed:,} can be searched here at once. Leave some out, "
            "or search them with m2v_core.exploration.neighbors.DocumentNeighbors, which has no limit."
        )
    digest = hashlib.sha256("\n".join(texts).encode("utf-8", errors="surrogatepass"))
    return Documents(texts, digest.hexdigest())
