"""Encoding a file: every format in and out."""

from __future__ import annotations

import io
import json
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from m2v_core.bulk import readers
from m2v_core.bulk.run import encode_file
from tests.core.bulk.files import ENDINGS, OUTPUTS, names, read_embeddings, write_texts
from tests.static_models import TEXTS

pytestmark = pytest.mark.usefixtures("small_blocks")
ONE_LINE_TEXTS = [text for text in TEXTS if "\n" not in text] * 3


@pytest.mark.parametrize("ending", OUTPUTS)
@pytest.mark.parametrize("kind", ENDINGS)
def test_every_format_to_every_other(kind, ending, model, tmp_path):
    texts = ONE_LINE_TEXTS if kind == "text" else list(TEXTS) * 3
    path = write_texts(tmp_path, kind, texts)
    output = tmp_path / f"vectors{ending}"
    encoded = encode_file(model, path, output)
    assert (encoded.n_texts, encoded.n_skipped) == (len(texts), 0)
    embeddings, rows = read_embeddings(output)
    np.testing.assert_array_equal(embeddings.astype(np.float32), model.encode(texts))
    assert np.isfinite(embeddings).all()
    if rows is not None:
        assert [row["text"] for row in rows] == texts
        if kind != "text":
            assert [int(row["id"]) for row in rows] == list(range(len(texts)))
            assert [list(row) for row in rows] == [["id", "text", "tag"]] * len(texts)
    assert names(tmp_path) == sorted([path.name, output.name])


@pytest.mark.parametrize("ending", OUTPUTS)
@pytest.mark.parametrize("kind", ENDINGS)
def test_no_texts(kind, ending, model, tmp_path):
    output = tmp_path / f"vectors{ending}"
    assert encode_file(model, write_texts(tmp_path, kind, []), output).n_texts == 0
    if ending == ".parquet":
        assert parquet.read_schema(output).field("embedding").type == pyarrow.list_(pyarrow.float32(), model.dim)
    assert len(read_embeddings(output)[0]) == 0


@pytest.mark.parametrize("ending", OUTPUTS)
def test_options_are_passed_on(ending, model, tmp_path):
    path = write_texts(tmp_path, "jsonl", list(TEXTS), column="body")
    output = tmp_path / f"vectors{ending}"
    encode_file(model, path, output, column="body", dtype="float16", max_length=3, normalize=False, keep_columns=False)
    embeddings, rows = read_embeddings(output)
    expected = model.encode(list(TEXTS), max_length=3, normalize=False).astype(np.float16)
    np.testing.assert_array_equal(embeddings.astype(np.float16), expected)
    if ending == ".npy":
        assert embeddings.dtype == np.float16
    else:
        assert rows == [{}] * len(TEXTS)
    if ending == ".parquet":
        assert parquet.read_schema(output).field("embedding").type == pyarrow.list_(pyarrow.float16(), model.dim)


def test_npy_equals_the_file_that_numpy_writes(model, tmp_path):
    encode_file(model, write_texts(tmp_path, "text", ONE_LINE_TEXTS), tmp_path / "vectors.npy")
    expected = io.BytesIO()
    np.save(expected, model.encode(ONE_LINE_TEXTS))
    assert (tmp_path / "vectors.npy").read_bytes() == expected.getvalue()


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"\n", [""]),
        (b"one", ["one"]),
        (b"one\n\nthree\n", ["one", "", "three"]),
        (b"one\r\n\r\nthree\r\n", ["one", "", "three"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        ("caf\u00e9\n".encode(), ["caf\u00e9"]),
        # Of the characters that str.splitlines splits at, only two are line ends of a file.
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\rg\n".encode(), ["a\x0bb\x0cc\x1cd\x85e\u2028f\rg"]),
    ],
)
def test_lines_of_text(content, texts, model, tmp_path):
    (tmp_path / "texts.log").write_bytes(content)
    encode_file(model, tmp_path / "texts.log", tmp_path / "out.jsonl")
    assert [row["text"] for row in read_embeddings(tmp_path / "out.jsonl")[1]] == texts


@pytest.mark.parametrize(
    ("kind", "content", "rows"),
    [
        ("csv", '\ufefftext;n\r\nthe;1\r\n\r\n"a;b";2', [("the", "1"), ("a;b", "2")]),
        ("csv", '"te""xt"\n"the, ""fox"""\n', [('the, "fox"',)]),
        ("csv", '"a\nb",text\n"1\n2",the\n3,fox', [("1\n2", "the"), ("3", "fox")]),
        ("tsv", "text\tn\nthe, fox\t1\n", [("the, fox", "1")]),
        ("jsonl", '\ufeff{"text": "the"}\n\n  \n{"text": "fox", "n": {"a": [1]}}', [("the",), ("fox", {"a": [1]})]),
    ],
)
def test_unusual_but_valid_files(kind, content, rows, model, tmp_path):
    path = tmp_path / f"texts{ENDINGS[kind]}"
    path.write_bytes(content.encode())
    encode_file(model, path, tmp_path / "out.jsonl")
    assert [tuple(row.values()) for row in read_embeddings(tmp_path / "out.jsonl")[1]] == rows


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv", "tsv"])
def test_standard_input(kind, model, monkeypatch, tmp_path):
    content = write_texts(tmp_path, kind, ONE_LINE_TEXTS).read_bytes()
    monkeypatch.setattr(readers.sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    encode_file(model, "-", tmp_path / "vectors.npy", input_format=kind)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), model.encode(ONE_LINE_TEXTS))


def test_columns_of_jsonl_are_widened_over_the_whole_file(model, tmp_path):
    rows = [{"text": "the", "n": 1, "x": None}] * 7 + [{"text": "fox", "n": 2.5, "x": None, "new": ["a"]}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encode_file(model, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    written = parquet.read_table(tmp_path / "out.parquet")
    assert written.schema.types[1:3] == [pyarrow.float64(), pyarrow.string()]
    assert written["n"].to_pylist() == [1.0] * 7 + [2.5]
    assert written["new"].to_pylist() == [None] * 7 + [["a"]]


def test_columns_of_parquet_keep_their_types(model, tmp_path):
    table = pyarrow.table(
        {
            "text": pyarrow.array(["the", "fox", "the"]).dictionary_encode(),
            "day": [date(2024, 2, 29)] * 3,
            "price": [Decimal("1.50")] * 3,
            "raw": [b"\xff"] * 3,
            "x": [float("nan"), 1.5, None],
            "nested": [{"a": [1, 2], "b": None}] * 3,
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    encode_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    written = parquet.read_table(tmp_path / "out.parquet")
    assert written.schema.names == [*table.schema.names, "embedding"]
    assert written.drop_columns("embedding").to_pylist()[1:] == table.to_pylist()[1:]
    assert written.schema.field("day").type == pyarrow.date32()

    encode_file(model, tmp_path / "in.parquet", tmp_path / "out.jsonl")
    first = read_embeddings(tmp_path / "out.jsonl")[1][0]
    assert first == {
        "text": "the",
        "day": "2024-02-29",
        "price": "1.50",
        "raw": "/w==",
        "x": None,
        "nested": {"a": [1, 2], "b": None},
    }


def test_the_only_column_of_strings_is_used(model, tmp_path):
    parquet.write_table(pyarrow.table({"id": [1], "body": ["the"]}), tmp_path / "in.parquet")
    (tmp_path / "in.csv").write_text("body\nthe\n")
    for name in ("in.parquet", "in.csv"):
        encode_file(model, tmp_path / name, tmp_path / "out.npy", overwrite=True)
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.encode(["the"]))


def test_overwrite_and_missing_folders(model, tmp_path):
    path = write_texts(tmp_path, "text", ["the", "fox"])
    output = tmp_path / "new" / "folder" / "out.npy"
    encode_file(model, path, output)
    encode_file(model, write_texts(tmp_path, "text", ["the"]), output, overwrite=True)
    assert np.load(output).shape == (1, model.dim)


def test_progress_estimates_the_end(model, tmp_path):
    events = []
    encode_file(model, write_texts(tmp_path, "text", ["the fox"] * 23), tmp_path / "out.npy", progress=events.append)
    assert [(event.stage, event.done) for event in events] == [("encode", done) for done in (0, 5, 10, 15, 20, 23)]
    assert {event.total for event in events[1:]} == {23}
    assert all(event.rate > 0 and event.eta_seconds is not None for event in events[1:])
