"""How much of the teacher's ranking a static model keeps, without any labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m2v_core.model import StaticModel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rank_correlation(teacher: NDArray[np.float32], student: NDArray[np.float32]) -> float:
    """Spearman's rank correlation between the two encoders' similarities of all pairs of texts.

    Args:
        teacher: (n_texts, teacher_dim) float32, embeddings of at least three texts.
        student: (n_texts, dim) float32, embeddings of the same texts by another encoder.

    Returns:
        -1 to 1; 1 where both put all pairs in the same order. 0 where either finds all pairs alike.
    """
    above = np.triu_indices(len(teacher), k=1)
    ranks = [_ranks(StaticModel.similarity(embeddings, embeddings)[above]) for embeddings in (teacher, student)]
    left, right = (rank - rank.mean() for rank in ranks)
    scale = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / scale if scale > 0 else 0.0


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """0-based rank of each value; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    means: NDArray[np.float64] = ends - (count + 1) / 2
    return means[place]
