"""Formats evaluations as tables: by task, and as a leaderboard with published results."""

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
        name: Name of the encoder.
        origin: `"measured"` in this run, or `"published"` by others.
        groups: Mean score of each column with a score.
        average: Mean over all tasks rather than columns, as in the published tables. None if it is not published.
        n_tasks: Number of measured tasks; None for published rows.
        size_bytes: Size on disk; None if unknown.
        source: Address of the publication; None for measured rows.
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
    """A table of texts for a terminal, a README or a spreadsheet.

    Attributes:
        headings: One per column; the first column is text, all others except `"origin"` are numbers.
        rows: One cell per heading; "" for missing values.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_text(self) -> str:
        """The table in aligned columns, numbers right-aligned; nothing is truncated."""
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
        """The table in Markdown, numbers right-aligned."""
        marks = ["---" if heading in _TEXT_COLUMNS else "---:" for heading in self.headings]
        lines = [self.headings, marks, *self.rows]
        return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)

    def to_csv(self) -> str:
        """The table as comma-separated values."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.headings, *self.rows])
        return file.getvalue()


def _width(text: str) -> int:
    """Width of a text in a terminal: Chinese characters take two columns, accents none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def published_rows() -> tuple[LeaderboardRow, ...]:
    """Results published by the authors of model2vec, for their models and others, each with its address."""
    records = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
    return tuple(LeaderboardRow(origin="published", **record) for record in records)


def mean_score(evaluation: Evaluation, encoder: str) -> float:
    """An encoder's mean score over all tasks; NaN if it has no score."""
    return _mean(evaluation.of(encoder))


def leaderboard(evaluation: Evaluation, *, with_published: bool = False) -> tuple[LeaderboardRow, ...]:
    """One row per encoder, best average first; then published rows in the same order, those without average last.

    Args:
        evaluation: Measured results.
        with_published: Add the published rows, which are based on many more tasks; see `PUBLISHED_NOTE`.
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
    """Tasks too small to distinguish encoders, with the size of each: "4 pairs"."""
    return {
        score.task: f"{score.n_items} {_UNITS.get(score.group, 'question')}{'' if score.n_items == 1 else 's'}"
        for score in evaluation.scores
        if not has_enough_items(score.n_items)
    }


def leaderboard_sheet(rows: Sequence[LeaderboardRow]) -> Sheet:
    """The leaderboard without empty columns."""
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
    """A table with one row per encoder and one column per task, best average first."""
    tasks = evaluation.tasks
    rows = []
    for row in leaderboard(evaluation):
        scores = {score.task: score for score in evaluation.of(row.name)}
        size = "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.1f}"
        cells = (_score_text(scores[task], with_intervals) if task in scores else "" for task in tasks)
        rows.append((row.name, size, *cells, *([_text(row.average)] if len(tasks) > 1 else [])))
    return Sheet(("encoder", "MB", *tasks, *(["Avg"] if len(tasks) > 1 else [])), tuple(rows))


def long_sheet(evaluation: Evaluation) -> Sheet:
    """A table with one row per score and all its attributes, for a spreadsheet or a data frame."""
    headings = ("encoder", "task", "group", "metric", "score", "low", "high", "n_items", "seconds")
    return Sheet(
        headings,
        tuple(
            tuple("" if (value := getattr(score, heading, None)) is None else str(value) for heading in headings)
            for score in evaluation.scores
        ),
    )


def frontier_sheet(rows: Sequence[FrontierRow]) -> Sheet:
    """A table of smaller versions, smallest first; `best` marks those better than all of at most their size."""
    headings = ("dim", "precision", "rows", "MB", "score", "low", "high", "sentences/s", "best")
    has_names = any(row.model for row in rows)
    return Sheet(
        ("model", *headings) if has_names else headings,
        tuple(
            (
                *([row.model] if has_names else []),
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
    """The number with this many digits, and never "-0.00"."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _mean(scores: Sequence[TaskScore]) -> float:
    return float(np.mean([score.score for score in scores])) if scores else float("nan")
