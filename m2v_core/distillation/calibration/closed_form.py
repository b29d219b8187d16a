"""Ridge regression of the table on the teacher's sentence embeddings, the first step of calibration.

Each column is a separate regression, so blocks of columns are fitted in parallel.

Source: conjugate gradients on the normal equations, Hestenes and Stiefel, 1952; preconditioned with their diagonal,
Saad, "Iterative Methods for Sparse Linear Systems", 2003, section 9.2.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from m2v_core.native import kernels
from m2v_core.native.cosines import row_lengths
from m2v_core.native.cpus import n_usable_cpus
from m2v_core.progress import ProgressReporter

_TOLERANCE = 0.01
_MAX_ITERATIONS = 100  # ten usually suffice
_COLUMNS = 32  # block size, so that a block fits in a core's cache
_BATCH_SENTENCES = 8192


@dataclass(frozen=True, eq=False)
class InitialTable:
    """An initial table, computed in blocks of columns because allocating the whole array is slow.

    Attributes:
        rows: `(n_rows, dim) float32`.
        weights: Factor of each row, `(n_rows,) float32`.
    """

    rows: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]

    @property
    def dim(self) -> int:
        """Number of columns."""
        return int(self.rows.shape[1])

    def columns(self, columns: slice) -> npt.NDArray[np.float32]:
        """Return these columns of the table, `(n_rows, n_columns) float32`."""
        return self.rows[:, columns] * self.weights[:, None]

    def embeddings(self, counts: Any) -> npt.NDArray[np.float32]:
        """Return the embeddings of sentences before normalization, `(n_sentences, dim) float32`.

        Args:
            counts: `(n_sentences, n_rows)` sparse float32.
        """
        embeddings = np.empty((counts.shape[0], self.dim), np.float32)
        for columns in _blocks(self.dim):
            embeddings[:, columns] = counts @ self.columns(columns)
        return embeddings

    def leading(self, n_columns: int) -> InitialTable:
        """Return the table of the first columns."""
        return InitialTable(self.rows[:, :n_columns], self.weights)

    def scaled(self, factor: np.float32) -> InitialTable:
        """Return the table multiplied by a number."""
        return InitialTable(self.rows, self.weights * factor)


@dataclass(frozen=True, eq=False)
class RotatedTargets:
    """The teacher's embeddings in the space of the table, T: rotated, truncated and normalized.

    Attributes:
        targets: `(n_sentences, embedding_dim) float32`, unit rows.
        rotation: `(embedding_dim, dim) float32`, orthonormal columns.
        scales: Factors that restore unit length after truncation, `(n_sentences,) float32`.
    """

    targets: npt.NDArray[np.float32]
    rotation: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]

    @classmethod
    def from_rotation(cls, targets: npt.NDArray[np.float32], rotation: npt.NDArray[np.float32]) -> RotatedTargets:
        """Compute the scales of these targets under this rotation."""
        scales = np.ones(len(targets), np.float32)
        if rotation.shape[0] != rotation.shape[1]:  # otherwise nothing is truncated
            for start in range(0, len(targets), _BATCH_SENTENCES):
                rows = slice(start, start + _BATCH_SENTENCES)
                rotated = targets[rows] @ rotation
                scales[rows] = 1 / np.maximum(row_lengths(rotated), 1e-12)
        return cls(targets, rotation, scales)

    def to_array(self) -> npt.NDArray[np.float32]:
        """Return T, `(n_sentences, dim) float32`."""
        rotated = self.targets @ self.rotation
        rotated *= self.scales[:, None]
        return rotated


def fit_closed_form(
    start: InitialTable,
    counts: Any,
    wanted: RotatedTargets,
    strength: float,
    reporter: ProgressReporter,
    tolerance: float = _TOLERANCE,
) -> npt.NDArray[np.float32]:
    """Solve the ridge regression described in `fit` by conjugate gradients.

    Args:
        start: E0, `(n_rows, dim)`.
        counts: A, `(n_sentences, n_rows)` sparse float32.
        wanted: T, `(n_sentences, dim)`.
        strength: lambda.
        reporter: Advances by the number of sentences for each column.
        tolerance: Residual of the normal equations to stop at, relative to the initial one.

    Returns:
        `(n_rows, dim) float32`, E0 + D.
    """
    seen, counts = _select_seen_rows(counts)  # other rows keep their values
    fitted = np.empty(start.rows.shape, np.float32)
    # A^T targets, (n_seen, embedding_dim), before the rotation: there are fewer rows to rotate than sentences.
    summed = np.empty((len(seen), wanted.targets.shape[1]), np.float32)
    is_stopped = threading.Event()

    def squared_lengths(columns: slice) -> npt.NDArray[np.float32]:
        embeddings = counts @ start.columns(columns)[seen]
        return np.asarray(np.einsum("nd,nd->n", embeddings, embeddings))

    with ThreadPoolExecutor(n_usable_cpus()) as pool:
        lengths = np.sqrt(sum(pool.map(squared_lengths, _blocks(start.dim))))
        system = (sparse.diags((1.0 / np.maximum(lengths, 1e-6)).astype(np.float32)) @ counts).tocsr()
        # The transpose in CSC format accesses sentences sequentially and only the table's rows at random.
        transposed = system.T
        shares = np.bincount(system.indices, np.square(system.data), len(seen)).astype(np.float32)

        def add_up(columns: slice) -> None:
            summed[:, columns] = transposed @ (wanted.targets[:, columns] * wanted.scales[:, None])

        def fit(columns: slice) -> int:
            fitted[:, columns] = start.columns(columns)
            residual = multiply_by_gram(system, np.ascontiguousarray(fitted[seen, columns]))
            np.subtract(rotated[:, columns], residual, out=residual)
            change = _conjugate_gradients(system, shares, residual, strength, tolerance, is_stopped)
            fitted[seen, columns] += change
            return int(change.shape[1]) * int(counts.shape[0])

        try:
            for _ in pool.map(add_up, _blocks(summed.shape[1])):
                reporter.advance(0)
            rotated = summed @ wanted.rotation
            for n_done in pool.map(fit, _blocks(start.dim)):
                reporter.advance(n_done)
        except BaseException:
            is_stopped.set()
            raise
    return fitted


def _select_seen_rows(counts: Any) -> tuple[npt.NDArray[np.int64], Any]:
    """Return the rows of the table that occur in any sentence, and the counts of these rows only."""
    is_seen = np.zeros(counts.shape[1], bool)
    is_seen[counts.indices] = True
    seen = np.flatnonzero(is_seen)
    places = (np.cumsum(is_seen) - 1).astype(counts.indices.dtype)
    return seen, sparse.csr_matrix(
        (counts.data, places[counts.indices], counts.indptr), shape=(counts.shape[0], len(seen))
    )


def _blocks(dim: int) -> list[slice]:
    """Split the columns into blocks."""
    return [slice(start, min(start + _COLUMNS, dim)) for start in range(0, dim, _COLUMNS)]


def multiply_by_gram(
    matrix: Any, table: npt.NDArray[np.float32], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Compute A^T (A table), in one pass over A with the compiled kernels, which sum in the same order.

    Args:
        matrix: A, `(n_sentences, n_rows)` CSR float32.
        table: `(n_rows, n_columns) float32`, contiguous.
        out: Output array of the same shape, contiguous; None to allocate one.

    Returns:
        `(n_rows, n_columns) float32`.
    """
    if out is None:
        out = np.empty_like(table)
    # Larger matrices have 64-bit indices, which the kernel doesn't support.
    is_supported = matrix.indices.dtype == np.int32 and matrix.data.dtype == table.dtype == np.float32
    if kernels is not None and is_supported:
        kernels.multiply_by_gram(matrix.indptr, matrix.indices, matrix.data, table, out)
    else:
        out[:] = matrix.T @ (matrix @ table)
    return out


def _conjugate_gradients(
    system: Any,
    shares: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    strength: float,
    tolerance: float,
    is_stopped: threading.Event,
) -> npt.NDArray[np.float32]:
    """Solve for a block of columns of D, as described in `fit`.

    Args:
        system: A scaled by the sentences' lengths, `(n_sentences, n_rows)` sparse float32.
        shares: Squared norm of each column of `system`, `(n_rows,) float32`.
        residual: Residual of the normal equations, `(n_rows, n_columns) float32`; overwritten.
        strength: lambda.
        tolerance: As for `fit_closed_form`.
        is_stopped: Stops the iteration early.

    Returns:
        `(n_rows, n_columns) float32`.
    """
    # The diagonal preconditioner: frequencies of rows differ by orders of magnitude.
    inverse: npt.NDArray[np.float32] = np.reciprocal(np.float32(strength) + shares)[:, None]
    change: npt.NDArray[np.float32] = np.zeros_like(residual)
    direction = residual * inverse
    products = np.einsum("vd,vd->d", residual, direction)
    enough = tolerance**2 * products.sum()
    image = np.empty_like(direction)
    for _ in range(_MAX_ITERATIONS):
        if is_stopped.is_set() or products.sum() <= enough:
            break
        multiply_by_gram(system, direction, out=image)
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
