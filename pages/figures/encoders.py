"""Measurements of encoders as plotly figures: speed, speed versus quality, and quality versus size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from m2v_core.evaluation.report import fixed
from m2v_core.evaluation.speed import rate_text
from pages.figures.style import (
    COLORS,
    FIXED,
    LAYOUT,
    LEGEND,
    TEACHER_COLOR,
    TITLE,
    above_axis,
    axis_title,
    decades,
    fidelity_axis,
    lines_html,
    log_axis,
    marks,
    score_range,
    short_name,
)
from pages.html import Markup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from m2v_core.evaluation.encoders import EncoderFacts
    from m2v_core.evaluation.frontier import FrontierRow
    from m2v_core.evaluation.speed import EncoderSpeed, SpeedComparison

_SYMBOLS = {"float32": "circle", "float16": "diamond", "int8": "square"}


def speed_bars(comparison: SpeedComparison) -> Figure:
    """A bar with the median speed of each encoder, fastest on top, and error bars for its slowest and fastest round.

    Bars of extrapolated speeds are hatched and labeled.
    """
    import plotly.graph_objects as go  # takes a second

    fastest_last = sorted(comparison.encoders, key=lambda speed: speed.sentences_per_second)
    colors = _colors([speed.facts for speed in comparison.encoders])
    rates = [speed.sentences_per_second for speed in fastest_last]
    bars = go.Bar(
        y=list(range(len(fastest_last))),
        x=rates,
        orientation="h",
        width=0.42,
        marker={
            "color": [colors[speed.facts.name] for speed in fastest_last],
            "pattern": {"shape": ["/" if speed.is_extrapolated else "" for speed in fastest_last], "solidity": 0.35},
            "line": {"width": 0},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [speed.fastest - rate for speed, rate in zip(fastest_last, rates, strict=True)],
            "arrayminus": [rate - speed.slowest for speed, rate in zip(fastest_last, rates, strict=True)],
            **{"color": TEACHER_COLOR, "thickness": 1.5, "width": 4},
        },
        **marks([speed_hover(speed) for speed in fastest_last]),
    )
    labels: list[dict[str, Any]] = []
    for place, speed in enumerate(fastest_last):
        left = {"y": place, "yref": "y", "x": 0, "xref": "paper", "xanchor": "left", "yshift": 24, "showarrow": False}
        right = {**left, "x": 1, "xanchor": "right"}
        rate = Markup("<b>{}</b>").format(rate_text(speed.sentences_per_second))
        labels += [{**left, "text": _short(speed.facts)}, {**right, "text": rate}]
        if speed.is_extrapolated:
            labels.append({**right, "yshift": 0, "text": "extrapolated"})
    ends = decades([speed.slowest for speed in fastest_last], [speed.fastest for speed in fastest_last])
    return go.Figure(
        bars,
        {
            **LAYOUT,
            "height": 96 + 62 * len(fastest_last),
            "title": {"text": "Sentences/s", **TITLE},
            "annotations": labels,
            "xaxis": {**axis_title("sentences/s, log scale"), **log_axis(*ends), "tickformat": ",~r"},
            "yaxis": {"range": [-0.6, len(fastest_last) - 0.1], "showticklabels": False, "showgrid": False, **FIXED},
        },
    )


def speed_bubbles(comparison: SpeedComparison) -> Figure:
    """A bubble for each encoder: speed on the vertical axis, fidelity on the horizontal axis, size on disk as the area.

    Without a teacher, fidelity is unknown, and the horizontal axis shows the size on disk instead.
    """
    shown = []
    for speed in comparison.encoders:
        if comparison.judged_texts:  # a teacher agrees with itself
            x = 1.0 if speed.facts.role == "teacher" else speed.fidelity
        else:
            x = (speed.facts.size_bytes or 0) / 1e6 or None
        if x is not None:
            shown.append((speed, x, speed_hover(speed)))
    values = [x for _, x, _ in shown]
    if comparison.judged_texts:
        x_axis, what = fidelity_axis(values), "fidelity"
    else:
        x_axis = axis_title("size on disk in MB, log scale") | log_axis(*decades(values or [1.0], values or [1.0]))
        what = "size"
    return _bubble_figure(shown, comparison.encoders, x_axis, f"Speed versus {what}")


def quality_bubbles(
    encoders: Sequence[EncoderFacts],
    quality: Mapping[str, float],
    speeds: Mapping[str, EncoderSpeed],
    *,
    is_fidelity: bool,
) -> Figure:
    """A bubble for each encoder: speed on the vertical axis, quality on the horizontal axis, size on disk as the area.

    Args:
        encoders: The evaluated encoders; those without a measured speed or quality are omitted.
        quality: Fidelity (at most 1) or mean score (at most 100), by name of the encoder.
        speeds: At least one speed, by name of the encoder; bubbles of extrapolated speeds are hollow and labeled.
        is_fidelity: Whether `quality` contains fidelity.
    """
    shown = []
    for facts in encoders:
        if facts.name in quality and facts.name in speeds:
            speed, value = replace(speeds[facts.name], facts=facts), quality[facts.name]
            what = f"fidelity {value:.3f}" if is_fidelity else f"mean score {value:.2f}"
            shown.append((speed, value, lines_html(*_name_and_rate(speed), what)))
    values = [value for _, value, _ in shown]
    if is_fidelity:
        x_axis = fidelity_axis(values)
    else:
        x_axis = axis_title("mean score on your test data") | {"range": score_range(values, 2.0), "nticks": 6}
    return _bubble_figure(shown, [speed for speed, _, _ in shown], x_axis, "Speed versus quality", encoders)


def _bubble_figure(
    shown: Sequence[tuple[EncoderSpeed, float, Markup]],
    speeds: Sequence[EncoderSpeed],
    x_axis: dict[str, Any],
    title: str,
    colored: Sequence[EncoderFacts] | None = None,
) -> Figure:
    """Bubbles with speed on the vertical axis and size on disk as the area.

    Args:
        shown: Encoder, horizontal position and hover text (HTML) of each bubble.
        speeds: All speeds that the vertical axis must contain; they also determine the scale of the areas.
        x_axis: The horizontal axis in the form that plotly accepts.
        title: Title of the figure.
        colored: Encoders that get a color; those of `speeds` by default.
    """
    import plotly.graph_objects as go  # takes a second

    colors = _colors(colored or [speed.facts for speed in speeds])
    largest = max((speed.facts.size_bytes or 0 for speed in speeds), default=0)
    bubbles = [
        go.Scatter(
            x=[x],
            y=[speed.sentences_per_second],
            mode="markers",
            cliponaxis=False,
            name=_short(speed.facts) + _how(speed),
            marker={
                "color": colors[speed.facts.name],
                "opacity": 0.8,
                "line": {"width": 1.5, "color": colors[speed.facts.name]},
                "size": max(12.0, 56 * ((speed.facts.size_bytes or 0) / max(largest, 1)) ** 0.5),
                "symbol": "circle-open-dot" if speed.is_extrapolated else "circle",
            },
            **marks([hover]),
        )
        for speed, x, hover in shown
    ]
    rates = [speed.sentences_per_second for speed in speeds]
    low, high = decades(rates, rates)
    return go.Figure(
        bubbles,
        {
            **LAYOUT,
            "height": 420 + 22 * len(bubbles),
            "title": {"text": title, "subtitle": {"text": "area of a bubble: size on disk"}, **TITLE},
            "xaxis": {**x_axis, **FIXED},
            "yaxis": {**log_axis(low - 0.3, high + 0.3), "tickformat": ",~r"},
            "annotations": [above_axis("sentences/s, log scale", xshift=-72, yshift=4)],
            **LEGEND,
            # Leaves room for a bubble at the end of the axis.
            "margin": {**LAYOUT["margin"], "l": 72, "r": 34, "t": 84, "b": 72 + 22 * len(bubbles)},
        },
    )


def frontier_figure(rows: Sequence[FrontierRow], quality_name: str) -> Figure:
    """Quality versus size: a line for each number format and kind of table, a point for each number of dimensions.

    A point is filled if no version of at most the same size is better.
    """
    import plotly.graph_objects as go  # takes a second

    most_rows = max(row.n_rows for row in rows)
    lines = []
    for n_rows in sorted({row.n_rows for row in rows}, reverse=True):
        for color, (precision, symbol) in zip(COLORS, _SYMBOLS.items(), strict=False):
            versions = [row for row in rows if (row.n_rows, row.precision) == (n_rows, precision)]
            versions.sort(key=lambda row: row.dim)
            if not versions:
                continue
            lines.append(
                go.Scatter(
                    x=[row.n_bytes / 1e6 for row in versions],
                    y=[row.average for row in versions],
                    mode="lines+markers",
                    cliponaxis=False,
                    name=precision if n_rows == most_rows else f"{precision}, {n_rows:,} shared rows",
                    line={"color": color, "width": 1.5, "dash": "solid" if n_rows == most_rows else "dot"},
                    marker={
                        "color": color,
                        "size": 11,
                        "symbol": [symbol if row.is_best else f"{symbol}-open" for row in versions],
                        "line": {"width": 1.5, "color": color},
                    },
                    **marks([_frontier_hover(row) for row in versions]),
                )
            )
    sizes = [row.n_bytes / 1e6 for row in rows]
    ticks = {"type": "log", "tickvals": _ticks(min(sizes), max(sizes)), "tickformat": "~r"}
    return go.Figure(
        lines,
        {
            **LAYOUT,
            "height": 400 + 22 * len(lines),
            "title": {"text": "Quality versus size", **TITLE},
            "xaxis": {**axis_title("size of the table in MB, log scale"), **ticks, **FIXED},
            "yaxis": {"nticks": 7, "range": score_range([row.average for row in rows], 1.0), **FIXED},
            "annotations": [above_axis(quality_name, xshift=-44, yshift=8)],
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


def _frontier_hover(row: FrontierRow) -> Markup:
    rate = row.sentences_per_second
    return lines_html(
        Markup("<b>{}</b>").format(f"{row.dim:,} dimensions, {row.precision}"),
        f"{row.n_rows:,} rows, {row.n_bytes / 1e6:,.2f} MB",
        f"quality {fixed(row.average, 2)}"
        + ("" if row.low is None else f" ({fixed(row.low, 1)} to {fixed(row.high or 0, 1)})"),
        *([] if rate is None else [f"{rate_text(rate)} sentences/s here"]),
        *(["best of its size"] if row.is_best else []),
    )


def speed_hover(speed: EncoderSpeed) -> Markup:
    """Hover text of a measured speed, as HTML: rate, rounds and conditions."""
    facts = speed.facts
    lines = [
        *_name_and_rate(speed),
        f"rounds: {rate_text(speed.slowest)} to {rate_text(speed.fastest)}",
        f"{len(speed.round_seconds)} rounds of {speed.texts_per_round:,} texts",
        f"{facts.device}, {facts.n_threads} thread" + ("" if facts.n_threads == 1 else "s"),
    ]
    if facts.size_bytes is not None:
        lines.append(f"{facts.size_bytes / 1e6:,.1f} MB on disk")
    if speed.fidelity is not None:
        lines.append(f"fidelity {speed.fidelity:.3f}")
    return lines_html(*lines)


def _name_and_rate(speed: EncoderSpeed) -> tuple[str, str]:
    rate = f"{rate_text(speed.sentences_per_second)} sentences/s{_how(speed)}"
    return Markup("<b>{}</b>").format(speed.facts.name), rate


def _how(speed: EncoderSpeed) -> str:
    return ", extrapolated" if speed.is_extrapolated else ""


def _short(facts: EncoderFacts) -> Markup:
    return short_name(facts.name, facts.role)


def _colors(encoders: Sequence[EncoderFacts]) -> dict[str, str]:
    """Color of each encoder by name, the same in every figure."""
    others = [facts.name for facts in encoders if facts.role != "teacher"]
    colors = {name: COLORS[place % len(COLORS)] for place, name in enumerate(others)}
    return {facts.name: colors.get(facts.name, TEACHER_COLOR) for facts in encoders}
