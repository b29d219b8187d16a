"""Cosine similarity, row lengths and normalization of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2v_core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def cosines(a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
    """Return the cosine of each row of `a` with each row of `b`, (n, m) float32 in [-1, 1]; 0 for zero rows.

    Args:
        a: (n, dim) or (dim,).
        b: (m, dim) or (dim,).

    Raises:
        InputError: The widths differ.
    """
    left, right = unit_rows(a), unit_rows(b)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise InputError(f"similarity compares (n, dim) with (m, dim) embeddings, not {left.shape} with {right.shape}.")
    found: NDArray[np.float32] = np.clip(left @ right.T, -1.0, 1.0)
    return found


def unit_rows(vectors: ArrayLike, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the rows scaled to unit length, `(n, dim) float32`; rows of zeros stay unchanged.

    Args:
        vectors: (n, dim) or (dim,).
        out: Output array, which may be `vectors`; None for a new array.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    lengths = row_lengths(rows)[:, None]
    units: NDArray[np.float32] = np.divide(
        rows, lengths, out=np.zeros_like(rows) if out is None else out, where=lengths > 0
    )
    return units


def row_lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean length of each row, `(n,) float32`, without the temporary table of `np.linalg.norm`.

    Args:
        rows: `(n, dim) float32`.
    """
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)))
