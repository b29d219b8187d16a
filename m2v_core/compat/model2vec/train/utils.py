"""Splits examples into training and validation sets."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_RANDOM_SEED = 42
MAX_VALIDATION_SIZE = 10_000


def split_indices(
    n: int,
    test_size: float,
    max_test_size: int | None = None,
    stratify_by: Sequence[Any] | None = None,
    random_seed: int = DEFAULT_RANDOM_SEED,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the training and the held-out examples, both ascending.

    Args:
        n: Number of examples.
        test_size: Share of them to hold out, or their number if it is a whole number.
        max_test_size: Maximum number to hold out if `test_size` is a share; None for no limit.
        stratify_by: Label of each example, to hold out about the same share of each label and at least one; ignored if
            a label occurs once, or there are more labels than examples to hold out. None for no labels.
        random_seed: Random seed.

    Raises:
        InputError: `test_size` is a bool.
    """
    if isinstance(test_size, bool):
        raise InputError("test_size must be a share such as 0.1 or a number of examples, not a bool.")
    random = np.random.default_rng(random_seed)
    n_test = test_size if isinstance(test_size, Integral) else min(round(n * test_size), max_test_size or n)
    n_test = min(max(1, int(n_test)), max(n - 1, 0))
    if stratify_by is not None and n:
        labels = np.array([str(label) for label in stratify_by])
        _, first, codes, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
        if sizes.min() > 1 and len(sizes) <= n_test:
            wanted = np.ones(len(sizes), dtype=np.int64)
            while wanted.sum() < n_test and (is_open := wanted < sizes - 1).any():
                wanted[np.where(is_open, sizes * n_test / n - wanted, -np.inf).argmax()] += 1
            groups = [random.permutation(np.flatnonzero(codes == label)) for label in np.argsort(first)]
            held_out = [group[: wanted[codes[group[0]]]] for group in groups]
            is_held_out = np.isin(np.arange(n), np.concatenate(held_out))
            return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    order = random.permutation(n)
    return np.sort(order[n_test:]), np.sort(order[:n_test])
