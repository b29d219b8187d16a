"""How much data a figure needs: the one rule for the library, the command line and the app.

A figure that rests on less is not shown, and two options whose intervals overlap are not ranked.
"""

from __future__ import annotations

from m2v_core.evaluation.statistics import Estimate

MIN_FIDELITY_TEXTS = 512
"""Fidelity is not measured on fewer texts: the rank correlation of all their pairs is known to about 0.03."""
TEACHER_BATCH = 32
"""Texts that a teacher reads at a time."""
MIN_TEACHER_BATCHES = 3
"""A speed ratio needs a teacher that has read as many batches while it was timed."""
MIN_TEST_ITEMS = 50
"""Fewer pairs or test texts don't tell models apart: at 50, a correlation is known to about 0.3 either way."""

NOT_MEASURED = "Not measured"
NOT_ENOUGH_DATA = "Not enough data to tell"


def has_enough_texts(n_texts: int) -> bool:
    """Whether fidelity may be measured on so many texts."""
    return n_texts >= MIN_FIDELITY_TEXTS


def has_enough_batches(n_texts: int) -> bool:
    """Whether a teacher that has read so many texts has a speed to compare with."""
    return n_texts >= MIN_TEACHER_BATCHES * TEACHER_BATCH


def has_enough_items(n_items: int | None) -> bool:
    """Whether a score on so many test items tells models apart; None, for an unknown number, counts as enough."""
    return n_items is None or n_items >= MIN_TEST_ITEMS


def is_above(one: Estimate, other: Estimate) -> bool:
    """Whether one figure is higher than another beyond chance: their intervals don't overlap.

    False where either has no interval.
    """
    return one.low > other.high
