"""What a map of a vocabulary shows: its points, what their colours say, and the legend."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError
from m2v_core.exploration.neighbors import OVERLAP_NEIGHBORS, WordNeighbors
from m2v_core.exploration.projection import cached_clusters, cluster_names
from pages.components import data_folder, notice
from pages.components.teacher_side import failed_html, reading_html, teacher_of, words_overlap
from pages.figures import CLUSTER_COLORS, PointColors
from pages.html import Markup, render

ColorBy = Literal["rank", "norm", "cluster", "overlap"]

_NO_OVERLAP = "Coloured by rank for now"
_SOON = "The colours change once the teacher has read the words."
_NOT_READ = "The teacher has not read this model's words yet. Once it has, the colours show where both agree."


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


@dataclass(frozen=True)
class Look:
    """What the colours of a map say.

    Attributes:
        colors: For the figure.
        shows: What they show, which may not be what was asked for.
        groups: What each group is called; empty where the colours are no groups.
        waiting: What is still waited for, as HTML; empty for nothing.
        message: What there is to say, as HTML.
        may_ask: Whether the teacher could be asked to read the words.
    """

    colors: PointColors
    shows: ColorBy
    groups: Sequence[str] = ()
    waiting: str = ""
    message: str = ""
    may_ask: bool = False

    def column(self) -> tuple[str, list[str | float]] | None:
        """Each point's value, under a heading, for a table with rank and norm; None where it adds nothing to them."""
        if self.shows == "cluster":
            return "cluster", [self.groups[label] for label in self.colors.values]
        if self.shows == "overlap":
            return "shared neighbours", [round(float(share), 4) for share in self.colors.values]
        return None


def look_of(data: MapData, owner: str | None, model_id: str | None, color_by: ColorBy) -> Look:
    """How to colour a map; by rank where what was asked for is not there.

    Raises:
        M2VError: What the teacher read is gone, or the model is.
    """
    by_rank = PointColors("Rank", data.ranks.astype(np.float32), ",~r")
    if color_by == "norm":
        return Look(PointColors("Norm", data.norms), "norm")
    if color_by == "cluster":
        labels, names = clusters(data)
        return Look(PointColors("Cluster", labels, are_groups=True), "cluster", names)
    if color_by == "overlap":
        overlap, job = words_overlap(owner, model_id)
        if overlap is not None and len(overlap) == len(data.shown):
            share = f"{100 * overlap.mean():.0f} %"
            mean = f"On average {share} of a word's {OVERLAP_NEIGHBORS} nearest are the teacher's too."
            colors = PointColors("Overlap", overlap, ".0%", is_share=True)
            return Look(colors, "overlap", message=render('<p class="m2v-next">{{ mean }}</p>', mean=mean))
        if job is not None and not job.is_finished:
            return Look(by_rank, "rank", waiting=reading_html(job), message=notice("info", _NO_OVERLAP, [_SOON]))
        try:
            teacher_of(owner or "", model_id or "")
        except InputError as error:
            return Look(by_rank, "rank", message=notice("info", _NO_OVERLAP, [str(error)]))
        message = notice("info", _NO_OVERLAP, [_NOT_READ])
        if job and job.state == "failed":
            message = failed_html(job, "The teacher could not read the words") + message
        return Look(by_rank, "rank", message=message, may_ask=True)
    return Look(by_rank, "rank")


@functools.lru_cache(maxsize=4)
def clusters(data: MapData) -> tuple[NDArray[np.int32], list[str]]:
    """Each shown word's group, and what the groups are called."""
    labels = cached_clusters(data.rows, data_folder() / "maps")
    return labels, cluster_names(labels, data.texts, data.ranks)


def legend_html(groups: Sequence[str]) -> Markup:
    """What the colours of groups mean; empty without any."""
    colored = [(CLUSTER_COLORS[place % len(CLUSTER_COLORS)], name) for place, name in enumerate(groups)]
    return render("legend.html", groups=colored) if groups else Markup()
