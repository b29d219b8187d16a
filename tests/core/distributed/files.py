"""Folders of texts, and checks of their embeddings."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import psutil
import pyarrow
from pyarrow import parquet

from m2v_core import StaticModel

WORDS = ["the", "quick", "brown", "fox", "sells", "sea", "shells", "中文", "🦄", "naïve"]


def texts_of(n: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(12))) for _ in range(n)]


def write_folder(folder: Path, n_files: int, n_rows: int, start: int = 0) -> Path:
    """Write Parquet files of `n_rows` texts each, with consecutive ids; return their pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + n_files):
        ids = pyarrow.array(range(i * n_rows, (i + 1) * n_rows), "int64")
        table = pyarrow.table({"id": ids, "text": pyarrow.array(texts_of(n_rows, i), "string")})
        parquet.write_table(table, folder / f"{i:02}.parquet", row_group_size=max(n_rows // 4, 1))
    return folder / "*.parquet"


def rows_of(folder: Path) -> pyarrow.Table:
    """All rows of a folder of embeddings, sorted by id, as any reader of Parquet folders returns them."""
    return parquet.read_table(folder).sort_by("id")


def vectors_of(table: pyarrow.Table, column: str = "embedding") -> np.ndarray:
    """The embeddings of a column of fixed-size lists, (n, dim)."""
    lists = table[column].combine_chunks()
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(table), lists.type.list_size)


def check_complete(output: Path, n_files: int, n_rows: int, model: StaticModel) -> None:
    """Check that every row exists once, with its text and the embedding of that text."""
    table = rows_of(output)
    assert table["id"].to_pylist() == list(range(n_files * n_rows))
    texts = [text for i in range(n_files) for text in texts_of(n_rows, i)]
    assert table["text"].to_pylist() == texts
    np.testing.assert_array_equal(vectors_of(table), model.encode(texts))
    assert sorted(path.name for path in output.iterdir()) == [
        *(f"{i:02}.parquet" for i in range(n_files)),
        "_manifest.jsonl",
    ]


def entries_of(output: Path) -> list[dict]:
    """The finished files of a manifest."""
    try:
        lines = (output / "_manifest.jsonl").read_bytes().splitlines(keepends=True)[1:]
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def actors() -> list[psutil.Process]:
    """The actor processes of the cluster that this process is connected to."""
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    running = [process for process in psutil.process_iter(["cmdline", "ppid"]) if process.pid in own]
    return [process for process in running if "ray::MapWorker" in " ".join(process.info["cmdline"] or [])]
