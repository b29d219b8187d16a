"""Files of labeled texts: JSONL, CSV, TSV and Parquet with two columns, or lines of label, tab, text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2v_core.bulk import formats
from m2v_core.bulk.formats import InputFormat
from m2v_core.bulk.parquet import ParquetReader
from m2v_core.bulk.readers import CsvReader, JsonlReader, TsvReader, Wanted
from m2v_core.errors import InputError

LABEL_COLUMN, TEXT_COLUMN = "label", "text"


@dataclass(frozen=True)
class LabeledTexts:
    """The labeled texts of a file.

    Attributes:
        texts: In file order; none is empty.
        labels: The label of each text, text or a whole number, or a list of those.
    """

    texts: list[str]
    labels: list[Any]


def read_labeled(
    path: str | Path,
    text_column: str | None = None,
    label_column: str | None = None,
    *,
    label_separator: str | None = None,
    input_format: InputFormat | None = None,
) -> LabeledTexts:
    """Read the texts of a file with their labels.

    Args:
        path: JSONL, CSV, TSV or Parquet. A TSV file without column names in its first line, and without a given column,
            is read as lines of label, tab, text, in which quotes have no meaning.
        text_column: Name of the column with the texts; None for "text".
        label_column: Name of the column with the labels; None for "label".
        label_separator: Separator of several labels in one cell, where texts can have any number of labels; None if
            each text has one label. Not needed for lists in JSONL and Parquet.
        input_format: Format of the file; None to use its extension.

    Raises:
        NotFoundError: No such file.
        InputError: The file can't be read, or lacks the column, a text or a label; the message names the line.
        MissingExtraError: Parquet without pyarrow.
    """
    if label_separator == "":
        raise InputError("label_separator must have at least one character, such as ';'.")
    kind = formats.input_format(path, input_format)
    if kind == "text":
        raise InputError(
            f"{path} can't be read as labeled texts. Pass CSV, TSV, JSONL or Parquet with the columns 'text' and "
            "'label', or lines of label, tab, text in a .tsv file."
        )
    label = label_column or LABEL_COLUMN
    wanted = Wanted(text_column or TEXT_COLUMN)
    if kind == "tsv" and text_column is None and label_column is None and not _names_columns(path):
        reader: Any = _Pairs(path, wanted)
    else:
        reader = _READERS[kind](path, wanted)
    if reader.columns is not None and label not in reader.columns:
        known = ", ".join(map(repr, reader.columns[:20]))
        raise InputError(
            f"{path} has no column {label!r}. Its columns are {known}. Choose the column of labels (label_column, "
            "--label-column)."
        )
    reader.label, reader.may_lack_label = label, label_separator is not None
    found = LabeledTexts([], [])
    for block in reader.blocks():
        if isinstance(reader, ParquetReader):
            for row in block.rows.select([reader.column, label]).to_pylist():
                if problem := _problem(row, reader.column, label, label_separator is not None):
                    raise InputError(f"{path}, row {len(found.texts) + 1:,} {problem} Correct it.")
                found.texts.append(row[reader.column])
                found.labels.append(row[label])
        else:
            found.texts.extend(block.texts)
            found.labels.extend(row[label] for row in block.rows)
    if not found.texts:
        raise InputError(f"{path} contains no labeled texts. Pass a file with at least one.")
    if label_separator is None:
        return found
    split = [
        [part.strip() for part in label.split(label_separator) if part.strip()] if isinstance(label, str) else label
        for label in found.labels
    ]
    return LabeledTexts(found.texts, split)


class _Labeled:
    """Rows with a label and a non-empty text."""

    name: str
    column: str
    label = LABEL_COLUMN
    may_lack_label = False

    def _rows(self, lines: Any) -> Iterator[dict[str, Any] | str]:
        for row in super()._rows(lines):  # type: ignore[misc]
            problem = None if isinstance(row, str) else _problem(row, self.column, self.label, self.may_lack_label)
            yield row if problem is None else f"{self.name}, line {lines.number:,} {problem}"


class _LabeledJsonl(_Labeled, JsonlReader):
    pass


class _LabeledCsv(_Labeled, CsvReader):
    pass


class _LabeledTsv(_Labeled, TsvReader):
    pass


class _PairReader(TsvReader):
    def _begin(self, lines: Any) -> None:
        self.columns = (LABEL_COLUMN, TEXT_COLUMN)
        self.column = TEXT_COLUMN

    def _rows(self, lines: Any) -> Iterator[dict[str, Any] | str]:
        for line in lines:
            label, tab, text = line.rstrip("\r\n").partition("\t")
            if tab:
                yield {LABEL_COLUMN: label, TEXT_COLUMN: text}
            elif label:
                yield f"{self.name}, line {lines.number:,} has no tab. Each line must be a label, a tab and a text."


class _Pairs(_Labeled, _PairReader):
    pass


_READERS: dict[InputFormat, Any] = {
    "jsonl": _LabeledJsonl,
    "csv": _LabeledCsv,
    "tsv": _LabeledTsv,
    "parquet": ParquetReader,
}


class _FirstLine(TsvReader):
    def _begin(self, lines: Any) -> None:
        self.cells = {cell.strip('"') for cell in next(iter(lines), "").rstrip("\r\n").split("\t")}


def _names_columns(path: str | Path) -> bool:
    """Whether the first line of a TSV file contains the names of both columns."""
    return {LABEL_COLUMN, TEXT_COLUMN} <= _FirstLine(path, Wanted()).cells


def _problem(row: dict[str, Any], text_column: str, label_column: str, may_lack_label: bool) -> str | None:
    """What is wrong with a row; None if it is valid."""
    text = row[text_column]
    if not text or text.isspace():
        return f"has no text under {text_column!r}."
    if label_column not in row:
        keys = ", ".join(map(repr, list(row)[:20]))
        return f"has no key {label_column!r}; its keys are {keys}. Choose a key with label_column (--label-column)."
    label = row[label_column]
    if isinstance(label, list):
        wrong = [part for part in label if not _is_label(part)]
        return f"has the label {wrong[0]!r}; labels must be text or whole numbers." if wrong else None
    if label == "" and may_lack_label:
        return None
    if label is None or label == "" or label != label:
        return f"has no label under {label_column!r}."
    return None if _is_label(label) else f"has the label {label!r}; labels must be text or whole numbers."


def _is_label(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
