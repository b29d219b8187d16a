"""Explore: nearest words and documents, a map of the words, and explanations of scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from m2v_core.errors import InputError, M2VError
from m2v_core.exploration.explanation import explain_similarity
from m2v_core.exploration.neighbors import DocumentNeighbors, Neighbor, WordNeighbors
from m2v_core.model import StaticModel
from pages.components import (
    html,
    is_space,
    message_box,
    notice,
    on,
    page_head,
    query_box,
    raises_client_errors,
    shows_errors,
    upload_box,
)
from pages.components.column_picker import build_column_picker, columns_of_upload
from pages.components.document_map import build_document_map
from pages.components.findings import (
    comparison_html,
    documents_html,
    explanation_html,
    pending_comparison_html,
    words_html,
)
from pages.components.hub_dataset import build_dataset_box
from pages.components.model_picker import build_model_picker, picked_words
from pages.components.own_documents import as_documents, delete_documents, find_documents, load_documents
from pages.components.teacher_side import (
    Documents,
    TeacherNeighbors,
    build_teacher_switch,
    ready_neighbors,
    teacher_checkbox,
)
from pages.components.vector_folder import build_folder_box, open_folder, search_folder
from pages.components.waiting import following, waiting_html
from pages.components.word_map import build_word_map
from pages.components.word_search import DEBOUNCED, short_query
from pages.gradio_patches import add_endpoint, current_page
from pages.html import Markup

_MAX_RESULTS = 100
_N_WORDS = 15


def build() -> None:
    """Build the page in the current Blocks context."""
    page_head(
        "Explore",
        "See what a model has learned: which texts it finds similar, a map of its words, and why two texts are "
        "similar.",
    )
    with gr.Column(elem_classes="m2v-card m2v-picker"):
        picker = build_model_picker()
    with gr.Tabs(visible=False, elem_classes="m2v-tabs") as tabs:
        with gr.Tab("Words", id="words") as words_tab, gr.Column(elem_classes="m2v-card m2v-search"):
            query = gr.Textbox(
                "", label="A word or a text", placeholder="Type to search", max_lines=1, elem_classes="m2v-query"
            )
            words_beside = teacher_checkbox()
            words_switch = build_teacher_switch("teacher_words", words_beside)
            found_words = html(_WORDS_HINT, "m2v-found")
        with gr.Tab("Documents", id="documents") as documents_tab, gr.Row(elem_classes="m2v-columns"):
            with gr.Column(scale=5, elem_classes="m2v-card"):
                ways = [("Paste texts", "paste"), ("Upload file", "upload"), ("Folder", "folder")]
                source = gr.Radio(
                    ways[:2] if is_space() else ways,
                    value="paste",
                    label="Your documents",
                    elem_classes="m2v-switch",
                )
                pasted = gr.Textbox(
                    "",
                    lines=10,
                    max_lines=18,
                    label="One text per line",
                    placeholder="The printer on the third floor is jammed.\nHow do I reset my password?\n…",
                    elem_classes="m2v-paste",
                )
                with gr.Column(visible=False, elem_classes="m2v-words") as file_box:
                    upload = upload_box("One document per line, or a CSV or TSV table")
                    filled = [upload.upload, upload.clear, build_dataset_box(upload).change]
                    column = build_column_picker("texts")
                folder_box, path, open_button = build_folder_box()
                report = message_box()
                forget = gr.Button("Delete these texts", visible=False, size="sm", elem_classes="m2v-forget")
                documents = gr.State(None)
                folder = gr.State(None)  # an open folder of vectors
            with gr.Column(scale=7, elem_classes="m2v-card"):
                document_query = query_box("What are you looking for?")
                with gr.Row(elem_classes="m2v-search-settings"):
                    n_documents = gr.Slider(5, _MAX_RESULTS, 10, step=5, label="Number of results", buttons=[])
                    documents_beside = teacher_checkbox()
                documents_switch = build_teacher_switch("teacher_documents", documents_beside)
                found_documents = html(_DOCUMENTS_HINT, "m2v-found")
        with gr.Tab("Map", id="map") as map_tab:
            map_card = gr.Column(elem_classes="m2v-card")
        with gr.Tab("Scores", id="why") as why_tab, gr.Column(elem_classes="m2v-card"):
            with gr.Row(elem_classes="m2v-pair"):
                text_a = gr.Textbox(label="First text", lines=2, max_lines=8, value="A dog sleeps in the sun")
                text_b = gr.Textbox(label="Second text", lines=2, max_lines=8, value="The puppy naps on a warm porch")
            explain_button = gr.Button("Explain the score", variant="primary", elem_classes="m2v-explain")
            explained = html(css="m2v-explained")

    model: list[Any] = [picker.owner, picker.model_id]
    emptied: list[Any] = [tabs, found_words, found_documents, explained]
    on(picker.model_id.change, show_model, [*model, query], emptied)
    asked: list[Any] = [*model, query, words_switch.ready_id]
    on(query.change, follow_words_search, asked, found_words, latest=True, js=DEBOUNCED)
    on(words_switch.ready_id.change, follow_words_search, asked, found_words, latest=True)
    words_switch.connect(picker.owner, picker.model_id, gr.State(None), [picker.model_id.change])

    on(source.change, show_source, source, [pasted, file_box, folder_box, documents_beside])
    on(filled, columns_of_upload, upload, column, latest=True)
    edited = [pasted.change, source.change, *filled, column.input]
    opened = [open_button.click, path.submit]
    source_inputs: list[Any] = [source, pasted, upload, column, path]
    on([*edited, *opened], load_source, [picker.owner, *source_inputs], [documents, folder, report, forget])
    kept = {"source": source, "pasted": pasted, "upload": upload, "column": column}
    kept |= {"documents": documents, "report": report, "forget": forget}
    on(current_page().load, find_documents, picker.owner, kept)
    on(forget.click, delete_documents, [picker.owner, source], kept)
    asks = [document_query.submit, n_documents.release, documents_switch.ready_id.change]
    asked = [*model, documents, folder, document_query, n_documents, documents_switch.ready_id]
    on(asks, follow_documents_search, asked, found_documents, latest=True)
    looks = [documents.change, picker.model_id.change]
    documents_switch.connect(picker.owner, picker.model_id, documents, [document_query.submit], looks)

    with map_card:
        word_map, is_open = build_word_map(
            picker.owner, picker.model_id, tabs, map_tab, [words_tab, documents_tab, why_tab]
        )
        build_document_map(picker.owner, picker.model_id, documents, [upload, column], word_map, is_open)
    on(why_tab.select, explain, [*model, text_a, text_b], explained)
    on([explain_button.click, text_a.submit, text_b.submit], explain, [*model, text_a, text_b], explained)
    for endpoint in (similar_words, similar_documents, similarity_shares):
        add_endpoint(endpoint)


def show_model(owner: str | None, model_id: str | None, query: str) -> tuple[Any, str, str, str]:
    """Return the content of the tabs for a newly selected model; the last query is searched again."""
    if not model_id:
        return gr.Tabs(visible=False), _WORDS_HINT, _DOCUMENTS_HINT, ""
    return gr.Tabs(visible=True), search_words(owner, model_id, query), _DOCUMENTS_HINT, ""


def follow_words_search(owner: str | None, model_id: str | None, query: str, ready_id: str) -> Iterator[str]:
    """Yield what `search_words` returns; while the teacher is loaded, the static model's results."""
    yield from _searching(
        lambda: ready_neighbors(owner, model_id, None, ready_id),
        query,
        lambda: search_words(owner, model_id, query),
        lambda: search_words(owner, model_id, query, ready_id=ready_id),
    )


@shows_errors("The search failed")
def search_words(
    owner: str | None, model_id: str | None, query: str, k: float = _N_WORDS, ready_id: str = ""
) -> Markup:
    """Return the `k` words of the model nearest to `query`, as HTML.

    If `ready_id` is the job in which the teacher encoded the words, the teacher's results are shown next to them.
    """
    if not query.strip():
        return _WORDS_HINT
    teacher = ready_neighbors(owner, model_id, None, ready_id)
    index = picked_words(owner, model_id)
    return _found_html(words_html, index, teacher, query, k, index.model, ())


def _found_html(
    listed: Callable[..., Markup],
    index: WordNeighbors | DocumentNeighbors,
    teacher: TeacherNeighbors | None,
    query: str,
    k: float,
    model: StaticModel,
    documents: Sequence[str],
) -> Markup:
    query = short_query(query)
    found = index.search(query, _checked_k(k))
    warning = model.coverage([query]).warning("your query") or model.coverage(documents).warning("your documents")
    note = notice("info", "Don't rely on these results", [warning]) if warning else Markup()
    if teacher is None:
        return note + listed(found, query)
    return note + comparison_html(listed, found, teacher.search(query, _checked_k(k)), teacher.teacher, query)


def _searching(
    ready: Callable[[], TeacherNeighbors | None], query: str, alone: Callable[[], Markup], full: Callable[[], Markup]
) -> Iterator[str]:
    try:
        teacher = ready()
    except M2VError:  # the search shows the error
        teacher = None
    if teacher is None or not query.strip() or teacher.is_ready(short_query(query)):
        yield full()
        return
    found, name = alone(), teacher.teacher
    sign, what = functools.partial(pending_comparison_html, found, name), "Loading the teacher (first time only)"
    yield sign(waiting_html(what, 0.0))
    yield (yield from following(full, what, f"load {name}", sign))


def show_source(source: str) -> list[Any]:
    """Show the inputs of a source; a folder of vectors can't be compared with the teacher."""
    return [
        gr.Textbox(visible=source == "paste"),
        gr.Column(visible=source == "upload"),
        gr.Column(visible=source == "folder"),
        gr.Checkbox(visible=source != "folder"),
    ]


def load_source(
    owner: str | None,
    source: str,
    pasted: str,
    upload: str | None,
    column: str | None,
    path: str,
    event: gr.EventData,
) -> tuple[Documents | None, str | None, str, Any]:
    """Return the documents, or the open folder of vectors; the message; and the button that removes the documents."""
    if source == "folder":
        opened, report = open_folder(path)
        return None, opened, report, gr.Button(visible=False)
    # An empty field deletes the stored texts only if the user has cleared it, not after a switch of the source.
    is_emptied = isinstance(event.target, gr.Textbox | gr.File)
    if isinstance(event.target, gr.File):  # the column belongs to the previous file
        column = None
    documents, report, forget = load_documents(owner, source, pasted, upload, column, is_emptied)
    return documents, None, report, forget


def follow_documents_search(
    owner: str | None,
    model_id: str | None,
    documents: Documents | None,
    folder: str | None,
    query: str,
    k: float,
    ready_id: str,
) -> Iterator[str]:
    """Yield what `search_documents` returns; while the teacher is loaded, the static model's results.

    With a folder of vectors, yield its results.
    """
    if folder is not None and query.strip():
        yield _search_folder(owner, model_id, folder, short_query(query), k)
        return
    yield from _searching(
        lambda: None if documents is None else ready_neighbors(owner, model_id, documents, ready_id),
        query,
        lambda: search_documents(owner, model_id, documents, query, k),
        lambda: search_documents(owner, model_id, documents, query, k, ready_id),
    )


@shows_errors("The search failed")
def _search_folder(owner: str | None, model_id: str | None, folder: str, query: str, k: float) -> str:
    return search_folder(picked_words(owner, model_id).model, folder, query, _checked_k(k))


@shows_errors("The search failed")
def search_documents(
    owner: str | None, model_id: str | None, documents: Documents | None, query: str, k: float, ready_id: str = ""
) -> Markup:
    """Return the documents nearest to `query`, as HTML; see `search_words`."""
    if not query.strip():
        return _DOCUMENTS_HINT
    if documents is None:
        return notice("info", "There are no documents yet", ["Add some texts first."])
    model = picked_words(owner, model_id).model
    index, teacher = _document_index(model, documents), ready_neighbors(owner, model_id, documents, ready_id)
    return _found_html(documents_html, index, teacher, query, k, model, documents.texts)


@functools.lru_cache(maxsize=3)
def _document_index(model: StaticModel, documents: Documents) -> DocumentNeighbors:
    return DocumentNeighbors(model, documents.texts)


@shows_errors("This score can't be explained")
def explain(owner: str | None, model_id: str | None, a: str, b: str) -> str:
    """Return how each token contributes to the similarity of two texts, as HTML."""
    if not (a.strip() and b.strip()):
        return notice("info", "Two texts are required", ["Fill in both fields."])
    model = picked_words(owner, model_id).model
    return explanation_html(explain_similarity(model, short_query(a), short_query(b)))


@raises_client_errors
def similar_words(owner: str, model_id: str, query: str, k: int = 10) -> list[dict[str, Any]]:
    """Return the words of a model nearest to a text, nearest first: word, similarity (cosine) and rank."""
    return _as_dicts(picked_words(owner, model_id).search(short_query(query), _checked_k(k)), "word")


@raises_client_errors
def similar_documents(owner: str, model_id: str, documents: list[str], query: str, k: int = 10) -> list[dict[str, Any]]:
    """Return the documents nearest to a text, nearest first: document, similarity (cosine) and index."""
    read = as_documents(documents)
    model = picked_words(owner, model_id).model
    found = _document_index(model, read).search(short_query(query), _checked_k(k)) if read else []
    return _as_dicts(found, "document")


@raises_client_errors
def similarity_shares(owner: str, model_id: str, a: str, b: str) -> dict[str, Any]:
    """Return the cosine of two texts, and the contribution of each of their pieces: text, kind and share."""
    model = picked_words(owner, model_id).model
    return asdict(explain_similarity(model, short_query(a), short_query(b)))


def _as_dicts(found: Sequence[Neighbor], name: str) -> list[dict[str, Any]]:
    return [{name: neighbor.text, "similarity": neighbor.similarity, "rank": neighbor.rank} for neighbor in found]


def _checked_k(k: float) -> int:
    if not 1 <= k <= _MAX_RESULTS:
        raise InputError(f"{k} results were requested. Request 1 to {_MAX_RESULTS}.")
    return int(k)


_WORDS_HINT = notice("info", "Nearest words", ["Type a word, a name or a whole sentence."])
_DOCUMENTS_HINT = notice(
    "info", "Search by meaning", ["Add your texts, then search in your own words. Nothing leaves this server."]
)
