"""Test data of one's own, as it comes out of a spreadsheet: CSV or TSV tables, with a line of headings or without.

score, text, text     pairs that people have scored
label, text           texts with labels; a quarter of each label's texts is kept for the test

Where the first line names these columns ("text1;text2;score"), they may stand in any order, and others are left out.

JSONL too: on each line a list of these, or an object with "score" or "label" and the texts under any other names.
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

_EXPECTED = "Each line must hold a score and two texts, or a label and a text, separated by commas or tabs"
_ORDER = (
    "Put the columns in this order: score, text, text, or label, text. Or name them in the first line, in any order: "
    "score, text1 and text2, or label and text"
)
# Names of columns, in small letters without spaces and signs.
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
    """A table that can be scored on.

    Attributes:
        name: What people call it.
        rows: All of (score, text, text), or all of (label, text); no cell is blank.
        warning: What a person should know about how the file was decoded; None if there is no doubt.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]
    warning: str | None = None

    @property
    def summary(self) -> str:
        """What was recognised: "120 pairs with scores"."""
        if len(self.rows[0]) == 3:
            return f"{len(self.rows):,} pairs {'of words ' if self._has_words() else ''}with scores"
        n_labels = len({row[0] for row in self.rows})
        return f"{len(self.rows):,} texts with {n_labels:,} labels, a quarter of them for the test"

    @property
    def n_texts(self) -> int:
        """Different texts in it."""
        return len({text for row in self.rows for text in row[1:]})

    def task(self) -> Task:
        """The set as a task; pairs of single words count as WordSim.

        Raises:
            InputError: All scores are the same, or there are no two labels to tell apart.
        """
        columns = list(zip(*self.rows, strict=True))[1:]
        texts, places = placed_texts(*columns)
        if len(columns) == 1:
            return self._classification(texts, places[0])
        scores = np.array([_number(row[0]) for row in self.rows])
        if len(set(scores.tolist())) < 2:
            raise InputError(
                f"All scores in {self.name} are {scores[0]:g}. A correlation needs different ones; look whether the "
                "first column holds the scores."
            )
        group: Group = "WordSim" if self._has_words() else "STS"
        return PairTask(self.name, group, texts, places[0], places[1], scores)

    def to_lines(self) -> list[str]:
        """The set as lines of text, for `from_lines`."""
        return [json.dumps([self.name, *row], ensure_ascii=False) for row in self.rows]

    @classmethod
    def from_lines(cls, lines: Sequence[str]) -> list[OwnSet]:
        """The sets in lines that `to_lines` made of one or more."""
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
                f"Every line of {self.name} has the label {str(labels[0])[:40]!r}. Telling labels apart needs two at "
                "least; look whether the first column holds the labels."
            )
        if not is_test.any():
            raise InputError(
                f"Every label of {self.name} is on one text alone, so there is nothing to learn from. Give each label "
                "two texts at least, better dozens."
            )
        train_labels, test_labels = (tuple(labels[part].tolist()) for part in (~is_test, is_test))
        return ClassificationTask(
            self.name, "Class", texts, places[~is_test], train_labels, places[is_test], test_labels
        )


def read_own_set(path: str | Path, name: str | None = None) -> OwnSet:
    """The test data in a CSV, TSV or JSONL file.

    Args:
        path: The file; what its first line holds says what separates its cells.
        name: What people call it; the file's name without its ending when None.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is no such table; the message says in which line and what was expected.
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
            also = "" if is_first else f", and the lines before have {width}"
            raise InputError(
                f"{path.name}, line {number:,} has {count}{also}. {_EXPECTED}; a text with commas must stand in "
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
                f"{path.name}, line {number:,} has {row[0][:40]!r} where a score was expected, a number such as 4.5. "
                f"{_ORDER}."
            )
        rows.append(row)
    if is_json:  # whose escapes can be surrogates
        cells_of_rows = iter(well_formed([cell for row in rows for cell in row]))
        rows = [tuple(next(cells_of_rows) for _ in row) for row in rows]
    if not rows:
        raise InputError(f"{path.name} holds no data. {_EXPECTED}.")
    return OwnSet(name, tuple(rows), decoded.warning)


def _named_columns(headings: Sequence[str]) -> tuple[int, ...]:
    """Places of score, text and text, or of label and text; empty where names don't tell."""
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
            raise InputError(f"{name}, line {number:,} is no JSON: {error}.") from error
        if isinstance(value, dict):
            first = next((key for key in ("score", "label") if key in value), None)
            if first is None:
                raise InputError(f'{name}, line {number:,} has neither "score" nor "label". {_EXPECTED}.')
            value = [value.pop(first), *(text for text in value.values() if isinstance(text, str))]
        if not isinstance(value, list) or any(isinstance(cell, (dict, list, type(None))) for cell in value):
            raise InputError(f"{name}, line {number:,} is no list of texts and no object. {_EXPECTED}.")
        yield number, [str(cell).strip() for cell in value]


def _table(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    has_tabs = "\t" in first
    delimiter = "\t" if has_tabs else max(",;", key=first.count)
    # Tools that separate by tabs leave quotes as they are.
    lines = io.StringIO(text, newline="")
    if has_tabs:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)  # a quote left open is an error, however short
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num:,} is no line of a table: {error}.") from error


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
