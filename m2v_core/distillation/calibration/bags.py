"""Texts for calibration: the user's, and bags of random words from the vocabulary.

A static model treats a sentence as a bag of words, so a sum of rows has to reproduce the teacher's embedding of a bag.
Bags of related words are no better; see benchmarks/quality.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

_MAX_BAGS = 80_000  # fewer bags hurt retrieval and reranking, with and without real text
_BAGS_PER_WORD = 4
_SHORTEST, _LONGEST = 2, 12  # words in a bag
_EXPONENT = 0.5  # words are drawn with probability (rank + 2) ** -0.5; with 1.0, rare words hardly occur
_MIN_WORDS = 100


def n_bags(n_words: int, most: int) -> int:
    """Return the number of bags for a number of words."""
    return min(most, _MAX_BAGS, _BAGS_PER_WORD * n_words)


def deduplicate_texts(texts: Iterable[str]) -> list[str]:
    """Strip the texts, and drop blank ones and duplicates."""
    return list(dict.fromkeys(stripped for text in texts if (stripped := text.strip())))


def sample_evenly(texts: Sequence[str], most: int | None) -> tuple[str, ...]:
    """Return at most this many texts, evenly spaced and in their order; None for all."""
    if most is None or len(texts) <= most:
        return tuple(texts)
    return tuple(texts[number * len(texts) // most] for number in range(most))


def whole_words(tokenizer: Tokenizer) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the tokens that are whole words, and their ids, `(n_words,)`.

    Most vocabularies start with the single characters of many alphabets, including rare ones. Single characters count
    as words only if they are the majority, as in Chinese vocabularies.

    Args:
        tokenizer: The static model's tokenizer.
    """
    words, ids = [], []
    for token, token_id in sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1]):
        # Byte-level tokenizers and SentencePiece mark the space before a word with these characters.
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


def synthetic_bags(words: Sequence[str], ranks: npt.NDArray[np.int64], most: int, seed: int = 0) -> list[str]:
    """Build random bags of 2 to 12 words, joined by spaces: four per word, at most 80,000.

    Args:
        words: Whole words.
        ranks: The rank of each word, `(n_words,)`.
        most: Maximum number of bags; a smaller number returns a prefix of the same bags.
        seed: Random seed.

    Returns:
        The bags; empty if there are fewer than 100 words.
    """
    if len(words) < _MIN_WORDS:
        return []
    random = np.random.default_rng(seed)
    cumulative = np.cumsum((ranks + 2.0) ** -_EXPONENT)
    lengths = random.integers(_SHORTEST, _LONGEST + 1, n_bags(len(words), _MAX_BAGS))
    places = random.random(lengths.sum()) * cumulative[-1]
    drawn = np.minimum(np.searchsorted(cumulative, places), len(words) - 1)
    return [" ".join(words[i] for i in bag) for bag in np.split(drawn, np.cumsum(lengths)[:-1])[:most]]
