"""Properties for any cell: quotes, delimiters, line ends, all of Unicode."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from m2v_core.bulk import readers
from m2v_core.bulk.parquet import ParquetReader, ParquetWriter, schema_of
from m2v_core.bulk.readers import Block, CsvReader, JsonlReader, TsvReader, Wanted
from m2v_core.bulk.vectors import VectorColumn
from m2v_core.bulk.writers import JsonlWriter

# csv can't write NUL before Python 3.11, and treats a lone CR as a line end, as other programs do.
CELLS = st.text(st.one_of(st.sampled_from("\",;\t|\n'\\ \u2028\x85"), st.characters(exclude_categories=["Cs"])))
CSV_CELLS = CELLS.map(lambda cell: cell.replace("\0", "").replace("\r", ""))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=5,
)
VECTOR = np.array([[0.1, -1e-30]], np.float32)


def rows_of(reader, monkeypatch_rows=2):
    before, readers.ROWS_PER_BLOCK = readers.ROWS_PER_BLOCK, monkeypatch_rows
    try:
        return [row for block in reader.blocks() for row in block.rows]
    finally:
        readers.ROWS_PER_BLOCK = before


@given(st.lists(st.tuples(CSV_CELLS, CSV_CELLS), max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(deadline=None)
def test_csv_and_tsv(rows, line_end, is_tsv):
    text = io.StringIO()
    quoting = csv.QUOTE_MINIMAL if is_tsv else csv.QUOTE_ALL
    writer = csv.writer(text, delimiter="\t" if is_tsv else ",", lineterminator=line_end, quoting=quoting)
    writer.writerows([("text", 'the "other"\none'), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_bytes(text.getvalue().encode())
        reader = (TsvReader if is_tsv else CsvReader)(path, Wanted())
        assert reader.columns == ("text", 'the "other"\none')
        assert [tuple(row.values()) for row in rows_of(reader)] == rows


@given(st.lists(st.tuples(CELLS, st.dictionaries(CELLS, VALUES, max_size=3)), max_size=6), st.booleans())
@settings(deadline=None)
def test_jsonl_in_and_out(rows, ensure_ascii):
    rows = [others | {"text": text} for text, others in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        path.write_bytes("".join(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows).encode())
        assert rows_of(JsonlReader(path, Wanted())) == rows
        written = io.BytesIO()
        writer = JsonlWriter(written, VectorColumn("100% %s\u20ac", 2, "float32"))
        writer.write(Block([row["text"] for row in rows], rows), np.repeat(VECTOR, len(rows), axis=0))
        for line, row in zip(written.getvalue().split(b"\n"), rows, strict=False):
            read = json.loads(line)
            np.testing.assert_array_equal(np.array([read.pop("100% %s\u20ac")], np.float32), VECTOR)
            assert read == row


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20), st.booleans())
def test_numbers_of_jsonl_round_trip_exactly(numbers, is_half):
    with np.errstate(over="ignore"):
        vector = np.array([numbers], np.float16 if is_half else np.float32)
    vector[~np.isfinite(vector)] = 0
    written = io.BytesIO()
    JsonlWriter(written, VectorColumn("v", vector.shape[1], "float16" if is_half else "float32")).write(
        Block([""]), vector
    )
    np.testing.assert_array_equal(np.array([json.loads(written.getvalue())["v"]], vector.dtype), vector)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=40), st.sampled_from(["float32", "float16"]))
@settings(deadline=None, max_examples=50)
def test_parquet_has_one_row_group_per_block(groups, dtype):
    dim, number = 3, 0
    expected = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.parquet"
        schema = pyarrow.schema([("text", pyarrow.string())])
        with path.open("wb") as file, closing(ParquetWriter(file, schema, VectorColumn("v", dim, dtype))) as writer:
            for texts in groups:
                vectors = np.arange(number, number + dim * len(texts), dtype=dtype).reshape(-1, dim)
                number += vectors.size
                writer.write(Block(texts, [{"text": text} for text in texts]), vectors)
                expected += zip(texts, vectors.tolist(), strict=True)
        opened = parquet.ParquetFile(path)
        assert opened.metadata.num_row_groups == len(groups)
        assert [opened.metadata.row_group(i).num_rows for i in range(len(groups))] == list(map(len, groups))
        table = parquet.read_table(path)
        assert table.schema.field("v").type.list_size == dim
        assert list(zip(table["text"].to_pylist(), table["v"].to_pylist(), strict=True)) == expected
        wanted = [row for row in expected if row[0] == "a"]
        assert len(parquet.read_table(path, filters=[("text", "=", "a")])) == len(wanted)  # uses their statistics
        assert schema_of(ParquetReader(path, Wanted())) == table.schema.remove_metadata()
