"""Texts to measure on: our sample, or people's own, pasted or uploaded."""

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

TextSource = Literal["sample", "own", "upload"]
Usable = Callable[[TextSource, str, str | None, str | None], list[str]]
"""Returns a page's texts, as `read_texts` does; raises where it can't use them."""


def build_texts_form(usable: Usable, label: str, hint: str, **radio: Any) -> list[Any]:
    """New fields in the current Blocks context; returns those that hold the arguments of `usable`.

    Args:
        usable: Judges what is uploaded.
        label: Above the choice.
        hint: Above the field to paste into.
        radio: What else the choice takes.
    """
    choices = [("Our sample", "sample"), ("Paste mine", "own"), ("Upload mine", "upload")]
    source = gr.Radio(choices, value="sample", label=label, elem_classes="m2v-switch", **radio)
    own_texts = gr.Textbox(lines=6, max_lines=12, visible=False, label=hint, elem_classes="m2v-paste")
    with gr.Column(visible=False, elem_classes="m2v-words") as box:
        upload, column, report = upload_box(), build_column_picker("texts"), message_box()
    on(
        source.change,
        lambda chosen: (gr.Textbox(visible=chosen == "own"), gr.Column(visible=chosen == "upload")),
        source,
        [own_texts, box],
    )
    judge = functools.partial(judge_file, usable)
    on([upload.upload, upload.clear], judge, upload, report, latest=True)
    on([upload.upload, upload.clear], columns_of_upload, upload, column, latest=True)
    on(column.input, judge, [upload, column], report, latest=True)
    return [source, own_texts, upload, column]


@shows_errors("This file can't be used")
def judge_file(usable: Usable, upload: str | None, column: str | None = None) -> str:
    """What a page says of a file: a new one, or one of which another column was picked."""
    if upload is None:
        return ""
    file = open_vocabulary(upload)
    if file.columns and chosen_column(file, column) is None:
        return question("texts")
    n_texts = len(usable("upload", "", upload, column))
    return notice("good", f"{n_texts:,} different {'text' if n_texts == 1 else 'texts'} ready")


def read_texts(source: TextSource, own_texts: str, upload: str | None, column: str | None, allowed: int) -> list[str]:
    """The different texts, none of them blank.

    Raises:
        M2VError: There is no file, it can't be read, or they are more than `allowed`.
    """
    if source == "own":
        lines = own_texts.splitlines()
    elif upload is None:
        raise InputError("There is no file yet. Upload one, or choose our sample.")
    else:
        file = open_vocabulary(upload)
        lines = file.entries(chosen_column(file, column))
    texts = list(dict.fromkeys(line.strip() for line in well_formed(lines) if line.strip()))
    if len(texts) > allowed:
        raise LimitError(f"{len(texts):,} texts are more than the {allowed:,} that are read here. Give fewer.")
    return texts
