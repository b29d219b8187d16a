"""Writes input files in every format, and reads outputs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

ENDINGS = {"text": ".txt", "jsonl": ".jsonl", "csv": ".csv", "tsv": ".tsv", "parquet": ".parquet"}
OUTPUTS = (".npy", ".parquet", ".jsonl")


def write_texts(folder: Path, kind: str, texts: list[str], column: str = "text") -> Path:
    """Write a file of these texts; formats with columns get "id" before and "tag" after the texts."""
    path = folder / f"texts{ENDINGS[kind]}"
    rows = [{"id": i, column: text, "tag": f"tag {i % 7}"} for i, text in enumerate(texts)]
    if kind == "text":
        path.write_bytes("".join(f"{text}\n" for text in texts).encode())
    elif kind == "jsonl":
        path.write_bytes(
            "".join(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows)).encode()
        )
    elif kind == "parquet":
        schema = pyarrow.schema([("id", pyarrow.int64()), (column, pyarrow.string()), ("tag", pyarrow.string())])
        table = pyarrow.Table.from_pylist(rows, schema)
        parquet.write_table(table, path, row_group_size=max(len(rows) // 3, 1))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", column, "tag"], delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_embeddings(path: Path) -> tuple[np.ndarray, list[dict] | None]:
    """Read the embeddings of an output, (n, dim), and its other columns; None for a NumPy file."""
    if path.suffix == ".npy":
        return np.load(path), None
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    else:
        rows = parquet.read_table(path).to_pylist()
    return np.array([row.pop("embedding") for row in rows]), rows


def names(folder: Path) -> list[str]:
    """The names of all files in a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
