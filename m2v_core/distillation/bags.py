"""Sentences made of a vocabulary alone, for calibrating where nobody has text.

A bag of words is no sentence, but a static model reads a sentence as one: what the teacher makes of words standing
together is what a sum of rows has to reproduce. Half of the words of half of the bags are drawn from the neighbours
of another word of the bag, so that among them, as among sentences, some are about the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

SHORTEST, LONGEST = 2, 13  # words in a bag
_EXPONENT = 0.5  # words are drawn with probability (rank + 2) ** -0.5; with 1.0 the rare ones are hardly met
_N_NEIGHBORS = 60
_NEIGHBOR_SHARE = 0.5
_WORDS_AT_ONCE = 1024
_FEWEST_WORDS = 100


def whole_words(tokenizer: Tokenizer) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The tokens that are words when they stand alone, and their ids.

    Args:
        tokenizer: The static model's.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    words, ids = [], []
    for token, token_id in sorted(vocabulary.items(), key=lambda item: item[1]):
        # Byte-level tokenizers and SentencePiece write the space before a word as a sign.
        word = token.removeprefix("\u0120").removeprefix("\u2581")
        if word.isalpha() and len(word) > 1:
            words.append(word)
            ids.append(token_id)
    encodings = tokenizer.encode_batch_fast([f" {word}" for word in words], add_special_tokens=False) if words else []
    alone = [encoding.ids == [token_id] for encoding, token_id in zip(encodings, ids, strict=True)]
    kept = np.flatnonzero(alone)
    return [words[i] for i in kept], np.array([ids[i] for i in kept], dtype=np.int64)


def synthetic_bags(
    words: Sequence[str],
    ranks: npt.NDArray[np.int64],
    token_embeddings: npt.NDArray[np.float32],
    n_bags: int,
    seed: int = 0,
) -> list[str]:
    """Random bags of 2 to 13 words each, joined by spaces; none if there are hardly any words.

    Args:
        words: Whole words.
        ranks: `(n_words,)`, the rank of each.
        token_embeddings: `(n_words, dim) float32`, the row of each: tells which are neighbours.
        n_bags: How many.
        seed: Equal seeds give equal bags.
    """
    if len(words) < _FEWEST_WORDS:
        return []
    random = np.random.default_rng(seed)
    probability = (ranks + 2.0) ** -_EXPONENT
    cumulative = np.cumsum(probability / probability.sum())
    lengths = random.integers(SHORTEST, LONGEST + 1, n_bags)
    drawn = np.minimum(np.searchsorted(cumulative, random.random(lengths.sum())), len(words) - 1)
    bags = np.split(drawn, np.cumsum(lengths)[:-1])
    # Only neighbours of words that begin a bag about something are needed.
    neighbors = _neighbors(token_embeddings)
    for bag in bags[::2]:
        for place in range(1, len(bag)):
            if random.random() < _NEIGHBOR_SHARE:
                bag[place] = neighbors[bag[random.integers(place)], random.integers(neighbors.shape[1])]
        random.shuffle(bag)
    return [" ".join(words[i] for i in bag) for bag in bags]


def _neighbors(token_embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """`(n_words, 60) int32`, the words nearest to each by cosine, itself among them, in no order."""
    norms = np.linalg.norm(token_embeddings, axis=1, keepdims=True)
    units = np.divide(token_embeddings, norms, out=np.zeros_like(token_embeddings), where=norms > 0)
    n_neighbors = min(_N_NEIGHBORS, len(units))
    found = np.empty((len(units), n_neighbors), dtype=np.int32)
    for start in range(0, len(units), _WORDS_AT_ONCE):
        similarities = units[start : start + _WORDS_AT_ONCE] @ units.T
        found[start : start + _WORDS_AT_ONCE] = np.argpartition(-similarities, n_neighbors - 1)[:, :n_neighbors]
    return found
