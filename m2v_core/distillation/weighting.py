"""Weights of the rows of the table: small for frequent words, large for rare words.

Weights are computed from ranks using Zipf's law, because vocabularies are sorted by descending frequency. Words with
known frequencies are assigned the ranks that correspond to these frequencies under this law.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from m2v_core.distillation.settings import Weighting


def rank_weights(
    n_rows: int, weighting: Weighting = "sif", sif_coefficient: float | None = 1e-4
) -> npt.NDArray[np.float64]:
    """Return the weight of each rank.

    Args:
        n_rows: Size of the vocabulary, sorted by descending frequency.
        weighting: `"sif"` for a / (a + p) with p(rank) proportional to 1 / (rank + 2), as in Model2Vec since 0.4.0;
            `"zipf"` for log(1 + rank), as in earlier versions (0 for rank 0).
        sif_coefficient: The coefficient a of SIF, between 0 and 1; None gives all rows the weight 1.

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
    probability = _zipf_probability(ranks)
    probability /= probability.sum()
    return sif_coefficient / (sif_coefficient + probability)


def ranks_by_count(ranks: npt.NDArray[np.int64], counts: Mapping[int, float]) -> npt.NDArray[np.int64]:
    """Return the ranks, replacing those of rows with known counts with ranks that match the counts.

    The total probability that their ranks assign to these rows is distributed in proportion to the counts. In a
    vocabulary of these rows only, the probability of each is its share of all counts. With the teacher's tokens, whose
    frequencies are unknown, the result depends neither on the unit of the counts nor on how much text a list covers.

    Args:
        ranks: `(n_rows,)`, by position in the vocabulary.
        counts: Counts by row, above 0.

    Returns:
        `(n_rows,) int64`, from 0 to `n_rows - 1`; several rows may have the same rank.
    """
    if not counts:
        return ranks
    rows = np.fromiter(counts, np.int64)
    shares = np.fromiter(counts.values(), np.float64)
    probability = _zipf_probability(ranks[rows]).sum() * shares / shares.sum()
    placed = ranks.copy()
    placed[rows] = np.clip(np.rint(1.0 / probability - 2.0), 0, len(ranks) - 1)
    return placed


def _zipf_probability(ranks: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Unnormalized probability of each rank."""
    probability: npt.NDArray[np.float64] = 1.0 / (ranks + 2.0)
    return probability
