"""Reads text, JSONL, CSV and TSV files in blocks of rows.

A block has a bounded number of rows. The boundaries of blocks depend only on the file, so results computed per block
are reproducible.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from m2v_core.bulk.formats import STDIN, InputFormat
from m2v_core.encoder.texts import replace_surrogates, warn_about_surrogates
from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.storage.text_files import SAMPLE_BYTES, Encoding, Transcoded, detect_encoding, log_warnings

if TYPE_CHECKING:
    import pyarrow

ROWS_PER_BLOCK = 16_384
BYTES_PER_BLOCK = 16_000_000
_LINES_AT_ONCE = 256
_LONGEST_CELL = 1 << 28  # characters; an unclosed quote must not read the rest of the file into one cell
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DEFAULT_COLUMN = "text"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

OnError = Literal["fail", "skip"]


@dataclass
class Block:
    """Consecutive rows of a file.

    Attributes:
        texts: The text of each row.
        rows: All columns of each row, including the text; None if not needed.
        problems: One sentence for each skipped row.
        share: Share of the file read at the end of the block, 0 to 1; 0 if unknown.
    """

    texts: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] | pyarrow.Table | None = None
    problems: list[str] = field(default_factory=list)
    share: float = 0.0


class Reader(Protocol):
    """A file of texts.

    Attributes:
        name: Name in messages.
        format: Format of the file.
        column: Name of the column with the texts.
        columns: Names of all columns; None if each row has its own.
    """

    name: str
    format: InputFormat
    column: str
    columns: tuple[str, ...] | None

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks from the start of the file."""
        ...


@dataclass(frozen=True)
class Wanted:
    """Which data to read from a file.

    Attributes:
        column: Name of the column with the texts; None for "text", or for the only column.
        with_rows: Whether to read the other columns too.
        on_error: Whether an invalid row raises an error or is skipped.
    """

    column: str | None = None
    with_rows: bool = True
    on_error: OnError = "fail"

    def chosen(self, columns: tuple[str, ...], name: str) -> str:
        """The name of the column with the texts.

        Raises:
            InputError: The column does not exist, or is ambiguous.
        """
        known = ", ".join(map(repr, columns[:20])) + (", ..." if len(columns) > 20 else "")
        if self.column is not None:
            if self.column not in columns:
                raise InputError(f"{name} has no column {self.column!r}. Its columns are {known}.")
            return self.column
        if _DEFAULT_COLUMN in columns:
            return _DEFAULT_COLUMN
        if len(columns) == 1:
            return columns[0]
        raise InputError(
            f"{name} has no column 'text', but {known or 'none at all'}. Choose the column with the texts (column, "
            "--column)."
        )

    def problem(self, message: str) -> str:
        """Return the message about an invalid row that is skipped.

        Raises:
            InputError: Invalid rows are not skipped.
        """
        if self.on_error == "skip":
            return message
        raise InputError(f"{message} Correct it, or skip such rows (on_error='skip', --on-error skip).")


class _Lines:
    """The lines of a UTF-8 file, with their numbers.

    Attributes:
        number: Number of the last line read, counting from 1.
        offset: Number of bytes read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.offset, self.number = 0, 0

    def seek(self, offset: int, number: int) -> None:
        """Continue reading at this position."""
        self.offset, self.number = offset, number
        if self._file.seekable():
            self._file.seek(offset)
            return
        while offset:
            offset -= len(self._file.read(min(offset, BYTES_PER_BLOCK)))

    def take(self, n: int) -> list[str]:
        """Read up to n lines, without line ends."""
        raw = list(islice(self._file, n))
        joined = b"".join(raw)
        try:
            text = joined.decode()
        except UnicodeDecodeError:
            for line in raw:
                self._decoded(line)
            raise
        if self.number == 0:
            text = text.removeprefix("\ufeff")
        self.offset += len(joined)
        self.number += len(raw)
        lines = text.split("\n")
        if len(lines) > len(raw):  # an empty line after the last line end
            lines.pop()
        return [line.removesuffix("\r") for line in lines] if "\r" in text else lines

    def __iter__(self) -> Iterator[str]:
        """Iterate over lines, including line ends."""
        return map(self._decoded, self._file)

    def _decoded(self, line: bytes) -> str:
        self.offset += len(line)
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._name} begins as UTF-8 but is not UTF-8 in line {self.number:,} "
                f"(byte {self.offset - len(line) + error.start:,}). Convert it to UTF-8."
            ) from error


class _LineReader:
    """Base class for text, JSONL and CSV."""

    format: InputFormat
    column: str = _DEFAULT_COLUMN
    columns: tuple[str, ...] | None = None

    def __init__(self, path: str | Path, wanted: Wanted) -> None:
        self._path = path
        self._wanted = wanted
        self.name = "stdin" if path == STDIN else str(path)
        self._encoding: Encoding | None = None
        self._transcoded: Transcoded | None = None
        self._stdin: _Lines | None = None
        if path == STDIN:
            stdin = sys.stdin.buffer
            # Peeks at the buffered data without consuming it.
            sample = stdin.peek() if hasattr(stdin, "peek") else b""
            self._stdin = self._lines(stdin, sample, False)
        with self._open() as lines:
            self._begin(lines)
            self._start = lines.offset, lines.number

    def _begin(self, lines: _Lines) -> None:
        """Read the header of the file."""

    @contextmanager
    def _open(self) -> Iterator[_Lines]:
        if self._stdin is not None:  # data already read can't be read again
            yield self._stdin
            return
        try:
            with Path(self._path).open("rb") as file:
                self._n_bytes = Path(self._path).stat().st_size
                sample = b""
                if self._encoding is None:
                    sample = file.read(SAMPLE_BYTES)
                    file.seek(0)
                yield self._lines(file, sample, len(sample) == self._n_bytes)
        except M2VError:
            raise
        except FileNotFoundError as error:
            raise NotFoundError(f"No input file at {self.name}. Check the path.") from error
        except OSError as error:
            raise InputError(f"{self.name} can't be read ({error.strerror}). Pass a readable file.") from error

    def _lines(self, file: BinaryIO, sample: bytes, is_whole: bool) -> _Lines:
        if self._encoding is None:
            self._encoding = detect_encoding(sample, self.name, is_whole=is_whole, may_have_nul=True)
            log_warnings(self._encoding.warning(self.name))
        self._transcoded = None
        if self._encoding.codec == "utf-8":
            return _Lines(file, self.name)
        self._transcoded = Transcoded(file, self.name, self._encoding)
        return _Lines(io.BufferedReader(self._transcoded, 1 << 16), self.name)

    @contextmanager
    def _open_at_start(self) -> Iterator[_Lines]:
        with self._open() as lines:
            if self._stdin is None:
                lines.seek(*self._start)
            yield lines

    def _end(self, block: Block, lines: _Lines) -> Block:
        if self._stdin is None:
            offset = lines.offset if self._transcoded is None else self._transcoded.n_read
            block.share = min(offset / self._n_bytes, 1.0) if self._n_bytes else 1.0
        return block


class TextReader(_LineReader):
    """One text per line, ending in LF or CRLF; the column is named "text"."""

    format: InputFormat = "text"
    columns = (_DEFAULT_COLUMN,)

    def _begin(self, lines: _Lines) -> None:
        self._wanted.chosen((_DEFAULT_COLUMN,), f"{self.name}, read as one text per line,")

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks from the start of the file."""
        with self._open_at_start() as lines:
            is_over = False
            while not is_over:
                block = Block()
                start = lines.offset
                while len(block.texts) < ROWS_PER_BLOCK and lines.offset - start < BYTES_PER_BLOCK:
                    taken = lines.take(min(_LINES_AT_ONCE, ROWS_PER_BLOCK - len(block.texts)))
                    block.texts += taken
                    if is_over := not taken:
                        break
                if self._wanted.with_rows:
                    block.rows = [{_DEFAULT_COLUMN: text} for text in block.texts]
                if block.texts:
                    yield self._end(block, lines)


class _RowReader(_LineReader):
    """Reads one row at a time; an invalid row is a string with the reason."""

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks from the start of the file."""
        with self._open_at_start() as lines:
            rows = self._rows(lines)
            is_over = False
            while not is_over:
                block = Block(rows=[] if self._wanted.with_rows else None)
                start = lines.offset
                while len(block.texts) < ROWS_PER_BLOCK and lines.offset - start < BYTES_PER_BLOCK:
                    row = next(rows, None)
                    if is_over := row is None:
                        break
                    if isinstance(row, str):
                        block.problems.append(self._wanted.problem(row))
                        continue
                    assert row is not None
                    block.texts.append(row[self.column])
                    if isinstance(block.rows, list):
                        block.rows.append(row)
                if block.texts or block.problems:
                    yield self._end(block, lines)

    def _rows(self, lines: _Lines) -> Iterator[dict[str, Any] | str]:
        raise NotImplementedError


class JsonlReader(_RowReader):
    """One JSON object per line, with the text under one key. Blank lines are skipped."""

    format: InputFormat = "jsonl"

    def _begin(self, lines: _Lines) -> None:
        self.column = self._wanted.column or _DEFAULT_COLUMN

    def _rows(self, lines: _Lines) -> Iterator[dict[str, Any] | str]:
        self._n_lone = 0  # surrogates
        for line in lines:
            if not line.isspace():
                row = self._parse(line)
                yield f"{self.name}, line {lines.number:,} {row}" if isinstance(row, str) else row
        warn_about_surrogates(self._n_lone, self.name)

    def _parse(self, line: str) -> dict[str, Any] | str:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            return f"is not a JSON object ({reason}): {_shortened(line)}."
        if not isinstance(row, dict):
            return f"is not a JSON object: {_shortened(line)}."
        if self.column not in row:
            keys = ", ".join(map(repr, list(row)[:20])) or "none"
            return f"has no key {self.column!r}; its keys are {keys}. Choose a key with column (--column)."
        if not isinstance(row[self.column], str):
            return f"has no text under {self.column!r}, but {_shortened(json.dumps(row[self.column]))}."
        if _SURROGATE.search(line):
            text, n_lone = replace_surrogates(json.dumps(row, ensure_ascii=False))
            if n_lone:
                self._n_lone += n_lone
                row = dict(json.loads(text))
        return row


class CsvReader(_RowReader):
    """Rows of cells below a header; quoted cells may contain delimiters, doubled quotes and line ends."""

    format: InputFormat = "csv"
    _delimiters = ",;\t|"

    def _begin(self, lines: _Lines) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        head = next(iter(lines), "")
        self._delimiter = next((mark for mark in self._delimiters if mark in head), self._delimiters[0])
        try:
            self.columns = tuple(next(self._cells(chain([head], lines)), ()))
        except csv.Error as error:
            raise InputError(f"{self.name}, line 1, can't be read as column names ({error}). Correct it.") from error
        if not self.columns:
            raise InputError(f"{self.name} is empty. The first line of a CSV or TSV file must be the column names.")
        if len(set(self.columns)) < len(self.columns):
            raise InputError(f"{self.name} has a duplicate column name in its first line. Use unique names.")
        self.column = self._wanted.chosen(self.columns, self.name)

    def _cells(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def _rows(self, lines: _Lines) -> Iterator[dict[str, Any] | str]:
        assert self.columns is not None
        cells_of_rows = self._cells(lines)
        while True:
            number = lines.number + 1
            try:
                cells = next(cells_of_rows, None)
            except csv.Error as error:
                yield (
                    f"{self.name}, line {number:,} can't be read ({error}). A cell that contains a quote must be in "
                    "quotes, with the quote doubled."
                )
                continue
            if cells is None:
                return
            if cells and len(cells) != len(self.columns):
                yield (
                    f"{self.name}, line {number:,} has {len(cells)} cells, but the first line names "
                    f"{len(self.columns)} columns."
                )
            elif cells:
                yield dict(zip(self.columns, cells, strict=True))


class TsvReader(CsvReader):
    """Like CSV, with tabs between the cells."""

    format: InputFormat = "tsv"
    _delimiters = "\t"


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
