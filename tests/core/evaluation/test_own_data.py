"""Tables exported from spreadsheets, and errors about invalid ones."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from m2v_core.errors import InputError, NotFoundError
from m2v_core.evaluation.own_data import OwnSet, read_own_set
from m2v_core.evaluation.run import evaluate
from m2v_core.evaluation.tasks import ClassificationTask, PairTask
from tests.core.evaluation.sets import LetterEncoder

PAIRS = [("4.5", "A dog runs", "A puppy runs"), ("0", "A dog runs", "Tax law"), ("2", "One, two", 'He message "no"')]
LABELED = [(label, f"text {number} of {label}") for label in ("sport", "trade") for number in range(8)]
cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).map(str.strip).filter(bool)


def written(tmp_path, text, name="mine.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def as_csv(rows, delimiter=","):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("heading", [(), ("score", "first text", "second text")])
@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_pairs_of_any_spreadsheet(tmp_path, heading, delimiter, encoding):
    rows = [heading, *PAIRS] if heading else PAIRS
    own = read_own_set(written(tmp_path, as_csv(rows, delimiter), encoding=encoding))
    assert (own.name, own.rows) == ("mine", tuple(PAIRS))
    assert own.summary == "3 pairs with scores" and own.n_texts == 5


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("text1;text2;score\na dog;a puppy;5\na dog;tax law;0", [("5", "a dog", "a puppy"), ("0", "a dog", "tax law")]),
        ("id,Sentence A,Sentence_B,Human score\n1,x,y,4.5", [("4.5", "x", "y")]),
        ("sentence1,sentence2,label\nx,y,1", [("1", "x", "y")]),
        ("Word 1\tWord 2\tSimilarity\t\ncar\tbus\t7\t", [("7", "car", "bus")]),
        ("review;stars\nfine, thanks;5", [("5", "fine, thanks")]),
        ("idx,text,label,label_text\n7,a match,0,sport", [("0", "a match")]),
        ("points,left,right\n5,x,y", [("5", "x", "y")]),  # unknown names, but the right order
        ("3,text,sentence\n2,word,title", [("3", "text", "sentence"), ("2", "word", "title")]),  # no header
    ],
)
def test_columns_are_recognized_by_their_names(tmp_path, text, rows):
    assert read_own_set(written(tmp_path, text)).rows == tuple(rows)


@pytest.mark.parametrize("headings", ["first;second;points", "text1;text2;points", "score;rating;text"])
def test_columns_with_unknown_names(tmp_path, headings):
    says = "line 2 has 'a dog' instead of a score.*in this order: score, text, text.*name them in the first line"
    with pytest.raises(InputError, match=says):
        read_own_set(written(tmp_path, f"{headings}\na dog;a puppy;5"))


def test_the_error_about_a_blank_cell_names_its_position(tmp_path):
    with pytest.raises(InputError, match="line 3: cell 2 is blank"):
        read_own_set(written(tmp_path, "text1;text2;score\na;b;5\nc;;1"))


def test_quotes_have_no_meaning_in_tab_separated_files(tmp_path):
    own = read_own_set(written(tmp_path, '1\tan "odd text\tb, c\n\n2\td\te\n', "mine.tsv"))
    assert own.rows == (("1", 'an "odd text', "b, c"), ("2", "d", "e"))


def test_json_lines(tmp_path):
    lines = ['{"idx": 7, "a": "A dog runs", "score": 4.5, "b": "A puppy, it runs"}', "", '[0, "x", "y"]']
    assert read_own_set(written(tmp_path, "\n".join(lines), "mine.jsonl")).rows == (
        ("4.5", "A dog runs", "A puppy, it runs"),
        ("0", "x", "y"),
    )
    labeled = "".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in LABELED)
    assert read_own_set(written(tmp_path, labeled, "mine.jsonl")).rows == tuple(LABELED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"score": 1, "a": "x", "b": "y"\n', r"mine\.jsonl, line 1 is not valid JSON"),
        ('{"a": "x", "b": "y"}', 'line 1 has neither "score" nor "label"'),
        ('[1, "x", "y"]\n3', "line 2 is neither a list of texts nor an object"),
        ('[1, "x", ["y"]]', "line 1 is neither a list of texts"),
        ('{"score": 1, "a": "x"}\n{"score": 1, "a": "x", "b": "y"}', "line 2 has 3 cells instead of 2"),
        ('{"score": "high", "a": "x", "b": "y"}', "'high' instead of a score"),
        ('{"label": "x", "text": " "}', "cell 2 is blank"),
        ("", "contains no data"),
    ],
)
def test_malformed_json_lines(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_own_set(written(tmp_path, text, "mine.jsonl"))


@given(st.lists(st.tuples(st.floats(-5, 5).map(str), cells, cells), min_size=1, max_size=20))
def test_any_table_round_trips(tmp_path_factory, rows):
    # The delimiter is detected from the first line, so it must not contain a text with a tab.
    path = written(tmp_path_factory.mktemp("own"), as_csv([("score", "a", "b"), *rows]))
    own = read_own_set(path)
    assert own.rows == tuple(rows)
    assert OwnSet.from_lines(own.to_lines()) == [own]


def test_the_score_equals_that_of_scipy(tmp_path):
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdef"), 6)) for _ in range(60)]
    rows = [(f"{rng.integers(5)}", words[place], words[place + 30]) for place in range(30)]
    task = read_own_set(written(tmp_path, as_csv(rows))).task()
    assert isinstance(task, PairTask) and task.group == "WordSim"
    encoder = LetterEncoder()
    left, right = (encoder.encode([row[side] for row in rows]).astype(float) for side in (1, 2))
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    expected = spearmanr(np.round(cosines, 6), [float(row[0]) for row in rows]).statistic
    assert evaluate([encoder], [task], resamples=0).scores[0].score == pytest.approx(100 * expected, abs=0.2)


def test_a_quarter_of_each_label_is_used_for_testing(tmp_path):
    own = read_own_set(written(tmp_path, as_csv([("label", "text"), *LABELED, ("rare", "once")])))
    task = own.task()
    assert isinstance(task, ClassificationTask) and task.group == "Class"
    assert sorted(task.test_labels) == ["sport"] * 2 + ["trade"] * 2
    assert "rare" in task.train_labels and len(task.train_labels) == 13
    assert not set(task.train.tolist()) & set(task.test.tolist())
    assert own.task().test.tolist() == task.test.tolist()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"mine\.csv contains no data"),
        ("score,a,b\n", "contains no data"),
        ("just one\n", r"line 1 has 1 cell\. Each line must contain"),
        ("1,a,b,c\n", "line 1 has 4 cells"),
        ("1,a,b\n2,c\n", "line 2 has 2 cells instead of 3"),
        ("1,a,b\nhigh,c,d\n", "line 2 has 'high' instead of a score"),
        ("1,a,b\nnan,c,d\n", "line 2 has 'nan'"),
        ("1,a,b\n2,,d\n", "line 2: cell 2 is blank"),
        ("x,a\n,b\n", "line 2: cell 1 is blank"),
        ('1,a,"b' + "c" * 140_000, "is not a valid line of a table"),
        ('1,a,b\n2,c,"d\n', "is not a valid line of a table"),
    ],
)
def test_malformed_tables(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_own_set(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,a,b\n1,c,d\n", "All scores in mine are 1"),
        ("x,a\nx,b\n", "the label 'x'"),
        ("x,a\ny,b\n", "has only one text"),
    ],
)
def test_tables_that_can_not_be_scored(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_own_set(written(tmp_path, text)).task()


def test_a_binary_file(tmp_path):
    with pytest.raises(InputError, match=r"mine\.csv is binary"):
        read_own_set(written(tmp_path, "1,é\0,b" * 99, encoding="latin-1"))
    with pytest.raises(NotFoundError, match="File not found"):
        read_own_set(tmp_path / "none.csv")
