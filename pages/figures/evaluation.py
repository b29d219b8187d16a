"""Evaluations as plotly figures: speed against quality, and quality against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from m2v_core.evaluation.report import fixed
from m2v_core.evaluation.speed import rate_text
from pages.figures.style import (
    AXIS_TITLE,
    COLORS,
    LAYOUT,
    LEGEND,
    TITLE,
    Bubble,
    bubble_figure,
    encoder_colors,
    fidelity_axis,
    lines_html,
    score_range,
    short_name,
)
from pages.html import Markup, escape

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from m2v_core.evaluation.encoders import EncoderFacts
    from m2v_core.evaluation.frontier import FrontierRow
    from m2v_core.evaluation.speed import EncoderSpeed

_SYMBOLS = {"float32": "circle", "float16": "diamond", "int8": "square"}


def quality_bubbles(
    encoders: Sequence[EncoderFacts],
    quality: Mapping[str, float],
    speeds: Mapping[str, EncoderSpeed],
    *,
    is_fidelity: bool,
) -> Figure:
    """Each encoder as a bubble: speed upwards, quality to the right, its area the size on disk.

    Args:
        encoders: All that were evaluated; those without a speed or a quality are left out.
        quality: By name: fidelity up to 1, or a mean score up to 100.
        speeds: By name, one at least; those that are extrapolated are hollow and say so.
        is_fidelity: Which of the two.
    """
    colors = encoder_colors({facts.name: facts.role for facts in encoders})
    shown = [facts for facts in encoders if facts.name in quality and facts.name in speeds]
    rates = {facts.name: speeds[facts.name].sentences_per_second for facts in shown}
    extrapolated = {facts.name: ", extrapolated" if speeds[facts.name].is_extrapolated else "" for facts in shown}
    bubbles = [
        Bubble(
            short_name(facts.name, facts.role) + extrapolated[facts.name],
            quality[facts.name],
            rates[facts.name],
            facts.size_bytes,
            colors[facts.name],
            lines_html(
                Markup("<b>{}</b>").format(facts.name),
                f"{rate_text(rates[facts.name])} sentences a second{extrapolated[facts.name]}",
                f"fidelity {quality[facts.name]:.3f}" if is_fidelity else f"mean score {quality[facts.name]:.2f}",
            ),
            speeds[facts.name].is_extrapolated,
        )
        for facts in shown
    ]
    values = [bubble.x for bubble in bubbles]
    if is_fidelity:
        x_axis = fidelity_axis(values)
    else:
        x_axis = {
            "title": {"text": "mean score on your test data", **AXIS_TITLE},
            "range": score_range(values, 2.0),
            "nticks": 6,
        }
    largest = max((facts.size_bytes or 0 for facts in shown), default=0)
    return bubble_figure(bubbles, x_axis, "Speed against quality", largest, list(rates.values()))


def frontier_figure(rows: Sequence[FrontierRow], quality_name: str) -> Figure:
    """Quality against size: a line for each number format and kind of table, a point for each number of dimensions.

    Points that no other beats in both are filled.
    """
    import plotly.graph_objects as go  # takes a second

    most_rows = max(row.n_rows for row in rows)
    lines = []
    for n_rows in sorted({row.n_rows for row in rows}, reverse=True):
        for color, (precision, symbol) in zip(COLORS, _SYMBOLS.items(), strict=False):
            its = [row for row in rows if (row.n_rows, row.precision) == (n_rows, precision)]
            its.sort(key=lambda row: row.dim)
            if not its:
                continue
            lines.append(
                go.Scatter(
                    x=[row.n_bytes / 1e6 for row in its],
                    y=[row.average for row in its],
                    mode="lines+markers",
                    cliponaxis=False,
                    name=precision if n_rows == most_rows else f"{precision}, {n_rows:,} shared rows",
                    line={"color": color, "width": 1.5, "dash": "solid" if n_rows == most_rows else "dot"},
                    marker={
                        "color": color,
                        "size": 11,
                        "symbol": [symbol if row.is_best else f"{symbol}-open" for row in its],
                        "line": {"width": 1.5, "color": color},
                    },
                    customdata=[_hover(row) for row in its],
                    hovertemplate="%{customdata}<extra></extra>",
                )
            )
    sizes = [row.n_bytes / 1e6 for row in rows]
    x_axis: dict[str, Any] = {
        "title": {"text": "size of the table in MB, log scale", **AXIS_TITLE},
        "type": "log",
        "tickvals": _ticks(min(sizes), max(sizes)),
        "tickformat": "~r",
        "zeroline": False,
        "fixedrange": True,
    }
    return go.Figure(
        lines,
        {
            **LAYOUT,
            "height": 400 + 22 * len(lines),
            "title": {"text": "Quality against size", **TITLE},
            "xaxis": x_axis,
            "yaxis": {
                "zeroline": False,
                "fixedrange": True,
                "nticks": 7,
                "range": score_range([row.average for row in rows], 1.0),
            },
            "annotations": [
                {
                    "text": escape(quality_name),
                    **{"x": 0, "xref": "paper", "xanchor": "left", "xshift": -44},
                    **{"y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 8, "showarrow": False},
                }
            ],
            **LEGEND,
            "margin": {**LAYOUT["margin"], "l": 44, "t": 64, "b": 72 + 22 * len(lines)},
        },
    )


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, around and between two positive values."""
    steps = [step * 10.0**power for power in range(-4, 5) for step in (1, 2, 5)]
    below = [step for step in steps if step <= low][-1:]
    above = [step for step in steps if step >= high][:1]
    return [*below, *(step for step in steps if low < step < high), *above]


def _hover(row: FrontierRow) -> Markup:
    rate = row.sentences_per_second
    return lines_html(
        Markup("<b>{}</b>").format(f"{row.dim:,} dimensions, {row.precision}"),
        f"{row.n_rows:,} rows, {row.n_bytes / 1e6:,.2f} MB",
        f"quality {fixed(row.average, 2)}",
        *([] if rate is None else [f"{rate_text(rate)} sentences a second here"]),
        *(["none smaller is as good"] if row.is_best else []),
    )
