"""How far two encoders agree on what is near: a static model and its teacher."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError
from m2v_core.exploration.neighbors import Neighbor
from m2v_core.exploration.rows import top_k
from m2v_core.progress import ProgressCallback, ProgressReporter

OVERLAP_NEIGHBORS = 10
_BLOCK_ROWS = 512


def found_by_both(a: Sequence[Neighbor], b: Sequence[Neighbor]) -> frozenset[int]:
    """The ranks that stand in both lists."""
    return frozenset(neighbor.rank for neighbor in a) & {neighbor.rank for neighbor in b}


def neighbor_overlap(
    rows: NDArray[np.float32],
    teacher_rows: NDArray[np.float32],
    k: int = OVERLAP_NEIGHBORS,
    of: NDArray[np.int64] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> NDArray[np.float32]:
    """For each row, the share of its `k` nearest that are among its `k` nearest in the other space too.

    Neighbours come from full vectors, by matrix product over all rows; a row is no neighbour of itself.

    Args:
        rows: (n_rows, dim) float32, unit rows.
        teacher_rows: The same texts by the teacher, (n_rows, teacher_dim) float32, unit rows.
        k: How many neighbours are looked at; all others if there are fewer.
        of: For which rows, (n_asked,) int64; all when None.
        progress: Receives `Progress` events of the stage `compare`, in rows.
        cancel: Set it from another thread to stop the work within a block.

    Returns:
        (n_asked,) float32, 0 to 1.

    Raises:
        InputError: The spaces have different numbers of rows, or `k` is below 1.
        Cancelled: `cancel` was set.
    """
    if len(rows) != len(teacher_rows):
        raise InputError(
            f"{len(rows)} rows can't be compared with {len(teacher_rows)}; both must be of the same texts, in order."
        )
    if k < 1:
        raise InputError(f"k is {k}; ask for at least 1 neighbour.")
    asked = np.arange(len(rows), dtype=np.int64) if of is None else of
    k = min(k, len(rows) - 1)
    overlap = np.zeros(len(asked), dtype=np.float32)
    reporter = ProgressReporter(progress, cancel)
    reporter.start("compare", len(asked))
    if k < 1:
        return overlap
    for start in range(0, len(asked), _BLOCK_ROWS):
        block = asked[start : start + _BLOCK_ROWS]
        nearest = [_others(top_k(space[block], space, k + 1)[0], block, k) for space in (rows, teacher_rows)]
        # (block, k, k): each neighbour here against each there, and neither list repeats itself
        same = nearest[0][:, :, None] == nearest[1][:, None, :]
        overlap[start : start + len(block)] = same.sum(axis=(1, 2)) / k
        reporter.advance(len(block))
    return overlap


def _others(found: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first `k` of each list that are not the row itself, (n_own, k); of k + 1, one at most is."""
    is_other = found != own[:, None]
    order = np.argsort(~is_other, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1)
