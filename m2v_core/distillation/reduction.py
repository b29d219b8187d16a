"""Principal component analysis of the teacher's vectors."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from m2v_core.distillation.settings import PCADims

logger = logging.getLogger(__name__)

_BLOCK_ROWS = 8192  # rows at a time, as the whole may lie on disk and be more than there is memory


def reduce_dims(vectors: npt.NDArray[np.float32], pca_dims: PCADims, drop_top: bool = False) -> npt.NDArray[np.float32]:
    """The vectors, centred and rotated onto their leading principal components.

    The eigenvectors of the covariance matrix are exact and, for a table far taller than wide, many times cheaper
    than a decomposition of the table itself. Each component's sign is such that its largest score is positive.

    Args:
        vectors: `(n_rows, teacher_dim) float32`.
        pca_dims: How many components: a number; the smallest number that explains this share of the variance; all
            of them (`"auto"`); or None to return the vectors as they are.
        drop_top: Whether to leave out the first component of every hundred kept, as far as the teacher is wide
            enough: what all words share tells them apart least.

    Returns:
        `(n_rows, dim) float32`. More dimensions than the teacher has are cut to the teacher's, with a warning. As in
        Model2Vec, the vectors stay as they are when there are no more rows than dimensions asked for, with a
        warning: so few rows don't span the components.

    Raises:
        InputError: `pca_dims` is none of these.

    Source: Model2Vec's post-processing, https://github.com/MinishLab/model2vec; for `drop_top`, Mu and Viswanath,
        "All-but-the-Top", 2018, which drops as many.
    """
    if pca_dims is None:
        return vectors
    n_rows, teacher_dim = vectors.shape
    wanted = teacher_dim if pca_dims == "auto" else pca_dims
    if wanted > teacher_dim:
        logger.warning("pca_dims %s is above the teacher's width; %d are kept.", pca_dims, teacher_dim)
        wanted = teacher_dim
    if n_rows < 2 or wanted >= n_rows:
        logger.warning("%d rows are too few for PCA to %s dimensions; no PCA is done.", n_rows, pca_dims)
        return vectors

    mean, variances, components = _principal_components(vectors)
    if isinstance(wanted, (float, np.floating)):
        wanted = _explaining(variances, float(wanted))
    n_dropped = min(int(wanted) // 100, teacher_dim - int(wanted)) if drop_top else 0
    return _scores(vectors, mean, components[:, n_dropped : n_dropped + int(wanted)])


def dims_note(pca_dims: PCADims, dim: int | None) -> str | None:
    """Why a model has another number of dimensions than was asked for; None where it has that number.

    Args:
        pca_dims: What was asked for.
        dim: What `reduce_dims` makes of it; None where that is not known.
    """
    if not isinstance(pca_dims, int) or dim is None or dim == pca_dims:
        return None
    if dim < pca_dims:
        return f"{dim:,} dimensions, not {pca_dims:,}: the teacher has no more."
    return (
        f"{dim:,} dimensions, not {pca_dims:,}: PCA needs more rows than dimensions, so it is skipped and all of the "
        "teacher's are kept. Add words, or ask for fewer dimensions than there are rows."
    )


def leading_components(vectors: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float32]:
    """The vectors on their leading principal components, however few rows there are.

    Args:
        vectors: `(n_rows, teacher_dim) float32`.
        dim: At most `teacher_dim`.

    Returns:
        `(n_rows, dim) float32`, centred.
    """
    mean, _, components = _principal_components(vectors)
    return _scores(vectors, mean, components[:, :dim])


def _scores(
    vectors: npt.NDArray[np.float32], mean: npt.NDArray[np.float64], components: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The centred vectors on these components, `(n_rows, n_components) float32`."""
    rotation, centre = components.astype(np.float32), mean.astype(np.float32)
    n_rows = len(vectors)
    scores = np.empty((n_rows, rotation.shape[1]), dtype=np.float32)
    for start in range(0, n_rows, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        np.matmul(vectors[block] - centre, rotation, out=scores[block])
    scores *= np.where(-scores.min(axis=0) > scores.max(axis=0), -1.0, 1.0).astype(np.float32)
    return scores


def n_components(vectors: npt.NDArray[np.float32], pca_dims: PCADims) -> int:
    """How many components `reduce_dims` keeps of vectors that are more than they are wide.

    Args:
        vectors: `(n_rows, teacher_dim) float32`.
        pca_dims: As for `reduce_dims`, but for None.
    """
    teacher_dim = int(vectors.shape[1])
    if pca_dims is None or isinstance(pca_dims, str):
        return teacher_dim
    if isinstance(pca_dims, (float, np.floating)):
        return _explaining(_principal_components(vectors)[1], float(pca_dims))
    if pca_dims > teacher_dim:
        logger.warning("pca_dims %s is above the teacher's width; %d are kept.", pca_dims, teacher_dim)
    return min(int(pca_dims), teacher_dim)


def _principal_components(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean, variances by falling size and, in columns, the components."""
    n_rows, teacher_dim = vectors.shape
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((teacher_dim, teacher_dim))
    for start in range(0, n_rows, _BLOCK_ROWS):
        centred = vectors[start : start + _BLOCK_ROWS] - mean
        covariance += centred.T @ centred
    variances, components = np.linalg.eigh(covariance)
    return mean, variances[::-1].clip(min=0.0), components[:, ::-1]


def _explaining(variances: npt.NDArray[np.float64], share: float) -> int:
    """The smallest number of components that explains this share of the variance."""
    explained = np.cumsum(variances) / max(variances.sum(), np.finfo(np.float64).tiny)
    return min(int(np.searchsorted(explained, share)) + 1, len(variances))
