"""Statistics of weighted items, and bootstrap intervals.

A bootstrap sample draws as many items as there are, with replacement, and is represented by the number of draws of each
item. Therefore every statistic here takes these counts; counts of one give the value itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[["NDArray[np.int64]"], float]
"""Computes a figure from (n_items,) counts; NaN if it is undefined for these items."""

RESAMPLES = 1000
SEED = 42
COVERED = 95.0
"""Percentage of the bootstrap samples inside an interval."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval.

    Attributes:
        value: The figure; NaN if undefined.
        low: Lower bound of the 95% percentile bootstrap interval; NaN if there is none.
        high: Upper bound.
    """

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """Multiply figure and interval by a factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def bootstrap(statistic: Statistic, n_items: int, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Compute a statistic with its percentile interval; the same seed gives the same interval.

    Args:
        statistic: Computes the figure from counts.
        n_items: Number of items, one or more.
        resamples: Number of samples; 0 for no interval.
        seed: Random seed.

    Source: Efron, B. and Tibshirani, R.J., An Introduction to the Bootstrap (1993), chapter 13.
    """
    value = statistic(np.ones(n_items, np.int64))
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        counts = np.bincount(generator.integers(n_items, size=n_items), minlength=n_items)
        drawn.append(statistic(counts))
    defined = [figure for figure in drawn if not np.isnan(figure)]
    if np.isnan(value) or not defined:
        return Estimate(value, float("nan"), float("nan"))
    tail = (100.0 - COVERED) / 2
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return Estimate(value, float(low), float(high))


def mean(values: NDArray[Any]) -> Statistic:
    """The mean of (n_items,) values."""
    values = np.asarray(values, np.float64)
    return lambda counts: float(counts @ values / counts.sum())


def pearson(left: NDArray[Any], right: NDArray[Any]) -> Statistic:
    """Pearson's correlation of two (n_items,) arrays; NaN if either is constant."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    return lambda counts: _weighted_correlation(left, right, counts)


def spearman(left: NDArray[Any], right: NDArray[Any]) -> Statistic:
    """Spearman's rank correlation of two (n_items,) arrays; ties share their mean rank; NaN if either is constant."""
    rank_left, rank_right = _ranker(left), _ranker(right)
    return lambda counts: _weighted_correlation(rank_left(counts), rank_right(counts), counts)


def average_precision(is_positive: NDArray[np.bool_], scores: NDArray[Any]) -> Statistic:
    """The mean precision at each positive item, highest scores first; NaN without any.

    Items of equal score are processed together, as in scikit-learn's `average_precision_score`.

    Args:
        is_positive: (n_items,).
        scores: (n_items,).
    """
    distinct, place = np.unique(-np.asarray(scores, np.float64), return_inverse=True)

    def figure(counts: NDArray[np.int64]) -> float:
        drawn = np.bincount(place, weights=counts, minlength=len(distinct))
        positive = np.bincount(place, weights=counts * is_positive, minlength=len(distinct))
        if not positive.any():
            return float("nan")
        precision = np.cumsum(positive) / np.maximum(np.cumsum(drawn), 1)
        return float(positive @ precision / positive.sum())

    return figure


def _ranker(values: NDArray[Any]) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Return a function from counts to the ranks of items among all draws; sorts once for all samples."""
    _, place = np.unique(values, return_inverse=True)
    n_distinct = int(place.max()) + 1

    def ranks(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        ties = np.bincount(place, weights=counts, minlength=n_distinct)
        found: NDArray[np.float64] = (np.cumsum(ties) - (ties + 1) / 2)[place]
        return found

    return ranks


def _weighted_correlation(left: NDArray[np.float64], right: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    total = counts.sum()
    left = left - counts @ left / total
    right = right - counts @ right / total
    variance_left, variance_right = counts @ left**2 / total, counts @ right**2 / total
    # Rounding leaves a small variance in constant values.
    if variance_left <= 1e-20 or variance_right <= 1e-20:
        return float("nan")
    return float(counts @ (left * right) / total / np.sqrt(variance_left * variance_right))


def v_measure(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> Statistic:
    """Agreement of clusters and labels, 0 to 1.

    The harmonic mean of homogeneity and completeness, which is also their mutual information over the mean of their
    entropies.

    Args:
        labels: (n_items,) whole numbers from 0.
        clusters: (n_items,) whole numbers from 0.

    Source: Rosenberg, A. and Hirschberg, J., V-Measure (2007), https://aclanthology.org/D07-1043/
    """
    n_clusters = int(clusters.max()) + 1
    joint = labels * n_clusters + clusters
    shape = (int(labels.max()) + 1, n_clusters)

    def figure(counts: NDArray[np.int64]) -> float:
        table = np.bincount(joint, weights=counts, minlength=shape[0] * shape[1]).reshape(shape) / counts.sum()
        of_labels, of_clusters = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
        if of_labels + of_clusters == 0:
            return 1.0
        return float(2 * (of_labels + of_clusters - _entropy(table.ravel())) / (of_labels + of_clusters))

    return figure


def _entropy(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
