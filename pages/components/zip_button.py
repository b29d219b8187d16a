"""Buttons that create and download archives of models."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from m2v_core.storage.export import ExportFormat
from pages.components import known_owner, message_box, on, shows_errors
from pages.components.model_picker import checked_pick
from pages.components.served_files import archive_of
from pages.components.waiting import following

_LABELS = {None: "Packing the ZIP", "onnx": "Writing the ONNX model", "word2vec": "Writing the word vectors"}


def build_zip_button(owner: gr.BrowserState, model_id: gr.components.Component) -> None:
    """Add a button to the current Blocks context, and connect it."""
    button = gr.Button("Download ZIP", elem_classes="m2v-get")
    connect_zip_buttons([(None, button, message_box())], owner, model_id)


def connect_zip_buttons(
    buttons: Sequence[tuple[ExportFormat | None, gr.Button, gr.HTML]],
    owner: gr.BrowserState,
    model_id: gr.components.Component,
) -> None:
    """Connect buttons in the current Blocks context.

    Args:
        buttons: Format (None for the model's files), button, and component for progress and errors.
    """
    archive = gr.DownloadButton("ZIP", elem_id="m2v-archive")
    for format, button, message in buttons:
        make = make_zip if format is None else functools.partial(make_zip, format=format)
        event = on(button.click, make, [owner, model_id], [archive, message])
        on(event.success, None, archive, js=_DOWNLOAD)


@shows_errors("The download could not be prepared", lambda message: [gr.DownloadButton(value=None), message])
def make_zip(owner: str | None, model_id: str | None, format: ExportFormat | None = None) -> Iterator[list[Any]]:
    """Create the model's archive; yield the file and a message."""
    picked_id, known = checked_pick(known_owner(owner), model_id)
    path = yield from following(
        lambda: archive_of(known, picked_id, format),
        _LABELS[format],
        f"archive {format}",
        lambda progress: [gr.skip(), progress],
    )
    yield [gr.DownloadButton(value=str(path)), ""]


# Clicks the hidden link of the archive once it is rendered.
_DOWNLOAD = """(made) => made && setTimeout(() => {
  const archive = document.querySelector('#m2v-archive');
  (archive?.closest('a') ?? archive?.querySelector('a') ?? archive)?.click();
}, 150)"""
