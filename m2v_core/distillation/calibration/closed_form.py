"""The closed form of calibrating: a ridge regression of the table on the teacher's sentence embeddings.

Each column is a regression by itself, so some at a time are fitted, on every core.

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

COLUMN_UNITS = 10  # of progress: about as long as so many columns take in a step of the descent
_TOLERANCE = 0.01
_MOST_ITERATIONS = 100  # ten do, as a rule
_COLUMNS = 32  # fitted together: their table stays in a core's cache
_SENTENCES_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Start:
    """A table to start from, made some columns at a time: as a whole it takes memory that is slow to come by.

    Attributes:
        rows: `(n_rows, dim) float32`.
        weights: `(n_rows,) float32`, by which they are multiplied.
    """

    rows: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]

    @property
    def dim(self) -> int:
        """Columns of the table."""
        return int(self.rows.shape[1])

    def columns(self, columns: slice) -> npt.NDArray[np.float32]:
        """`(n_rows, n_columns) float32`, these columns of the table."""
        return self.rows[:, columns] * self.weights[:, None]

    def embeddings(self, counts: Any) -> npt.NDArray[np.float32]:
        """What the table makes of sentences, `(n_sentences, dim) float32`, before normalization.

        Args:
            counts: `(n_sentences, n_rows)` sparse float32.
        """
        embeddings = np.empty((counts.shape[0], self.dim), np.float32)
        for columns in _blocks(self.dim):
            embeddings[:, columns] = counts @ self.columns(columns)
        return embeddings

    def leading(self, n_columns: int) -> Start:
        """The first columns alone."""
        return Start(self.rows[:, :n_columns], self.weights)

    def scaled(self, factor: np.float32) -> Start:
        """The table times a number."""
        return Start(self.rows, self.weights * factor)


@dataclass(frozen=True, eq=False)
class Turned:
    """The teacher's embeddings in the space of the table, T: turned, cut and of unit length.

    Attributes:
        targets: `(n_sentences, embedding_dim) float32`, unit rows.
        turn: `(embedding_dim, dim) float32`, orthonormal columns.
        scales: `(n_sentences,) float32`, what makes them of unit length again.
    """

    targets: npt.NDArray[np.float32]
    turn: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]

    @classmethod
    def by(cls, targets: npt.NDArray[np.float32], turn: npt.NDArray[np.float32]) -> Turned:
        """These targets, turned by this."""
        scales = np.ones(len(targets), np.float32)
        if turn.shape[0] != turn.shape[1]:  # else nothing is cut
            for start in range(0, len(targets), _SENTENCES_AT_ONCE):
                rows = slice(start, start + _SENTENCES_AT_ONCE)
                turned = targets[rows] @ turn
                scales[rows] = 1 / np.maximum(row_lengths(turned), 1e-12)
        return cls(targets, turn, scales)

    def whole(self) -> npt.NDArray[np.float32]:
        """`(n_sentences, dim) float32`."""
        turned = self.targets @ self.turn
        turned *= self.scales[:, None]
        return turned


def fit_closed_form(
    start: Start,
    counts: Any,
    wanted: Turned,
    strength: float,
    reporter: ProgressReporter,
    tolerance: float = _TOLERANCE,
) -> npt.NDArray[np.float32]:
    """The ridge regression of the module's description, by conjugate gradients.

    Args:
        start: E0, `(n_rows, dim)`.
        counts: `(n_sentences, n_rows)` sparse float32, A.
        wanted: T, `(n_sentences, dim)`.
        strength: lambda.
        reporter: Advanced by `COLUMN_UNITS` for each column.
        tolerance: How small the residual of the normal equations is to become, as a share of what it was.

    Returns:
        `(n_rows, dim) float32`, E0 + D.
    """
    seen, counts = _of_seen_rows(counts)  # the others stay as they are
    fitted = np.empty(start.rows.shape, np.float32)
    # What the teacher says of each row, (n_seen, embedding_dim): there are fewer rows to turn than sentences.
    said = np.empty((len(seen), wanted.targets.shape[1]), np.float32)
    is_stopped = threading.Event()

    def squared_lengths(columns: slice) -> npt.NDArray[np.float32]:
        embeddings = counts @ start.columns(columns)[seen]
        return np.asarray(np.einsum("nd,nd->n", embeddings, embeddings))

    with ThreadPoolExecutor(n_usable_cpus()) as pool:
        lengths = np.sqrt(sum(pool.map(squared_lengths, _blocks(start.dim))))
        system = (sparse.diags((1.0 / np.maximum(lengths, 1e-6)).astype(np.float32)) @ counts).tocsr()
        # By columns, so that sentences are read one after the other, and only the table's rows here and there.
        transposed = system.T
        shares = np.bincount(system.indices, np.square(system.data), len(seen)).astype(np.float32)

        def add_up(columns: slice) -> None:
            said[:, columns] = transposed @ (wanted.targets[:, columns] * wanted.scales[:, None])

        def fit(columns: slice) -> int:
            fitted[:, columns] = start.columns(columns)
            residual = multiply_by_gram(system, np.ascontiguousarray(fitted[seen, columns]))
            np.subtract(turned[:, columns], residual, out=residual)
            change = _conjugate_gradients(system, shares, residual, strength, tolerance, is_stopped)
            fitted[seen, columns] += change
            return COLUMN_UNITS * int(change.shape[1])

        try:
            for _ in pool.map(add_up, _blocks(said.shape[1])):
                reporter.advance(0)
            turned = said @ wanted.turn
            for n_done in pool.map(fit, _blocks(start.dim)):
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


def multiply_by_gram(
    matrix: Any, table: npt.NDArray[np.float32], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """A^T (A table), in one pass over A where the compiled kernels are installed: the same sums in the same order.

    Args:
        matrix: `(n_sentences, n_rows)` sparse float32, by rows: A.
        table: `(n_rows, n_columns) float32`, contiguous.
        out: As large, contiguous, written to.

    Returns:
        `(n_rows, n_columns) float32`.
    """
    if out is None:
        out = np.empty_like(table)
    # Larger matrices have indices of 64 bits, which the kernel doesn't take.
    is_readable = matrix.indices.dtype == np.int32 and matrix.data.dtype == table.dtype == np.float32
    if kernels is not None and is_readable:
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
    """D of the module's description for some columns, with A scaled by the sentences' lengths.

    Args:
        system: `(n_sentences, n_rows)` sparse float32.
        shares: `(n_rows,) float32`, the squared length of each of its columns.
        residual: `(n_rows, n_columns) float32`, of the normal equations; overwritten.
        strength: lambda.
        tolerance: As for `fit_closed_form`.
        is_stopped: Ends it early.

    Returns:
        `(n_rows, n_columns) float32`.
    """
    # How much each row occurs differs by orders of magnitude; its own share of the system makes up for that.
    inverse: npt.NDArray[np.float32] = np.reciprocal(np.float32(strength) + shares)[:, None]
    change: npt.NDArray[np.float32] = np.zeros_like(residual)
    direction = residual * inverse
    products = np.einsum("vd,vd->d", residual, direction)
    enough = tolerance**2 * products.sum()
    image = np.empty_like(direction)
    for _ in range(_MOST_ITERATIONS):
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
