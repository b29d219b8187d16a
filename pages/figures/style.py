"""What the figures of measurements have in common: colours, margins, and the bubble chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pages.html import Markup, escape

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Middle tones: they stand out on white and on near-black.
TEACHER_COLOR = "#7d8a86"
COLORS = ("#24978a", "#c98a1b", "#4f7fc9", "#c2571a", "#8d62b5", "#5f9e3f")
TITLE: dict[str, Any] = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yanchor": "top", "pad": {"t": 6}}
AXIS_TITLE: dict[str, Any] = {"font": {"size": 13}, "standoff": 8}
LAYOUT: dict[str, Any] = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": {"l": 14, "r": 12, "t": 44, "b": 52},
    "font": {"family": "IBM Plex Sans, ui-sans-serif, system-ui, sans-serif", "size": 13},
    "showlegend": False,
    "autosize": True,
    "dragmode": False,
}
LEGEND: dict[str, Any] = {
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
}


@dataclass(frozen=True)
class Bubble:
    """One encoder in a chart of speed against something.

    Attributes:
        name: What the legend says, as HTML.
        x: How good it is, or how large.
        sentences_per_second: Its speed.
        size_bytes: Its size on disk, which is the bubble's area; None where unknown.
        color: Of the bubble.
        hover: What is shown beside the pointer, as HTML.
        is_open: Whether the figure is not quite a measured one.
    """

    name: str
    x: float
    sentences_per_second: float
    size_bytes: int | None
    color: str
    hover: str
    is_open: bool = False


def encoder_colors(roles: dict[str, str]) -> dict[str, str]:
    """The same colour for an encoder in every figure, from its name and role."""
    others = [name for name, role in roles.items() if role != "teacher"]
    colors = {name: COLORS[place % len(COLORS)] for place, name in enumerate(others)}
    return {name: colors.get(name, TEACHER_COLOR) for name in roles}


def plain_name(name: str, role: str) -> str:
    """What charts and tables call an encoder: a teacher without its owner on the Hub."""
    return name.rpartition("/")[2] if role == "teacher" else name


def short_name(name: str, role: str) -> Markup:
    """The plain name as HTML; of a long one the ends, as names often differ at theirs."""
    name = plain_name(name, role)
    return escape(name if len(name) <= 36 else f"{name[:14]}…{name[-21:]}")


def lines_html(*lines: str) -> Markup:
    """Lines of a label, one below the other."""
    return Markup("<br>").join(lines)


def decades(lows: list[float], highs: list[float]) -> tuple[int, int]:
    """Whole powers of ten around positive values."""
    low, high = math.floor(math.log10(min(lows))), math.ceil(math.log10(max(highs)))
    return low, max(high, low + 1)


def fidelity_axis(values: Sequence[float]) -> dict[str, Any]:
    """The axis for fidelity, which ends at 1, with all values on it."""
    left = min(values, default=0.0)
    return {
        "title": {"text": "fidelity, 1 for the teacher itself", **AXIS_TITLE},
        "range": [max(-1.0, min(0.0, left - 0.1)) if left < 0.1 else left - 0.15, 1.0],
        "tickformat": ".1f",
        "dtick": 0.1 if left > 0.4 else 0.2,
    }


def score_range(values: Sequence[float], least_room: float) -> list[float]:
    """Ends of an axis around scores, none beyond the -100 and 100 that they can reach.

    Args:
        values: The scores.
        least_room: To leave on either side.
    """
    low, high = min(values), max(values)
    room = max(least_room, 0.25 * (high - low))
    return [max(-100.0, low - room), min(100.0, high + room)]


def bubble_figure(
    bubbles: Sequence[Bubble], x_axis: dict[str, Any], title: str, largest_bytes: int, rates: Sequence[float]
) -> Figure:
    """Speed upwards, something else to the right, area the size on disk.

    Args:
        bubbles: One an encoder.
        x_axis: What plotly calls the axis to the right.
        title: Of the figure.
        largest_bytes: Size of the largest bubble.
        rates: Sentences a second that the axis must hold.
    """
    import plotly.graph_objects as go  # takes a second

    marks = [
        go.Scatter(
            x=[bubble.x],
            y=[bubble.sentences_per_second],
            mode="markers",
            cliponaxis=False,
            name=bubble.name,
            marker={
                "color": bubble.color,
                "opacity": 0.8,
                "line": {"width": 1.5, "color": bubble.color},
                "size": max(12.0, 56 * math.sqrt((bubble.size_bytes or 0) / max(largest_bytes, 1))),
                "symbol": "circle-open-dot" if bubble.is_open else "circle",
            },
            customdata=[bubble.hover],
            hovertemplate="%{customdata}<extra></extra>",
        )
        for bubble in bubbles
    ]
    low, high = decades(list(rates), list(rates))
    return go.Figure(
        marks,
        {
            **LAYOUT,
            "height": 420 + 22 * len(bubbles),
            "title": {"text": title, "subtitle": {"text": "area of a bubble: size on disk"}, **TITLE},
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
                    **{"x": 0, "xref": "paper", "xanchor": "left", "xshift": -72},
                    **{"y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 4, "showarrow": False},
                }
            ],
            **LEGEND,
            # A bubble may stand at the end of the axis.
            "margin": {**LAYOUT["margin"], "l": 72, "r": 34, "t": 84, "b": 72 + 22 * len(bubbles)},
        },
    )
