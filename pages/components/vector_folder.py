"""A folder of vectors that `m2v encode` wrote, opened on one's own computer and searched by the index beside them."""

from __future__ import annotations

import functools
from pathlib import Path

import gradio as gr

from m2v_core.errors import InputError
from m2v_core.exploration.index.searching import VectorSearch, search_texts
from m2v_core.exploration.neighbors import Neighbor
from m2v_core.model import StaticModel
from pages.components import hint, is_space, notice, shows_errors
from pages.components.findings import documents_html
from pages.html import Markup

_MAX_SHOWN_CHARACTERS = 1000  # of one text; style.css shows a few lines of it


def build_folder_box() -> tuple[gr.Column, gr.Textbox, gr.Button]:
    """A new box that names a folder, hidden, in the current Blocks context: all of it, the path and what opens that."""
    with gr.Column(visible=False, elem_classes="m2v-words") as column:
        path = gr.Textbox("", label="A folder that m2v encode wrote", placeholder="~/vectors", max_lines=1)
        with gr.Row(elem_classes="m2v-buttons"):
            button = gr.Button("Open")
        hint(
            Markup(
                "For millions of texts: <code>m2v encode</code> makes vectors of them, <code>m2v index</code> makes "
                "search in them fast."
            )
        )
    return column, path, button


@shows_errors("This folder can't be searched", lambda message: (None, message))
def open_folder(path: str) -> tuple[str | None, str]:
    """The folder as it is to be searched, None where it can't be; and what the page says of it."""
    if not path.strip():
        return None, ""
    search = _opened(path.strip())
    vectors = search.vectors
    said = [f"In {len(vectors.files):,} {'file' if len(vectors.files) == 1 else 'files'}."]
    if search.model_name:
        said = [f"{said[0][:-1]}, made by {search.model_name}."]
    if search.is_exact:
        said.append(f"There is no index, so each search reads them all. For more speed: m2v index {vectors.path}")
    return path.strip(), notice(
        "good", f"{vectors.n_rows:,} {'vector' if vectors.n_rows == 1 else 'vectors'} ready", said
    )


def search_folder(model: StaticModel, path: str, query: str, k: int) -> str:
    """The rows of a folder that are most like `query`, as HTML.

    Raises:
        M2VError: The folder can't be searched, or another model made its vectors.
    """
    search = _opened(path)
    _check_model(search, model)
    (hits,) = search_texts(search, model, [query], k)
    places = [f"{hit.file}, row {hit.row:,}" for hit in hits]
    found = [
        Neighbor(" ".join((hit.text or "").split())[:_MAX_SHOWN_CHARACTERS], hit.similarity, rank)
        for rank, hit in enumerate(hits)
    ]
    return documents_html(found, query, places=places)


def _opened(path: str) -> VectorSearch:
    # A stranger must not look around on the server, whatever the page offers.
    if is_space():
        raise InputError("Folders are opened only where the app runs on your own computer.")
    folder = Path(path).expanduser().absolute()
    beside = [folder, folder / "_manifest.jsonl", folder / "_index.json", folder.with_name(f"{folder.name}.index.json")]
    return _kept(folder, tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in beside))


@functools.lru_cache(maxsize=3)
def _kept(folder: Path, times: tuple[int, ...]) -> VectorSearch:
    """Opened anew when the folder changes."""
    return VectorSearch(folder)


@functools.lru_cache(maxsize=3)
def _check_model(search: VectorSearch, model: StaticModel) -> None:
    try:
        search.check_model(model, "The model picked here")
    except InputError as error:
        raise InputError(f"{error} Open that one on the Library page, and pick it above.") from error
