"""The map of a vocabulary, as a plotly figure without colours for text and lines, which follow the page's theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pages.figures.style import AXIS_TITLE, TITLE
from pages.html import escape

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Middle tones: they stand out on white and on near-black.
_SCALE = [[0.0, "#c2571a"], [0.35, "#cf9a2f"], [0.65, "#34a596"], [1.0, "#2b6c9e"]]
CLUSTER_COLORS = (
    "#24978a",
    "#c98a1b",
    "#4f7fc9",
    "#c2571a",
    "#8d62b5",
    "#6f9e2f",
    "#c75a8a",
    "#7d8a86",
    "#2fa3cf",
    "#96704e",
)


@dataclass(frozen=True, eq=False)
class PointColors:
    """What the colours of a map say.

    Attributes:
        title: What stands above the scale.
        values: (n_points,) numbers; of groups, the number of each point's group.
        tick_format: How the scale writes its numbers, in d3's notation.
        is_share: Whether they are shares, 0 to 1.
        are_groups: Whether equal values are groups, each with a colour of its own and no scale.
    """

    title: str
    values: NDArray[np.generic]
    tick_format: str = ".2~f"
    is_share: bool = False
    are_groups: bool = False

    def marker(self) -> dict[str, Any]:
        """What plotly calls the marker's colours."""
        if self.are_groups:
            n_colors = len(CLUSTER_COLORS)
            edges = [(place + step) / n_colors for place in range(n_colors) for step in (0, 1)]
            scale = [[edge, CLUSTER_COLORS[place // 2]] for place, edge in enumerate(edges)]
            values = self.values % n_colors
            return {"color": values, "colorscale": scale, "cmin": -0.5, "cmax": n_colors - 0.5, "showscale": False}
        bar = {"title": {"text": self.title}, "tickformat": self.tick_format}
        limits = {}
        if self.is_share:
            # Nearly all shares are high: a scale from 0 would give them one colour.
            low = np.floor(10 * np.quantile(self.values.astype(np.float32), 0.01)) / 10 if len(self.values) else 0.0
            limits = {"cmin": min(float(low), 0.9), "cmax": 1.0}
        return {
            "color": self.values,
            "colorscale": _SCALE,
            "colorbar": {**bar, "thickness": 10, "outlinewidth": 0, "len": 0.9},
            **limits,
        }


def map_figure(
    texts: Sequence[str],
    ranks: NDArray[np.int64],
    norms: NDArray[np.float32],
    points: NDArray[np.float32],
    colors: PointColors,
    method: str,
    title: str,
) -> Figure:
    """A vocabulary as a scatter of points.

    Args:
        texts: Each word, as people write it.
        ranks: (n_words,) int64.
        norms: (n_words,) float32, above 0.
        points: (n_words, 2) float32.
        colors: What the colours say.
        method: What made the map: "PCA" or "UMAP".
        title: Of the figure, as HTML.
    """
    import plotly.graph_objects as go  # takes a second

    # Hundreds of points are to be seen, and tens of thousands not to be one blot.
    size = float(np.interp(len(texts), [200, 30_000], [9, 3.5]))
    facts = [ranks.astype(np.float32), norms]
    hover = "<b>%{text}</b><br>rank %{customdata[0]:,}<br>norm %{customdata[1]:.2f}"
    if colors.is_share:
        facts.append(colors.values.astype(np.float32))
        hover += "<br>shared neighbours %{customdata[2]:.0%}"
    words = go.Scattergl(
        x=points[:, 0],
        y=points[:, 1],
        text=[str(escape(text)) for text in texts],
        customdata=np.column_stack(facts).astype(np.float32),
        mode="markers",
        marker={**colors.marker(), "size": size, "opacity": 0.75},
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0.08}},
        hovertemplate=f"{hover}<extra></extra>",
    )
    axis = {"showgrid": True, "zeroline": False, "showticklabels": False}
    spreads = (": widest spread", ": second widest spread") if method == "PCA" else ("", "")  # UMAP's mean nothing
    return go.Figure(
        [words],
        {
            "title": {"text": title, **TITLE, "pad": {"t": 22}, "font": {"size": 15}},
            "xaxis": {**axis, "title": {"text": f"{method} 1{spreads[0]}", **AXIS_TITLE}},
            "yaxis": {**axis, "title": {"text": f"{method} 2{spreads[1]}", **AXIS_TITLE}},
            "margin": {"l": 28, "r": 8, "t": 60, "b": 32},
            "dragmode": "pan",
            "hovermode": "closest",
            "showlegend": False,
            "uirevision": method,  # a new colour keeps the zoom
        },
    )
