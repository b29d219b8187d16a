"""Texts for measurements: the bundled sample, or the user's own, pasted or uploaded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import gradio as gr

from m2v_core.distillation.vocabulary import open_vocabulary
from m2v_core.encoder.texts import well_formed
from m2v_core.errors import InputError, LimitError
from pages.components import message_box, notice, on, shows_errors, upload_box
from pages.components.column_picker import build_column_picker, chosen_column, columns_of_upload, question
from pages.components.hub_dataset import build_dataset_box

TextSource = Literal["sample", "own", "upload"]
ReadTexts = Callable[[TextSource, str, str | None, str | None], list[str]]
"""Returns a page's texts, as `read_texts` does; raises if they are invalid."""


def build_texts_form(read: ReadTexts, label: str, hint: str, **radio: Any) -> list[Any]:
    """Add fields to the current Blocks context; return the inputs of `read`.

    Args:
        read: Reads and validates the texts.
        label: Label of the choice of the source.
        hint: Label of the text box.
        radio: Other arguments of the choice.
    """
    choices = [("Bundled sample", "sample"), ("Paste texts", "own"), ("Upload file", "upload")]
    source = gr.Radio(choices, value="sample", label=label, elem_classes="m2v-switch", **radio)
    own_texts = gr.Textbox(lines=6, max_lines=12, visible=False, label=hint, elem_classes="m2v-paste")
    with gr.Column(visible=False, elem_classes="m2v-words") as box:
        upload = upload_box()
        filled = [upload.upload, upload.clear, build_dataset_box(upload).change]
        column, report = build_column_picker("texts"), message_box()
    on(
        source.change,
        lambda chosen: (gr.Textbox(visible=chosen == "own"), gr.Column(visible=chosen == "upload")),
        source,
        [own_texts, box],
    )
    check = functools.partial(check_file, read)
    on(filled, check, upload, report, latest=True)
    on(filled, columns_of_upload, upload, column, latest=True)
    on(column.input, check, [upload, column], report, latest=True)
    return [source, own_texts, upload, column]


@shows_errors("This file can't be used")
def check_file(read: ReadTexts, upload: str | None, column: str | None = None) -> str:
    """Validate a new file or a newly selected column, and return a message."""
    if upload is None:
        return ""
    file = open_vocabulary(upload)
    if file.columns and chosen_column(file, column) is None:
        return question("texts")
    n_texts = len(read("upload", "", upload, column))
    return notice("good", f"{n_texts:,} distinct {'text' if n_texts == 1 else 'texts'} ready")


def read_texts(source: TextSource, own_texts: str, upload: str | None, column: str | None, allowed: int) -> list[str]:
    """Return the distinct nonblank texts.

    Raises:
        M2VError: The file is missing or invalid, or has more than `allowed` texts.
    """
    if source == "own":
        lines = own_texts.splitlines()
    elif upload is None:
        raise InputError("No file was uploaded. Upload one, or choose the bundled sample.")
    else:
        file = open_vocabulary(upload)
        lines = file.entries(chosen_column(file, column))
    texts = list(dict.fromkeys(line.strip() for line in well_formed(lines) if line.strip()))
    if len(texts) > allowed:
        raise LimitError(f"The list has {len(texts):,} texts; the limit here is {allowed:,}. Shorten it.")
    return texts
