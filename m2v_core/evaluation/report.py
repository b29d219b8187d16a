"""Evaluations as tables: task by task, and as a leaderboard beside what others have published."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from m2v_core.evaluation.evidence import has_enough_items
from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.run import Evaluation, TaskScore
from m2v_core.evaluation.tasks import Group

_TEXT_COLUMNS = ("encoder", "label", "origin", "Model")
GROUPS: tuple[Group, ...] = get_args(Group)
PUBLISHED_NOTE = (
    "Published rows are means over all of MTEB, PEARL and WordSim; measured rows are means over the tasks of this run, "
    "so the two are not ranked with each other."
)
_UNITS: dict[Group, str] = {"STS": "pair", "WordSim": "pair", "PairClass": "pair", "Class": "test text"}


@dataclass(frozen=True)
class LeaderboardRow:
    """One encoder in the columns of the published tables.

    Attributes:
        name: The encoder.
        origin: `"measured"` in this run, or `"published"` by others.
        groups: Mean score of each column that has one.
        average: Mean over all tasks, as the published tables have it; not over the columns. None where it is not
            published.
        n_tasks: Tasks it was measured on; None where it is published.
        size_bytes: Size on disk; None where unknown.
        source: Where it is published; None where it is measured.
    """

    name: str
    origin: Literal["measured", "published"]
    groups: dict[Group, float]
    average: float | None
    n_tasks: int | None = None
    size_bytes: int | None = None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Sheet:
    """A table of texts, for a terminal, a README or a spreadsheet.

    Attributes:
        headings: One a column; the first column is text, all others but `"origin"` are numbers.
        rows: As many cells each as there are headings; "" where there is nothing.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_text(self) -> str:
        """The table in columns of equal width, numbers to the right; nothing is cut, however wide it becomes."""
        lines = [self.headings, *self.rows]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        text = ""
        for line in lines:
            cells = []
            for heading, cell, width in zip(self.headings, line, widths, strict=True):
                padding = " " * (width - _width(cell))
                cells.append(cell + padding if heading in _TEXT_COLUMNS else padding + cell)
            text += "  ".join(cells).rstrip() + "\n"
        return text

    __str__ = to_text

    def to_markdown(self) -> str:
        """The table in Markdown, numbers to the right."""
        marks = ["---" if heading in _TEXT_COLUMNS else "---:" for heading in self.headings]
        lines = [self.headings, marks, *self.rows]
        return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)

    def to_csv(self) -> str:
        """The table as comma-separated values."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.headings, *self.rows])
        return file.getvalue()


def _width(text: str) -> int:
    """Columns of a terminal that a text takes; a Chinese character takes two, and an accent none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def published_rows() -> tuple[LeaderboardRow, ...]:
    """What the authors of model2vec have published of their models and of others', each with its address."""
    records = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
    return tuple(LeaderboardRow(origin="published", **record) for record in records)


def mean_score(evaluation: Evaluation, encoder: str) -> float:
    """One encoder's mean over all tasks; NaN where it has no score."""
    return _mean(evaluation.of(encoder))


def leaderboard(evaluation: Evaluation, *, with_published: bool = False) -> tuple[LeaderboardRow, ...]:
    """A row for each encoder, the best average first; then the published ones likewise, those without one last.

    Args:
        evaluation: What was measured.
        with_published: Add the published rows, which stand on many more tasks; see `PUBLISHED_NOTE`.
    """
    rows = []
    for facts in evaluation.encoders:
        scores = evaluation.of(facts.name)
        groups = {
            group: _mean([score for score in scores if score.group == group])
            for group in GROUPS
            if any(score.group == group for score in scores)
        }
        rows.append(LeaderboardRow(facts.name, "measured", groups, _mean(scores), len(scores), facts.size_bytes))
    return (*_ranked(rows), *(_ranked(published_rows()) if with_published else []))


def _ranked(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    return sorted(rows, key=lambda row: -np.inf if row.average is None else row.average, reverse=True)


def small_tasks(evaluation: Evaluation) -> dict[str, str]:
    """Tasks too small to tell encoders apart, with what a score on each rests on: "4 pairs"."""
    return {
        score.task: f"{score.n_items} {_UNITS.get(score.group, 'question')}{'' if score.n_items == 1 else 's'}"
        for score in evaluation.scores
        if not has_enough_items(score.n_items)
    }


def leaderboard_sheet(rows: Sequence[LeaderboardRow]) -> Sheet:
    """The leaderboard with the columns that any row has something in."""
    groups = [group for group in GROUPS if any(group in row.groups for row in rows)]
    headings = ("encoder", "origin", "Avg", *groups)
    return Sheet(
        headings,
        tuple(
            (row.name, row.origin, _text(row.average), *(_text(row.groups.get(group)) for group in groups))
            for row in rows
        ),
    )


def score_sheet(evaluation: Evaluation, *, with_intervals: bool = False) -> Sheet:
    """A row for each encoder and a column for each task, the best average first."""
    tasks = evaluation.tasks
    rows = []
    for row in leaderboard(evaluation):
        scores = {score.task: score for score in evaluation.of(row.name)}
        size = "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.1f}"
        cells = (_score_text(scores[task], with_intervals) if task in scores else "" for task in tasks)
        rows.append((row.name, size, *cells, *([_text(row.average)] if len(tasks) > 1 else [])))
    return Sheet(("encoder", "MB", *tasks, *(["Avg"] if len(tasks) > 1 else [])), tuple(rows))


def long_sheet(evaluation: Evaluation) -> Sheet:
    """A row for each score, with all that is known of it: for a spreadsheet or a data frame."""
    headings = ("encoder", "task", "group", "metric", "score", "low", "high", "n_items", "seconds")
    return Sheet(
        headings,
        tuple(
            tuple("" if (value := getattr(score, heading, None)) is None else str(value) for heading in headings)
            for score in evaluation.scores
        ),
    )


def frontier_sheet(rows: Sequence[FrontierRow]) -> Sheet:
    """A row for each smaller version, the smallest first; `best` marks those better than all that are as small."""
    headings = ("dim", "precision", "rows", "MB", "score", "low", "high", "sentences/s", "best")
    return Sheet(
        headings,
        tuple(
            (
                str(row.dim),
                row.precision,
                str(row.n_rows),
                f"{row.n_bytes / 1e6:.4g}",
                *map(_text, (row.average, row.low, row.high)),
                "" if row.sentences_per_second is None else f"{row.sentences_per_second:.0f}",
                "best" if row.is_best else "",
            )
            for row in rows
        ),
    )


def _score_text(score: TaskScore, with_interval: bool) -> str:
    if not with_interval or score.low is None or score.high is None:
        return _text(score.score)
    return f"{fixed(score.score, 2)} ({fixed(score.low, 1)} to {fixed(score.high, 1)})"


def _text(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else fixed(value, 2)


def fixed(value: float, digits: int) -> str:
    """The number with so many digits, and never "-0.00"."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _mean(scores: Sequence[TaskScore]) -> float:
    return float(np.mean([score.score for score in scores])) if scores else float("nan")
