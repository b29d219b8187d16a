"""Principal component analysis of the teacher's vectors."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from m2v_core.distillation.settings import PCADims

logger = logging.getLogger(__name__)

_BLOCK_ROWS = 8192  # rows per step; the vectors may be memory-mapped and larger than memory


def reduce_dims(vectors: npt.NDArray[np.float32], pca_dims: PCADims, drop_top: bool = False) -> npt.NDArray[np.float32]:
    """Center the vectors and project them onto their leading principal components.

    Uses the eigenvectors of the covariance matrix, which is exact and, with many more rows than columns, much cheaper
    than a decomposition of the table. The sign of each component is chosen so that its score of the largest magnitude
    is positive.

    Args:
        vectors: `(n_rows, teacher_dim) float32`.
        pca_dims: Number of components; share of the variance to explain with as few components as possible; `"auto"`
            for all components; or None to return the vectors unchanged.
        drop_top: Whether to skip the first `pca_dims // 100` components, if the teacher is wide enough. They capture
            features common to all words and discriminate least.

    Returns:
        `(n_rows, dim) float32`. If `pca_dims` exceeds the teacher's width, all components are kept, with a warning. As
        in Model2Vec, the vectors are returned unchanged, with a warning, if there are no more rows than dimensions.

    Source: Model2Vec's post-processing, https://github.com/MinishLab/model2vec; for `drop_top`, Mu and Viswanath,
        "All-but-the-Top", 2018, which drops the same number.
    """
    if pca_dims is None:
        return vectors
    n_rows, teacher_dim = vectors.shape
    wanted = teacher_dim if pca_dims == "auto" else pca_dims
    if wanted > teacher_dim:
        logger.warning(dims_note(int(wanted), teacher_dim))
        wanted = teacher_dim
    if n_rows < 2 or wanted >= n_rows:
        few = f"{n_rows} rows are too few for PCA to {pca_dims} dimensions; PCA is skipped."
        logger.warning(dims_note(int(wanted), teacher_dim) or few)
        return vectors

    mean, variances, components = _principal_components(vectors)
    if isinstance(wanted, (float, np.floating)):
        wanted = _n_explaining(variances, float(wanted))
    n_dropped = min(int(wanted) // 100, teacher_dim - int(wanted)) if drop_top else 0
    return _scores(vectors, mean, components[:, n_dropped : n_dropped + int(wanted)])


def dims_note(pca_dims: PCADims, dim: int | None) -> str | None:
    """Explain why a model does not have the requested number of dimensions; None if it does.

    Args:
        pca_dims: The requested dimensions.
        dim: The actual dimensions; None if unknown.
    """
    if not isinstance(pca_dims, int) or dim is None or dim == pca_dims:
        return None
    if dim < pca_dims:
        return f"{dim:,} dimensions instead of {pca_dims:,}: the teacher has no more."
    return (
        f"{dim:,} dimensions instead of {pca_dims:,}: PCA requires more rows than dimensions, so it is skipped and all "
        "dimensions of the teacher are kept. Add words, or choose fewer dimensions than there are rows."
    )


def leading_components(vectors: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float32]:
    """Project the vectors onto their leading principal components, for any number of rows.

    Args:
        vectors: `(n_rows, teacher_dim) float32`.
        dim: Number of components, at most `teacher_dim`.

    Returns:
        `(n_rows, dim) float32`, centered.
    """
    mean, _, components = _principal_components(vectors)
    return _scores(vectors, mean, components[:, :dim])


def _scores(
    vectors: npt.NDArray[np.float32], mean: npt.NDArray[np.float64], components: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Project the centered vectors onto these components, `(n_rows, n_components) float32`."""
    rotation, center = components.astype(np.float32), mean.astype(np.float32)
    n_rows = len(vectors)
    scores = np.empty((n_rows, rotation.shape[1]), dtype=np.float32)
    for start in range(0, n_rows, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        np.matmul(vectors[block] - center, rotation, out=scores[block])
    scores *= np.where(-scores.min(axis=0) > scores.max(axis=0), -1.0, 1.0).astype(np.float32)
    return scores


def n_components(vectors: npt.NDArray[np.float32], pca_dims: PCADims) -> int:
    """Return the number of components that `reduce_dims` keeps if there are more rows than columns.

    Args:
        vectors: `(n_rows, teacher_dim) float32`.
        pca_dims: As for `reduce_dims`; None keeps all.
    """
    teacher_dim = int(vectors.shape[1])
    if pca_dims is None or isinstance(pca_dims, str):
        return teacher_dim
    if isinstance(pca_dims, (float, np.floating)):
        return _n_explaining(_principal_components(vectors)[1], float(pca_dims))
    if pca_dims > teacher_dim:
        logger.warning("pca_dims %s exceeds the teacher's width; %d dimensions are kept.", pca_dims, teacher_dim)
    return min(int(pca_dims), teacher_dim)


def _principal_components(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean, the variances in descending order, and the components in columns."""
    n_rows, teacher_dim = vectors.shape
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((teacher_dim, teacher_dim))
    for start in range(0, n_rows, _BLOCK_ROWS):
        centered = vectors[start : start + _BLOCK_ROWS] - mean
        covariance += centered.T @ centered
    variances, components = np.linalg.eigh(covariance)
    return mean, variances[::-1].clip(min=0.0), components[:, ::-1]


def _n_explaining(variances: npt.NDArray[np.float64], share: float) -> int:
    """Return the smallest number of components that explain this share of the variance."""
    explained = np.cumsum(variances) / max(variances.sum(), np.finfo(np.float64).tiny)
    return min(int(np.searchsorted(explained, share)) + 1, len(variances))
