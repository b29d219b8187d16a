"""Colors, margins and axes shared by the figures of measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pages.html import Markup, escape

# Mid-tones, visible on white and on near-black backgrounds.
TEACHER_COLOR = "#7d8a86"
COLORS = ("#24978a", "#c98a1b", "#4f7fc9", "#c2571a", "#8d62b5", "#5f9e3f")
TITLE: dict[str, Any] = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yanchor": "top", "pad": {"t": 6}}
AXIS_TITLE: dict[str, Any] = {"font": {"size": 13}, "standoff": 8}
FIXED = {"zeroline": False, "fixedrange": True}
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


def axis_title(text: str) -> dict[str, Any]:
    """The title of an axis in the form that plotly accepts."""
    return {"title": {"text": text, **AXIS_TITLE}}


def log_axis(low: float, high: float) -> dict[str, Any]:
    """A fixed logarithmic axis from 10**low to 10**high, with a tick at each power of ten."""
    return {"type": "log", "range": [low, high], "dtick": 1, **FIXED}


def above_axis(text: str, xshift: int, yshift: int) -> dict[str, Any]:
    """The escaped title of the vertical axis, written horizontally above it; plotly would rotate it."""
    at = {"x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yref": "paper", "yanchor": "bottom"}
    return {"text": escape(text), **at, "xshift": xshift, "yshift": yshift, "showarrow": False}


def marks(hover: Sequence[str]) -> dict[str, Any]:
    """The hover text of each mark, given as HTML."""
    return {"customdata": list(hover), "hovertemplate": "%{customdata}<extra></extra>"}


def plain_name(name: str, role: str) -> str:
    """The name of an encoder in charts and tables: a teacher's name without its owner on the Hub."""
    return name.rpartition("/")[2] if role == "teacher" else name


def short_name(name: str, role: str) -> Markup:
    """The plain name as escaped HTML; long names are shortened in the middle, as names often differ at the end."""
    name = plain_name(name, role)
    return escape(name if len(name) <= 36 else f"{name[:14]}…{name[-21:]}")


def lines_html(*lines: str) -> Markup:
    """A label of several lines."""
    return Markup("<br>").join(lines)


def decades(lows: list[float], highs: list[float]) -> tuple[int, int]:
    """Exponents of the powers of ten that enclose positive values."""
    low, high = math.floor(math.log10(min(lows))), math.ceil(math.log10(max(highs)))
    return low, max(high, low + 1)


def fidelity_axis(values: Sequence[float]) -> dict[str, Any]:
    """An axis for fidelity that contains all values and ends at 1."""
    left = min(values, default=0.0)
    return {
        **axis_title("fidelity, 1 for the teacher itself"),
        "range": [max(-1.0, min(0.0, left - 0.1)) if left < 0.1 else left - 0.15, 1.0],
        "tickformat": ".1f",
        "dtick": 0.1 if left > 0.4 else 0.2,
    }


def score_range(values: Sequence[float], least_room: float) -> list[float]:
    """Ends of an axis around scores, within -100 and 100, the limits of scores.

    Args:
        values: The scores.
        least_room: Minimum distance from the outermost scores to the ends.
    """
    low, high = min(values), max(values)
    room = max(least_room, 0.25 * (high - low))
    return [max(-100.0, low - room), min(100.0, high + room)]
