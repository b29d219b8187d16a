"""Correlations and intervals, compared with SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, normalized_mutual_info_score, v_measure_score

from m2v_core.evaluation import statistics

ITEMS = st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=40)


@settings(deadline=None)
@given(ITEMS)
def test_weighted_correlations_equal_those_of_repeated_items(items):
    left, right, counts = (np.array(column) for column in zip(*items, strict=True))
    repeated = np.repeat(left, counts), np.repeat(right, counts)
    is_defined = all(len(set(side.tolist())) > 1 for side in repeated)
    for ours, theirs in ((statistics.spearman, stats.spearmanr), (statistics.pearson, stats.pearsonr)):
        if not counts.sum():
            continue
        found = ours(left, right)(counts)
        if is_defined:
            assert found == pytest.approx(theirs(*repeated).statistic, abs=1e-9)
        else:
            assert np.isnan(found)


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=40))
def test_average_precision_equals_that_of_scikit_learn(items):
    labels, scores, counts = (np.array(column) for column in zip(*items, strict=True))
    found = statistics.average_precision(labels, scores)(counts)
    if (labels * counts).any():
        expected = average_precision_score(np.repeat(labels, counts), np.repeat(scores, counts))
        assert found == pytest.approx(expected, abs=1e-9)
    else:
        assert np.isnan(found)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_v_measure_equals_that_of_scikit_learn(items):
    labels, clusters, counts = (np.array(column) for column in zip(*items, strict=True))
    if not counts.sum():
        return
    repeated = np.repeat(labels, counts), np.repeat(clusters, counts)
    found = statistics.v_measure(labels, clusters)(counts)
    assert found == pytest.approx(v_measure_score(*repeated), abs=1e-9)
    if len(set(repeated[0].tolist())) > 1:
        assert found == pytest.approx(normalized_mutual_info_score(*repeated), abs=1e-9)


def test_the_interval_of_a_mean_matches_theory():
    values = np.random.default_rng(0).normal(3.0, 1.0, 2000)
    found = statistics.bootstrap(statistics.mean(values), len(values))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half * 0.15)


def test_the_interval_of_a_rank_correlation_equals_that_of_scipy():
    rng = np.random.default_rng(1)
    left = rng.normal(size=300)
    right = left + rng.normal(size=300)
    found = statistics.bootstrap(statistics.spearman(left, right), 300)
    theirs = stats.bootstrap(
        (left, right),
        lambda one, other: stats.spearmanr(one, other).statistic,
        paired=True,
        vectorized=False,
        n_resamples=600,
        method="percentile",
        rng=2,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_a_seed_fixes_the_interval():
    statistic = statistics.mean(np.arange(50.0))
    assert statistics.bootstrap(statistic, 50) == statistics.bootstrap(statistic, 50)
    assert statistics.bootstrap(statistic, 50, seed=1) != statistics.bootstrap(statistic, 50)


def test_no_samples_no_interval():
    found = statistics.bootstrap(statistics.mean(np.arange(4.0)), 4, resamples=0)
    assert found.value == 1.5 and np.isnan(found.low) and np.isnan(found.high)
