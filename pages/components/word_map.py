"""The map of a model's vocabulary: PCA at once, UMAP when it is ready, a word found, a lasso to a table."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, MissingExtraError
from m2v_core.exploration.background import MapMaker
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.exploration.projection import pca_map, sample_rows, umap_key
from m2v_core.exploration.tables import write_csv
from pages.components import (
    Values,
    data_folder,
    format_seconds,
    html,
    message_box,
    on,
    query_box,
    shows_errors,
    teacher_side,
)
from pages.components.map_look import ColorBy, Look, MapData, legend_html, look_of
from pages.components.model_picker import model_library, picked_words
from pages.components.served_files import serve
from pages.components.waiting import bar_html
from pages.figures import map_figure
from pages.figures.style import short_name
from pages.gradio_patches import serve_file
from pages.html import Markup, escape, render

Method = Literal["PCA", "UMAP"]

_MAX_QUERY_CHARACTERS = 10_000
_MAX_TABLE_ROWS = 100
_N_FOUND = 8  # neighbours that are marked on the map beside the word
_TICK_SECONDS = 1.0
_SCRIPT = Path(__file__).with_name("map_view.js")
_LASSO_HINT = (
    '<p class="m2v-next">Choose Lasso and draw around some words: they are listed here, and can be saved as CSV.</p>'
)
_HINT = '<p class="m2v-hint">{{ hint }}</p>'
_NEAR = "Each dot is a word. Words near each other are mostly similar to the model."
_INSTEAD = "Coloured by rank for now; below the map stands why."
_LAYOUTS = "PCA: the widest spread, at once. UMAP: similar words kept together, in a minute."
_COLORS = (
    "Rank: place in the vocabulary. Norm: how much a word counts in a text. Cluster: groups of similar words. "
    "Teacher overlap: nearest words shared with the teacher."
)


def build_word_map(owner: gr.BrowserState, model_id: gr.Dropdown, tab: gr.Tab, other_tabs: Sequence[gr.Tab]) -> None:
    """A new map in the current Blocks context, drawn whenever its tab is opened.

    The tab it stands in is `tab`; the others hide it.
    """
    with gr.Row(elem_classes="m2v-map-settings"):
        method = gr.Radio(["PCA", "UMAP"], value="PCA", label="Layout", info=_LAYOUTS, elem_classes="m2v-switch")
        color_by = gr.Radio(
            [("Rank", "rank"), ("Norm", "norm"), ("Cluster", "cluster"), ("Teacher overlap", "overlap")],
            value="rank",
            label="Colour by",
            info=_COLORS,
            elem_classes="m2v-switch",
        )
        with gr.Column(elem_classes="m2v-find"):
            find, map_found = query_box("Find a word", button="Find"), html(css="m2v-map-found")
    # What comes and goes has its room above the map, or stands below it: so the map stays where it is.
    with gr.Column(elem_classes="m2v-map-area"):
        map_status = html(css="m2v-map-status")
        template, script = render("map.html", script=_plotly_address()), _SCRIPT.read_text(encoding="utf-8")
        word_map = html(None, "m2v-map", html_template=template, js_on_load=script, found=None)
    map_notes = html(css="m2v-map-notes")
    teacher_said = message_box()
    ask = gr.Button("Let the teacher read the words", visible=False, size="sm", elem_classes="m2v-ask-teacher")
    stop = gr.Button("Cancel", visible=False, size="sm", elem_classes="m2v-ask-teacher")
    is_map_open = gr.State(False)
    map_timer = gr.Timer(_TICK_SECONDS, active=False)
    selection = html(_LASSO_HINT, "m2v-selection")
    download = gr.DownloadButton("Download CSV", visible=False, size="lg")

    drawn, asked, selected = gr.State(""), gr.State(0), gr.State([])
    shown = {"map": word_map, "status": map_status, "notes": map_notes, "timer": map_timer, "drawn": drawn}
    shown |= {"ask": ask, "stop": stop}
    model = [owner, model_id]
    # One handler for all that can change the map, so that no answer comes after a later one's.
    changes = [is_map_open.change, model_id.change, method.change, color_by.change, map_timer.tick, asked.change]
    on(changes, show_map, [*model, method, color_by, is_map_open, drawn], shown)
    # 30,000 points are not sent before somebody looks at them.
    on([other.select for other in other_tabs], lambda: False, None, is_map_open)
    on(tab.select, lambda: True, None, is_map_open)
    on(ask.click, let_teacher_read, [*model, asked], [teacher_said, asked])
    on(stop.click, stop_teacher, [*model, asked], [teacher_said, asked])
    on([color_by.change, model_id.change], lambda: "", None, teacher_said)
    forgotten = {"selection": selection, "download": download, "find": find, "found": map_found, "map": word_map}
    on(model_id.change, forget_selection, None, {**forgotten, "selected": selected})
    on(word_map.select, selected_points, None, selected)
    # What the map shows of a word stands in the table too, once the map shows it.
    chosen = [*model, method, color_by, selected]
    on([selected.change, drawn.change], show_selection, chosen, [selection, download])
    on(find.submit, find_on_map, [*model, find], [word_map, map_found])


def _undrawn(message: str) -> Values:
    hidden = gr.Button(visible=False)
    return {"status": message, "notes": "", "timer": gr.Timer(active=False), "ask": hidden, "stop": hidden}


@shows_errors("This map can't be drawn", _undrawn)
def show_map(
    owner: str | None, model_id: str | None, method: Method, color_by: ColorBy, is_open: bool, drawn: str = ""
) -> Values:
    """What the map shows, and what stands around it.

    Args:
        method: What lays it out; PCA as long as that waits.
        is_open: Whether anybody sees it; nothing changes where not.
        drawn: What the figure there is of; it is not sent again.
    """
    if not is_open or not model_id:
        return {"timer": gr.Timer(active=False)}
    data = _map_data(picked_words(owner, model_id))
    points, drawn_method, waiting = _layout(data, method)
    look = look_of(data, owner, model_id, color_by)
    wanted = f"{model_id} {drawn_method} {look.shows}"
    figure = {}
    if wanted != drawn:
        name = model_library().get(model_id, owner or "").name
        title = f"{short_name(name, 'static')}<br>{_count(data)}, laid out by {drawn_method}"
        made = map_figure(data.texts, data.ranks, data.norms, points, look.colors, drawn_method, title)
        figure = {"map": made.to_json(), "drawn": wanted}
    return figure | {
        "status": waiting or render(_HINT, hint=_NEAR if look.shows == color_by else _INSTEAD),
        "notes": _notes_html(data, look),
        "timer": gr.Timer(active=bool(waiting or look.waiting)),
        "ask": gr.Button(visible=look.may_ask),
        "stop": gr.Button(visible=bool(look.waiting)),
    }


def let_teacher_read(owner: str | None, model_id: str | None, asked: int) -> tuple[str, int]:
    """Start what the switch among the words starts: why that failed, empty if not, and how often it was asked."""
    status = teacher_side.follow("teacher_words", owner, model_id, None, True, may_start=True)["status"]
    job = teacher_side.find_reading("teacher_words", owner or "", model_id or "")
    is_going = job is not None and job.state in ("queued", "running", "done")
    return "" if is_going else status, asked + 1  # how it goes on, the map shows


def stop_teacher(owner: str | None, model_id: str | None, asked: int) -> tuple[str, int]:
    """Stop that: why it failed, empty if not, and how often it was asked."""
    return teacher_side.cancel("teacher_words", owner, model_id, None)["status"], asked + 1


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
    """The points to draw, what made them, and what is still waited for as HTML, empty for nothing."""
    if method == "PCA":
        return data.pca, "PCA", ""
    pending = _map_maker().get(data.rows, data.key)
    if pending.points is None:
        left = pending.seconds_left
        numbers = "about a minute, once" if left is None else f"about {math.ceil(left)} s left"
        numbers = f"{format_seconds(pending.seconds)} so far · {numbers}"
        return data.pca, "PCA", bar_html("Making the UMAP", numbers, pending.share)
    return pending.points, "UMAP", ""


def _count(data: MapData) -> str:
    n_shown, n_all = len(data.shown), len(data.words)
    return f"{n_shown:,} of {n_all:,} words" if n_shown < n_all else f"{n_all:,} words"


def _notes_html(data: MapData, look: Look) -> Markup:
    return render(
        "map_notes.html",
        legend=legend_html(look.groups),
        n_shown=len(data.shown),
        n_all=len(data.words),
        n_tokens=len(data.words.model.tokens),
        look=look,
    )


@shows_errors("This search did not work", lambda message: (gr.skip(), message))
def find_on_map(owner: str | None, model_id: str | None, text: str) -> tuple[Any, str]:
    """The marks of a word and its nearest on the map, and what there is to say."""
    if not text.strip():
        return gr.HTML(found=None), ""
    data = _map_data(picked_words(owner, model_id))
    places = _places(data)
    nearest = data.words.search(text[:_MAX_QUERY_CHARACTERS], _N_FOUND)
    own = places.get(text.strip().casefold())
    near = [places.get(neighbor.text.casefold()) for neighbor in nearest]
    marked = [place for place in [own, *near] if place is not None]
    if not marked:
        return gr.HTML(found=None), _found_html("Nothing like it is on this map. Try another word.")
    texts = [escape(data.words.texts[data.shown[place]]) for place in marked]
    found = {"points": marked, "text": texts}
    if own is None:
        shown = text.strip() if len(text.strip()) <= 40 else f"{text.strip()[:39]}…"
        return gr.HTML(found=found), _found_html(
            f"“{shown}” is no word of this map; the words nearest to it are marked."
        )
    return gr.HTML(found=found), ""


def _found_html(message: str) -> Markup:
    return render('<p class="m2v-hint" role="status">{{ message }}</p>', message=message)


@functools.lru_cache(maxsize=4)
def _places(data: MapData) -> dict[str, int]:
    """Where on the map each word is; of words that differ in capitals alone, the first."""
    places: dict[str, int] = {}
    for place, text in enumerate(data.texts):
        places.setdefault(text.casefold(), place)
    return places


def selected_points(event: gr.EventData) -> Any:
    """The points in a lasso, as the browser tells them: nobody has looked at them yet."""
    return getattr(event, "points", None)


@shows_errors("This selection can't be shown", lambda message: (message, gr.DownloadButton(visible=False)))
def show_selection(
    owner: str | None, model_id: str | None, method: Method, color_by: ColorBy, selected: object
) -> tuple[str, Any]:
    """The words in a lasso as a table, and the same as CSV; in both, what the map's colours say of them."""
    hidden = gr.DownloadButton(visible=False)
    if not selected or not model_id:
        return _LASSO_HINT, hidden
    data = _map_data(picked_words(owner, model_id))
    places = checked_points(selected, len(data.shown))
    column = look_of(data, owner, model_id, color_by).column()
    points, drawn_method, _ = _layout(data, method)
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


def forget_selection() -> Values:
    """What stands around the map of another model: nothing that was found in the last one."""
    return {
        "selection": _LASSO_HINT,
        "download": gr.DownloadButton(visible=False),
        "find": "",
        "found": "",
        "map": gr.HTML(found=None),
        "selected": [],
    }


def checked_points(points: object, n_points: int) -> list[int]:
    """The numbers of selected points, rising, each once.

    Raises:
        InputError: They are none of this map's.
    """
    if not isinstance(points, list) or not all(type(point) is int and 0 <= point < n_points for point in points):
        raise InputError("The selection is none of this map. Select again.")
    return sorted(set(points))


def selection_html(columns: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> Markup:
    """The selected words as a table, the first hundred.

    Args:
        columns: What stands above each: the word, its rank, its norm, and what the map's colours say of it.
        rows: A value for each column.
    """
    cells = [list(map(_cell, columns, row)) for row in rows[:_MAX_TABLE_ROWS]]
    return render("selection.html", columns=columns, rows=cells, n_more=len(rows) - _MAX_TABLE_ROWS)


def _cell(column: str, value: str | int | float) -> tuple[str, str]:
    """The class of a cell, and its text."""
    if isinstance(value, str):
        return "word" if column == "word" else "group", value
    if isinstance(value, int):
        return "number", f"{value:,}"
    return "number", f"{value:.0%}" if column == "shared neighbours" else f"{value:.2f}"


def _plotly_address() -> str:
    """Where the browser finds plotly.js, relative to this page; served as it lies in the plotly package.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    package = find_spec("plotly")
    if package is None or package.origin is None:
        raise MissingExtraError("plotly", "app")
    return serve_file(Path(package.origin).resolve().parent / "package_data" / "plotly.min.js")
