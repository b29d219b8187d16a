"""Data to plotly figures: pure functions, without colours for text and lines, which follow the page's theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.speed import rate_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from m2v_core.speed import EncoderSpeed, SpeedComparison

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
) -> Figure:
    """A vocabulary as a scatter of points.

    Args:
        texts: Each word, as people write it.
        ranks: (n_words,) int64.
        norms: (n_words,) float32, above 0.
        points: (n_words, 2) float32.
        colors: What the colours say.
        method: What made the map: "PCA" or "UMAP".
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
        text=[escape(text) for text in texts],
        customdata=np.column_stack(facts).astype(np.float32),
        mode="markers",
        marker={**colors.marker(), "size": size, "opacity": 0.75},
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0.08}},
        hovertemplate=f"{hover}<extra></extra>",
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


# Middle tones: they stand out on white and on near-black.
_TEACHER = "#7d8a86"
_OTHERS = ("#24978a", "#c98a1b", "#4f7fc9", "#c2571a", "#8d62b5", "#5f9e3f")


def speed_bars(comparison: SpeedComparison) -> Figure:
    """Each encoder's median sentences a second as a bar, the fastest on top, with its slowest and fastest round.

    An extrapolated one is hatched and says so.
    """
    import plotly.graph_objects as go  # takes a second

    fastest_last = sorted(comparison.encoders, key=lambda speed: speed.sentences_per_second)
    colors = _colors(comparison)
    names = [speed.facts.name for speed in fastest_last]
    rates = [speed.sentences_per_second for speed in fastest_last]
    low, high = _decades([speed.slowest for speed in fastest_last], [speed.fastest for speed in fastest_last])
    bars = go.Bar(
        y=list(range(len(names))),
        x=rates,
        orientation="h",
        width=0.42,
        marker={
            "color": [colors[name] for name in names],
            "pattern": {"shape": ["/" if speed.is_extrapolated else "" for speed in fastest_last], "solidity": 0.35},
            "line": {"width": 0},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [speed.fastest - speed.sentences_per_second for speed in fastest_last],
            "arrayminus": [speed.sentences_per_second - speed.slowest for speed in fastest_last],
            "color": _TEACHER,
            "thickness": 1.5,
            "width": 4,
        },
        customdata=[_hover(speed) for speed in fastest_last],
        hovertemplate="%{customdata}<extra></extra>",
    )
    labels: list[dict[str, Any]] = []
    for place, speed in enumerate(fastest_last):
        at = {"y": place, "yref": "y", "xref": "paper", "yshift": 24, "showarrow": False}
        labels.append({**at, "x": 0, "xanchor": "left", "text": _short(speed)})
        labels.append({**at, "x": 1, "xanchor": "right", "text": f"<b>{rate_text(speed.sentences_per_second)}</b>"})
        if speed.is_extrapolated:
            labels.append({**at, "x": 1, "xanchor": "right", "yshift": 0, "text": "extrapolated"})
    return go.Figure(
        bars,
        {
            **_LAYOUT,
            "height": 96 + 62 * len(names),
            "title": {"text": "Sentences a second", **_TITLE},
            "annotations": labels,
            "xaxis": {
                "type": "log",
                "range": [low, high],
                "dtick": 1,
                "tickformat": ",~r",
                "title": {"text": "sentences a second, log scale", **_AXIS_TITLE},
                "zeroline": False,
                "fixedrange": True,
            },
            "yaxis": {
                "range": [-0.6, len(names) - 0.1],
                "showticklabels": False,
                "showgrid": False,
                "zeroline": False,
                "fixedrange": True,
            },
        },
    )


def speed_bubbles(comparison: SpeedComparison) -> Figure:
    """Each encoder as a bubble: speed upwards, fidelity to the right, its area the size on disk.

    Without a teacher in the run, fidelity was not measured; size on disk then takes its place on the axis.
    """
    import plotly.graph_objects as go

    has_fidelity = comparison.judged_texts > 0
    colors = _colors(comparison)
    sizes = [speed.facts.size_bytes or 0 for speed in comparison.encoders]
    shown: list[tuple[EncoderSpeed, float]] = []
    for speed in comparison.encoders:
        x = _fidelity(speed) if has_fidelity else (speed.facts.size_bytes or 0) / 1e6
        if x is not None and (has_fidelity or x > 0):
            shown.append((speed, x))
    bubbles = [
        go.Scatter(
            x=[x],
            y=[speed.sentences_per_second],
            mode="markers",
            cliponaxis=False,
            name=_short(speed) + (", extrapolated" if speed.is_extrapolated else ""),
            marker={
                "color": colors[speed.facts.name],
                "opacity": 0.8,
                "line": {"width": 1.5, "color": colors[speed.facts.name]},
                "size": max(12.0, 56 * math.sqrt((speed.facts.size_bytes or 0) / max(*sizes, 1))),
                "symbol": "circle-open-dot" if speed.is_extrapolated else "circle",
            },
            customdata=[_hover(speed)],
            hovertemplate="%{customdata}<extra></extra>",
        )
        for speed, x in shown
    ]
    low, high = _decades(*[[speed.sentences_per_second for speed in comparison.encoders]] * 2)
    what = "fidelity" if has_fidelity else "size"
    if has_fidelity:
        left = min((x for _, x in shown), default=0.0)
        x_axis: dict[str, Any] = {
            "title": {"text": "fidelity, 1 for the teacher itself", **_AXIS_TITLE},
            "range": [min(0.0, left - 0.1) if left < 0.1 else left - 0.15, 1.12],
            "tickformat": ".1f",
            "dtick": 0.1 if left > 0.4 else 0.2,
        }
    else:
        x_low, x_high = _decades(*[[x for _, x in shown] or [1.0]] * 2)
        x_axis = {
            "title": {"text": "size on disk in MB, log scale", **_AXIS_TITLE},
            "type": "log",
            "range": [x_low, x_high],
            "dtick": 1,
        }
    return go.Figure(
        bubbles,
        {
            **_LAYOUT,
            "height": 400 + 22 * len(shown),
            "title": {"text": f"Speed against {what}", **_TITLE},
            "xaxis": {**x_axis, "zeroline": False, "fixedrange": True},
            "yaxis": {
                "type": "log",
                "range": [low - 0.3, high + 0.3],
                "dtick": 1,
                "tickformat": ",~r",
                "zeroline": False,
                "fixedrange": True,
            },
            "annotations": [
                {
                    "text": "sentences a second, log scale",
                    **{"x": 0, "xref": "paper", "xanchor": "left", "xshift": -56},
                    **{"y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 4, "showarrow": False},
                }
            ],
            "showlegend": True,
            "legend": {
                "orientation": "v",
                "itemsizing": "constant",
                "yref": "container",
                "y": 0,
                "yanchor": "bottom",
                "x": 0,
                "itemclick": False,
                "itemdoubleclick": False,
            },
            "margin": {**_LAYOUT["margin"], "l": 56, "t": 64, "b": 72 + 22 * len(shown)},
        },
    )


_TITLE: dict[str, Any] = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yanchor": "top", "pad": {"t": 6}}
_AXIS_TITLE: dict[str, Any] = {"font": {"size": 13}, "standoff": 8}
_LAYOUT: dict[str, Any] = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": {"l": 14, "r": 12, "t": 44, "b": 52},
    "font": {"family": "IBM Plex Sans, ui-sans-serif, system-ui, sans-serif", "size": 13},
    "showlegend": False,
    "autosize": True,
    "dragmode": False,
}


def _colors(comparison: SpeedComparison) -> dict[str, str]:
    """The same colour for an encoder in every figure."""
    others = [speed.facts.name for speed in comparison.encoders if speed.facts.role != "teacher"]
    colors = {name: _OTHERS[place % len(_OTHERS)] for place, name in enumerate(others)}
    return {speed.facts.name: colors.get(speed.facts.name, _TEACHER) for speed in comparison.encoders}


def _fidelity(speed: EncoderSpeed) -> float | None:
    return 1.0 if speed.facts.role == "teacher" else speed.fidelity  # it agrees with itself


def _decades(lows: list[float], highs: list[float]) -> tuple[int, int]:
    """Whole powers of ten around positive values."""
    low, high = math.floor(math.log10(min(lows))), math.ceil(math.log10(max(highs)))
    return low, max(high, low + 1)


def _hover(speed: EncoderSpeed) -> str:
    facts = speed.facts
    lines = [
        f"<b>{escape(facts.name)}</b>",
        f"{rate_text(speed.sentences_per_second)} sentences a second"
        + (", extrapolated" if speed.is_extrapolated else ""),
        f"rounds: {rate_text(speed.slowest)} to {rate_text(speed.fastest)}",
        f"{len(speed.round_seconds)} rounds of {speed.texts_per_round:,} texts",
        f"{facts.device}, {facts.n_threads} thread" + ("" if facts.n_threads == 1 else "s"),
    ]
    if facts.size_bytes is not None:
        lines.append(f"{facts.size_bytes / 1e6:,.1f} MB on disk")
    if speed.fidelity is not None:
        lines.append(f"fidelity {speed.fidelity:.3f}")
    return "<br>".join(lines)


def _short(speed: EncoderSpeed) -> str:
    """The name without its owner on the Hub; of a long one the ends, as names often differ at theirs."""
    name = speed.facts.name.rpartition("/")[2] if speed.facts.role == "teacher" else speed.facts.name
    return escape(name if len(name) <= 36 else f"{name[:14]}…{name[-21:]}")
