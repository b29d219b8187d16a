import codecs
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2v_core.distillation.vocabulary import (
    MAX_ENTRY_CHARACTERS,
    CleanedVocabulary,
    clean_lines,
    clean_vocabulary,
    open_vocabulary,
    split_entries,
)
from m2v_core.errors import LimitError, NotFoundError, VocabularyError

WORDS = ["café", "new york", "東京", "naïve"]


def write(folder: Path, content: bytes | str, name: str = "vocabulary.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", ["words.txt", "words.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_that_is_far_too_long_is_not_parsed(tmp_path, name, end):
    path = write(tmp_path, "word" + end + end.join("abcdefghi"), name)
    assert len(open_vocabulary(path, most_entries=5).entries()) >= 9
    for most, said in ((4, "the limit here is 4. Shorten it"), (1, "the limit here is 1")):
        with pytest.raises(LimitError, match=f"The vocabulary has 10 entries; {said}"):
            open_vocabulary(path, most_entries=most)
    with pytest.raises(LimitError, match="the limit here is 4"):
        split_entries(end.join("abcdefghi"), 4)


def test_a_table_of_far_too_many_cells_is_not_parsed(tmp_path):
    path = write(tmp_path, "word" + "," * 30 + "\nx" + "," * 30, "words.csv")
    assert len(open_vocabulary(path, most_entries=4).columns) == 31
    with pytest.raises(LimitError, match="has more than 60 cells, too many for a table of 3 entries"):
        open_vocabulary(path, most_entries=3)


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(WORDS).encode(),
        ("\n".join(WORDS) + "\n").encode(),
        "\r\n".join(WORDS).encode(),
        "\r".join(WORDS).encode(),
        codecs.BOM_UTF8 + "\n".join(WORDS).encode(),
        codecs.BOM_UTF16_LE + "\n".join(WORDS).encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "\n".join(WORDS).encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "\n".join(WORDS).encode("utf-32-le"),
    ],
    ids=["utf-8", "last line end", "crlf", "cr", "utf-8 bom", "utf-16-le", "utf-16-be", "utf-32-le"],
)
def test_certain_encodings_and_line_ends(tmp_path: Path, content: bytes) -> None:
    vocabulary_file = open_vocabulary(write(tmp_path, content))
    assert vocabulary_file.entries() == WORDS
    assert vocabulary_file.warning() is None


def test_guessed_encoding_warns(tmp_path: Path) -> None:
    vocabulary_file = open_vocabulary(write(tmp_path, "café\nnaïve".encode("cp1252")))
    assert vocabulary_file.entries() == ["café", "naïve"]
    assert re.search(
        r"vocabulary\S* is not valid UTF-8 and was read as Windows-1252.*save the file as UTF-8",
        vocabulary_file.warning() or "",
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b" \n\n\t\r\n", "empty"),
        (codecs.BOM_UTF8 + b"\n \n", "empty"),
        (b"words\0of\0a\0program" * 9, "binary.*Save it as text in UTF-8"),
        (random.Random(0).randbytes(4000).replace(b"\0", b"\1"), "binary"),
        (b"PK\x03\x04rest", "spreadsheet.*CSV"),
        (b"\x1f\x8b\x08rest", "gzip.*unpack"),
        (b"%PDF-1.7 rest", "PDF"),
        (codecs.BOM_UTF16_LE + "ab".encode("utf-16-le") + b"x", r"damaged in line 1 \(byte"),
    ],
)
def test_errors_about_invalid_vocabularies(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(VocabularyError, match=says):
        open_vocabulary(write(tmp_path, content)).entries()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"File not found: nowhere\.txt"):
        open_vocabulary(tmp_path / "nowhere.txt")
    with pytest.raises(VocabularyError, match="can't be read"):
        open_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "column", "expected", "first_line"),
    [
        ("v.csv", "rank,word\n1,the\n2,of\n", None, ["the", "of"], 2),
        ("v.csv", "rang;Wort\n1;der\n2;die\n", "Wort", ["der", "die"], 2),
        ("v.csv", "rank,word\n1,the\n2,of\n", "1", ["1", "2"], 2),
        ("v.csv", "the,500\nof,400\n", "1", ["the", "of"], 1),
        ("v.csv", "the\nof\n", None, ["the", "of"], 1),
        ("v.csv", "word\nthe\nof\n", None, ["the", "of"], 2),
        ("v.csv", 'word\n"new york, ny"\n"say ""hi"""\n', None, ["new york, ny", 'say "hi"'], 2),
        ("v.csv", "n,word\n1,the\n\n2\n3,of\n", None, ["the", "", "", "of"], 2),
        ("v.TSV", "count\tterm\n3\tnew york\n", None, ["new york"], 2),
        ("v.tsv", "commas, stay\tx\nhere, too\ty\n", "1", ["here, too"], 2),
    ],
)
def test_tables(
    tmp_path: Path, name: str, content: str, column: str | None, expected: list[str], first_line: int
) -> None:
    vocabulary_file = open_vocabulary(write(tmp_path, content, name))
    assert vocabulary_file.entries(column) == expected
    assert vocabulary_file.first_line == first_line


@pytest.mark.parametrize(
    ("name", "content", "column", "says"),
    [
        ("v.csv", "a,b\n1,2\n", None, "several columns: 'a', 'b'"),
        ("v.csv", "a,b\n1,2\n", "c", "no column 'c'.*'a', 'b'"),
        ("v.csv", "a,b\n1,2\n", "3", "no column '3'"),
        ("v.csv", "word,b\n ,2\n", "word", "no entries"),
        ("v.csv", 'word\n"' + "x" * 200_000, None, "can't be parsed as a table"),
        ("v.txt", "the\nof\n", "word", "plain text.*no column 'word'"),
    ],
)
def test_invalid_tables(tmp_path: Path, name: str, content: str, column: str | None, says: str) -> None:
    with pytest.raises(VocabularyError, match=says):
        open_vocabulary(write(tmp_path, content, name)).entries(column)


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("v.txt", "the\t500\nnew york\t7.5\n", None),
        ("v.txt", "word\tcount\nnew york\t7.5\nthe\t500", None),
        ("v.tsv", "new york\t7.5\nthe\t5e2\n", None),
        ("v.csv", "the,500\nnew york,7.5\n", None),
        ("v.csv", "id,Frequency,word\n1,7.5,new york\n2,500,the\n", None),
        ("v.csv", "Wort;count\nnew york;7.5\nthe;500\n", "Wort"),
        ("v.csv", "word,count\nnew york,7.5\nthe,500\nthe,-3\n,x\n", None),
    ],
)
def test_counts(tmp_path: Path, name: str, content: str, column: str | None) -> None:
    cleaned = open_vocabulary(write(tmp_path, content, name)).cleaned(column)
    assert cleaned.vocabulary == {"the": 500, "new york": 7.5} and cleaned.words == ["the", "new york"]
    assert clean_lines(cleaned.lines()).vocabulary == cleaned.vocabulary


@pytest.mark.parametrize(
    ("name", "content"), [("v.txt", "the\nof\n"), ("v.csv", "id,word\n1,the\n2,of\n"), ("v.tsv", "word\nthe\nof\n")]
)
def test_words_without_counts(tmp_path: Path, name: str, content: str) -> None:
    cleaned = open_vocabulary(write(tmp_path, content, name)).cleaned()
    assert cleaned.vocabulary == cleaned.lines() == ["the", "of"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("v.txt", "the\t5\nof\t-4\nto\t3\n", "The count of 'of' in line 2 is '-4'; each word needs a number above 0"),
        ("v.txt", "the\t5\nof\nto\t3\n", "The count of 'of' in line 2 is missing.*remove all counts"),
        ("v.txt", "word\tcount\nthe\t5\nof\t0\n", "'of' in line 3 is '0'"),
        ("v.csv", "word,count\nthe,5\nof,many\n", "'of' in line 3 is 'many'"),
        ("v.csv", "word,count\nthe,5\nof\n", "'of' in line 3 is missing"),
        ("v.csv", "the,5\nof,inf\nto,2\na,1\n", "'of' in line 2 is 'inf'"),
    ],
)
def test_invalid_counts(tmp_path: Path, name: str, content: str, says: str) -> None:
    with pytest.raises(VocabularyError, match=says):
        open_vocabulary(write(tmp_path, content, name)).cleaned()


@given(st.dictionaries(st.text("abc ", min_size=1).map(str.strip).filter(bool), st.floats(1e-9, 1e9), min_size=1))
def test_counts_survive_as_lines(counts: dict[str, float]) -> None:
    cleaned = clean_vocabulary(list(counts), counts=list(counts.values()))
    assert cleaned.counts_by_word == counts
    assert list(counts_of(cleaned).values()) == sorted(counts.values(), reverse=True)
    assert clean_lines(cleaned.lines()).vocabulary == counts


def counts_of(cleaned: CleanedVocabulary) -> dict[str, float]:
    assert cleaned.counts_by_word is not None
    return cleaned.counts_by_word


def test_every_kind_of_problem_is_named_with_its_line() -> None:
    entries = [
        "the",
        " of ",
        "",
        "the",
        "x" * 100_000,
        "a\x07b",
        "a\tb",
        "\ud800",
        "\u200b",
        "of",
        "new york",
    ]
    cleaned = clean_vocabulary(entries)
    assert cleaned.words == ["the", "of", "new york"]
    assert [(problem.line, problem.kind) for problem in cleaned.problems] == [
        (3, "blank"),
        (4, "duplicate"),
        (5, "too_long"),
        (6, "control"),
        (7, "control"),
        (8, "control"),
        (9, "blank"),
        (10, "duplicate"),
    ]
    assert cleaned.counts == {"blank": 2, "duplicate": 2, "too_long": 1, "control": 3}
    assert cleaned.summary() == [
        "2 blank lines (lines 3, 9): skipped.",
        "2 duplicates (lines 4, 10): the first of each is kept.",
        "1 entry that is too long (line 5): skipped, the limit is 100 characters.",
        "3 entries with control or unreadable characters (lines 6, 7, 8): skipped.",
    ]
    assert [problem.entry for problem in cleaned.problems][3:6] == ["a\\x07b", "a\\tb", "\\ud800"]
    assert all(len(problem.entry) <= 60 for problem in cleaned.problems)


def test_only_the_first_lines_are_listed() -> None:
    cleaned = clean_vocabulary(["a"] * 1001, first_line=2)
    assert cleaned.summary() == ["1,000 duplicates (lines 3, 4, 5, …): the first of each is kept."]


@pytest.mark.parametrize(
    "word",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "C++",
        "x" * MAX_ENTRY_CHARACTERS,
        "don't",
        "👩\u200d🚀",
        "É",
        "é",
    ],
)
def test_valid_words_are_kept(word: str) -> None:
    cleaned = clean_vocabulary([word])
    assert cleaned.words == [word]
    assert not cleaned.problems
    assert not cleaned.summary()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "It is empty"),
        (["", " "], "2 blank lines"),
        ("the of", "single string"),
        (["the", None], r"text 1 \(counting from 0\) is of type NoneType"),
        (["the", 3], "text 1 .* int"),
    ],
)
def test_no_valid_entry_raises(words: list[str], says: str) -> None:
    with pytest.raises(VocabularyError, match=says):
        clean_vocabulary(words)


@given(st.lists(st.text(max_size=120)))
def test_cleaning_preserves_order_and_is_idempotent(entries: list[str]) -> None:
    try:
        cleaned = clean_vocabulary(entries)
    except VocabularyError:
        return
    assert len(cleaned.words) + len(cleaned.problems) == len(entries)
    assert len(set(cleaned.words)) == len(cleaned.words)
    stripped = [entry.strip() for entry in entries]
    positions = [stripped.index(word) for word in cleaned.words]
    assert positions == sorted(positions)
    again = clean_vocabulary(cleaned.words)
    assert again.words == cleaned.words
    assert not again.problems


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)))
def test_split_entries_undoes_joining(entries: list[str]) -> None:
    assert split_entries("\n".join(entries)) == entries
    assert split_entries("".join(entry + "\r\n" for entry in entries)) == entries
