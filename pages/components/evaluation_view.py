"""What an evaluation found, as HTML."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.report import GROUPS, PUBLISHED_NOTE, LeaderboardRow
from m2v_core.evaluation.run import Evaluation, TaskScore
from m2v_core.evaluation.statistics import Estimate
from m2v_core.speed import rate_text
from pages.components import format_bytes, notice

_NEAR = 0.98  # of the best quality


def fidelity_html(found: Mapping[str, Mapping[str, Any]], teacher: str, texts_name: str) -> str:
    """The verdict on the first encoder, and what all of them keep of the teacher's view.

    Args:
        found: By encoder's name, `Fidelity.to_json`.
        teacher: Its name.
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
    warning = notice("error", "Too few texts to rely on", [first["warning"]]) if first["warning"] else ""
    return _card(
        str(first["verdict"]),
        warning + _table(["Encoder", *headings], list(found), rows, "Fidelity to the teacher", {name}),
        [
            f"{name} beside {teacher}, no labels needed: both compare the same {int(first['n_pairs']):,} pairs of "
            f"{int(first['n_texts']):,} texts. Rank correlation says how far they put the pairs in one order, 1 "
            f"for the same; below each figure its 95 % interval. Texts: {texts_name}."
        ],
        "m2v-verdict",
    )


def scores_html(evaluation: Evaluation, first: str) -> str:
    """Every encoder on every set of one's own, with intervals, the best mean first."""
    tasks = evaluation.tasks
    means = {facts.name: _mean(evaluation.of(facts.name)) for facts in evaluation.encoders}
    names = sorted(means, key=lambda name: -means[name])
    rows = []
    for name in names:
        scores = {score.task: score for score in evaluation.of(name)}
        cells = [_score(scores[task]) for task in tasks]
        rows.append([f"{means[name]:.2f}", *cells] if len(tasks) > 1 else cells)
    by_metric: dict[str, list[str]] = {}
    for score in evaluation.of(names[0]):
        by_metric.setdefault(score.metric, []).append(f"{score.task} ({score.n_items:,})")
    what = "; ".join(f"{metric} on {', '.join(sets)}" for metric, sets in by_metric.items())
    notes = [f"{score.encoder} on {score.task}: {note}" for score in evaluation.scores for note in score.notes]
    place = names.index(first) + 1 if first in names else 0
    headline = f"{first} is number {place} of {len(names)} on your test data" if place else "Your test data"
    headings = ["Encoder", *(["Mean"] if len(tasks) > 1 else []), *tasks]
    return _card(
        headline,
        _table(headings, names, rows, "Scores on your test data", {first}),
        [f"{what}. Below each score its 95 % interval, from drawing your lines anew 1,000 times.", *notes],
    )


def leaderboard_html(rows: Sequence[LeaderboardRow]) -> str:
    """Measured and published rows in the columns of the published tables, each marked."""
    groups = [group for group in GROUPS if any(group in row.groups for row in rows)]
    cells = [
        [
            f'<span class="m2v-tag{" m2v-is-own" if row.origin == "measured" else ""}">{row.origin}</span>',
            "-" if row.average is None else f"{row.average:.2f}",
            *(f"{row.groups[group]:.2f}" if group in row.groups else "-" for group in groups),
        ]
        for row in rows
    ]
    measured = {place for place, row in enumerate(rows) if row.origin == "measured"}
    # Without scheme and path: the repository is what tells them apart.
    sources = dict.fromkeys("/".join(row.source.split()[0].split("/")[2:5]) for row in rows if row.source)
    table = _table(
        ["Encoder", "Origin", "Mean", *groups],
        [row.name for row in rows],
        cells,
        "Leaderboard",
        measured,
    )
    return _card(
        "Leaderboard",
        table,
        [
            f"{len(measured)} measured here, {len(rows) - len(measured)} published. {PUBLISHED_NOTE}",
            f"Published in {', '.join(sources)}.",
        ],
    )


def frontier_html(rows: Sequence[FrontierRow], quality_name: str, dtype: str) -> str:
    """Every smaller version, the smallest first."""
    names = [f"{row.dim:,} dimensions, {row.precision}" for row in rows]
    cells = [
        [
            f"{row.n_rows:,}",
            format_bytes(row.n_bytes),
            f"{row.average:.2f}",
            "-" if row.sentences_per_second is None else rate_text(row.sentences_per_second),
            '<span class="m2v-tag">best of its size</span>' if row.is_best else "",
        ]
        for row in rows
    ]
    sentences = [
        f"Quality: {quality_name}. Each was made from your model: by keeping its leading dimensions, writing its "
        "numbers shorter or letting tokens share rows. “Best of its size”: nothing as small is as good. Set "
        "dimensions and precision on the Distill page to get one of them."
    ]
    if any(row.sentences_per_second for row in rows):
        sentences.append(
            "Speed: each by itself in this run and on this machine, from text to vector, the median of many rounds "
            "over the same texts after a warm-up; to compare models closely, let them take turns on Compare."
        )
    if dtype != "float32":
        sentences.append(f"Your model is kept as {dtype}, so float32 wins nothing back here.")
    return _card(
        _frontier_headline(rows),
        _table(["Version", "Rows", "Size", "Quality", "Sentences a second", ""], names, cells, "Smaller versions"),
        sentences,
    )


def _frontier_headline(rows: Sequence[FrontierRow]) -> str:
    best = max(rows, key=lambda row: row.average)
    if not best.average > 0:  # of nothing there is no share
        return "Quality against size"
    near = next(row for row in rows if row.is_best and row.average >= _NEAR * best.average)
    if near.n_bytes >= 0.9 * best.n_bytes:
        version = f"{near.dim:,} dimensions in {near.precision}"
        return f"Nothing smaller than {version} keeps {100 * _NEAR:.0f}\N{NO-BREAK SPACE}% of the best quality"
    share = f"{100 * near.average / best.average:.0f}\N{NO-BREAK SPACE}%"
    return (
        f"{near.dim:,} dimensions in {near.precision} keep {share} of the best quality at {format_bytes(near.n_bytes)}"
    )


def conditions_html(outcome: Mapping[str, Any], has_speed: bool) -> str:
    """When and where it was measured, and where speed is."""
    machine = outcome["machine"]
    measured = (
        f"Measured on {outcome['date']}: {machine['processor']}, {machine['n_cpus']} CPUs, {machine['system']}, "
        f"Python {machine['python']}."
    )
    speed = (
        "Speeds are those that you measured on <a href=compare>Compare</a>."
        if has_speed
        else "Measure the same models on <a href=compare>Compare</a>, and a chart sets speed against quality here."
    )
    return f'<p class="m2v-next">{escape(measured)} {speed}</p>'


def _card(headline: str, body: str, sentences: Sequence[str], css: str = "") -> str:
    paragraphs = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return (
        f'<section class="m2v-card m2v-numbers {css}"><div class="m2v-headline"><h2>{escape(headline)}</h2></div>'
        f"{body}{paragraphs}</section>"
    )


def _table(
    headings: Sequence[str],
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    label: str,
    marked: Collection[str | int] = (),
) -> str:
    """A table whose first column names what each row is about.

    Args:
        headings: One a column.
        names: One a row.
        rows: The other cells, as HTML.
        label: What it is called for those who don't see it.
        marked: Rows to stand out, by name or by place.
    """
    body = "".join(
        f'<tr{" class=m2v-own" if name in marked or place in marked else ""}><th scope="row">{_breakable(name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for place, (name, cells) in enumerate(zip(names, rows, strict=True))
    )
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    return (
        f'<div class="m2v-table" tabindex="0" role="region" aria-label="{escape(label)}"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _score(score: TaskScore) -> str:
    if score.low is None or score.high is None:
        return f"{score.score:.2f}"
    return _with_interval(Estimate(score.score, score.low, score.high), 2, 1)


def _with_interval(estimate: Estimate, digits: int, end_digits: int) -> str:
    """A figure, and its interval below it where there is one."""
    value = f"{estimate.value:.{digits}f}"
    if math.isnan(estimate.low):
        return value
    return f'{value}<small class="m2v-interval">{estimate.low:.{end_digits}f} to {estimate.high:.{end_digits}f}</small>'


def _breakable(name: str) -> str:
    """The name as HTML, which may break after its owner's."""
    return escape(name).replace("/", "/<wbr>")


def _mean(scores: Sequence[TaskScore]) -> float:
    return sum(score.score for score in scores) / len(scores) if scores else float("nan")
