"""The button that fetches a library's model as a ZIP, which is made when it is asked for."""

from __future__ import annotations

import functools
import re
import secrets
from pathlib import Path
from typing import Any

import gradio as gr

from m2v_core.errors import M2VError
from m2v_core.persistence.export import write_zip
from pages.components import known_owner
from pages.components.job_panel import remove_old_files, served_folder
from pages.components.model_picker import model_library


def build_zip_button(owner: gr.BrowserState, model_id: gr.components.Component) -> None:
    """A new button in the current Blocks context, alive at once."""
    button = gr.Button("Download ZIP", elem_classes="m2v-get")
    archive = gr.DownloadButton("ZIP", elem_id="m2v-archive")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    button.click(_fetch, [owner, model_id], archive, **quiet).success(None, js=_FOLLOW, **quiet)


def _fetch(owner: str | None, model_id: str | None) -> Any:
    try:
        return gr.DownloadButton(value=str(zip_of(known_owner(owner), model_id or "")))
    except M2VError as error:
        raise gr.Error(str(error)) from error


def zip_of(owner: str, model_id: str) -> Path:
    """The model's archive in a place the app serves from, under an address nobody can guess.

    Raises:
        NotFoundError: Not this owner's model.
        SaveError: The archive can't be written.
    """
    record, folder = model_library().get(model_id, owner), served_folder() / _key(model_id)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", record.name).strip("-.")[:80] or "model"
    zip_path = folder / f"{name}.zip"
    if not zip_path.exists():
        remove_old_files(served_folder())
        folder.mkdir(parents=True, exist_ok=True)
        write_zip(model_library().folder(model_id, owner), zip_path)
    return zip_path


@functools.lru_cache(maxsize=1000)
def _key(model_id: str) -> str:
    return secrets.token_hex(16)


# Nobody sees the link of the archive; it is followed once it is there.
_FOLLOW = """() => setTimeout(() => {
  const archive = document.querySelector('#m2v-archive');
  (archive?.closest('a') ?? archive?.querySelector('a') ?? archive)?.click();
}, 150)"""
