"""How much each row of the table counts: frequent words little, rare words much.

A vocabulary sorted by falling frequency follows Zipf's law closely enough that the rank alone gives the weight.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from m2v_core.distillation.settings import Weighting


def rank_weights(
    n_rows: int, weighting: Weighting = "sif", sif_coefficient: float | None = 1e-4
) -> npt.NDArray[np.float64]:
    """The weight of each rank.

    Args:
        n_rows: Size of the vocabulary, sorted by falling frequency.
        weighting: `"sif"` for a / (a + p) with p(rank) proportional to 1 / (rank + 2), as Model2Vec does since
            0.4.0; `"zipf"` for log(1 + rank), as it did before (rank 0 then weighs nothing).
        sif_coefficient: The a of SIF, between 0 and 1; None weighs all rows alike.

    Returns:
        `(n_rows,) float64`, in (0, 1] for SIF and in [0, log(n_rows)] for Zipf.

    Source: Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", section 3;
        https://github.com/MinishLab/model2vec
    """
    ranks = np.arange(n_rows, dtype=np.float64)
    if weighting == "zipf":
        return np.log1p(ranks)
    if sif_coefficient is None:
        return np.ones(n_rows)
    probability = 1.0 / (ranks + 2.0)
    probability /= probability.sum()
    return sif_coefficient / (sif_coefficient + probability)
