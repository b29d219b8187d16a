"""Texts to calibrate with: the user's, and those made of a vocabulary alone.

A bag of words is no sentence, but a static model reads a sentence as one: what the teacher makes of words standing
together is what a sum of rows has to reproduce. Bags whose words have to do with each other were tried and are no
better; benchmarks/quality.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

MOST_TEXTS = 100_000
_MOST_BAGS = 80_000  # beside text too: with fewer, retrieval and reranking lose
_BAGS_PER_WORD = 4
_SHORTEST, _LONGEST = 2, 12  # words in a bag
_EXPONENT = 0.5  # words are drawn with probability (rank + 2) ** -0.5; with 1.0 the rare ones are hardly met
_FEWEST_WORDS = 100


def n_bags(n_words: int) -> int:
    """How many bags are made of so many words."""
    return min(_MOST_BAGS, _BAGS_PER_WORD * n_words)


def usable_texts(texts: Sequence[str]) -> list[str]:
    """Each text once, without blank ones; of more than 100,000, so many spread over all."""
    distinct = list(dict.fromkeys(stripped for text in texts if (stripped := text.strip())))
    step = max(1.0, len(distinct) / MOST_TEXTS)
    return [distinct[int(i * step)] for i in range(min(len(distinct), MOST_TEXTS))]


def whole_words(tokenizer: Tokenizer) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The tokens that are words when they stand alone, and their ids `(n_words,)`.

    Single characters head most vocabularies, alphabet after alphabet and however rare, so they are words only where
    they are most of what there is, as in Chinese ones.

    Args:
        tokenizer: The static model's.
    """
    words, ids = [], []
    for token, token_id in sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1]):
        # Byte-level tokenizers and SentencePiece write the space before a word as a sign.
        word = token.removeprefix("\u0120").removeprefix("\u2581")
        if word.isalpha():
            words.append(word)
            ids.append(token_id)
    encodings = tokenizer.encode_batch_fast([f" {word}" for word in words], add_special_tokens=False) if words else []
    kept = [i for i, encoding in enumerate(encodings) if encoding.ids == [ids[i]]]
    longer = [i for i in kept if len(words[i]) > 1]
    if 2 * len(longer) >= len(kept):
        kept = longer
    return [words[i] for i in kept], np.array([ids[i] for i in kept], dtype=np.int64)


def synthetic_bags(words: Sequence[str], ranks: npt.NDArray[np.int64], seed: int = 0) -> list[str]:
    """Random bags of 2 to 12 words each, joined by spaces: four for each word, 80,000 at most.

    Args:
        words: Whole words.
        ranks: `(n_words,)`, the rank of each.
        seed: Equal seeds give equal bags.

    Returns:
        The bags; none if there are fewer than a hundred words.
    """
    if len(words) < _FEWEST_WORDS:
        return []
    random = np.random.default_rng(seed)
    cumulative = np.cumsum((ranks + 2.0) ** -_EXPONENT)
    lengths = random.integers(_SHORTEST, _LONGEST + 1, n_bags(len(words)))
    places = random.random(lengths.sum()) * cumulative[-1]
    drawn = np.minimum(np.searchsorted(cumulative, places), len(words) - 1)
    return [" ".join(words[i] for i in bag) for bag in np.split(drawn, np.cumsum(lengths)[:-1])]
