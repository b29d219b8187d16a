"""Buttons that fetch a library's model as an archive, which is made when it is asked for."""

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

_MAKING = {None: "Packing the ZIP", "onnx": "Writing the ONNX model", "word2vec": "Writing the word vectors"}


def build_zip_button(owner: gr.BrowserState, model_id: gr.components.Component) -> None:
    """A new button in the current Blocks context, alive at once."""
    button = gr.Button("Download ZIP", elem_classes="m2v-get")
    connect_zip_buttons([(None, button, message_box())], owner, model_id)


def connect_zip_buttons(
    buttons: Sequence[tuple[ExportFormat | None, gr.Button, gr.HTML]],
    owner: gr.BrowserState,
    model_id: gr.components.Component,
) -> None:
    """Bring buttons to life, in the current Blocks context.

    Args:
        buttons: One for each format, None for the model's own files, with what shows that the archive is being made,
            and why it could not be.
    """
    archive = gr.DownloadButton("ZIP", elem_id="m2v-archive")
    for format, button, said in buttons:
        make = make_zip if format is None else functools.partial(make_zip, format=format)
        made = on(button.click, make, [owner, model_id], [archive, said])
        on(made.success, None, archive, js=_FOLLOW)


@shows_errors("The download could not be made", lambda message: [gr.DownloadButton(value=None), message])
def make_zip(owner: str | None, model_id: str | None, format: ExportFormat | None = None) -> Iterator[list[Any]]:
    """The model's archive for the browser to fetch, none where that fails; and what there is to say."""
    picked_id, known = checked_pick(known_owner(owner), model_id)
    path = yield from following(
        lambda: archive_of(known, picked_id, format),
        _MAKING[format],
        f"archive {format}",
        lambda sign: [gr.skip(), sign],
    )
    yield [gr.DownloadButton(value=str(path)), ""]


# Nobody sees the link of the archive; it is followed once it is there.
_FOLLOW = """(made) => made && setTimeout(() => {
  const archive = document.querySelector('#m2v-archive');
  (archive?.closest('a') ?? archive?.querySelector('a') ?? archive)?.click();
}, 150)"""
