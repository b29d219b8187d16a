"""The button that fetches a library's model as a ZIP, which is made when it is asked for."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from m2v_core.errors import M2VError
from pages.components import known_owner
from pages.components.archive import archive_of


def build_zip_button(owner: gr.BrowserState, model_id: gr.components.Component) -> None:
    """A new button in the current Blocks context, alive at once."""
    button = gr.Button("Download ZIP", elem_classes="m2v-get")
    archive = gr.DownloadButton("ZIP", elem_id="m2v-archive")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    button.click(_fetch, [owner, model_id], archive, **quiet).success(None, js=_FOLLOW, **quiet)


def _fetch(owner: str | None, model_id: str | None) -> Any:
    try:
        return gr.DownloadButton(value=str(archive_of(known_owner(owner), model_id or "")))
    except M2VError as error:
        raise gr.Error(escape(str(error))) from error  # shown as HTML


# Nobody sees the link of the archive; it is followed once it is there.
_FOLLOW = """() => setTimeout(() => {
  const archive = document.querySelector('#m2v-archive');
  (archive?.closest('a') ?? archive?.querySelector('a') ?? archive)?.click();
}, 150)"""
