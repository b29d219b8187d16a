"""Nearest rows by cosine: exact for up to a million rows, with a usearch index above that."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError
from m2v_core.exploration.index.engines import UsearchEngine

MAX_EXACT_ROWS = 1_000_000  # above this, a matrix product is too slow for interactive use
_BLOCK_BYTES = 256 * 2**20  # of similarities in memory, for any number of queries


def top_k(
    queries: NDArray[np.float32], rows: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` rows nearest to each query, nearest first; ties are sorted by row index.

    Args:
        queries: (n_queries, dim) float32, unit rows.
        rows: (n_rows, dim) float32, unit rows.
        k: Number of results; all rows if there are fewer.

    Returns:
        Row indices (n_queries, min(k, n_rows)) int64 and cosines of the same shape, float32, -1 to 1.

    Raises:
        InputError: `k` is below 1, or the widths differ.
    """
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1.")
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1]:
        raise InputError(
            f"Queries of shape {queries.shape} don't match rows of shape {rows.shape}; "
            "both must be two-dimensional and have the same width."
        )
    k = min(k, len(rows))
    indices = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k), dtype=np.float32)
    if k == 0:
        return indices, similarities
    block = max(1, _BLOCK_BYTES // (4 * len(rows)))
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ rows.T  # (block, n_rows)
        for query, row_scores in enumerate(scores, start):
            indices[query] = _largest(row_scores, k)
            similarities[query] = row_scores[indices[query]]
    np.clip(similarities, -1, 1, out=similarities)  # float32 sums of products can exceed 1 by an ulp or two
    return indices, similarities


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    # A partition alone would choose arbitrarily among rows that tie with the k-th.
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    candidates = np.flatnonzero(scores >= threshold)
    order = np.argsort(-scores[candidates], kind="stable")[:k]
    return candidates[order]


class RowIndex:
    """Finds the rows nearest to a vector: exactly by matrix product for up to a million rows, with usearch above that.

    The usearch index is approximate. It is built on the first search, which takes minutes; searches then take
    milliseconds. It stores a copy of the rows in half precision.

    Args:
        rows: (n_rows, dim) float32, unit rows or zeros; may be memory-mapped.
        max_exact_rows: Maximum number of rows for exact search.
    """

    def __init__(self, rows: NDArray[np.float32], max_exact_rows: int = MAX_EXACT_ROWS) -> None:
        self._rows = rows
        self._is_exact = len(rows) <= max_exact_rows
        self._engine: UsearchEngine | None = None
        self._lock = threading.Lock()

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Like `top_k` on the rows; usearch returns ties in any order.

        Raises:
            InputError: `k` is below 1, or the widths differ.
            MissingExtraError: There are over a million rows, and usearch is not installed.
        """
        if self._is_exact:
            return top_k(queries, self._rows, k)
        top_k(queries, self._rows[:1], k)  # validates the queries
        with self._lock:
            if self._engine is None:
                self._engine = UsearchEngine.new(self._rows.shape[1], "float16")
                self._engine.add(np.arange(len(self._rows)), self._rows)
        keys, similarities = zip(*self._engine.search(queries, k), strict=True)
        return np.stack(keys), np.stack(similarities)
