"""Explore: what a model finds similar, where its words lie, and why two texts score as they do."""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from m2v_core.distillation.vocabulary import open_vocabulary
from m2v_core.errors import InputError, LimitError, M2VError, MissingExtraError
from m2v_core.exploration.background import MapMaker
from m2v_core.exploration.explanation import Explanation, Span, explain_similarity
from m2v_core.exploration.neighbors import DocumentNeighbors, Neighbor, WordNeighbors
from m2v_core.exploration.projection import pca_map, sample_rows, umap_key
from m2v_core.exploration.tables import write_csv
from m2v_core.model import StaticModel
from pages.components import data_folder, error_notice, format_seconds, neighbors_html, notice
from pages.components.finished_models import build_model_picker, picked_words
from pages.components.job_panel import remove_old_files, served_folder
from pages.figures import ColorBy, map_figure

Method = Literal["PCA", "UMAP"]

MAX_DOCUMENTS = 100_000
_MAX_QUERY_CHARACTERS = 10_000
_MAX_RESULTS = 100
_MAX_TABLE_ROWS = 100
_N_FOUND = 8  # neighbours that are marked on the map beside the word
_TICK_SECONDS = 1.0
_FILE_SUFFIXES = [".txt", ".csv", ".tsv"]
_MAP_SCRIPT = Path(__file__).parent / "components" / "map_view.js"
_MAP_HTML = """
<div class="m2v-tools" role="group" aria-label="What dragging does">
  <button type="button" data-tool-of="pan" aria-pressed="true">Move</button>
  <button type="button" data-tool-of="lasso" aria-pressed="false">Lasso</button>
  <button type="button" data-reset>Reset</button>
</div>
<div class="m2v-plot" role="img" aria-label="Map of the vocabulary"></div>
"""


@dataclass(frozen=True)
class Documents:
    """A person's texts, the same as others of the same key.

    Attributes:
        texts: One document each.
        key: Digest of their content.
    """

    texts: tuple[str, ...] = field(compare=False, repr=False)
    key: str


@dataclass(frozen=True, eq=False)
class MapData:
    """What a map of one model shows.

    Attributes:
        words: The whole vocabulary.
        shown: Which of its entries are on the map, (n_shown,) int64.
        rows: Their vectors, (n_shown, dim) float32.
        norms: (n_shown,) float32.
        pca: (n_shown, 2) float32.
        key: Of their UMAP.
    """

    words: WordNeighbors
    shown: NDArray[np.int64]
    rows: NDArray[np.float32]
    norms: NDArray[np.float32]
    pca: NDArray[np.float32]
    key: str

    @property
    def texts(self) -> list[str]:
        """The entries on the map, as people write them."""
        return [self.words.texts[index] for index in self.shown]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Their ranks, (n_shown,) int64."""
        return self.words.ranks[self.shown]


def build() -> None:
    """The page, in the current Blocks context."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    gr.HTML(
        '<header class="m2v-head"><h1>Explore</h1><p>Look at what a model has learned: what it finds similar, '
        "where its words lie, and why two texts score as they do.</p></header>",
        apply_default_css=False,
    )
    with gr.Column(elem_classes="m2v-card m2v-picker"):
        picker = build_model_picker()
    with gr.Tabs(visible=False, elem_classes="m2v-tabs") as tabs:
        with gr.Tab("Similar words", id="words") as words_tab, gr.Column(elem_classes="m2v-card"):
            query = gr.Textbox(
                "",
                label="A word or a text",
                placeholder="Type and press Enter",
                max_lines=1,
                submit_btn="Search",
                elem_classes="m2v-query",
            )
            n_words = gr.Slider(5, _MAX_RESULTS, 15, step=5, label="How many", elem_classes="m2v-slider")
            found_words = gr.HTML(_WORDS_HINT, apply_default_css=False, elem_classes="m2v-found")
        with gr.Tab("My documents", id="documents") as documents_tab, gr.Row(elem_classes="m2v-columns"):
            with gr.Column(scale=5, elem_classes="m2v-card"):
                source = gr.Radio(
                    [("Paste texts", "paste"), ("Upload a file", "upload")],
                    value="paste",
                    label="Your documents",
                    elem_classes="m2v-switch",
                )
                pasted = gr.Textbox(
                    "",
                    lines=10,
                    max_lines=18,
                    label="One text on each line",
                    placeholder="The printer on the third floor is jammed.\nHow do I reset my password?\n…",
                    elem_classes="m2v-paste",
                )
                upload = gr.File(
                    file_types=_FILE_SUFFIXES,
                    label="Text with one document a line, or a CSV or TSV table",
                    height=120,
                    visible=False,
                    elem_classes="m2v-upload",
                )
                documents_report = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
                documents = gr.State(None)
            with gr.Column(scale=7, elem_classes="m2v-card"):
                document_query = gr.Textbox(
                    "",
                    label="What are you looking for?",
                    placeholder="Type and press Enter",
                    max_lines=1,
                    submit_btn="Search",
                    elem_classes="m2v-query",
                )
                n_documents = gr.Slider(5, _MAX_RESULTS, 10, step=5, label="How many", elem_classes="m2v-slider")
                found_documents = gr.HTML(_DOCUMENTS_HINT, apply_default_css=False, elem_classes="m2v-found")
        with gr.Tab("Map", id="map") as map_tab, gr.Column(elem_classes="m2v-card"):
            with gr.Row(elem_classes="m2v-map-settings"):
                method = gr.Radio(["PCA", "UMAP"], value="PCA", label="Layout", elem_classes="m2v-switch")
                color_by = gr.Radio(
                    [("Rank", "rank"), ("Norm", "norm")], value="rank", label="Colour by", elem_classes="m2v-switch"
                )
                find = gr.Textbox(
                    "",
                    label="Find a word",
                    placeholder="Type and press Enter",
                    max_lines=1,
                    submit_btn="Find",
                    elem_classes="m2v-query",
                )
            map_status = gr.HTML("", apply_default_css=False, elem_classes="m2v-map-status")
            word_map = gr.HTML(
                None,
                html_template=_MAP_HTML,
                js_on_load=_MAP_SCRIPT.read_text(encoding="utf-8"),
                apply_default_css=False,
                elem_classes="m2v-map",
                script=_plotly_address(),
                found=None,
            )
            map_found = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
            is_map_open = gr.State(False)
            map_timer = gr.Timer(_TICK_SECONDS, active=False)
            selection = gr.HTML(_LASSO_HINT, apply_default_css=False, elem_classes="m2v-selection")
            download = gr.DownloadButton("Download CSV", visible=False, size="lg")
        with gr.Tab("Why this score?", id="why") as why_tab, gr.Column(elem_classes="m2v-card"):
            with gr.Row(elem_classes="m2v-pair"):
                text_a = gr.Textbox(label="One text", lines=2, max_lines=8, value="A dog sleeps in the sun")
                text_b = gr.Textbox(label="Another", lines=2, max_lines=8, value="The puppy naps on a warm porch")
            explain_button = gr.Button("Explain the score", variant="primary", elem_classes="m2v-explain")
            explained = gr.HTML("", apply_default_css=False, elem_classes="m2v-explained")

    model: list[Any] = [picker.owner, picker.model_id]
    picker.model_id.change(
        show_model, [*model, query, n_words], [tabs, found_words, found_documents, explained], **quiet
    )
    gr.on([query.submit, n_words.release], search_words, [*model, query, n_words], found_words, **quiet)

    source.change(
        lambda chosen: (gr.Textbox(visible=chosen == "paste"), gr.File(visible=chosen == "upload")),
        source,
        [pasted, upload],
        **quiet,
    )
    gr.on(
        [pasted.change, source.change, upload.upload, upload.clear],
        read_documents,
        [source, pasted, upload],
        [documents, documents_report],
        trigger_mode="always_last",
        **quiet,
    )
    gr.on(
        [document_query.submit, n_documents.release],
        search_documents,
        [*model, documents, document_query, n_documents],
        found_documents,
        **quiet,
    )

    drawn: list[Any] = [word_map, map_status, map_timer]
    map_inputs: list[Any] = [*model, method, color_by, is_map_open]
    # 30,000 points are not sent before somebody looks at them.
    gr.on([words_tab.select, documents_tab.select, why_tab.select], lambda: False, None, is_map_open, **quiet)
    map_tab.select(lambda: True, None, is_map_open, **quiet).then(show_map, map_inputs, drawn, **quiet)
    gr.on([picker.model_id.change, method.change, color_by.change], show_map, map_inputs, drawn, **quiet)
    picker.model_id.change(
        lambda: (_LASSO_HINT, gr.DownloadButton(visible=False)), None, [selection, download], **quiet
    )
    map_timer.tick(follow_map, map_inputs, drawn, **quiet)
    word_map.select(show_selection, [*model, method], [selection, download], **quiet)
    find.submit(find_on_map, [*model, method, find], [word_map, map_found], **quiet)

    why_tab.select(explain, [*model, text_a, text_b], explained, **quiet)
    gr.on([explain_button.click, text_a.submit, text_b.submit], explain, [*model, text_a, text_b], explained, **quiet)
    gr.api(similar_words, api_name="similar_words")
    gr.api(similar_documents, api_name="similar_documents")
    gr.api(similarity_shares, api_name="similarity_shares")


def show_model(owner: str | None, model_id: str | None, query: str, k: float) -> tuple[Any, str, str, str]:
    """What the tabs show of a newly picked model: whether they are there, and what was asked before, asked anew."""
    if not model_id:
        return gr.Tabs(visible=False), _WORDS_HINT, _DOCUMENTS_HINT, ""
    return gr.Tabs(visible=True), search_words(owner, model_id, query, k), _DOCUMENTS_HINT, ""


def search_words(owner: str | None, model_id: str | None, query: str, k: float) -> str:
    """The words of the model that are most like `query`, as HTML."""
    if not query.strip():
        return _WORDS_HINT
    try:
        words = picked_words(owner, model_id)
        return neighbors_html(words.search(query[:_MAX_QUERY_CHARACTERS], _checked_k(k)), query)
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return error_notice(error, "This search did not work")


def read_documents(source: str, pasted: str, upload: str | None) -> tuple[Documents | None, str]:
    """A person's documents, and what the page says of them."""
    try:
        note = ""
        if source == "paste":
            lines = pasted.splitlines()
        elif upload is None:
            lines = []
        else:
            file = open_vocabulary(upload)
            lines = file.entries(file.default_column if file.columns else None)
            column = f"From the column {file.default_column!r}." if file.columns else ""
            note = " ".join(filter(None, [column, file.warning()]))
        documents = as_documents(lines)
    except Exception as error:  # as above
        return None, error_notice(error, "These documents can't be used")
    if documents is None:
        return None, ""
    n_texts = len(documents.texts)
    return documents, notice("good", f"{n_texts:,} {'text' if n_texts == 1 else 'texts'} ready", [note] if note else [])


def as_documents(lines: Sequence[str]) -> Documents | None:
    """The lines that hold text; None if there are none.

    Raises:
        LimitError: There are more than `MAX_DOCUMENTS`.
    """
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        return None
    if len(texts) > MAX_DOCUMENTS:
        raise LimitError(
            f"These are {len(texts):,} texts, and {MAX_DOCUMENTS:,} can be searched here at once. Leave some out, "
            "or search them with m2v_core.exploration.neighbors.DocumentNeighbors, which has no limit."
        )
    digest = hashlib.sha256("\n".join(texts).encode("utf-8", errors="surrogatepass"))
    return Documents(texts, digest.hexdigest())


def search_documents(owner: str | None, model_id: str | None, documents: Documents | None, query: str, k: float) -> str:
    """The documents that are most like `query`, as HTML."""
    if documents is None:
        return notice("info", "There are no documents yet", ["Paste some texts, or upload a file."])
    if not query.strip():
        return _DOCUMENTS_HINT
    try:
        index = _document_index(picked_words(owner, model_id).model, documents)
        return documents_html(index.search(query[:_MAX_QUERY_CHARACTERS], _checked_k(k)), query)
    except Exception as error:  # as above
        return error_notice(error, "This search did not work")


def documents_html(found: Sequence[Neighbor], query: str) -> str:
    """Documents, each with its place, its cosine as a number and a bar."""
    if not found:
        return notice("info", "The model knows no part of this.", ["Try other words."])
    rows = "".join(
        f'<li><span class="m2v-place m2v-number">{neighbor.rank + 1:,}</span>'
        f'<span class="m2v-document">{escape(neighbor.text)}</span>'
        '<span class="m2v-meter" aria-hidden="true">'
        f'<span style="width:{100 * max(0.0, neighbor.similarity):.1f}%"></span></span>'
        f'<span class="m2v-number">{neighbor.similarity:.2f}</span></li>'
        for neighbor in found
    )
    return f'<ol class="m2v-documents" aria-label="Similar to {escape(query)}">{rows}</ol>'


@functools.lru_cache(maxsize=3)
def _document_index(model: StaticModel, documents: Documents) -> DocumentNeighbors:
    return DocumentNeighbors(model, documents.texts)


def show_map(owner: str | None, model_id: str | None, method: Method, color_by: ColorBy, is_open: bool) -> list[Any]:
    """What the map shows: figure, status, and whether to look again soon."""
    if not is_open or not model_id:
        return [None, "", gr.Timer(active=False)]
    try:
        data = _map_data(picked_words(owner, model_id))
        points, drawn_method, waiting = _layout(data, method)
        figure = map_figure(data.texts, data.ranks, data.norms, points, color_by, drawn_method).to_json()
        return [figure, _status_html(data, waiting), gr.Timer(active=bool(waiting))]
    except Exception as error:  # as above
        return [gr.skip(), error_notice(error, "This map can't be drawn"), gr.Timer(active=False)]


def follow_map(owner: str | None, model_id: str | None, method: Method, color_by: ColorBy, is_open: bool) -> list[Any]:
    """What the map shows a second later: the same, until the UMAP is ready."""
    try:
        data = _map_data(picked_words(owner, model_id))
        _, _, waiting = _layout(data, method)
    except Exception as error:  # as above
        return [gr.skip(), error_notice(error, "This map can't be drawn"), gr.Timer(active=False)]
    if waiting:
        return [gr.skip(), _status_html(data, waiting), gr.skip()]
    return show_map(owner, model_id, method, color_by, is_open)


@functools.lru_cache(maxsize=4)
def _map_data(words: WordNeighbors) -> MapData:
    if not len(words):
        raise InputError("This model has no whole word to put on a map.")
    shown = sample_rows(len(words))
    rows = words.rows[shown]
    return MapData(words, shown, rows, words.norms()[shown], pca_map(rows), umap_key(rows))


@functools.cache
def _map_maker() -> MapMaker:
    return MapMaker(data_folder() / "maps")


def _layout(data: MapData, method: Method) -> tuple[NDArray[np.float32], Method, str]:
    """The points to draw, what made them, and what is still waited for, empty for nothing."""
    if method == "PCA":
        return data.pca, "PCA", ""
    pending = _map_maker().get(data.rows, data.key)
    if pending.points is None:
        return data.pca, "PCA", f"UMAP takes about a minute, once: {format_seconds(pending.seconds)} so far"
    return pending.points, "UMAP", ""


def _status_html(data: MapData, waiting: str) -> str:
    n_shown, n_all = len(data.shown), len(data.words)
    badge = f'<span class="m2v-badge">sampled from {n_all:,}</span>' if n_shown < n_all else ""
    wait = f'<span class="m2v-badge m2v-waiting" role="status">{escape(waiting)}</span>' if waiting else ""
    return f'<p class="m2v-map-facts"><span>{n_shown:,} words</span>{badge}{wait}</p>'


def find_on_map(owner: str | None, model_id: str | None, method: Method, text: str) -> tuple[Any, str]:
    """The marks of a word and its nearest on the map, and what there is to say."""
    if not text.strip():
        return gr.HTML(found=None), ""
    try:
        data = _map_data(picked_words(owner, model_id))
        points, _, _ = _layout(data, method)
        places = _places(data)
        nearest = data.words.search(text[:_MAX_QUERY_CHARACTERS], _N_FOUND)
        own = places.get(text.strip().casefold())
        near = [places.get(neighbor.text.casefold()) for neighbor in nearest]
    except Exception as error:  # as above
        return gr.skip(), error_notice(error, "This search did not work")
    marked = [place for place in [own, *near] if place is not None]
    if not marked:
        return gr.HTML(found=None), notice("info", "Nothing like it is on this map.", ["Try another word."])
    texts = [escape(data.words.texts[data.shown[place]]) for place in marked]
    found = {"x": points[marked, 0].tolist(), "y": points[marked, 1].tolist(), "text": texts}
    if own is None:
        return gr.HTML(found=found), notice("info", f"“{text.strip()[:80]}” is no word of this map.", [_ONLY_NEAREST])
    return gr.HTML(found=found), ""


@functools.lru_cache(maxsize=4)
def _places(data: MapData) -> dict[str, int]:
    """Where on the map each word is; of words that differ in capitals alone, the first."""
    places: dict[str, int] = {}
    for place, text in enumerate(data.texts):
        places.setdefault(text.casefold(), place)
    return places


def show_selection(owner: str | None, model_id: str | None, method: Method, event: gr.EventData) -> tuple[str, Any]:
    """The words in a lasso as a table, and the same as CSV."""
    hidden = gr.DownloadButton(visible=False)
    try:
        data = _map_data(picked_words(owner, model_id))
        selected = checked_points(getattr(event, "points", None), len(data.shown))
        if not selected:
            return _LASSO_HINT, hidden
        points, drawn_method, _ = _layout(data, method)
        rows = [
            (
                data.words.texts[data.shown[place]],
                int(data.words.ranks[data.shown[place]]) + 1,
                round(float(data.norms[place]), 4),
                round(float(points[place, 0]), 4),
                round(float(points[place, 1]), 4),
            )
            for place in selected
        ]
        remove_old_files(served_folder())
        # The address is the only key to the file.
        path = served_folder() / secrets.token_hex(16) / "words.csv"
        path.parent.mkdir(parents=True)
        write_csv(path, ["word", "rank", "norm", f"{drawn_method} 1", f"{drawn_method} 2"], rows)
    except Exception as error:  # as above
        return error_notice(error, "This selection can't be shown"), hidden
    noun = "word" if len(rows) == 1 else "words"
    button = gr.DownloadButton(f"Download CSV · {len(rows):,} {noun}", value=str(path), visible=True)
    return selection_html(rows), button


def forget_selection() -> tuple[str, Any, str, str]:
    """What stands under the map of another model: nothing that was found in the last one."""
    return _LASSO_HINT, gr.DownloadButton(visible=False), "", ""


def checked_points(points: object, n_points: int) -> list[int]:
    """The numbers of selected points, rising, each once.

    Raises:
        InputError: They are none of this map's.
    """
    if not isinstance(points, list) or not all(type(point) is int and 0 <= point < n_points for point in points):
        raise InputError("The selection is none of this map. Select again.")
    return sorted(set(points))


def selection_html(rows: Sequence[tuple[str, int, float, float, float]]) -> str:
    """The selected words as a table, the first hundred."""
    body = "".join(
        f'<tr><td class="m2v-word">{escape(text)}</td><td class="m2v-number">{rank:,}</td>'
        f'<td class="m2v-number">{norm:.2f}</td></tr>'
        for text, rank, norm, _, _ in rows[:_MAX_TABLE_ROWS]
    )
    rest = len(rows) - _MAX_TABLE_ROWS
    more = f'<p class="m2v-next">And {rest:,} more, all of them in the CSV.</p>' if rest > 0 else ""
    return (
        f'<div class="m2v-table" role="region" aria-label="Selected words" tabindex="0"><table><thead><tr>'
        f"<th>Word</th><th>Rank</th><th>Norm</th></tr></thead><tbody>{body}</tbody></table></div>{more}"
    )


def explain(owner: str | None, model_id: str | None, a: str, b: str) -> str:
    """Why two texts score as they do, as HTML."""
    if not (a.strip() and b.strip()):
        return notice("info", "Two texts are needed", ["Fill in both."])
    try:
        model = picked_words(owner, model_id).model
        return explanation_html(explain_similarity(model, a[:_MAX_QUERY_CHARACTERS], b[:_MAX_QUERY_CHARACTERS]))
    except Exception as error:  # as above
        return error_notice(error, "This score can't be explained")


def explanation_html(explanation: Explanation) -> str:
    """A similarity and its two texts, each piece with its share."""
    largest = max((abs(span.share) for span in (*explanation.a, *explanation.b)), default=0.0) or 1.0
    texts = "".join(
        f'<figure class="m2v-shares"><figcaption>{title}</figcaption>'
        f"<p>{''.join(_span_html(span, largest) for span in spans)}</p></figure>"
        for title, spans in (("One text", explanation.a), ("Another", explanation.b))
    )
    has_unknown = any(span.kind == "unknown" for span in (*explanation.a, *explanation.b))
    unknown = " Dashed pieces are unknown to the model and count for nothing." if has_unknown else ""
    return (
        f'<div class="m2v-score"><span class="m2v-number">{explanation.similarity:.2f}</span>'
        "<p>Cosine of the two texts, at most 1. Under each piece stands its share: those of either text sum to "
        f"the score. Green raises it, red lowers it.{unknown}</p></div>{texts}"
    )


def _span_html(span: Span, largest: float) -> str:
    text = escape(span.text)
    if span.kind == "between":
        return f'<span class="m2v-gap">{text}</span>'
    if span.kind == "unread":
        shown = escape(span.text[:200]) + ("…" if len(span.text) > 200 else "")
        return f'<span class="m2v-unread" title="Beyond what the model reads of a text">{shown}</span>'
    if span.kind == "unknown":
        return f'<span class="m2v-piece m2v-unknown"><span>{text}</span><small>unknown</small></span>'
    strength = abs(span.share) / largest
    sign = "down" if span.share < 0 else "up"
    return (
        f'<span class="m2v-piece m2v-{sign}" style="--strength:{strength:.3f}"><span>{text}</span>'
        f'<small class="m2v-number">{span.share:.2f}</small></span>'
    )


def similar_words(owner: str, model_id: str, query: str, k: int = 10) -> list[dict[str, Any]]:
    """The words of a model that are most like a text, the nearest first: word, similarity (cosine) and rank."""
    try:
        return _as_dicts(picked_words(owner, model_id).search(query[:_MAX_QUERY_CHARACTERS], _checked_k(k)), "word")
    except M2VError as error:
        raise gr.Error(str(error), print_exception=False) from error


def similar_documents(owner: str, model_id: str, documents: list[str], query: str, k: int = 10) -> list[dict[str, Any]]:
    """The documents that are most like a text, the nearest first: document, similarity (cosine) and place."""
    try:
        read = as_documents(documents)
        model = picked_words(owner, model_id).model
        found = _document_index(model, read).search(query[:_MAX_QUERY_CHARACTERS], _checked_k(k)) if read else []
        return _as_dicts(found, "document")
    except M2VError as error:
        raise gr.Error(str(error), print_exception=False) from error


def similarity_shares(owner: str, model_id: str, a: str, b: str) -> dict[str, Any]:
    """The cosine of two texts, and the share of each piece of either: text, kind and share."""
    try:
        model = picked_words(owner, model_id).model
        return asdict(explain_similarity(model, a[:_MAX_QUERY_CHARACTERS], b[:_MAX_QUERY_CHARACTERS]))
    except M2VError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _as_dicts(found: Sequence[Neighbor], name: str) -> list[dict[str, Any]]:
    return [{name: neighbor.text, "similarity": neighbor.similarity, "rank": neighbor.rank} for neighbor in found]


def _checked_k(k: float) -> int:
    if not 1 <= k <= _MAX_RESULTS:
        raise InputError(f"{k} results were asked for. Ask for 1 to {_MAX_RESULTS}.")
    return int(k)


def _plotly_address() -> str:
    """Where the browser finds plotly.js, relative to this page; served as it lies in the plotly package.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    package = find_spec("plotly")
    if package is None or package.origin is None:
        raise MissingExtraError("plotly", "app")
    script = Path(package.origin).resolve().parent / "package_data" / "plotly.min.js"
    gr.set_static_paths([script])
    return f"gradio_api/file={quote(script.as_posix())}"


_WORDS_HINT = notice("info", "What does the model find similar?", ["Try a name, a verb, or a whole sentence."])
_DOCUMENTS_HINT = notice(
    "info", "Search by meaning", ["Put in your texts, then ask in your own words. Nothing leaves this server."]
)
_LASSO_HINT = (
    '<p class="m2v-next">Choose Lasso and draw around some words: they are listed here, and can be saved as CSV.</p>'
)
_ONLY_NEAREST = "The words nearest to it are marked."
