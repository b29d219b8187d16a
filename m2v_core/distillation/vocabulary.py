"""Reading vocabularies that people made, and saying what is wrong with them.

A vocabulary is a list of entries, a word or a phrase each, sorted by falling frequency: an entry's place is
its rank. Nothing here reorders it.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from m2v_core.encoder.texts import checked_texts
from m2v_core.errors import InputError, LimitError, VocabularyError
from m2v_core.storage.text_files import DecodedText, read_text

MAX_ENTRY_CHARACTERS = 100

ProblemKind = Literal["blank", "duplicate", "too_long", "control"]

# What a person is told of each kind: one, many, and what cleaning does about it.
_KINDS: dict[ProblemKind, tuple[str, str, str]] = {
    "blank": ("blank line", "blank lines", "left out"),
    "duplicate": ("duplicate", "duplicates", "the first of each is kept"),
    "too_long": (
        "entry that is too long",
        "entries that are too long",
        f"left out, the limit is {MAX_ENTRY_CHARACTERS} characters",
    ),
    "control": (
        "entry with control or unreadable characters",
        "entries with control or unreadable characters",
        "left out",
    ),
}
_TABLE_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}
# Only these first rows are taken for a header without being told: a column of plain words has none.
_HEADER_NAMES = frozenset({"word", "words", "token", "tokens", "term", "terms", "text", "entry", "vocabulary"})
_LINES_AN_ENTRY = 2  # allowed of a list that has a limit: some entries are blank, or there twice
_CELLS_AN_ENTRY = 20  # likewise, of a table
_LONGEST_CELL = 131_072  # characters; a quotation mark that never closes makes one cell of all that follows
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class VocabularyProblem:
    """One entry that can't be used.

    Attributes:
        kind: What is wrong with it.
        line: Where it stands, counted from 1.
        entry: The entry as it was met, shortened to 60 characters, invisible characters escaped.
    """

    kind: ProblemKind
    line: int
    entry: str


@dataclass(frozen=True)
class CleanedVocabulary:
    """What is left of a vocabulary, and what was wrong with the rest.

    Attributes:
        words: The entries kept, in their order, without surrounding whitespace; at least one.
        problems: One for each entry left out, in order of line.
    """

    words: list[str]
    problems: list[VocabularyProblem]

    @property
    def counts(self) -> dict[ProblemKind, int]:
        """How many problems there are of each kind that was met."""
        return _counts(self.problems)

    def summary(self) -> list[str]:
        """One sentence a kind of problem, with the first lines that have it; empty if there is none."""
        return _summary(self.problems)


@dataclass(frozen=True)
class VocabularyFile:
    """A vocabulary file, decoded and cut into cells.

    Attributes:
        decoded: The text of the file.
        columns: The names of a table's columns; empty for a text file.
        default_column: The column taken unless told otherwise; None for a text file, or where only a person
            can say.
        first_line: The line on which the first entry stands, counted from 1.
    """

    decoded: DecodedText
    columns: tuple[str, ...]
    default_column: str | None
    first_line: int
    _rows: list[list[str]]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.decoded.name

    def entries(self, column: str | None = None) -> list[str]:
        """Every entry of a column, unusable ones too, so that positions stay those of the file.

        Args:
            column: A column's name, or its number counted from 1; None for `default_column`. Text files have
                none.

        Raises:
            VocabularyError: No such column, several to choose from, or nothing but blank entries.
        """
        index = self._column_index(column)
        entries = [row[index] if index < len(row) else "" for row in self._rows]
        if not any(entry.strip() for entry in entries):
            raise VocabularyError(f"{self.name} holds no entries. Put one word or phrase on each line.")
        return entries

    def _column_index(self, column: str | None) -> int:
        if not self.columns:
            if column is not None:
                raise VocabularyError(
                    f"{self.name} is read as plain text, so it has no column {column!r}. "
                    "Give the file the ending .csv or .tsv, or name no column."
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
        """What a person should know about how the file was decoded; None if there is no doubt."""
        return self.decoded.warning


def open_vocabulary(path: str | Path, most_entries: int | None = None) -> VocabularyFile:
    """The vocabulary file at `path`: its encoding found out, its columns named, no entry judged yet.

    Files that end in .csv, .tsv or .tab are tables; every other file holds one entry a line.

    Args:
        path: Of the file.
        most_entries: How many entries are allowed in the end; a file of far more is not taken apart.

    Raises:
        NotFoundError: No such file.
        LimitError: The file has more than twice as many lines, or twenty times as many cells.
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
    check_length(count_lines(text), most_entries, _LINES_AN_ENTRY)
    rows = _read_table(text, delimiters, path.name, most_entries)
    columns, default_column, has_header = _name_columns(rows)
    return VocabularyFile(
        decoded,
        columns,
        default_column,
        first_line=2 if has_header else 1,
        _rows=rows[1:] if has_header else rows,
    )


def split_entries(text: str, most_entries: int | None = None) -> list[str]:
    """The lines of a text; one line end at its very end begins no further entry.

    `str.splitlines` also cuts at form feeds and other characters that may stand inside an entry.

    Raises:
        LimitError: There are more than twice as many lines as entries are allowed.
    """
    check_length(count_lines(text), most_entries, _LINES_AN_ENTRY)
    lines = _LINE_END.split(text)
    if lines[-1] == "":
        lines.pop()
    return lines


def check_length(n_entries: int, most: int | None, tolerance: int = 1) -> None:
    """Refuse a vocabulary that is longer than allowed.

    Args:
        n_entries: Its entries.
        most: What is allowed; None for any number.
        tolerance: How many times as many pass, where some may be left out later.

    Raises:
        LimitError: It is longer.
    """
    if most is not None and n_entries > tolerance * most:
        raise LimitError(f"The vocabulary has {n_entries:,} entries, and {most:,} are allowed here. Shorten it.")


def count_lines(text: str) -> int:
    """About how many lines a text has, without taking it apart."""
    return max(text.count("\n"), text.count("\r")) + 1


def clean_vocabulary(words: Iterable[str], first_line: int = 1) -> CleanedVocabulary:
    """The usable entries, in their order, and the problems of the others.

    Entries lose surrounding whitespace. Left out are blank ones, repetitions of an earlier entry (equal
    letter by letter: what a teacher's tokenizer merges is not known here), entries of more than 100
    characters, and entries with control characters or lone surrogates.

    Args:
        words: The entries, sorted by falling frequency.
        first_line: The line of the first one, for the problems found.

    Raises:
        VocabularyError: An entry isn't a string, or none is usable.
    """
    if isinstance(words, str):
        raise VocabularyError("The vocabulary is a single string. Pass a list of words.")
    try:
        entries = checked_texts(words, "a list of words")
    except InputError as error:
        raise VocabularyError(f"The vocabulary can't be used. {error}") from error
    kept: dict[str, None] = {}
    problems: list[VocabularyProblem] = []
    for line, entry in enumerate(entries, first_line):
        word = entry.strip()
        kind = _problem_of(word, kept)
        if kind is None:
            kept[word] = None
        else:
            problems.append(VocabularyProblem(kind, line, _shown(word)))
    if not kept:
        found = " ".join(_summary(problems)) or "It is empty."
        raise VocabularyError(f"The vocabulary holds no usable entry. {found} Put one word or phrase on each line.")
    return CleanedVocabulary(list(kept), problems)


def _problem_of(word: str, kept: dict[str, None]) -> ProblemKind | None:
    if len(word) > MAX_ENTRY_CHARACTERS:
        return "too_long"
    # Nearly all entries are printable, and need no look at each character.
    if word and word.isprintable() and "\ufffd" not in word:
        return "duplicate" if word in kept else None
    categories = [unicodedata.category(character) for character in word]
    # Format characters (Cf) may stand inside a word, Persian needs them, but they don't make one.
    if all(category[0] == "Z" or category == "Cf" for category in categories):
        return "blank"
    if "Cc" in categories or "Cs" in categories or "\ufffd" in word:
        return "control"
    return "duplicate" if word in kept else None


def _shown(word: str) -> str:
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
            if most_entries is not None and n_cells > _CELLS_AN_ENTRY * most_entries:
                raise LimitError(
                    f"{name} has more than {_CELLS_AN_ENTRY * most_entries:,} cells, too many for a table of "
                    f"{most_entries:,} entries, which are allowed here. Leave out the columns without words."
                )
    except csv.Error as error:
        raise VocabularyError(f"{name} can't be read as a table ({error}). Check its quotation marks.") from error
    # The reader's own limit is the whole program's, and others raise it.
    longest = max((len(cell) for row in rows for cell in row), default=0)
    if longest > _LONGEST_CELL:
        raise VocabularyError(
            f"{name} can't be read as a table (a cell of {longest:,} characters). Check its quotation marks."
        )
    return rows


def _name_columns(rows: list[list[str]]) -> tuple[tuple[str, ...], str | None, bool]:
    """The columns' names, the one to take by default, and whether the first row is a header."""
    first_row = [cell.strip() for cell in rows[0]]
    width = max(len(row) for row in rows)
    known = [cell for cell in first_row if cell.lower() in _HEADER_NAMES]
    if len(first_row) <= 1 and not known:
        return ("1",), "1", False
    # A table of several columns has a header, unless one of its cells is a number: those are data.
    has_header = bool(known) or not any(re.fullmatch(r"[\d.,%+-]+", cell) for cell in first_row)
    names = first_row if has_header else []
    columns = [name or str(number) for number, name in enumerate(names, 1)]
    columns += [str(number) for number in range(len(columns) + 1, width + 1)]
    if known:
        return tuple(columns), known[0], True
    return tuple(columns), None, has_header
