"""Speed measurements as plotly figures, without colours for text and lines, which follow the page's theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m2v_core.evaluation.speed import rate_text
from pages.figures.style import (
    AXIS_TITLE,
    LAYOUT,
    TEACHER_COLOR,
    TITLE,
    Bubble,
    bubble_figure,
    decades,
    encoder_colors,
    fidelity_axis,
    lines_html,
    short_name,
)
from pages.html import Markup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from m2v_core.evaluation.speed import EncoderSpeed, SpeedComparison


def speed_bars(comparison: SpeedComparison) -> Figure:
    """Each encoder's median sentences a second as a bar, the fastest on top, with its slowest and fastest round.

    An extrapolated one is hatched and says so.
    """
    import plotly.graph_objects as go  # takes a second

    fastest_last = sorted(comparison.encoders, key=lambda speed: speed.sentences_per_second)
    colors = _colors(comparison)
    names = [speed.facts.name for speed in fastest_last]
    rates = [speed.sentences_per_second for speed in fastest_last]
    low, high = decades([speed.slowest for speed in fastest_last], [speed.fastest for speed in fastest_last])
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
            "color": TEACHER_COLOR,
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
        labels.append(
            {
                **at,
                "x": 1,
                "xanchor": "right",
                "text": Markup("<b>{}</b>").format(rate_text(speed.sentences_per_second)),
            }
        )
        if speed.is_extrapolated:
            labels.append({**at, "x": 1, "xanchor": "right", "yshift": 0, "text": "extrapolated"})
    return go.Figure(
        bars,
        {
            **LAYOUT,
            "height": 96 + 62 * len(names),
            "title": {"text": "Sentences a second", **TITLE},
            "annotations": labels,
            "xaxis": {
                "type": "log",
                "range": [low, high],
                "dtick": 1,
                "tickformat": ",~r",
                "title": {"text": "sentences a second, log scale", **AXIS_TITLE},
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
    has_fidelity = comparison.judged_texts > 0
    colors = _colors(comparison)
    bubbles: list[Bubble] = []
    for speed in comparison.encoders:
        x = _fidelity(speed) if has_fidelity else (speed.facts.size_bytes or 0) / 1e6
        if x is not None and (has_fidelity or x > 0):
            bubbles.append(
                Bubble(
                    _short(speed) + (", extrapolated" if speed.is_extrapolated else ""),
                    x,
                    speed.sentences_per_second,
                    speed.facts.size_bytes,
                    colors[speed.facts.name],
                    _hover(speed),
                    speed.is_extrapolated,
                )
            )
    what = "fidelity" if has_fidelity else "size"
    if has_fidelity:
        x_axis = fidelity_axis([bubble.x for bubble in bubbles])
    else:
        x_low, x_high = decades(*[[bubble.x for bubble in bubbles] or [1.0]] * 2)
        x_axis = {
            "title": {"text": "size on disk in MB, log scale", **AXIS_TITLE},
            "type": "log",
            "range": [x_low, x_high],
            "dtick": 1,
        }
    largest = max(speed.facts.size_bytes or 0 for speed in comparison.encoders)
    rates = [speed.sentences_per_second for speed in comparison.encoders]
    return bubble_figure(bubbles, x_axis, f"Speed against {what}", largest, rates)


def _colors(comparison: SpeedComparison) -> dict[str, str]:
    return encoder_colors({speed.facts.name: speed.facts.role for speed in comparison.encoders})


def _fidelity(speed: EncoderSpeed) -> float | None:
    return 1.0 if speed.facts.role == "teacher" else speed.fidelity  # it agrees with itself


def _hover(speed: EncoderSpeed) -> Markup:
    facts = speed.facts
    lines = [
        Markup("<b>{}</b>").format(facts.name),
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
    return lines_html(*lines)


def _short(speed: EncoderSpeed) -> str:
    return short_name(speed.facts.name, speed.facts.role)
