"""Rows that equal an earlier one: hundreds of equal rows in a graph would link to each other and to nothing else.

The graph holds the first of them, and a list beside it the others.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.exploration.index.engines import Found


class CopyFinder:
    """Tells which rows equal an earlier one; some 200 bytes a row."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._pairs: list[tuple[int, int]] = []

    def are_new(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows equal none before them.

        Args:
            keys: (n,) of the rows, rising from call to call.
            rows: (n, dim).
        """
        found = np.ones(len(rows), dtype=np.bool_)
        for place, (key, row) in enumerate(zip(keys.tolist(), rows, strict=True)):
            first = self._first.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), key)
            if first != key:
                self._pairs.append((first, key))
                found[place] = False
        return found

    def pairs(self) -> NDArray[np.int64]:
        """(n_copies, 2): the key of the first of equal rows, and of a later one, sorted."""
        return np.array(sorted(self._pairs), dtype=np.int64).reshape(-1, 2)


def with_copies(found: Found, pairs: NDArray[np.int64], k: int) -> Found:
    """The `k` nearest of all rows, from the `k` nearest of those that differ.

    Args:
        found: In the graph.
        pairs: As `CopyFinder.pairs`.
        k: How many to return.
    """
    keys: list[int] = []
    cosines: list[float] = []
    for key, cosine in zip(*found, strict=True):
        start, end = np.searchsorted(pairs[:, 0], [key, key + 1])
        here = [int(key), *pairs[start : min(end, start + k), 1].tolist()]
        keys += here
        cosines += [float(cosine)] * len(here)
        if len(keys) >= k:
            break
    return np.array(keys[:k], dtype=np.int64), np.array(cosines[:k], dtype=np.float32)


def open_pairs(path: Path) -> NDArray[np.int64]:
    """What `CopyFinder.pairs` gave, mapped from its file.

    Raises:
        OSError: There is no such file.
        ValueError: It is something else.
    """
    pairs = np.load(path, mmap_mode="r")
    if pairs.dtype != np.int64 or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"{path} holds {pairs.dtype} {pairs.shape}")
    return np.asarray(pairs) if len(pairs) == 0 else pairs
