"""Folders of generated vectors, and a slow reference search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from m2v_core.bulk import manifest
from m2v_core.bulk.manifest import Entry
from m2v_core.bulk.vectors import VectorColumn, in_dtype
from m2v_core.exploration.index.searching import Hit


def clustered(n_rows: int, dim: int, n_centers: int = 100, seed: int = 0) -> np.ndarray:
    """Vectors of any length around centers, like vectors of texts, (n_rows, dim) float32."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((n_centers, dim))
    rows = centers[rng.integers(n_centers, size=n_rows)] + rng.standard_normal((n_rows, dim))
    return (rows * rng.uniform(0.1, 10, (n_rows, 1))).astype(np.float32)


def write_vectors(
    folder: Path, blocks: Sequence[np.ndarray], dtype: str = "float32", rows_in_group: int = 1000, **settings: object
) -> Path:
    """Write a folder like `m2v encode`, one file per block of vectors; row i of all has the id and text i."""
    made = {"model": "a model", "column": None, "embedding column": "embedding", "dtype": dtype, **settings}
    number = 0
    with manifest.open_manifest(folder, made, None, is_restarted=False) as book:
        for place, block in enumerate(blocks):
            path = folder / f"{place:03}.parquet"
            column = VectorColumn("embedding", block.shape[1], dtype)
            ids = range(number, number + len(block))
            table = pyarrow.table(
                {"id": pyarrow.array(ids, "int64"), "text": pyarrow.array([f"text {i}" for i in ids], "string")}
            )
            for field, array in zip(column.fields(), column.arrays(in_dtype(block, dtype)), strict=True):
                table = table.append_column(field, array)
            parquet.write_table(table, path, row_group_size=max(rows_in_group, 1))
            entry = Entry(f"/{place}", f"{place}", path.name, len(block), 0, path.stat().st_size, 1)
            book.add(entry)
            number += len(block)
    return folder


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows at unit length, float64; rows of zeros are unchanged."""
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def nearest(queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and cosines of the nearest rows by definition, (n_queries, k), nearest first."""
    cosines = unit(queries) @ unit(rows).T
    cosines[:, ~rows.any(axis=1)] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


def check_hits(
    hits: Sequence[Hit], query: np.ndarray, folder: Path, k: int, atol: float = 1e-6, vectors: np.ndarray | None = None
) -> None:
    """Check that each hit is a row of its file, with its text and cosine, and that no nearer row is missing.

    Args:
        hits: Search results.
        query: (dim,).
        folder: Folder of the Parquet files.
        k: Number of requested results.
        atol: Tolerance of a cosine.
        vectors: The vectors of the files in order; None to read them from the files.
    """
    tables = {path.name: parquet.read_table(path) for path in sorted(folder.glob("*.parquet"))}
    if vectors is None:
        vectors = np.concatenate([vectors_of(table) for table in tables.values()])
    rows = [row for table in tables.values() for row in table.drop_columns("embedding").to_pylist()]
    starts = dict(zip(tables, np.cumsum([0, *map(len, tables.values())]), strict=False))
    _, expected = nearest(query[None], vectors, k)
    expected = expected[0][np.isfinite(expected[0])]
    assert len(hits) == len(expected) and len({(hit.file, hit.row) for hit in hits}) == len(hits)
    np.testing.assert_allclose([hit.similarity for hit in hits], expected, atol=atol)
    for hit in hits:
        number = starts[hit.file] + hit.row
        columns = {name: value for name, value in rows[number].items() if name != "embedding_scale"}
        assert hit.columns == columns and hit.text == columns.get("text")
        assert abs(float((unit(query[None]) @ unit(vectors[number][None]).T)[0, 0]) - hit.similarity) <= atol


def vectors_of(table: pyarrow.Table) -> np.ndarray:
    """The embeddings of a table, (n, dim) float64; int8 multiplied by their scales."""
    lists = table["embedding"].combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    rows = flat.reshape(len(table), lists.type.list_size)
    return rows * table["embedding_scale"].to_numpy()[:, None] if "embedding_scale" in table.column_names else rows
