"""Data of a map of a vocabulary: its words, the colors of its points, its topics, and the legend."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError
from m2v_core.exploration.neighbors import OVERLAP_NEIGHBORS, WordNeighbors
from m2v_core.exploration.topics import CLUSTER_COLORS, Topics, find_topics
from pages.components import data_folder, notice
from pages.components.teacher_side import failed_html, progress_html, teacher_of, words_overlap
from pages.figures import SCALE_COLORS, PointColors
from pages.html import Markup, render

ColorBy = Literal["rank", "norm", "cluster", "overlap"]

_MAX_TABLE_ROWS = 100
_CACHED_SECONDS = 0.4  # cached topics are read within this time
_NO_OVERLAP = "Colored by rank for now"
_SOON = "The colors change when the teacher has encoded the words."
_NOT_READ = "The teacher has not encoded this model's words yet. Encode them to color each word by teacher overlap."
_OVERLAP_SHARE = "On average, {share} of a word's {n} nearest words are also the teacher's nearest."


@dataclass(frozen=True, eq=False)
class MapData:
    """The words on the map of one model.

    Attributes:
        words: The whole vocabulary.
        shown: Indices of its entries on the map, (n_shown,) int64.
        rows: Their vectors, (n_shown, dim) float32.
        norms: (n_shown,) float32.
        pca: (n_shown, 2) float32.
        key: Cache key of their UMAP.
    """

    words: WordNeighbors
    shown: NDArray[np.int64]
    rows: NDArray[np.float32]
    norms: NDArray[np.float32]
    pca: NDArray[np.float32]
    key: str

    @property
    def texts(self) -> list[str]:
        """The entries on the map, as readable text."""
        return [self.words.texts[index] for index in self.shown]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Their ranks, (n_shown,) int64."""
        return self.words.ranks[self.shown]


@dataclass(frozen=True)
class Look:
    """Colors of a map.

    Attributes:
        colors: Colors of the points; None while they are computed.
        shows: What the colors show, which may differ from what was requested.
        topics: Topics of the words; None while they are computed.
        waiting: Progress of a computation, as HTML; empty for none.
        message: A message about the colors, as HTML.
        may_ask: Whether to offer to encode the words with the teacher.
    """

    colors: PointColors | None
    shows: ColorBy
    topics: Topics | None = None
    waiting: str = ""
    message: str = ""
    may_ask: bool = False

    def column(self) -> tuple[str, list[str | float]] | None:
        """Heading and values of a table column for these colors; None if they show rank or norm."""
        if self.shows == "cluster" and self.topics is not None:
            return "topic", [self.topics.names[label] for label in self.topics.labels]
        if self.shows == "overlap" and self.colors is not None:
            return "shared neighbors", [round(float(share), 4) for share in self.colors.values]
        return None


def look_of(data: MapData, owner: str | None, model_id: str | None, color_by: ColorBy) -> Look:
    """Colors and topics of a map; colors by rank if the requested ones are not available.

    Raises:
        M2VError: The model or the teacher's result was deleted, or the topics can't be cached.
    """
    topics = topics_of(data)
    by_rank = PointColors("Rank", data.ranks.astype(np.float32))
    if color_by == "norm":
        return Look(PointColors("Norm", data.norms), "norm", topics)
    if color_by == "cluster":
        colors = None if topics is None else PointColors("Cluster", topics.clusters, are_groups=True)
        return Look(colors, "cluster", topics)
    if color_by == "overlap":
        overlap, job = words_overlap(owner, model_id)
        if overlap is not None and len(overlap) == len(data.shown):
            mean = _OVERLAP_SHARE.format(share=f"{overlap.mean():.0%}", n=OVERLAP_NEIGHBORS)
            message = render('<p class="m2v-next">{{ mean }}</p>', mean=mean)
            return Look(PointColors("Teacher overlap", overlap, is_share=True), "overlap", topics, message=message)
        if job is not None and not job.is_finished:
            message = notice("info", _NO_OVERLAP, [_SOON])
            return Look(by_rank, "rank", topics, waiting=progress_html(job), message=message)
        try:
            teacher_of(owner or "", model_id or "")
        except InputError as error:
            return Look(by_rank, "rank", topics, message=notice("info", _NO_OVERLAP, [str(error)]))
        message = notice("info", _NO_OVERLAP, [_NOT_READ])
        if job and job.state == "failed":
            message = failed_html(job, "The teacher could not encode the words") + message
        return Look(by_rank, "rank", topics, message=message, may_ask=True)
    return Look(by_rank, "rank", topics)


def topics_of(data: MapData) -> Topics | None:
    """The topics of the shown words; starts computing them in the background, and returns None until they are ready.

    Raises:
        SaveError: They can't be cached.
    """
    future = _pending_topics(data)
    if not wait([future], _CACHED_SECONDS).done:
        return None
    if future.exception() is not None:
        _pending_topics.cache_clear()  # the next call tries again
    return future.result()


@functools.lru_cache(maxsize=4)
def _pending_topics(data: MapData) -> Future[Topics]:
    return _topics_pool().submit(find_topics, data.rows, data.texts, data.ranks, data_folder() / "maps")


@functools.cache
def _topics_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="topics")


def legend_html(colors: PointColors | None, groups: Sequence[str]) -> Markup:
    """The legend of the colors, as HTML: clusters with their names, or the scale with the values at its ends.

    Args:
        colors: None for no legend.
        groups: Names of the clusters.
    """
    if colors is None:
        return Markup()
    if colors.are_groups:
        colored = [(CLUSTER_COLORS[place % len(CLUSTER_COLORS)], name) for place, name in enumerate(groups)]
        return render("legend.html", groups=colored)
    low, high = map(functools.partial(_scale_number, colors), colors.limits())
    return render("legend.html", groups=(), title=colors.title, low=low, high=high, scale=SCALE_COLORS)


def _scale_number(colors: PointColors, value: float) -> str:
    if colors.is_share:
        return f"{value:.0%}"
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.2f}"


def selection_html(columns: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> Markup:
    """The first hundred selected words as a table.

    Args:
        columns: Headings: word, rank, norm, and a column for the map's colors.
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
    return "number", f"{value:.0%}" if column == "shared neighbors" else f"{value:.2f}"
