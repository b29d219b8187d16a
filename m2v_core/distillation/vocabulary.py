"""Parsing and validating users' vocabularies.

A vocabulary is a list of words or phrases, most frequent first: the position of an entry is its rank. Entries with
counts are sorted by count.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from m2v_core.encoder.texts import checked_texts
from m2v_core.errors import InputError, LimitError, VocabularyError
from m2v_core.storage.text_files import DecodedText, read_text

MAX_ENTRY_CHARACTERS = 100

ProblemKind = Literal["blank", "duplicate", "too_long", "control"]

# User-facing texts: singular, plural, and how such entries are handled.
_KINDS: dict[ProblemKind, tuple[str, str, str]] = {
    "blank": ("blank line", "blank lines", "skipped"),
    "duplicate": ("duplicate", "duplicates", "the first of each is kept"),
    "too_long": (
        "entry that is too long",
        "entries that are too long",
        f"skipped, the limit is {MAX_ENTRY_CHARACTERS} characters",
    ),
    "control": (
        "entry with control or unreadable characters",
        "entries with control or unreadable characters",
        "skipped",
    ),
}
_TABLE_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}
# A single column has a header only if its first row is one of these.
_HEADER_NAMES = frozenset({"word", "words", "token", "tokens", "term", "terms", "text", "entry", "vocabulary"})
_COUNT_NAMES = frozenset({"count", "counts", "freq", "frequency", "frequencies", "occurrences"})
_LINES_PER_ENTRY = 2  # maximum for lists with a limit; some entries may be blank or duplicates
_CELLS_PER_ENTRY = 20  # the same for tables
_LONGEST_CELL = 131_072  # characters; an unclosed quotation mark turns the rest of the file into one cell
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class VocabularyProblem:
    """An invalid entry.

    Attributes:
        kind: The kind of problem.
        line: Line number, from 1.
        entry: The entry, truncated to 60 characters, invisible characters escaped.
    """

    kind: ProblemKind
    line: int
    entry: str


@dataclass(frozen=True)
class CleanedVocabulary:
    """The valid entries of a vocabulary, and the problems with the others.

    Attributes:
        words: The valid entries in their order, or by descending count if they have counts, without surrounding
            whitespace; at least one.
        problems: One for each skipped entry, by line.
        counts_by_word: The count of each word, in the order of `words`; None without counts.
    """

    words: list[str]
    problems: list[VocabularyProblem]
    counts_by_word: dict[str, float] | None = None

    @property
    def vocabulary(self) -> list[str] | dict[str, float]:
        """The entries in the form that `distill` accepts: a list, or words with their counts."""
        return self.words if self.counts_by_word is None else self.counts_by_word

    def lines(self) -> list[str]:
        """The entries as lines of a file, `word<TAB>count` if they have counts; `split_counts` is the inverse."""
        if self.counts_by_word is None:
            return self.words
        return [f"{word}\t{count!r}" for word, count in self.counts_by_word.items()]

    @property
    def counts(self) -> dict[ProblemKind, int]:
        """Number of problems by kind, without kinds that do not occur."""
        return _counts(self.problems)

    def summary(self) -> list[str]:
        """One sentence per kind of problem, with its first line numbers; empty without problems."""
        return _summary(self.problems)


@dataclass(frozen=True)
class VocabularyFile:
    """A vocabulary file, decoded and split into cells.

    Attributes:
        decoded: The text of the file.
        columns: The names of a table's columns; empty for a text file.
        default_column: The default column; None for a text file, or if the choice is ambiguous.
        first_line: Line number of the first entry, from 1.
        counts: The count of each entry of a table, as text; None without such a column.
    """

    decoded: DecodedText
    columns: tuple[str, ...]
    default_column: str | None
    first_line: int
    _rows: list[list[str]]
    counts: list[str] | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.decoded.name

    def entries(self, column: str | None = None) -> list[str]:
        """All entries of a column, including invalid ones, so that positions match the file.

        Args:
            column: A column's name, or its number from 1; None for `default_column`. Must be None for text files.

        Raises:
            VocabularyError: The column does not exist, the choice is ambiguous, or all entries are blank.
        """
        index = self._column_index(column)
        entries = [row[index] if index < len(row) else "" for row in self._rows]
        if not any(entry.strip() for entry in entries):
            raise VocabularyError(f"{self.name} has no entries. Put one word or phrase on each line.")
        return entries

    def cleaned(self, column: str | None = None) -> CleanedVocabulary:
        """The valid entries of a column, with their counts if the file has counts.

        Args:
            column: As for `entries`.

        Raises:
            VocabularyError: As for `entries` and `clean_vocabulary`.
        """
        entries = self.entries(column)
        if self.columns:
            return clean_vocabulary(entries, self.first_line, self.counts)
        return clean_lines(entries)

    def _column_index(self, column: str | None) -> int:
        if not self.columns:
            if column is not None:
                raise VocabularyError(
                    f"{self.name} is a plain text file, so it has no column {column!r}. "
                    "Rename the file to .csv or .tsv, or omit the column."
                )
            return 0
        chosen = self.default_column if column is None else column
        known = ", ".join(repr(name) for name in self.columns[:20])
        if chosen is None:
            raise VocabularyError(f"{self.name} has several columns: {known}. Choose the one to read.")
        if chosen in self.columns:
            return self.columns.index(chosen)
        if chosen.isdecimal() and 1 <= int(chosen) <= len(self.columns):
            return int(chosen) - 1
        raise VocabularyError(f"{self.name} has no column {chosen!r}. Its columns are {known}.")

    def warning(self) -> str | None:
        """User-facing warning if the encoding was guessed; None if it is certain."""
        return self.decoded.warning


def open_vocabulary(path: str | Path, most_entries: int | None = None) -> VocabularyFile:
    """Decode a vocabulary file and detect its columns, without validating its entries.

    Files that end in .csv, .tsv or .tab are tables; all other files have one entry per line.

    Args:
        path: Path of the file.
        most_entries: Maximum number of entries after cleaning; much longer files are rejected before parsing.

    Raises:
        NotFoundError: The file does not exist.
        LimitError: The file has more than two lines, or more than twenty cells, per allowed entry.
        VocabularyError: The file is empty or isn't text.
    """
    path = Path(path)
    try:
        decoded = read_text(path, path.name)
    except InputError as error:
        raise VocabularyError(str(error)) from error
    text = decoded.text
    if not text.strip():
        raise VocabularyError(f"{path.name} is empty. Put one word or phrase on each line.")
    delimiters = _TABLE_DELIMITERS.get(path.suffix.lower())
    if delimiters is None:
        rows = [[line] for line in split_entries(text, most_entries)]
        return VocabularyFile(decoded, (), None, 1, rows)
    check_length(count_lines(text), most_entries, _LINES_PER_ENTRY)
    rows = _read_table(text, delimiters, path.name, most_entries)
    columns, default_column, has_header = _name_columns(rows)
    rows = rows[1:] if has_header else rows
    counts = None
    named = [i for i, name in enumerate(columns) if name.lower() in _COUNT_NAMES]
    if not named and len(columns) == 2 and not has_header and _are_counted(rows):
        default_column, named = "1", [1]
    if named:
        counts = [row[named[0]] if named[0] < len(row) else "" for row in rows]
    return VocabularyFile(
        decoded, columns, default_column, first_line=2 if has_header else 1, _rows=rows, counts=counts
    )


def clean_lines(lines: Sequence[str]) -> CleanedVocabulary:
    """Return the valid entries of lines that are words, or `word<TAB>count`.

    Raises:
        VocabularyError: As for `clean_vocabulary`.
    """
    words, counts, first_line = split_counts(lines)
    return clean_vocabulary(words, first_line, counts)


def split_counts(lines: Sequence[str]) -> tuple[list[str], list[str] | None, int]:
    """Split lines of `word<TAB>count` into words, their counts as text, and the line number of the first word.

    The counts are None unless most lines have one. A first line such as `word<TAB>count` is a header.
    """
    rows = [line.split("\t", 1) for line in lines]
    if not _are_counted(rows):
        return list(lines), None, 1
    is_header = rows[0][-1].strip().lower() in _COUNT_NAMES
    rows = rows[is_header:]
    return [row[0] for row in rows], [row[1] if len(row) == 2 else "" for row in rows], 1 + is_header


def _are_counted(rows: Sequence[Sequence[str]]) -> bool:
    """Whether most nonblank rows consist of a word and a number."""
    n_counted = sum(len(row) == 2 and not _is_number(row[0]) and _is_number(row[1]) for row in rows)
    return 2 * n_counted > sum(any(cell.strip() for cell in row) for row in rows)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def by_falling_count(
    words: Sequence[str], counts: Iterable[object], lines: Sequence[int] | None = None
) -> dict[str, float]:
    """Return the count of each word, in descending order of count.

    Args:
        words: Distinct words.
        counts: Their counts or relative frequencies, as numbers or text.
        lines: The line number of each word, for error messages.

    Raises:
        VocabularyError: A count is missing, not a number, or not above 0.
    """
    found = {}
    for i, (word, count) in enumerate(zip(words, counts, strict=True)):
        try:
            number = float(count) if not isinstance(count, bool) else math.nan  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not 0 < number < math.inf:
            where = "" if lines is None else f" in line {lines[i]:,}"
            what = (
                "missing"
                if count is None or not str(count).strip()
                else f"{_truncate_and_escape(str(count).strip())!r}"
            )
            raise VocabularyError(
                f"The count of {_truncate_and_escape(word)!r}{where} is {what}; each word needs a number above 0. "
                "Correct the count, or remove all counts and sort the words by frequency."
            )
        found[word] = number
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def split_entries(text: str, most_entries: int | None = None) -> list[str]:
    """Split a text into lines; a trailing line break does not start another entry.

    `str.splitlines` also splits at form feeds and other characters that may occur inside an entry.

    Raises:
        LimitError: There are more than twice as many lines as allowed entries.
    """
    check_length(count_lines(text), most_entries, _LINES_PER_ENTRY)
    lines = _LINE_END.split(text)
    if lines[-1] == "":
        lines.pop()
    return lines


def check_length(n_entries: int, most: int | None, tolerance: int = 1) -> None:
    """Reject a vocabulary that is longer than allowed.

    Args:
        n_entries: Its number of entries.
        most: Maximum number of entries; None for no limit.
        tolerance: Multiple of the limit to accept, because some entries may be skipped later.

    Raises:
        LimitError: The vocabulary is too long.
    """
    if most is not None and n_entries > tolerance * most:
        raise LimitError(f"The vocabulary has {n_entries:,} entries; the limit here is {most:,}. Shorten it.")


def count_lines(text: str) -> int:
    """Return the approximate number of lines in a text, without splitting it."""
    return max(text.count("\n"), text.count("\r")) + 1


def clean_vocabulary(
    words: Iterable[str], first_line: int = 1, counts: Sequence[object] | None = None
) -> CleanedVocabulary:
    """Strip and validate the entries of a vocabulary.

    Blank entries, exact duplicates (entries that the teacher's tokenizer would merge are kept), entries of more than
    100 characters, and entries with control characters or lone surrogates are skipped.

    Args:
        words: The entries, most frequent first unless there are counts.
        first_line: Line number of the first entry, for the problems.
        counts: The count of each entry; None without counts.

    Raises:
        VocabularyError: An entry isn't a string, no entry is valid, or the count of a valid entry is invalid.
    """
    if isinstance(words, str):
        raise VocabularyError("The vocabulary is a single string. Pass a list of words.")
    try:
        entries = checked_texts(words, "a list of words")
    except InputError as error:
        raise VocabularyError(f"The vocabulary is invalid. {error}") from error
    kept: dict[str, int] = {}
    problems: list[VocabularyProblem] = []
    for line, entry in enumerate(entries, first_line):
        word = entry.strip()
        kind = _problem_of(word, kept)
        if kind is None:
            kept[word] = line
        else:
            problems.append(VocabularyProblem(kind, line, _truncate_and_escape(word)))
    if not kept:
        found = " ".join(_summary(problems)) or "It is empty."
        raise VocabularyError(f"The vocabulary has no valid entries. {found} Put one word or phrase on each line.")
    if counts is None:
        return CleanedVocabulary(list(kept), problems)
    lines = list(kept.values())
    counted = by_falling_count(list(kept), [counts[line - first_line] for line in lines], lines)
    return CleanedVocabulary(list(counted), problems, counted)


def _problem_of(word: str, kept: dict[str, int]) -> ProblemKind | None:
    if len(word) > MAX_ENTRY_CHARACTERS:
        return "too_long"
    # Fast path: nearly all entries are printable and need no check of each character.
    if word and word.isprintable() and "\ufffd" not in word:
        return "duplicate" if word in kept else None
    categories = [unicodedata.category(character) for character in word]
    # Format characters (Cf) are valid inside a word, as in Persian, but not on their own.
    if all(category[0] == "Z" or category == "Cf" for category in categories):
        return "blank"
    if "Cc" in categories or "Cs" in categories or "\ufffd" in word:
        return "control"
    return "duplicate" if word in kept else None


def _truncate_and_escape(word: str) -> str:
    shortened = word if len(word) <= 60 else word[:59] + "…"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in shortened
    )


def _counts(problems: list[VocabularyProblem]) -> dict[ProblemKind, int]:
    counts: dict[ProblemKind, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return counts


def _summary(problems: list[VocabularyProblem]) -> list[str]:
    counts = _counts(problems)
    sentences = []
    for kind, (one, many, remedy) in _KINDS.items():
        if kind not in counts:
            continue
        lines = [problem.line for problem in problems if problem.kind == kind][:4]
        where = ", ".join(str(line) for line in lines[:3]) + (", …" if len(lines) > 3 else "")
        noun, place = (one, "line") if counts[kind] == 1 else (many, "lines")
        sentences.append(f"{counts[kind]:,} {noun} ({place} {where}): {remedy}.")
    return sentences


def _read_table(text: str, delimiters: str, name: str, most_entries: int | None) -> list[list[str]]:
    first_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(delimiters, key=first_line.count)  # the first of `delimiters` on a tie
    try:
        rows, n_cells = [], 0
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows.append(row)
            n_cells += len(row)
            if most_entries is not None and n_cells > _CELLS_PER_ENTRY * most_entries:
                raise LimitError(
                    f"{name} has more than {_CELLS_PER_ENTRY * most_entries:,} cells, too many for a table of "
                    f"{most_entries:,} entries, the limit here. Remove the columns without words."
                )
    except csv.Error as error:
        raise VocabularyError(f"{name} can't be parsed as a table ({error}). Check its quotation marks.") from error
    # The csv module's own limit is global, and other libraries increase it.
    longest = max((len(cell) for row in rows for cell in row), default=0)
    if longest > _LONGEST_CELL:
        raise VocabularyError(
            f"{name} can't be parsed as a table (a cell of {longest:,} characters). Check its quotation marks."
        )
    return rows


def _name_columns(rows: list[list[str]]) -> tuple[tuple[str, ...], str | None, bool]:
    """Return the names of the columns, the default column, and whether the first row is a header."""
    first_row = [cell.strip() for cell in rows[0]]
    width = max(len(row) for row in rows)
    known = [cell for cell in first_row if cell.lower() in _HEADER_NAMES]
    if len(first_row) <= 1 and not known:
        return ("1",), "1", False
    # The first row of several columns is a header unless one of its cells is a number.
    has_header = bool(known) or not any(re.fullmatch(r"[\d.,%+-]+", cell) for cell in first_row)
    names = first_row if has_header else []
    columns = [name or str(number) for number, name in enumerate(names, 1)]
    columns += [str(number) for number in range(len(columns) + 1, width + 1)]
    if known:
        return tuple(columns), known[0], True
    return tuple(columns), None, has_header
