"""The closed form of calibrating: a ridge regression of the table on the teacher's sentence embeddings.

Each column is a regression by itself, so some at a time are fitted, on every core.

Source: conjugate gradients on the normal equations, Hestenes and Stiefel, 1952; preconditioned with their diagonal,
Saad, "Iterative Methods for Sparse Linear Systems", 2003, section 9.2.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from m2v_core.cpus import n_usable_cpus
from m2v_core.progress import ProgressReporter

COLUMN_UNITS = 10  # of progress: about as long as so many columns take in a step of the descent
_TOLERANCE = 0.01
_MOST_ITERATIONS = 100  # ten do, as a rule
_COLUMNS = 32  # fitted together: their table stays in a core's cache


def fit_closed_form(
    token_embeddings: npt.NDArray[np.float32],
    counts: Any,
    wanted: npt.NDArray[np.float32],
    strength: float,
    reporter: ProgressReporter,
    tolerance: float = _TOLERANCE,
) -> npt.NDArray[np.float32]:
    """The ridge regression of the module's description, by conjugate gradients.

    Args:
        token_embeddings: `(n_rows, dim) float32`, E0.
        counts: `(n_sentences, n_rows)` sparse float32, A.
        wanted: `(n_sentences, dim) float32`, unit rows, T.
        strength: lambda.
        reporter: Advanced by `COLUMN_UNITS` for each column.
        tolerance: How small the residual of the normal equations is to become, as a share of what it was.

    Returns:
        `(n_rows, dim) float32`, E0 + D.
    """
    seen, counts = _of_seen_rows(counts)  # the others stay as they are
    blocks = _blocks(token_embeddings.shape[1])
    fitted = token_embeddings.copy()
    is_stopped = threading.Event()

    def squared_lengths(columns: slice) -> npt.NDArray[np.float32]:
        embeddings = counts @ token_embeddings[seen, columns]
        return np.asarray(np.einsum("nd,nd->n", embeddings, embeddings))

    with ThreadPoolExecutor(n_usable_cpus()) as pool:
        lengths = np.sqrt(sum(pool.map(squared_lengths, blocks)))
        system = (sparse.diags((1.0 / np.maximum(lengths, 1e-6)).astype(np.float32)) @ counts).tocsr()
        shares = np.bincount(system.indices, np.square(system.data), len(seen)).astype(np.float32)

        def fit(columns: slice) -> int:
            missing = wanted[:, columns] - system @ token_embeddings[seen, columns]
            change = _conjugate_gradients(system, shares, missing, strength, tolerance, is_stopped)
            fitted[seen, columns] += change
            return COLUMN_UNITS * int(change.shape[1])

        try:
            for n_done in pool.map(fit, blocks):
                reporter.advance(n_done)
        except BaseException:
            is_stopped.set()
            raise
    return fitted


def _of_seen_rows(counts: Any) -> tuple[npt.NDArray[np.int64], Any]:
    """The rows of the table that occur in any sentence, and the counts of these alone."""
    is_seen = np.zeros(counts.shape[1], bool)
    is_seen[counts.indices] = True
    seen = np.flatnonzero(is_seen)
    places = (np.cumsum(is_seen) - 1).astype(counts.indices.dtype)
    return seen, sparse.csr_matrix(
        (counts.data, places[counts.indices], counts.indptr), shape=(counts.shape[0], len(seen))
    )


def _blocks(dim: int) -> list[slice]:
    """Columns to work on together: few enough that their table stays in a core's cache."""
    return [slice(start, min(start + _COLUMNS, dim)) for start in range(0, dim, _COLUMNS)]


def _conjugate_gradients(
    system: Any,
    shares: npt.NDArray[np.float32],
    missing: npt.NDArray[np.float32],
    strength: float,
    tolerance: float,
    is_stopped: threading.Event,
) -> npt.NDArray[np.float32]:
    """D of the module's description for some columns, with A scaled by the sentences' lengths.

    Args:
        system: `(n_sentences, n_rows)` sparse float32.
        shares: `(n_rows,) float32`, the squared length of each of its columns.
        missing: `(n_sentences, n_columns) float32`, what the table lacks.
        strength: lambda.
        tolerance: As for `fit_closed_form`.
        is_stopped: Ends it early.

    Returns:
        `(n_rows, n_columns) float32`.
    """
    # By columns, so that sentences are read one after the other, and only the table's rows here and there.
    transposed = system.T
    residual: npt.NDArray[np.float32] = transposed @ missing
    # How much each row occurs differs by orders of magnitude; its own share of the system makes up for that.
    inverse = 1 / (np.float32(strength) + shares)[:, None]
    change: npt.NDArray[np.float32] = np.zeros_like(residual)
    direction = residual * inverse
    products = np.einsum("vd,vd->d", residual, direction)
    enough = tolerance**2 * products.sum()
    for _ in range(_MOST_ITERATIONS):
        if is_stopped.is_set() or products.sum() <= enough:
            break
        image = transposed @ (system @ direction)
        image += np.float32(strength) * direction
        steps = products / np.maximum(np.einsum("vd,vd->d", direction, image), 1e-30)
        change += steps * direction
        image *= steps
        residual -= image
        preconditioned = np.multiply(residual, inverse, out=image)
        products_before, products = products, np.einsum("vd,vd->d", residual, preconditioned)
        direction *= products / np.maximum(products_before, 1e-30)
        direction += preconditioned
    return change
