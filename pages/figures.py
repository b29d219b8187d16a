"""Data to plotly figures: pure functions, without colours for text and lines, which follow the page's theme."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ColorBy = Literal["rank", "norm"]

# Middle tones: they stand out on white and on near-black.
_SCALE = [[0.0, "#c2571a"], [0.35, "#cf9a2f"], [0.65, "#34a596"], [1.0, "#2b6c9e"]]


def map_figure(
    texts: Sequence[str],
    ranks: NDArray[np.int64],
    norms: NDArray[np.float32],
    points: NDArray[np.float32],
    color_by: ColorBy,
    method: str,
) -> Figure:
    """A vocabulary as a scatter of points.

    Args:
        texts: Each word, as people write it.
        ranks: (n_words,) int64.
        norms: (n_words,) float32, above 0.
        points: (n_words, 2) float32.
        color_by: What the colours say.
        method: What made the map: "PCA" or "UMAP".
    """
    import plotly.graph_objects as go  # takes a second

    values = ranks.astype(np.float32) if color_by == "rank" else norms
    bar = {"title": {"text": color_by.capitalize()}, "tickformat": ",~r" if color_by == "rank" else ".2~f"}
    # Hundreds of points are to be seen, and tens of thousands not to be one blot.
    size = float(np.interp(len(texts), [200, 30_000], [9, 3.5]))
    words = go.Scattergl(
        x=points[:, 0],
        y=points[:, 1],
        text=[escape(text) for text in texts],
        customdata=np.column_stack([ranks.astype(np.float32), norms]).astype(np.float32),
        mode="markers",
        marker={
            "color": values,
            "colorscale": _SCALE,
            "size": size,
            "opacity": 0.75,
            "colorbar": {**bar, "thickness": 10, "outlinewidth": 0, "len": 0.9},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0.08}},
        hovertemplate="<b>%{text}</b><br>rank %{customdata[0]:,}<br>norm %{customdata[1]:.2f}<extra></extra>",
    )
    axis = {"showgrid": True, "zeroline": False, "showticklabels": False}
    return go.Figure(
        [words],
        {
            "xaxis": {**axis, "title": {"text": f"{method} 1"}},
            "yaxis": {**axis, "title": {"text": f"{method} 2"}},
            "margin": {"l": 28, "r": 8, "t": 8, "b": 32},
            "dragmode": "pan",
            "hovermode": "closest",
            "showlegend": False,
            "uirevision": method,  # a new colour keeps the zoom
        },
    )
