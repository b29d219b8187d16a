"""The minimum data for each figure: one rule for the library, the command line and the app.

Figures with less data are not shown, and two options with overlapping intervals are not ranked.
"""

from __future__ import annotations

from m2v_core.evaluation.statistics import Estimate

MIN_FIDELITY_TEXTS = 512
"""Minimum number of texts for fidelity: the rank correlation of all their pairs is then accurate to about 0.03."""
TEACHER_BATCH = 32
"""Batch size of teachers."""
MIN_TEACHER_BATCHES = 3
"""Minimum number of batches that a teacher must encode during the measurement for a speed ratio."""
MIN_TEST_ITEMS = 50
"""Fewer pairs or test texts can't distinguish models: with 50, a correlation is accurate to about 0.3 either way."""

NOT_MEASURED = "Not measured"
NOT_ENOUGH_DATA = "Not enough data to tell"


def has_enough_texts(n_texts: int) -> bool:
    """Whether there are enough texts to measure fidelity."""
    return n_texts >= MIN_FIDELITY_TEXTS


def has_enough_batches(n_texts: int) -> bool:
    """Whether a teacher has encoded enough texts for a speed comparison."""
    return n_texts >= MIN_TEACHER_BATCHES * TEACHER_BATCH


def has_enough_items(n_items: int | None) -> bool:
    """Whether a score on this number of test items can distinguish models; None (unknown) counts as enough."""
    return n_items is None or n_items >= MIN_TEST_ITEMS


def is_above(one: Estimate, other: Estimate) -> bool:
    """Whether a figure is significantly higher than another: their intervals don't overlap.

    False if either has no interval.
    """
    return one.low > other.high
