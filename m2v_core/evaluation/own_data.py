"""Reads the user's own test data: CSV or TSV tables as exported from spreadsheets, with or without a header.

score, text, text     pairs with human scores
label, text           texts with labels; a quarter of each label's texts is used for testing

If the first line contains these column names ("text1;text2;score"), columns may be in any order, and others are
ignored.

JSONL is also supported: each line is such a list, or an object with "score" or "label" and texts under any keys.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import well_formed
from m2v_core.errors import InputError
from m2v_core.evaluation.data import placed_texts
from m2v_core.evaluation.statistics import SEED
from m2v_core.evaluation.tasks import ClassificationTask, Group, PairTask, Task
from m2v_core.storage.text_files import read_text

_EXPECTED = "Each line must contain a score and two texts, or a label and a text, separated by commas or tabs"
_ORDER = (
    "Put the columns in this order: score, text, text, or label, text. Or name them in the first line, in any order: "
    "score, text1 and text2, or label and text"
)
# Column names in lowercase, without spaces and punctuation.
_NUMBER = "[ab12]|one|two|left|right"
_SCORE_HEADING = re.compile("(human|gold|mean|average)?(scores?|(similarity|relatedness)(score)?|ratings?|gold|stars)")
_LABEL_HEADING = re.compile("labels?|class|category|topic|intent|sentiment|target")
_TEXT_HEADING = re.compile(
    "(first|second|left|right)?(texts?|sentences?|phrases?|words?|documents?|reviews?|titles?|questions?|quer(y|ies)"
    f"|passages?|comments?|messages?|utterances?|tweets?|premise|hypothesis|content)({_NUMBER})?"
)
_TESTED = 0.25
_MAX_NAME_CHARACTERS = 60


@dataclass(frozen=True)
class OwnSet:
    """A table that can be used as a task.

    Attributes:
        name: Display name.
        rows: All of (score, text, text), or all of (label, text); no cell is blank.
        warning: A warning about how the file was decoded; None if there is no doubt.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]
    warning: str | None = None

    @property
    def summary(self) -> str:
        """A description of the data: "120 pairs with scores"."""
        if len(self.rows[0]) == 3:
            return f"{len(self.rows):,} pairs {'of words ' if self._has_words() else ''}with scores"
        n_labels = len({row[0] for row in self.rows})
        return f"{len(self.rows):,} texts with {n_labels:,} labels, a quarter of them for testing"

    @property
    def n_texts(self) -> int:
        """Number of distinct texts."""
        return len({text for row in self.rows for text in row[1:]})

    def task(self) -> Task:
        """Convert the table to a task; pairs of single words count as WordSim.

        Raises:
            InputError: All scores are the same, or there are fewer than two labels.
        """
        columns = list(zip(*self.rows, strict=True))[1:]
        texts, places = placed_texts(*columns)
        if len(columns) == 1:
            return self._classification(texts, places[0])
        scores = np.array([_number(row[0]) for row in self.rows])
        if len(set(scores.tolist())) < 2:
            raise InputError(
                f"All scores in {self.name} are {scores[0]:g}. A correlation needs different scores; check whether the "
                "first column contains the scores."
            )
        group: Group = "WordSim" if self._has_words() else "STS"
        return PairTask(self.name, group, texts, places[0], places[1], scores)

    def to_lines(self) -> list[str]:
        """Serialize the table as lines of text; see `from_lines`."""
        return [json.dumps([self.name, *row], ensure_ascii=False) for row in self.rows]

    @classmethod
    def from_lines(cls, lines: Sequence[str]) -> list[OwnSet]:
        """Parse lines of one or more tables from `to_lines`."""
        found: dict[str, list[tuple[str, ...]]] = {}
        for line in lines:
            name, *row = json.loads(line)
            found.setdefault(name, []).append(tuple(row))
        return [cls(name, tuple(rows)) for name, rows in found.items()]

    def _has_words(self) -> bool:
        return not any(len(text.split()) > 1 for row in self.rows for text in row[1:])

    def _classification(self, texts: tuple[str, ...], places: NDArray[np.int64]) -> Task:
        labels = np.array([row[0] for row in self.rows])
        generator = np.random.default_rng(SEED)
        is_test = np.zeros(len(labels), bool)
        for label in dict.fromkeys(labels.tolist()):
            its = np.flatnonzero(labels == label)
            n_test = max(1, round(_TESTED * len(its))) if len(its) > 1 else 0
            is_test[generator.permutation(its)[:n_test]] = True
        if len(set(labels.tolist())) < 2:
            raise InputError(
                f"Every line of {self.name} has the label {str(labels[0])[:40]!r}. At least two labels are needed; "
                "check whether the first column contains the labels."
            )
        if not is_test.any():
            raise InputError(
                f"Every label of {self.name} has only one text, so there is no training data. Provide at least two "
                "texts per label, preferably dozens."
            )
        train_labels, test_labels = (tuple(labels[part].tolist()) for part in (~is_test, is_test))
        return ClassificationTask(
            self.name, "Class", texts, places[~is_test], train_labels, places[is_test], test_labels
        )


def read_own_set(path: str | Path, name: str | None = None) -> OwnSet:
    """Read the test data in a CSV, TSV or JSONL file.

    Args:
        path: The file; its delimiter is detected from the first line.
        name: Display name; None for the file name without its extension.

    Raises:
        NotFoundError: The file does not exist.
        InputError: The table is invalid; the message names the line and the expected format.
    """
    path = Path(path)
    name = (name or path.stem)[:_MAX_NAME_CHARACTERS]
    rows: list[tuple[str, ...]] = []
    width = 0
    places: tuple[int, ...] = ()
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    decoded = read_text(path, path.name)
    for number, cells in (_json_lines if is_json else _table)(decoded.text, path.name):
        is_first, width = not width, width or len(cells)
        named = _named_columns(cells) if is_first and not is_json else ()
        places = named or places or tuple(range(width))
        if len(places) not in (2, 3) or len(cells) != width:
            count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            also = "" if is_first else f" instead of {width}"
            raise InputError(
                f"{path.name}, line {number:,} has {count}{also}. {_EXPECTED}; texts with commas must be in "
                f"quotes. {_ORDER}."
            )
        row = tuple(cells[place] for place in places)
        is_scored = len(row) == 2 or not math.isnan(_number(row[0]))
        is_of_headings = not is_scored or (len(row) == 2 and _is_heading(_TEXT_HEADING, row[1]))
        if named or (is_first and not is_json and is_of_headings):
            continue
        if "" in row:
            raise InputError(f"{path.name}, line {number:,}: cell {places[row.index('')] + 1} is blank. {_EXPECTED}.")
        if not is_scored:
            raise InputError(
                f"{path.name}, line {number:,} has {row[0][:40]!r} instead of a score, a number such as 4.5. {_ORDER}."
            )
        rows.append(row)
    if is_json:  # JSON escapes can be surrogates
        cells_of_rows = iter(well_formed([cell for row in rows for cell in row]))
        rows = [tuple(next(cells_of_rows) for _ in row) for row in rows]
    if not rows:
        raise InputError(f"{path.name} contains no data. {_EXPECTED}.")
    return OwnSet(name, tuple(rows), decoded.warning)


def _named_columns(headings: Sequence[str]) -> tuple[int, ...]:
    """Indices of score, text and text, or of label and text; empty if the names are not recognized."""
    scores, labels, texts = (
        [place for place, heading in enumerate(headings) if _is_heading(names, heading)]
        for names in (_SCORE_HEADING, _LABEL_HEADING, _TEXT_HEADING)
    )
    if len(texts) == 1 and len(labels or scores) == 1:
        return ((labels or scores)[0], texts[0])
    if len(texts) == 2 and len(scores or labels) == 1:
        return ((scores or labels)[0], *texts)
    return ()


def _is_heading(names: re.Pattern[str], cell: str) -> bool:
    return bool(names.fullmatch(re.sub(r"[\W_]", "", cell.casefold())))


def _json_lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InputError(f"{name}, line {number:,} is not valid JSON: {error}.") from error
        if isinstance(value, dict):
            first = next((key for key in ("score", "label") if key in value), None)
            if first is None:
                raise InputError(f'{name}, line {number:,} has neither "score" nor "label". {_EXPECTED}.')
            value = [value.pop(first), *(text for text in value.values() if isinstance(text, str))]
        if not isinstance(value, list) or any(isinstance(cell, (dict, list, type(None))) for cell in value):
            raise InputError(f"{name}, line {number:,} is neither a list of texts nor an object. {_EXPECTED}.")
        yield number, [str(cell).strip() for cell in value]


def _table(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    has_tabs = "\t" in first
    delimiter = "\t" if has_tabs else max(",;", key=first.count)
    # Tools that export tab-separated files don't escape quotes.
    lines = io.StringIO(text, newline="")
    if has_tabs:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)  # an unclosed quote is always an error
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num:,} is not a valid line of a table: {error}.") from error


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
