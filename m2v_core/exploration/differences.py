"""Differences between two models: the common words whose nearest neighbors changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError
from m2v_core.exploration.neighbors import OVERLAP_NEIGHBORS, WordNeighbors, neighbor_overlap
from m2v_core.exploration.rows import top_k
from m2v_core.exploration.topics import label_order

MAX_COMPARED_WORDS = 5_000  # two searches of this size take about a second
MIN_COMMON_WORDS = 50  # with fewer, 10 neighbors are a large share of all words


@dataclass(frozen=True)
class ChangedWord:
    """A word and its neighbors in two models.

    Attributes:
        text: The word.
        n_shared: Number of neighbors that are in both lists.
        first: Its nearest words in the first model, nearest first.
        second: Its nearest words in the second model, nearest first.
    """

    text: str
    n_shared: int
    first: list[str]
    second: list[str]


@dataclass(frozen=True)
class NeighborChanges:
    """How much the neighbors of words differ between two models.

    Attributes:
        n_common: Number of whole words in both vocabularies.
        n_compared: Number of words that were compared; neighbors are searched among these.
        n_neighbors: Number of neighbors per word.
        mean_overlap: Mean share of a word's neighbors that are the same in both models, 0 to 1.
        words: The words with the smallest overlap, smallest first; ties are sorted by frequency.
    """

    n_common: int
    n_compared: int
    n_neighbors: int
    mean_overlap: float
    words: list[ChangedWord]


def neighbor_changes(
    first: WordNeighbors, second: WordNeighbors, n_words: int = 12, max_words: int = MAX_COMPARED_WORDS
) -> NeighborChanges:
    """Compare the nearest neighbors of the words that two models have in common.

    The models can have different widths and vocabularies. At most `max_words` common words are compared: the most
    frequent ones, content words before punctuation, numbers and function words.

    Args:
        first: The words of the first model.
        second: The words of the second model.
        n_words: Maximum number of words in the result.
        max_words: Maximum number of words to compare.

    Raises:
        InputError: The models have fewer than `MIN_COMMON_WORDS` words in common.
    """
    places = [_places(words) for words in (first, second)]
    texts = [text for text in places[0] if text in places[1]]
    if len(texts) < MIN_COMMON_WORDS:
        raise InputError(
            f"These models have {len(texts)} whole words in common. Comparing neighbors requires at least "
            f"{MIN_COMMON_WORDS}."
        )
    common = np.array([[of_model[text] for text in texts] for of_model in places], dtype=np.int64)  # (2, n_common)
    order = label_order(texts, first.ranks[common[0]] + second.ranks[common[1]])[:max_words]
    compared = [texts[place] for place in order]
    rows = [words.rows[own[order]] for words, own in zip((first, second), common, strict=True)]
    overlap = neighbor_overlap(rows[0], rows[1])
    listed = np.argsort(overlap, kind="stable")[:n_words]
    nearest = [_nearest(of_model, listed, compared) for of_model in rows]
    return NeighborChanges(
        n_common=len(texts),
        n_compared=len(compared),
        n_neighbors=OVERLAP_NEIGHBORS,
        mean_overlap=float(overlap.mean(dtype=np.float64)),
        words=[
            ChangedWord(compared[place], len(set(one) & set(other)), one, other)
            for place, one, other in zip(listed, *nearest, strict=True)
        ],
    )


def _places(words: WordNeighbors) -> dict[str, int]:
    """Index of the first entry with each text; several tokens can have the same text."""
    return {text: place for place, text in reversed(list(enumerate(words.texts)))}


def _nearest(rows: NDArray[np.float32], listed: NDArray[np.int64], texts: Sequence[str]) -> list[list[str]]:
    """The nearest words of each listed row, without the word itself."""
    found = top_k(rows[listed], rows, OVERLAP_NEIGHBORS + 1)[0]
    return [
        [texts[other] for other in others if other != own][:OVERLAP_NEIGHBORS]
        for own, others in zip(listed, found, strict=True)
    ]
