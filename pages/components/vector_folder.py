"""Search in a local folder of vectors written by `m2v encode`, with its index if there is one."""

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

_MAX_SHOWN_CHARACTERS = 1000  # per text; style.css shows a few lines


def build_folder_box() -> tuple[gr.Column, gr.Textbox, gr.Button]:
    """Add a hidden form for a folder to the current Blocks context; return its column, path and button."""
    with gr.Column(visible=False, elem_classes="m2v-words") as column:
        path = gr.Textbox("", label="Folder written by m2v encode", placeholder="~/vectors", max_lines=1)
        with gr.Row(elem_classes="m2v-buttons"):
            button = gr.Button("Open")
        hint(
            Markup(
                "For millions of texts: encode them with <code>m2v encode</code>, and build an index for fast search "
                "with <code>m2v index</code>."
            )
        )
    return column, path, button


@shows_errors("This folder can't be searched", lambda message: (None, message))
def open_folder(path: str) -> tuple[str | None, str]:
    """Open a folder; return its path, or None if it is invalid, and a message."""
    if not path.strip():
        return None, ""
    search = _opened(path.strip())
    vectors = search.vectors
    model = f", encoded by {search.model_name}" if search.model_name else ""
    sentences = [f"In {len(vectors.files):,} {'file' if len(vectors.files) == 1 else 'files'}{model}."]
    if search.is_exact:
        sentences.append(
            f"There is no index, so each search reads all vectors. To speed it up, run: m2v index {vectors.path}"
        )
    title = f"{vectors.n_rows:,} {'vector' if vectors.n_rows == 1 else 'vectors'} ready"
    return path.strip(), notice("good", title, sentences)


def search_folder(model: StaticModel, path: str, query: str, k: int) -> str:
    """Show the rows of a folder that are most similar to `query`.

    Raises:
        M2VError: The folder is invalid, or its vectors are from another model.
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
    # Visitors of a Space must not access folders of the server.
    if is_space():
        raise InputError("Folders can be opened only if the app runs on your own computer.")
    folder = Path(path).expanduser().absolute()
    files = [folder, folder / "_manifest.jsonl", folder / "_index.json", folder.with_name(f"{folder.name}.index.json")]
    return _open_cached(folder, tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files))


@functools.lru_cache(maxsize=3)
def _open_cached(folder: Path, times: tuple[int, ...]) -> VectorSearch:
    """Open a folder; `times` invalidates the cache when it changes."""
    return VectorSearch(folder)


@functools.lru_cache(maxsize=3)
def _check_model(search: VectorSearch, model: StaticModel) -> None:
    try:
        search.check_model(model, "The selected model")
    except InputError as error:
        raise InputError(f"{error} Add that model on the Library page, and select it above.") from error
