"""What an evaluation found, as HTML."""

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
"""How much of the best quality a smaller version must keep to be as good for most."""

_ORIGIN = """<span class="m2v-tag{{ " m2v-is-own" if origin == "measured" }}">{{ origin }}</span>"""
_INTERVAL = """{{ value }}<small class="m2v-interval">{{ interval }}</small>"""


def fidelity_html(found: Mapping[str, Mapping[str, Any]], teacher: str, texts_name: str) -> Markup:
    """The verdict on the first encoder, and what all of them keep of the teacher's view.

    Args:
        found: By encoder's name, `Fidelity.to_json`.
        texts_name: What they read.
    """
    name, first = next(iter(found.items()))
    rows = [
        [
            _with_interval(Estimate(**one["correlation"]), 3, 3),
            _with_interval(Estimate(**one["overlap"]).times(100), 1, 1),
        ]
        for one in found.values()
    ]
    headings = ["Rank correlation", f"% of {int(first['n_neighbours'])} neighbours kept"]
    table = _table(["Encoder", *headings], list(found), rows, "Fidelity to the teacher", {0})
    notes = render("fidelity_notes.html", name=name, teacher=teacher, first=first, texts_name=texts_name)
    warning = _warning("Don't rely on this figure", first["warning"])
    return _card(str(first["verdict"]), warning + table + notes, css=" m2v-card m2v-verdict")


def enough_fidelity(outcome: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What an evaluation found of fidelity, if it rests on enough texts; it may be of an earlier version."""
    found: Mapping[str, Any] = outcome.get("fidelity") or {}
    return found if found and all(has_enough_texts(one["n_texts"]) for one in found.values()) else None


def scores_html(evaluation: Evaluation, first: str) -> Markup:
    """Every encoder on every set of one's own, with intervals, the best mean first."""
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
    how = "Below each score its 95 % interval, from drawing your lines anew 1,000 times"
    roles = {facts.name: facts.role for facts in evaluation.encoders}
    headings = ["Encoder", *(["Mean"] if len(tasks) > 1 else []), *tasks]
    table = _table(headings, [plain_name(name, roles[name]) for name in names], rows, "Scores", {names.index(first)})
    said = [f"{what}. {how}{', or how few there were' if few else ''}.", *notes]
    return _card(headline, _warning("Too little test data to rely on", few) + table, said)


def few_text(evaluation: Evaluation) -> str:
    """What to know of test data too small to tell models apart; empty where all of it is large enough."""
    few = small_tasks(evaluation)
    if not few:
        return ""
    return (
        f"{', '.join(f'{n_items} in “{task}”' for task, n_items in few.items())} are too few to tell models apart: "
        f"others of the kind may turn their order round. Give {MIN_TEST_ITEMS} at least, better some hundreds."
    )


def leaderboard_html(rows: Sequence[LeaderboardRow], evaluation: Evaluation) -> Markup:
    """Measured and published rows in the columns of the published tables, each marked, the measured ones first."""
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
    # Without scheme and path: the repository is what tells them apart.
    sources = dict.fromkeys("/".join(row.source.split()[0].split("/")[2:5]) for row in rows if row.source)
    table = _table(
        ["Encoder", "Origin", "Mean", *groups],
        [plain_name(row.name, roles[row.name]) if row.origin == "measured" else row.name for row in rows],
        cells,
        "Leaderboard",
        measured,
        (len(measured), "Others, on other tasks: not ranked with these"),
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
    """Every smaller version, the smallest first.

    Args:
        rows: The versions; none is marked as best where the data is too little to tell.
        quality_name: What their quality is.
        dtype: The number format that the model is kept in.
        few: Why the data is too little for a conclusion; empty where it is enough.
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
    table = _table(["Version", "Rows", "Size", "Quality", "Sentences a second", ""], names, cells, "Smaller versions")
    notes = render("frontier_notes.html", rows=rows, quality_name=quality_name, dtype=dtype)
    return _card(
        "Quality against size" if few else _frontier_headline(rows),
        _warning("No conclusion from these texts", few) + table + notes,
        css="",
    )


def smallest_near_best(rows: Sequence[FrontierRow]) -> FrontierRow | None:
    """The smallest version whose quality is near the best one's; None where the data is not enough to tell."""
    best = max(row.average for row in rows)
    near = next((row for row in rows if row.average >= NEAR * best), None)
    # An earlier version made no intervals.
    return near if near is not None and near.is_best and near.low is not None and best > 0 else None


def _frontier_headline(rows: Sequence[FrontierRow]) -> str:
    best = max(rows, key=lambda row: row.average)
    near = smallest_near_best(rows)
    if best.average <= 0:
        return "Quality against size"
    share = f"{100 * NEAR:.0f}\N{NO-BREAK SPACE}%"
    if near is None:
        return f"{NOT_ENOUGH_DATA} how small a version can be and keep {share} of the best quality"
    if near.n_bytes >= 0.9 * best.n_bytes:
        version = f"{near.dim:,} dimensions in {near.precision}"
        return f"Nothing smaller than {version} keeps {share} of the best quality"
    share = f"{100 * near.average / best.average:.0f}\N{NO-BREAK SPACE}%"
    return (
        f"{near.dim:,} dimensions in {near.precision} keep {share} of the best quality at {format_bytes(near.n_bytes)}"
    )


def conditions_html(outcome: Mapping[str, Any], has_speed: bool) -> Markup:
    """When and where it was measured, and where speed is."""
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
    """A table whose first column names what each row is about.

    Args:
        headings: One a column.
        names: One a row.
        cells: The other cells, a row each.
        label: What it is called for those who don't see it.
        marked: The places of the rows that stand out.
        part: The place where a second part begins, and its heading.
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
    """A figure, and its interval below it where there is one."""
    value = fixed(estimate.value, digits)
    if math.isnan(estimate.low):
        return value
    ends = f"{fixed(estimate.low, end_digits)} to {fixed(estimate.high, end_digits)}"
    return render(_INTERVAL, value=value, interval=ends)


def _breakable(name: str) -> Markup:
    """The name as HTML, which may break after its owner's."""
    return escape(name).replace("/", Markup("/<wbr>"))
