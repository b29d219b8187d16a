"""HTML views of evaluations."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from m2v_core.evaluation.evidence import MIN_TEST_ITEMS, NOT_ENOUGH_DATA, has_enough_texts
from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.report import GROUPS, PUBLISHED_NOTE, LeaderboardRow, fixed, mean_score, small_tasks
from m2v_core.evaluation.run import Evaluation, TaskScore
from m2v_core.evaluation.speed import rate_text
from m2v_core.evaluation.statistics import Estimate
from pages.components import format_bytes, notice
from pages.figures import plain_name
from pages.html import Markup, escape, render

NEAR = 0.98
"""Share of the best quality that a smaller version must reach to be recommended."""

_ORIGIN = """<span class="m2v-tag{{ " m2v-is-own" if origin == "measured" }}">{{ origin }}</span>"""
_INTERVAL = """{{ value }}<small class="m2v-interval">{{ interval }}</small>"""


def fidelity_html(found: Mapping[str, Mapping[str, Any]], teacher: str, texts_name: str) -> Markup:
    """Show the verdict on the first encoder and the fidelity of all encoders.

    Args:
        found: `Fidelity.to_json` by encoder name.
        teacher: Name of the teacher.
        texts_name: Name of the texts.
    """
    name, first = next(iter(found.items()))
    rows = [
        [
            _with_interval(Estimate(**one["correlation"]), 3, 3),
            _with_interval(Estimate(**one["overlap"]).times(100), 1, 1),
        ]
        for one in found.values()
    ]
    headings = ["Rank correlation", f"% of {int(first['n_neighbours'])} neighbors shared"]
    table = _table(["Encoder", *headings], list(found), rows, "Fidelity to the teacher", {0})
    notes = render("fidelity_notes.html", name=name, teacher=teacher, first=first, texts_name=texts_name)
    warning = _warning("This value is unreliable", first["warning"])
    return _card(str(first["verdict"]), warning + table + notes, css=" m2v-card m2v-verdict")


def enough_fidelity(outcome: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the fidelity in an evaluation, possibly of an earlier version, if it is based on enough texts."""
    found: Mapping[str, Any] = outcome.get("fidelity") or {}
    return found if found and all(has_enough_texts(one["n_texts"]) for one in found.values()) else None


def scores_html(evaluation: Evaluation, first: str) -> Markup:
    """Show the scores of all encoders on all test sets, with intervals, the best mean first."""
    tasks, small, few = evaluation.tasks, small_tasks(evaluation), few_text(evaluation)
    means = {facts.name: mean_score(evaluation, facts.name) for facts in evaluation.encoders}
    names = sorted(means, key=lambda name: -means[name])
    rows = []
    for name in names:
        scores = {score.task: score for score in evaluation.of(name)}
        cells = [_score(scores[task], small) for task in tasks]
        rows.append([fixed(means[name], 2), *cells] if len(tasks) > 1 else cells)
    by_metric: dict[str, list[str]] = {}
    for score in evaluation.of(names[0]):
        by_metric.setdefault(score.metric, []).append(f"{score.task} ({score.n_items:,})")
    what = "; ".join(f"{metric} on {', '.join(sets)}" for metric, sets in by_metric.items())
    notes = [f"{score.encoder} on {score.task}: {note}" for score in evaluation.scores for note in score.notes]
    headline = "Scores on your test data" if few else f"{first} scores {fixed(means[first], 2)} on your test data"
    how = "The 95% interval below each score is from 1,000 bootstrap samples of your lines"
    roles = {facts.name: facts.role for facts in evaluation.encoders}
    headings = ["Encoder", *(["Mean"] if len(tasks) > 1 else []), *tasks]
    table = _table(headings, [plain_name(name, roles[name]) for name in names], rows, "Scores", {names.index(first)})
    missing = " Sets that are too small have no interval." if few else ""
    return _card(headline, _warning("Too little test data", few) + table, [f"{what}. {how}.{missing}", *notes])


def few_text(evaluation: Evaluation) -> str:
    """A warning about test sets that are too small to compare models; empty if all are large enough."""
    few = small_tasks(evaluation)
    if not few:
        return ""
    return (
        f"{', '.join(f'{n_items} in “{task}”' for task, n_items in few.items())} are too few to compare models: the "
        f"order may change with other data. Use at least {MIN_TEST_ITEMS}, preferably several hundred."
    )


def leaderboard_html(rows: Sequence[LeaderboardRow], evaluation: Evaluation) -> Markup:
    """Show measured and published scores in one table, measured scores first."""
    roles = {facts.name: facts.role for facts in evaluation.encoders}
    groups = [group for group in GROUPS if any(group in row.groups for row in rows)]
    cells = [
        [
            render(_ORIGIN, origin=row.origin),
            "-" if row.average is None else fixed(row.average, 2),
            *(fixed(row.groups[group], 2) if group in row.groups else "-" for group in groups),
        ]
        for row in rows
    ]
    measured = {place for place, row in enumerate(rows) if row.origin == "measured"}
    few = few_text(evaluation)
    # Only the repository, without scheme and path.
    sources = dict.fromkeys("/".join(row.source.split()[0].split("/")[2:5]) for row in rows if row.source)
    table = _table(
        ["Encoder", "Origin", "Mean", *groups],
        [plain_name(row.name, roles[row.name]) if row.origin == "measured" else row.name for row in rows],
        cells,
        "Leaderboard",
        measured,
        (len(measured), "Published scores on other tasks, not comparable"),
    )
    return _card(
        "Leaderboard",
        table,
        [
            *([few] if few else []),
            f"{len(measured)} measured here, {len(rows) - len(measured)} published. {PUBLISHED_NOTE}",
            f"Published in {', '.join(sources)}.",
        ],
        css="",
    )


def frontier_html(rows: Sequence[FrontierRow], quality_name: str, dtype: str, few: str = "") -> Markup:
    """Show all compressed versions, smallest first.

    Args:
        rows: The versions; none is marked as best if there is too little data.
        quality_name: Name of the quality measure.
        dtype: The number format of the model.
        few: Why there is too little data for a conclusion; empty if there is enough.
    """
    names = [f"{row.dim:,} dimensions, {row.precision}" for row in rows]
    cells = [
        [
            f"{row.n_rows:,}",
            format_bytes(row.n_bytes),
            _with_interval(row.quality, 2, 1),
            "-" if row.sentences_per_second is None else rate_text(row.sentences_per_second),
            Markup('<span class="m2v-tag">best of its size</span>') if row.is_best else "",
        ]
        for row in rows
    ]
    table = _table(["Version", "Rows", "Size", "Quality", "Sentences/s", ""], names, cells, "Smaller versions")
    notes = render("frontier_notes.html", rows=rows, quality_name=quality_name, dtype=dtype)
    return _card(
        "Quality versus size" if few else _frontier_headline(rows),
        _warning("Too little data for a conclusion", few) + table + notes,
        css="",
    )


def smallest_near_best(rows: Sequence[FrontierRow]) -> FrontierRow | None:
    """Return the smallest version with nearly the best quality; None if there is too little data."""
    best = max(row.average for row in rows)
    near = next((row for row in rows if row.average >= NEAR * best), None)
    # Evaluations of earlier versions have no intervals.
    return near if near is not None and near.is_best and near.low is not None and best > 0 else None


def _frontier_headline(rows: Sequence[FrontierRow]) -> str:
    best = max(rows, key=lambda row: row.average)
    near = smallest_near_best(rows)
    if best.average <= 0:
        return "Quality versus size"
    share = f"{100 * NEAR:.0f}%"
    if near is None:
        return f"{NOT_ENOUGH_DATA} which smaller version keeps {share} of the best quality"
    if near.n_bytes >= 0.9 * best.n_bytes:
        version = f"{near.dim:,} dimensions in {near.precision}"
        return f"No version smaller than {version} keeps {share} of the best quality"
    share = f"{100 * near.average / best.average:.0f}%"
    return (
        f"{near.dim:,} dimensions in {near.precision} keep {share} of the best quality at {format_bytes(near.n_bytes)}"
    )


def conditions_html(outcome: Mapping[str, Any], has_speed: bool) -> Markup:
    """Show the date and machine of the measurement, and a link to Compare."""
    return render("evaluation_conditions.html", outcome=outcome, has_speed=has_speed)


def _card(headline: str, body: Markup, sentences: Sequence[str] = (), css: str = " m2v-card") -> Markup:
    return render("numbers.html", headline=headline, body=body, sentences=sentences, css=css)


def _warning(title: str, why: str | None) -> Markup:
    return notice("error", title, [why]) if why else Markup()


def _table(
    headings: Sequence[str],
    names: Sequence[str],
    cells: Sequence[Sequence[str]],
    label: str,
    marked: Collection[int] = (),
    part: tuple[int, str] | None = None,
) -> Markup:
    """Render a table with row headings.

    Args:
        headings: Headings of the columns.
        names: Headings of the rows.
        cells: The other cells, row by row.
        label: Accessible label.
        marked: Indices of highlighted rows.
        part: Index of the first row of a second part, and its heading.
    """
    rows = list(zip(map(_breakable, names), cells, strict=True))
    return render("table.html", headings=headings, rows=rows, label=label, marked=marked, part=part)


def _score(score: TaskScore, few: Mapping[str, str]) -> str:
    if score.task in few:
        return render(_INTERVAL, value=fixed(score.score, 2), interval=f"of {few[score.task]}")
    if score.low is None or score.high is None:
        return fixed(score.score, 2)
    return _with_interval(Estimate(score.score, score.low, score.high), 2, 1)


def _with_interval(estimate: Estimate, digits: int, end_digits: int) -> str:
    """Render a value with its interval, if there is one, below it."""
    value = fixed(estimate.value, digits)
    if math.isnan(estimate.low):
        return value
    ends = f"{fixed(estimate.low, end_digits)} to {fixed(estimate.high, end_digits)}"
    return render(_INTERVAL, value=value, interval=ends)


def _breakable(name: str) -> Markup:
    """Escape a name, and allow a line break after each slash."""
    return escape(name).replace("/", Markup("/<wbr>"))
