"""Files of labeled texts: every format gives the same result, and errors name the line."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2v_core.bulk.labeled import LabeledTexts, read_labeled
from m2v_core.errors import InputError, NotFoundError

ROWS = [("good", 'He said "so", and\tleft'), ("bad", "naïve café"), ("good", "three")]
EXPECTED = LabeledTexts([text for _, text in ROWS], [label for label, _ in ROWS])


def rows_as(ending, rows, names=("label", "text")):
    if ending == "jsonl":
        return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    out = io.StringIO()
    csv.writer(out, delimiter="\t" if ending == "tsv" else ",").writerows([names, *rows])
    return out.getvalue()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
@pytest.mark.parametrize("names", [("label", "text"), ("Y", "X")])
def test_every_form_gives_the_same(ending, names, tmp_path):
    path = tmp_path / f"data.{ending}"
    path.write_text(rows_as(ending, ROWS, names))
    asked = {} if names == ("label", "text") else {"label_column": "Y", "text_column": "X"}
    assert read_labeled(path, **asked) == EXPECTED


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": EXPECTED.texts, "label": EXPECTED.labels, "many": [["a", "b"], [], ["a"]]})
    parquet.write_table(table, tmp_path / "data.parquet")
    assert read_labeled(tmp_path / "data.parquet") == EXPECTED
    assert read_labeled(tmp_path / "data.parquet", label_column="many").labels == [["a", "b"], [], ["a"]]
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": ["x", None]}), tmp_path / "gap.parquet")
    with pytest.raises(InputError, match=r"gap.parquet, row 2 has no label"):
        read_labeled(tmp_path / "gap.parquet")


def test_lines_of_label_tab_text(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_bytes(b'\xef\xbb\xbf3\tsay "so\r\n\n1\ta tab\tinside\n')
    assert read_labeled(path) == LabeledTexts(['say "so', "a tab\tinside"], ["3", "1"])


LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=20).filter(lambda rows: set(rows[0]) != {"label", "text"}))
@settings(deadline=None)
def test_any_line_round_trips(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("lines") / "data.tsv"
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8", newline="\n")
    expected = LabeledTexts([text for _, text in rows], [label for label, _ in rows])
    if not rows[0][0].startswith("\ufeff"):
        assert read_labeled(path) == expected


def test_several_labels_in_one_cell(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('text,label\none,"a; b"\ntwo,\nthree,b;\n')
    assert read_labeled(path, label_separator=";").labels == [["a", "b"], [], ["b"]]
    with pytest.raises(InputError, match=r"line 3 has no label under 'label'"):
        read_labeled(path)
    with pytest.raises(InputError, match="label_separator"):
        read_labeled(path, label_separator="")


def test_lists_and_numbers_of_jsonl(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": []}\n')
    assert read_labeled(path).labels == [["x", "y"], []]
    path.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": -2}\n')
    assert read_labeled(path).labels == [1, -2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "1\tgood\nno tab here\n", r"a.tsv, line 2 has no tab\. Each line must be a label, a tab and a text"),
        ("a.tsv", "1\tgood\n\n2\t \n", r"a.tsv, line 3 has no text"),
        ("a.tsv", "1\tgood\n\tgood\n", r"a.tsv, line 2 has no label"),
        ("a.tsv", "", "contains no labeled texts"),
        ("a.tsv", "1\tgood\n\xff\xfe\tbad\n", r"not UTF-8 in line 2"),
        ("a.csv", "text,label\ngood,1\nbad\n", r"a.csv, line 3 has 1 cells"),
        ("a.csv", 'text,label\n"two\nlines",1\n"",2\n', r"a.csv, line 4 has no text"),
        ("a.csv", "text,class\ngood,1\n", r"no column 'label'\. Its columns are 'text', 'class'.*--label-column"),
        ("a.csv", "words,label\ngood,1\n", r"no column 'text'"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n\n{"text": "b"}\n', r"a.jsonl, line 3 has no key 'label'"),
        ("a.jsonl", '{"text": "a", "label": null}\n', r"line 1 has no label"),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', r"line 1 has no label"),
        ("a.jsonl", '{"text": "a", "label": 1.5}\n', r"line 1 has the label 1.5; labels must be text or whole numbers"),
        ("a.jsonl", '{"text": "a", "label": ["x", null]}\n', r"line 1 has the label None"),
        ("a.jsonl", '{"text": "a", "label": {"x": 1}}\n', r"line 1 has the label {'x': 1}"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": \n', r"a.jsonl, line 2 is not a JSON object"),
        ("a.txt", "good\n", r"can't be read as labeled texts"),
    ],
)
def test_errors_name_the_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_labeled(tmp_path / name)


def test_a_missing_file(tmp_path):
    for name in ("a.tsv", "a.csv", "a.jsonl"):
        with pytest.raises(NotFoundError):
            read_labeled(tmp_path / name)
