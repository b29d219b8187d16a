"""The map of a model's vocabulary: PCA first, then UMAP, with topics, a word search, a word panel and a lasso.

The teacher's map of the same words can be shown next to it; both mark the same points.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, M2VError, MissingExtraError
from m2v_core.exploration.background import MapMaker
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.exploration.projection import pca_map, sample_rows, umap_key
from m2v_core.exploration.tables import write_csv
from m2v_core.exploration.topics import label_order
from m2v_core.studio.work.teacher_side import load_vectors
from pages.components import (
    Values,
    data_folder,
    format_seconds,
    html,
    message_box,
    notice,
    on,
    query_box,
    shows_errors,
    teacher_side,
)
from pages.components.map_look import ColorBy, Look, MapData, legend_html, look_of, selection_html, topics_of
from pages.components.model_picker import model_library, picked_words
from pages.components.served_files import serve
from pages.components.waiting import bar_html, following
from pages.components.word_search import short_query
from pages.figures import colors_data, points_data, topics_data, words_data
from pages.gradio_patches import current_page, serve_file
from pages.html import Markup, render

Method = Literal["PCA", "UMAP"]

_N_FOUND = 8  # neighbors marked on the map together with a found word
_N_NEIGHBORS = 12  # in the panel of a word
_TICK_SECONDS = 1.0
_data_lock = threading.Lock()
# One script in six files, which share its scope.
MAP_SCRIPT = "\n".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("map_labels.js", "map_points.js", "map_contours.js", "map_documents.js", "map_view.js", "map_tools.js")
)
MAP_STYLE = Path(__file__).with_name("map_view.css").read_text(encoding="utf-8")
_LASSO_HINT = '<p class="m2v-next">Choose Lasso and draw around words to list them here and download them as CSV.</p>'


def build_word_map(
    owner: gr.BrowserState, model_id: gr.Dropdown, tabs: gr.Tabs, tab: gr.Tab, other_tabs: Sequence[gr.Tab]
) -> tuple[gr.HTML, gr.State]:
    """Build the map in the current Blocks context; it is drawn only while `tab` is open.

    Returns:
        The map of the model, and the state with whether the tab is open.
    """
    with gr.Row(elem_classes="m2v-map-settings"):
        method = gr.Radio(["UMAP", "PCA"], value="UMAP", label="Layout", elem_classes="m2v-switch")
        color_by = gr.Radio(
            [("Topic", "cluster"), ("Rank", "rank"), ("Norm", "norm"), ("Teacher overlap", "overlap")],
            value="cluster",
            label="Color by",
            elem_classes="m2v-switch",
        )
        beside = gr.Checkbox(False, label="Show the teacher's map", visible=False)
        find = query_box("Find a word", "Find a word", button="Find")
    with gr.Column(elem_classes="m2v-map-area"):
        map_status, map_found = html(css="m2v-map-status"), html(css="m2v-map-found")
        with gr.Row(elem_classes="m2v-map-pair"):
            word_map, teacher_map = _map_component(), _map_component("Teacher", visible="hidden")
    map_notes = html(css="m2v-map-notes")
    teacher_message = message_box()
    ask = gr.Button("Encode words with the teacher", visible=False, size="sm", elem_classes="m2v-ask-teacher")
    stop = gr.Button("Cancel", visible=False, size="sm", elem_classes="m2v-ask-teacher")
    is_map_open = gr.State(False)
    map_timer = gr.Timer(_TICK_SECONDS, active=False)
    selection = html(_LASSO_HINT, "m2v-selection")
    download = gr.DownloadButton("Download CSV", visible=False, size="lg")

    drawn, asked, selected, linked = gr.State({}), gr.State(0), gr.State([]), gr.State("")
    shown = {"map": word_map, "teacher_map": teacher_map, "beside": beside, "notes": map_notes, "drawn": drawn}
    shown |= {"status": map_status, "timer": map_timer}
    shown |= {"ask": ask, "stop": stop, "selection": selection, "download": download, "selected": selected}
    shown |= {"find": find, "found": map_found}
    model = [owner, model_id]
    # One handler for all events that can change the map, so that responses arrive in order.
    changes = [is_map_open.change, model_id.change, method.change, color_by.change, map_timer.tick, asked.change]
    inputs = [*model, method, color_by, is_map_open, drawn, beside]
    on([*changes, beside.change], follow_map, inputs, shown, latest=True)
    on(model_id.change, prepare_map, model)
    # The points are only sent while the map is open.
    on([other.select for other in other_tabs], lambda: False, None, is_map_open)
    on(tab.select, lambda: True, None, is_map_open)
    on(ask.click, submit_encoding, [*model, asked], [teacher_message, asked])
    on(stop.click, stop_encoding, [*model, asked], [teacher_message, asked])
    on([color_by.change, model_id.change], lambda: "", None, teacher_message)
    for component in (word_map, teacher_map):
        on(component.select, selected_points, None, selected)
        on(component.click, show_clicked_word, model, component)
    # The table has a column for the colors of the map.
    chosen = [*model, method, color_by, selected]
    on([selected.change, drawn.change], show_selection, chosen, [selection, download])
    on(find.submit, find_on_map, [*model, find], [word_map, map_found])
    opened = {"tabs": tabs, "is_open": is_map_open, "find": find, "method": method, "linked": linked}
    on(current_page().load, open_link, None, opened)
    on(drawn.change, find_linked, [*model, linked, drawn], {"map": word_map, "found": map_found, "linked": linked})
    return word_map, is_map_open


def _map_component(caption: str = "", **how: Any) -> gr.HTML:
    template = render("map.html", script=_plotly_address(), caption=caption)
    look = {"html_template": template, "head": f"<style>{MAP_STYLE}</style>", "js_on_load": MAP_SCRIPT}
    return html(None, "m2v-map", **look, found=None, **how)


def follow_map(*inputs: Any) -> Iterator[Values]:
    """Yield the progress if it takes long, then the values of `show_map` without the words, then the words."""
    work = functools.partial(show_map, *inputs)
    values = yield from following(work, "Drawing the map", "map", lambda sign: {"status": sign})
    words = values.pop("words", None)
    yield values
    if words is not None:
        yield {"map": gr.HTML(**values["map"].props, **words.props)}


def _undrawn(message: str) -> Values:
    hidden = gr.Button(visible=False)
    return {"status": "", "notes": message, "timer": gr.Timer(active=False), "ask": hidden, "stop": hidden}


@shows_errors("This map can't be drawn", _undrawn)
def show_map(
    owner: str | None,
    model_id: str | None,
    method: Method,
    color_by: ColorBy,
    is_open: bool,
    drawn: Mapping[str, str] | None = None,
    beside: bool = False,
) -> Values:
    """Values of the maps and of the components around them, by name; `words` is a second update of the map.

    Args:
        method: The requested layout; PCA is shown until UMAP is ready.
        is_open: Whether the tab is open; if not, nothing is sent.
        drawn: Signature of each part that the browser has; these parts are not sent again.
        beside: Whether to show the teacher's map next to that of the model; ignored where the teacher's vectors are not
            available.
    """
    if not is_open or not model_id:
        return {"timer": gr.Timer(active=False)}
    data = map_data(picked_words(owner, model_id))
    look = look_of(data, owner, model_id, color_by)
    is_comparable = look.shows == "overlap"
    name = model_library().get(model_id, owner or "").name
    signatures, new, waiting, problem = _parts(data, method, look, model_id, name, drawn)
    values: Values = {"words": gr.HTML(words=new.pop("words"))} if "words" in new else {}
    if drawn and "words" in values:  # another model was on the map
        new |= {"found": None, "panel": ""}
        values |= {"find": "", "found": "", "selected": []}
        values |= {"selection": _LASSO_HINT, "download": gr.DownloadButton(visible=False)}
    if new:
        values["map"] = gr.HTML(**new)
    folder = teacher_side.words_folder(owner, model_id) if is_comparable and beside else None
    if folder is not None:
        teacher = _teacher_data(folder, data)
        of_teacher, new, more, _ = _parts(teacher, method, look, model_id, name, drawn, "teacher ")
        new["legend"] = ""  # that of the model's map is valid for both
        signatures, waiting = signatures | of_teacher, waiting or more
        values["teacher_map"] = gr.HTML(**new, visible=True)
    else:
        values["teacher_map"] = gr.HTML(visible="hidden")
    if look.topics is None:
        waiting = bar_html("Finding topics", "", None) + waiting
    kept = {part: signature for part, signature in (drawn or {}).items() if part not in signatures}
    if signatures.items() - (drawn or {}).items():
        values["drawn"] = kept | signatures
    return values | {
        "beside": gr.Checkbox(visible=is_comparable),
        "status": waiting,
        "notes": problem + _notes_html(data, look),
        "timer": gr.Timer(active=bool(waiting or look.waiting)),
        "ask": gr.Button(visible=look.may_ask),
        "stop": gr.Button(visible=bool(look.waiting)),
    }


def _parts(
    data: MapData,
    method: Method,
    look: Look,
    model_id: str,
    name: str,
    drawn: Mapping[str, str] | None,
    prefix: str = "",
) -> tuple[dict[str, str], Values, Markup, Markup]:
    """The parts of a map: their signatures, the new ones' values, the progress of the layout, and its error, as HTML.

    Args:
        prefix: Distinguishes the signatures of several maps.
    """
    points, drawn_method, waiting, problem = _layout(data, method)
    names = look.topics.cluster_names if look.topics is not None else []
    parts: dict[str, tuple[str, Callable[[], Any]]] = {
        "points": (drawn_method, lambda: points_data(model_id, name, drawn_method, points)),
        "colors": (look.shows if look.colors else "", lambda: look.colors and colors_data(look.colors)),
        "legend": (look.shows if look.colors else "", lambda: legend_html(look.colors, names)),
        "topics": ("topics" if look.topics else "", lambda: look.topics and topics_data(look.topics)),
        "words": ("words", lambda: words_data(data.texts, data.ranks, data.norms, label_order(data.texts, data.ranks))),
    }
    signatures = {prefix + part: f"{model_id} {signature}" for part, (signature, _) in parts.items()}
    new = {
        part: make()
        for part, (_, make) in parts.items()
        if signatures[prefix + part] != (drawn or {}).get(prefix + part)
    }
    return signatures, new, waiting, problem


@functools.lru_cache(maxsize=2)
def _teacher_data(vectors_of: Path, data: MapData) -> MapData:
    """The same words with the teacher's vectors, from the folder of a job's result."""
    rows = np.ascontiguousarray(load_vectors(vectors_of)[data.shown])
    return dataclasses.replace(data, rows=rows, pca=pca_map(rows), key=umap_key(rows))


def open_link(request: gr.Request) -> Values:
    """Open the map if the page's URL requests it: `?view=map`, optionally with a word `q` and a `layout`."""
    link = request.query_params
    if link.get("view") != "map":
        return {}
    query = short_query(str(link.get("q", "")))
    values = {"tabs": gr.Tabs(selected="map"), "is_open": True, "find": query, "linked": query}
    return values | ({"method": link["layout"]} if link.get("layout") in ("PCA", "UMAP") else {})


def find_linked(owner: str | None, model_id: str | None, linked: str, drawn: Mapping[str, str]) -> Values:
    """Find the word in the page's URL after the map is drawn."""
    if not linked or not model_id or not drawn:
        return {}
    marks, message = find_on_map(owner, model_id, linked)
    return {"map": marks, "found": message, "linked": ""}


def prepare_map(owner: str | None, model_id: str | None) -> None:
    """Start computing the UMAP and the topics of a newly selected model in the background."""
    with contextlib.suppress(M2VError):  # `show_map` shows the error
        data = map_data(picked_words(owner, model_id))
        topics_of(data)
        _map_maker().get(data.rows, data.key, is_prepared=True)


def submit_encoding(owner: str | None, model_id: str | None, asked: int) -> tuple[str, int]:
    """Start a job that encodes the words with the teacher; return the error as HTML, and the next count."""
    status = teacher_side.follow("teacher_words", owner, model_id, None, True, may_start=True)["status"]
    job = teacher_side.find_comparison("teacher_words", owner or "", model_id or "")
    is_submitted = job is not None and job.state in ("queued", "running", "done")
    return "" if is_submitted else status, asked + 1  # the map shows the progress


def stop_encoding(owner: str | None, model_id: str | None, asked: int) -> tuple[str, int]:
    """Cancel that job; return the error as HTML, and the next count."""
    return teacher_side.cancel("teacher_words", owner, model_id, None)["status"], asked + 1


def map_data(words: WordNeighbors) -> MapData:
    """The words on the map of a model, with a cache of recently shown maps.

    Raises:
        InputError: The model has no whole words.
    """
    with _data_lock:  # several handlers request it when a page opens
        return _cached_map_data(words)


@functools.lru_cache(maxsize=4)
def _cached_map_data(words: WordNeighbors) -> MapData:
    if not len(words):
        raise InputError("This model has no whole words to show on a map. Choose another model.")
    shown = sample_rows(len(words))
    rows = words.rows[shown]
    return MapData(words, shown, rows, words.norms()[shown], pca_map(rows), umap_key(rows))


@functools.cache
def _map_maker() -> MapMaker:
    return MapMaker(data_folder() / "maps")


def stop_maps() -> None:
    """Stop computing maps, when the app ends."""
    _map_maker().close()


def best_points(data: MapData) -> NDArray[np.float32]:
    """The UMAP of a model, (n_shown, 2) float32; its PCA map if the UMAP is not cached."""
    points = _map_maker().cached(data.key, len(data.rows))
    return data.pca if points is None else points


def _layout(data: MapData, method: Method) -> tuple[NDArray[np.float32], Method, Markup, Markup]:
    """Points to draw, their layout, the progress of a pending one as HTML, and its error as HTML."""
    if method == "PCA":
        return data.pca, "PCA", Markup(), Markup()
    try:
        pending = _map_maker().get(data.rows, data.key)
    except M2VError as error:
        return data.pca, "PCA", Markup(), notice("error", "UMAP is not available", [str(error)])
    if pending.points is not None:
        return pending.points, "UMAP", Markup(), Markup()
    numbers = format_seconds(pending.seconds)
    if pending.seconds_left is not None:
        numbers += f" · about {format_seconds(max(1.0, round(pending.seconds_left)))} left"
    return data.pca, "PCA", bar_html("Computing UMAP", numbers, pending.share), Markup()


def _notes_html(data: MapData, look: Look) -> Markup:
    return render(
        "map_notes.html",
        n_shown=len(data.shown),
        n_all=len(data.words),
        n_tokens=len(data.words.model.tokens),
        look=look,
    )


def show_clicked_word(owner: str | None, model_id: str | None, event: gr.EventData) -> Any:
    """Update of the map with the panel of the word that was clicked; an empty panel for no word."""
    point = getattr(event, "point", None)
    return gr.HTML(panel="" if point is None else word_html(owner, model_id, point))


@shows_errors("This word can't be shown")
def word_html(owner: str | None, model_id: str | None, point: object) -> Markup:
    """Panel of a word on the map, as HTML: facts, and its nearest words by the model's full vectors."""
    data = map_data(picked_words(owner, model_id))
    (place,) = checked_points([point], len(data.shown))
    word, topics = data.texts[place], topics_of(data)
    places = _places(data)
    lists = [("Nearest words", data.words.search(word, _N_NEIGHBORS))]
    if teacher := teacher_side.words_neighbors(owner, model_id):
        lists.append(("Nearest words of the teacher", teacher.search(word, _N_NEIGHBORS)))
    return render(
        "map_word.html",
        word=word,
        rank=int(data.ranks[place]),
        norm=float(data.norms[place]),
        topic="" if topics is None else topics.names[topics.labels[place]],
        pieces=data.words.model.tokenizer.encode(word, add_special_tokens=False).tokens,
        lists=[(heading, [(one, places.get(one.text.casefold())) for one in found]) for heading, found in lists],
    )


@shows_errors("The search failed", lambda message: (gr.skip(), message))
def find_on_map(owner: str | None, model_id: str | None, text: str) -> tuple[Any, str]:
    """Update of the map that marks a word and its nearest words, and a message as HTML."""
    if not text.strip():
        return gr.HTML(found=None), ""
    data = map_data(picked_words(owner, model_id))
    places = _places(data)
    nearest = data.words.search(short_query(text), _N_FOUND)
    own = places.get(text.strip().casefold())
    near = [places.get(neighbor.text.casefold()) for neighbor in nearest]
    marked = [place for place in [own, *near] if place is not None]
    if not marked:
        return gr.HTML(found=None), _found_html("No word on this map is similar to your query. Try another word.")
    found = gr.HTML(found={"points": marked, "query": short_query(text.strip())})
    if own is None:
        shown = text.strip() if len(text.strip()) <= 40 else f"{text.strip()[:39]}…"
        return found, _found_html(f"“{shown}” is not on this map. The words nearest to it are marked.")
    return found, ""


def _found_html(message: str) -> Markup:
    return render('<p class="m2v-hint" role="status">{{ message }}</p>', message=message)


@functools.lru_cache(maxsize=4)
def _places(data: MapData) -> dict[str, int]:
    """Index of each word on the map by its casefolded text; the first of words that differ only in case."""
    places: dict[str, int] = {}
    for place, text in enumerate(data.texts):
        places.setdefault(text.casefold(), place)
    return places


def selected_points(event: gr.EventData) -> Any:
    """The points in a lasso, as the browser sent them: not validated."""
    return getattr(event, "points", None)


@shows_errors("This selection can't be shown", lambda message: (message, gr.DownloadButton(visible=False)))
def show_selection(
    owner: str | None, model_id: str | None, method: Method, color_by: ColorBy, selected: object
) -> tuple[str, Any]:
    """The words in a lasso as a table and as CSV, with a column for the map's colors."""
    hidden = gr.DownloadButton(visible=False)
    if not selected or not model_id:
        return _LASSO_HINT, hidden
    data = map_data(picked_words(owner, model_id))
    places = checked_points(selected, len(data.shown))
    column = look_of(data, owner, model_id, color_by).column()
    points, drawn_method, *_ = _layout(data, method)
    columns = ["word", "rank", "norm"]
    facts: list[Sequence[Any]] = [data.texts, data.ranks.tolist(), _rounded(data.norms)]
    if column is not None:
        columns.append(column[0])
        facts.append(column[1])
    table = [[fact[place] for fact in facts] for place in places]
    rows = [[*row, *_rounded(points[place])] for row, place in zip(table, places, strict=True)]
    headings = [*columns, f"{drawn_method} 1", f"{drawn_method} 2"]
    path = serve("words.csv", lambda path: write_csv(path, headings, rows))
    noun = "word" if len(rows) == 1 else "words"
    button = gr.DownloadButton(f"Download CSV · {len(rows):,} {noun}", value=str(path), visible=True)
    return selection_html(columns, table), button


def _rounded(numbers: NDArray[np.float32]) -> list[float]:
    return [round(number, 4) for number in numbers.tolist()]


def checked_points(points: object, n_points: int) -> list[int]:
    """The indices of selected points, ascending, without duplicates.

    Raises:
        InputError: They are not points of this map.
    """
    if not isinstance(points, list) or not all(type(point) is int and 0 <= point < n_points for point in points):
        raise InputError("The selection does not belong to this map. Select again.")
    return sorted(set(points))


def _plotly_address() -> str:
    """Address of plotly.js relative to this page; the file of the plotly package is served.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    package = find_spec("plotly")
    if package is None or package.origin is None:
        raise MissingExtraError("plotly", "app")
    return serve_file(Path(package.origin).resolve().parent / "package_data" / "plotly.min.js")
