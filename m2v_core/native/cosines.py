"""Cosines of embeddings, the lengths of their rows, and their rows at unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2v_core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def cosines(a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
    """(n, m) float32 in [-1, 1], each row of `a` with each of `b`; 0 where either is zero.

    Args:
        a: (n, dim) or (dim,).
        b: (m, dim) or (dim,).

    Raises:
        InputError: The two don't have the same width.
    """
    left, right = unit_rows(a), unit_rows(b)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise InputError(f"similarity compares (n, dim) with (m, dim) embeddings, not {left.shape} with {right.shape}.")
    found: NDArray[np.float32] = np.clip(left @ right.T, -1.0, 1.0)
    return found


def unit_rows(vectors: ArrayLike, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """The rows at length one, `(n, dim) float32`; a row of zeros stays a row of zeros.

    Args:
        vectors: (n, dim) or (dim,).
        out: Where to write them, which may be `vectors`; None for a new array.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    lengths = row_lengths(rows)[:, None]
    units: NDArray[np.float32] = np.divide(
        rows, lengths, out=np.zeros_like(rows) if out is None else out, where=lengths > 0
    )
    return units


def row_lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The Euclidean length of each row, `(n,) float32`, without the second table that `np.linalg.norm` makes.

    Args:
        rows: `(n, dim) float32`.
    """
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)))
