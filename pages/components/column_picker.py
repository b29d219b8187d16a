"""Which column of an uploaded table is read: a field that is there where a table has several."""

from __future__ import annotations

from typing import Any

import gradio as gr

from m2v_core.distillation.vocabulary import VocabularyFile, open_vocabulary
from m2v_core.errors import M2VError
from pages.components import notice
from pages.html import Markup


def build_column_picker(what: str) -> gr.Dropdown:
    """A new field in the current Blocks context, hidden until `columns_of` shows it.

    Args:
        what: What the column holds, such as `"words"`.
    """
    return gr.Dropdown(
        [],
        label=f"Column that holds the {what}",
        visible=False,
        # Otherwise Gradio shows its own error for a column of a file that has been removed.
        allow_custom_value=True,
        elem_classes="m2v-column",
    )


def columns_of(file: VocabularyFile | None) -> Any:
    """The field for a new file: its columns, and the one that is read unless another is picked."""
    if file is None:
        return gr.Dropdown(choices=[], value=None, visible=False)
    return gr.Dropdown(choices=list(file.columns), value=file.default_column, visible=len(file.columns) > 1)


def columns_of_upload(upload: str | None) -> Any:
    """The same for a path; the field is hidden for a file that can't be read, which is said elsewhere."""
    try:
        return columns_of(None if upload is None else open_vocabulary(upload))
    except M2VError:
        return columns_of(None)


def chosen_column(file: VocabularyFile, column: str | None) -> str | None:
    """The column to read: the picked one, if it is this file's, else the default; None where only a person can say."""
    return column if column in file.columns else file.default_column


def question(what: str) -> Markup:
    """What is said of a table while nobody has said which column to read."""
    return notice("info", f"Which column holds the {what}?", ["Pick it above."])
