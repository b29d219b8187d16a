"""Reading tasks from folders, and errors about invalid files."""

from __future__ import annotations

import pytest

from m2v_core.errors import InputError, NotFoundError
from m2v_core.evaluation.data import read_tasks
from tests.core.evaluation.sets import SETS, write_sets

NAMES = ["tiny", "words", "kinds", "groups", "alike", "order", "search", "news"]
NAMES += ["phrases", "turns", "names", "phrases2", "same"]


def test_every_kind_is_read(tmp_path):
    tasks = read_tasks(write_sets(tmp_path))
    assert [task.name for task in tasks] == NAMES
    assert [task.group for task in tasks] == [
        *("STS", "WordSim", "Class", "Clust", "PairClass", "Rank", "Ret", "Sum"),
        *["PEARL"] * 5,
    ]
    assert [task.n_items for task in tasks] == [12, 10, 12, 12, 14, 4, 5, 2, 3, 2, 3, 4, 6]
    sts = tasks[0]
    assert len(set(sts.texts)) == len(sts.texts)
    first = SETS["sts/tiny.tsv"].splitlines()[0].split("\t")
    assert [str(int(sts.scores[0])), sts.texts[sts.left[0]], sts.texts[sts.right[0]]] == first


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["tiny"], ["tiny"]),
        (["TINY", "words"], ["tiny", "words"]),
        (["words", "sts", "tiny"], ["words", "tiny"]),
        (["sts/tiny"], ["tiny"]),
        (["pearl"], NAMES[8:]),
        (["pairs", "reranking/order"], ["alike", "order"]),
        (["pearl/choice"], ["turns"]),
    ],
)
def test_tasks_are_selected_by_name_or_kind(tmp_path, names, found):
    assert [task.name for task in read_tasks(write_sets(tmp_path), names)] == found


def test_tasks_that_are_not_selected_may_be_invalid(tmp_path):
    assert read_tasks(write_sets(tmp_path, sts__tiny="nonsense"), ["words"])


def test_byte_order_mark_line_ends_and_blank_lines(tmp_path):
    (tmp_path / "sts").mkdir()
    (tmp_path / "sts" / "a.tsv").write_bytes("\ufeff1\ta\u2028b\tc\r\n\r\n2\td\te\r\n".encode())
    (task,) = read_tasks(tmp_path)
    pairs = [(task.texts[left], task.texts[right]) for left, right in zip(task.left, task.right, strict=True)]
    assert pairs == [("a\u2028b", "c"), ("d", "e")] and task.scores.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "sts__tiny",
            "1\ta\tb\n2\ta\n",
            r"tiny\.tsv, line 2 has 2 fields; expected: score, text, text, separated by tabs",
        ),
        ("sts__tiny", "1\ta\tb\n\n2\ta\tb\tc\n", "line 3 has 4 fields"),
        ("sts__tiny", "1 a b\n", "line 1 has 1 field;"),
        ("sts__tiny", "high\ta\tb\n", "line 1 has 'high' instead of a number"),
        ("sts__tiny", "1\ta\tb\nnan\ta\tb\n", "line 2 has 'nan' instead of a number"),
        ("sts__tiny", "inf\ta\tb\n", "line 1 has 'inf' instead of a number"),
        ("sts__tiny", "1\ta\t \n", r"line 1: field 3 \(text\) is blank"),
        ("sts__tiny", b"1\ta\tb\n" + bytes(range(256)), r"tiny\.tsv is binary"),
        ("sts__tiny", "", r"tiny\.tsv is empty. Its lines must be: score, text, text"),
        ("sts__tiny", "\n\n", "is empty"),
        ("sts__tiny", "3\ta\tb\n3.0\tc\td\n", r"All 2 scores in .*tiny\.tsv are 3\. A correlation needs different"),
        ("classification__kinds__train", "wet\ta\nwet\tb\n", r"train\.tsv has the label 'wet'"),
        ("classification__kinds__test", "", r"test\.tsv is empty"),
        ("clustering__groups", "0\ta\n0\tb\n", "has the label '0'"),
        ("retrieval__search__corpus", "d0\ta\nd0\tb\n", "line 2: duplicate id 'd0'"),
        ("retrieval__search__qrels", "q0\tno\t1\n", r"line 1: corpus\.tsv has no id 'no'"),
        ("retrieval__search__qrels", "no\td0\t1\n", r"line 1: queries\.tsv has no id 'no'"),
        ("retrieval__search__qrels", "q0\td0\t0\n", "no relevant text"),
        ("pairs__alike", "yes\ta\tb\n", "line 1 has 'yes' instead of 1 or 0"),
        ("pairs__alike", "1\ta\tb\n1\tc\td\n", "All pairs in .* have the label 1"),
        ("reranking__order", "q\t1\ta\nq\t1\tb\np\t0\tc\n", "No query in .* has both relevant"),
        ("reranking__order", "q\t2\ta\n", "line 1 has '2' instead of 1 or 0"),
        ("summarization__news", "a\t1\tsea\tlake\nb\t2\tsea\tlake\n", "no two summaries of one id"),
        ("summarization__news", "a\t1\tsea\n", "expected: id, score, summary, good summary and optionally more"),
        ("pearl__choice__turns", "sea\tboat\n", "expected: phrase, right answer, wrong answer and optionally more"),
        ("pearl__paraphrase__same", "yes\ta\tb\n", "line 1 has 'yes' instead of pos or neg"),
        ("pearl__paraphrase__same", "pos\ta\tb\n" * 40 + "neg\ta\tb\n" * 9, "has 9 pairs with one label"),
        ("pearl__paraphrase__same", "pos\ta\n", "expected: pos or neg, phrase, phrase"),
        ("pearl__linking__names", "a\tsea\nb\tsea\n", "only one name, 'sea'"),
    ],
)
def test_invalid_files(tmp_path, file, text, message):
    with pytest.raises(InputError, match=message):
        read_tasks(write_sets(tmp_path, **{file: text}))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(NotFoundError, match="Folder not found"):
        read_tasks(tmp_path / "gone")
    with pytest.raises(InputError, match="contains no tasks"):
        read_tasks(tmp_path)
    write_sets(tmp_path)
    (tmp_path / "classification/kinds/test.tsv").unlink()
    with pytest.raises(InputError, match=r"File not found: .*test\.tsv"):
        read_tasks(tmp_path, ["kinds"])
    with pytest.raises(InputError, match=r"no task 'STS99' .* Available: tiny, words"):
        read_tasks(tmp_path, ["STS99"])
