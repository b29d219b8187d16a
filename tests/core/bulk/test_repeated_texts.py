"""Parquet stores a repeated text once: a file of a few hundred bytes must not exhaust memory."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pyarrow
import pytest
from pyarrow import parquet

from m2v_core.bulk import readers
from m2v_core.bulk.parquet import ParquetReader
from m2v_core.bulk.readers import Wanted
from m2v_core.bulk.run import read_texts
from m2v_core.errors import LimitError

KINDS = {
    "string": pyarrow.string(),
    "large": pyarrow.large_string(),
    "view": pyarrow.string_view(),
    "dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
}
# ru_maxrss would include the test process, from which this process was forked.
MEASURED = """
import pathlib, re, sys
from m2v_core.bulk.formats import import_pyarrow
from m2v_core.bulk.parquet import ParquetReader
from m2v_core.bulk.readers import Wanted
from m2v_core.bulk.run import read_texts
from m2v_core.errors import LimitError
import_pyarrow("pyarrow.compute"), import_pyarrow("pyarrow.parquet")
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
if sys.argv[2] == "read":
    try:
        read_texts(sys.argv[1], most_characters=10_000_000)
    except LimitError as error:
        print(str(error).replace(" ", "_"))
else:
    print(sum(len(block.texts) for block in ParquetReader(sys.argv[1], Wanted()).blocks()))
print(peak() - before)
"""


def write_repeated(path, n_texts, n_characters, compression="zstd"):
    values = pyarrow.array(["x" * n_characters])
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * n_texts, pyarrow.int32()), values)
    parquet.write_table(pyarrow.table({"text": texts}), path, compression=compression, store_schema=False)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["read", "blocks"])
def test_a_tiny_file_takes_little_memory(how, tmp_path):
    path = write_repeated(tmp_path / "texts.parquet", 4_000, 100_000)
    assert path.stat().st_size < 500
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path), how], capture_output=True, text=True, check=True)
    result, taken = done.stdout.split()
    assert (
        result.startswith("The_texts_of_texts.parquet_have_more_than_10,000,000") if how == "read" else result == "4000"
    )
    # The texts have 400 MB in total; a block of 16 MB and the previous one exist in Arrow's memory and as strings.
    assert int(taken) < 120_000_000


def test_texts_that_are_too_large_are_not_decompressed(tmp_path):
    path = tmp_path / "texts.parquet"
    table = pyarrow.table({"text": ["x" * 30_000_000]})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 30_000
    with pytest.raises(LimitError, match=r"^The texts of texts.parquet have more than 1,000,000 characters"):
        read_texts(path, most_characters=1_000_000)
    assert len(read_texts(path, most_characters=30_000_000)[0]) == 30_000_000


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv", ".parquet"])
def test_characters_are_counted_in_every_kind_of_file(ending, tmp_path):
    path = tmp_path / f"texts{ending}"
    texts = ["one", "zwölf"]
    if ending == ".parquet":
        parquet.write_table(pyarrow.table({"text": texts}), path)
    else:
        head = {".txt": "", ".jsonl": "", ".csv": "text\n"}[ending]
        rows = [f'{{"text": "{text}"}}' if ending == ".jsonl" else text for text in texts]
        path.write_text(head + "\n".join(rows), encoding="utf-8")
    assert read_texts(path, most_characters=8) == texts
    with pytest.raises(LimitError, match="more than 7 characters, the limit here. Use a part"):
        read_texts(path, most_characters=7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_rows", [True, False])
def test_rows_are_those_of_pyarrow(kind, with_rows, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "BYTES_PER_BLOCK", 100)
    path = tmp_path / "texts.parquet"
    texts = [["a" * 60, "b", None, "c" * 130, "d" * 39][number % 5] for number in range(50)]
    array = pyarrow.array(texts, pyarrow.string())
    array = array.dictionary_encode() if kind == "dictionary" else array.cast(KINDS[kind])
    table = pyarrow.table({"number": list(range(50)), "text": array})
    parquet.write_table(table, path, row_group_size=23)
    reader = ParquetReader(path, Wanted(with_rows=with_rows, on_error="skip"))
    blocks = list(reader.blocks())
    expected = [text for text in texts if text is not None]
    assert [text for block in blocks for text in block.texts] == expected
    assert sum(len(block.problems) for block in blocks) == texts.count(None)
    # A block is full if the next row would exceed its limit, or if it is a single larger row.
    assert all(len(block.texts) == 1 or sum(map(len, block.texts)) <= 100 for block in blocks)
    assert all(
        sum(map(len, block.texts)) + len((after.texts or [""])[0]) + 60 > 100
        for block, after in pairwise(blocks)
        if block.share < 23 / 50 and after.share <= 23 / 50  # within one row group
    )
    if with_rows:
        rows = pyarrow.concat_tables([block.rows for block in blocks])
        read = parquet.read_table(path)
        assert rows.to_pylist() == [row for row in read.to_pylist() if row["text"] is not None]
        assert rows.schema.equals(read.schema)
