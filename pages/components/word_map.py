"""The map of a model's vocabulary: PCA at once, UMAP when it is ready, a word found, a lasso to a table."""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, MissingExtraError
from m2v_core.exploration.agreement import OVERLAP_NEIGHBORS
from m2v_core.exploration.background import MapMaker
from m2v_core.exploration.clusters import cached_clusters, cluster_names
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.exploration.projection import pca_map, sample_rows, umap_key
from m2v_core.exploration.tables import write_csv
from pages.components import data_folder, error_notice, format_seconds, notice
from pages.components.model_picker import picked_words
from pages.components.served_files import remove_old_files, served_folder
from pages.components.teacher_side import reading_html, words_overlap
from pages.components.waiting import bar_html
from pages.figures import CLUSTER_COLORS, PointColors, map_figure

Method = Literal["PCA", "UMAP"]
ColorBy = Literal["rank", "norm", "cluster", "overlap"]

_MAX_QUERY_CHARACTERS = 10_000
_MAX_TABLE_ROWS = 100
_N_FOUND = 8  # neighbours that are marked on the map beside the word
_TICK_SECONDS = 1.0
_SCRIPT = Path(__file__).with_name("map_view.js")
_TEMPLATE = """
<div class="m2v-tools" role="group" aria-label="What dragging does">
  <button type="button" data-tool-of="pan" aria-pressed="true">Move</button>
  <button type="button" data-tool-of="lasso" aria-pressed="false">Lasso</button>
  <button type="button" data-reset>Reset</button>
</div>
<div class="m2v-plot" data-script="%s" role="img" aria-label="Map of the vocabulary"></div>
"""
_LASSO_HINT = (
    '<p class="m2v-next">Choose Lasso and draw around some words: they are listed here, and can be saved as CSV.</p>'
)
_NO_TEACHER = notice(
    "info",
    "The teacher has not read this model's words",
    ["Open Words above and turn on “Beside the teacher”; then these colours show where both agree."],
)
_ONLY_NEAREST = "The words nearest to it are marked."


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


def build_word_map(owner: gr.BrowserState, model_id: gr.Dropdown, tab: gr.Tab, other_tabs: Sequence[gr.Tab]) -> None:
    """A new map in the current Blocks context, drawn whenever its tab is opened.

    Args:
        owner: Whose model it shows.
        model_id: Which one.
        tab: The tab it stands in.
        other_tabs: Those that hide it.
    """
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    with gr.Row(elem_classes="m2v-map-settings"):
        method = gr.Radio(["PCA", "UMAP"], value="PCA", label="Layout", elem_classes="m2v-switch")
        color_by = gr.Radio(
            [("Rank", "rank"), ("Norm", "norm"), ("Cluster", "cluster"), ("Teacher overlap", "overlap")],
            value="rank",
            label="Colour by",
            elem_classes="m2v-switch",
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
        html_template=_TEMPLATE % escape(_plotly_address()),
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_classes="m2v-map",
        found=None,
    )
    map_found = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
    is_map_open = gr.State(False)
    map_timer = gr.Timer(_TICK_SECONDS, active=False)
    selection = gr.HTML(_LASSO_HINT, apply_default_css=False, elem_classes="m2v-selection")
    download = gr.DownloadButton("Download CSV", visible=False, size="lg")

    drawn = gr.State("")
    # One handler for all that can change the map, so that no answer comes after a later one's.
    gr.on(
        [is_map_open.change, model_id.change, method.change, color_by.change, map_timer.tick],
        show_map,
        [owner, model_id, method, color_by, is_map_open, drawn],
        [word_map, map_status, map_timer, drawn],
        trigger_mode="always_last",
        **quiet,
    )
    # 30,000 points are not sent before somebody looks at them.
    gr.on([other.select for other in other_tabs], lambda: False, None, is_map_open, **quiet)
    tab.select(lambda: True, None, is_map_open, **quiet)
    model_id.change(forget_selection, None, [selection, download, find, map_found, word_map], **quiet)
    word_map.select(show_selection, [owner, model_id, method], [selection, download], **quiet)
    find.submit(find_on_map, [owner, model_id, find], [word_map, map_found], **quiet)


def show_map(
    owner: str | None, model_id: str | None, method: Method, color_by: ColorBy, is_open: bool, drawn: str = ""
) -> list[Any]:
    """What the map shows: figure, status, whether to look again soon, and what the figure is of.

    Args:
        owner: Whose model it shows.
        model_id: Which one.
        method: What lays it out; PCA as long as that waits.
        color_by: What colours it.
        is_open: Whether anybody sees it; nothing changes where not.
        drawn: What the figure there is of; it is not sent again.
    """
    if not is_open or not model_id:
        return [gr.skip(), gr.skip(), gr.Timer(active=False), gr.skip()]
    try:
        data = _map_data(picked_words(owner, model_id))
        points, drawn_method, waiting = _layout(data, method)
        look = _look(data, owner, model_id, color_by)
        wanted = f"{model_id} {drawn_method} {'rank' if look.waiting else color_by}"
        figure = gr.skip()
        if wanted != drawn:
            figure = map_figure(data.texts, data.ranks, data.norms, points, look.colors, drawn_method).to_json()
        is_waiting = bool(waiting or look.waiting)
        return [figure, _status_html(data, waiting, look), gr.Timer(active=is_waiting), wanted]
    except Exception as error:  # as above
        return [gr.skip(), error_notice(error, "This map can't be drawn"), gr.Timer(active=False), gr.skip()]


@dataclass(frozen=True)
class _Look:
    """What the colours of a map say.

    Attributes:
        colors: For the figure.
        groups: What each group is called; empty where the colours are no groups.
        waiting: What is still waited for, as HTML; empty for nothing.
        message: What there is to say, as HTML.
    """

    colors: PointColors
    groups: Sequence[str] = ()
    waiting: str = ""
    message: str = ""


def _look(data: MapData, owner: str | None, model_id: str | None, color_by: ColorBy) -> _Look:
    by_rank = PointColors("Rank", data.ranks.astype(np.float32), ",~r")
    if color_by == "norm":
        return _Look(PointColors("Norm", data.norms))
    if color_by == "cluster":
        labels, names = _clusters(data)
        return _Look(PointColors("Cluster", labels, are_groups=True), names)
    if color_by == "overlap":
        overlap, job = words_overlap(owner, model_id)
        if overlap is not None and len(overlap) == len(data.shown):
            share = f"{100 * overlap.mean():.0f} %"
            mean = f"On average {share} of a word's {OVERLAP_NEIGHBORS} nearest are the teacher's too."
            colors = PointColors("Overlap", overlap, ".0%", is_share=True)
            return _Look(colors, message=f'<p class="m2v-next">{mean}</p>')
        if job is not None and not job.is_finished:
            return _Look(by_rank, waiting=reading_html(job))
        return _Look(by_rank, message=_NO_TEACHER)
    return _Look(by_rank)


@functools.lru_cache(maxsize=4)
def _clusters(data: MapData) -> tuple[NDArray[np.int32], list[str]]:
    """Each shown word's group, and what the groups are called."""
    labels = cached_clusters(data.rows, data_folder() / "maps")
    return labels, cluster_names(labels, data.texts, data.ranks)


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


def _status_html(data: MapData, waiting: str, look: _Look) -> str:
    n_shown, n_all = len(data.shown), len(data.words)
    badge = f'<span class="m2v-badge">sampled from {n_all:,}</span>' if n_shown < n_all else ""
    facts = f'<div class="m2v-map-facts"><span>{n_shown:,} words</span>{badge}{waiting}{look.waiting}</div>'
    return f"{facts}{look.message}{legend_html(look.groups)}"


def legend_html(groups: Sequence[str]) -> str:
    """What the colours of groups mean; empty without any."""
    if not groups:
        return ""
    rows = "".join(
        f'<li><span style="background:{CLUSTER_COLORS[place % len(CLUSTER_COLORS)]}"></span>{escape(name)}</li>'
        for place, name in enumerate(groups)
    )
    return f'<ul class="m2v-legend" aria-label="Clusters, by their most frequent words">{rows}</ul>'


def find_on_map(owner: str | None, model_id: str | None, text: str) -> tuple[Any, str]:
    """The marks of a word and its nearest on the map, and what there is to say."""
    if not text.strip():
        return gr.HTML(found=None), ""
    try:
        data = _map_data(picked_words(owner, model_id))
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
    found = {"points": marked, "text": texts}
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
                int(data.words.ranks[data.shown[place]]),
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


def forget_selection() -> tuple[str, Any, str, str, Any]:
    """What stands around the map of another model: nothing that was found in the last one."""
    return _LASSO_HINT, gr.DownloadButton(visible=False), "", "", gr.HTML(found=None)


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
