"""The field that selects a column of an uploaded table, visible if there are several."""

from __future__ import annotations

from typing import Any

import gradio as gr

from m2v_core.distillation.vocabulary import VocabularyFile, open_vocabulary
from m2v_core.errors import M2VError
from pages.components import notice
from pages.html import Markup


def build_column_picker(what: str) -> gr.Dropdown:
    """Add a field to the current Blocks context, hidden until `columns_of` shows it.

    Args:
        what: The content of the column, such as `"words"`.
    """
    return gr.Dropdown(
        [],
        label=f"Column with the {what}",
        visible=False,
        # Otherwise Gradio shows an error for a column of a file that was removed.
        allow_custom_value=True,
        elem_classes="m2v-column",
    )


def columns_of(file: VocabularyFile | None) -> Any:
    """Update the field for a new file with its columns and default column."""
    if file is None:
        return gr.Dropdown(choices=[], value=None, visible=False)
    return gr.Dropdown(choices=list(file.columns), value=file.default_column, visible=len(file.columns) > 1)


def columns_of_upload(upload: str | None) -> Any:
    """Update the field for a path; hidden for invalid files, whose error is shown elsewhere."""
    try:
        return columns_of(None if upload is None else open_vocabulary(upload))
    except M2VError:
        return columns_of(None)


def chosen_column(file: VocabularyFile, column: str | None) -> str | None:
    """Return the selected column if the file has it, else the default; None if the user has to choose."""
    return column if column in file.columns else file.default_column


def question(what: str) -> Markup:
    """Ask the user to choose a column."""
    return notice("info", f"Choose the column with the {what}", ["The file has several columns."])
