from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from m2v_core.errors import InputError
from m2v_core.exploration.differences import MIN_COMMON_WORDS, neighbor_changes
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.model import StaticModel

WORDS = [f"{first}{second}on" for first in "bcdfglmnprst" for second in ("ala", "eri", "ino", "otu", "umi", "yre")]


def word_model(words: list[str], table: np.ndarray) -> WordNeighbors:
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate([*words, "[UNK]"])}, "[UNK]"))
    return WordNeighbors(StaticModel(np.vstack([table, np.ones_like(table[:1])]), tokenizer))


def slow_neighbors(words: WordNeighbors, text: str, common: list[str]) -> list[str]:
    """Slow reference: sort the other common words by descending cosine."""
    vectors = {other: words.rows[words.texts.index(other)].astype(np.float64) for other in common}
    others = sorted((other for other in common if other != text), key=lambda other: -(vectors[text] @ vectors[other]))
    return others[:10]


def test_changes_equal_those_of_sorting_for_models_of_other_width_and_vocabulary() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(len(WORDS), 12))
    second_table = np.hstack([table, rng.normal(size=(len(WORDS), 5))]) * rng.uniform(0.1, 9, (len(WORDS), 1))
    order = rng.permutation(len(WORDS))
    first = word_model([*WORDS, "alone"], np.vstack([table, table[:1]]).astype(np.float32))
    second = word_model(
        ["other", *(WORDS[place] for place in order)],
        np.vstack([second_table[:1], second_table[order]]).astype(np.float32),
    )
    changes = neighbor_changes(first, second)
    expected = {}
    for text in WORDS:
        one, other = (slow_neighbors(words, text, WORDS) for words in (first, second))
        expected[text] = len(set(one) & set(other))
    assert (changes.n_common, changes.n_compared, len(changes.words)) == (len(WORDS), len(WORDS), 12)
    assert 0.2 < changes.mean_overlap < 0.95  # neither 0 nor 1
    assert changes.mean_overlap == pytest.approx(np.mean(list(expected.values())) / 10)
    assert [word.n_shared for word in changes.words] == sorted(expected.values())[:12]
    for word in changes.words:
        assert word.n_shared == expected[word.text]
        assert word.first == slow_neighbors(first, word.text, WORDS)
        assert word.second == slow_neighbors(second, word.text, WORDS)


def test_a_model_compared_with_itself_has_no_changes() -> None:
    table = np.random.default_rng(1).normal(size=(len(WORDS), 8)).astype(np.float32)
    words = word_model(WORDS, table)
    changes = neighbor_changes(words, words)
    assert changes.mean_overlap == 1
    # Equal overlaps: the most frequent words first.
    assert [word.text for word in changes.words] == WORDS[:12]
    assert all(word.first == word.second and word.text not in word.first for word in changes.words)


def test_the_most_frequent_content_words_are_compared() -> None:
    frequent = ["the", "12", "!", "and"]
    table = np.random.default_rng(2).normal(size=(len(WORDS) + 4, 8)).astype(np.float32)
    words = word_model([*frequent, *WORDS], table)
    changes = neighbor_changes(words, words, n_words=100, max_words=60)
    assert (changes.n_common, changes.n_compared) == (len(WORDS) + 4, 60)
    assert [word.text for word in changes.words] == WORDS[:60]
    assert {other for word in changes.words for other in word.first} <= set(WORDS[:60])


def test_too_few_common_words_are_refused() -> None:
    table = np.random.default_rng(3).normal(size=(len(WORDS), 8)).astype(np.float32)
    n_common = MIN_COMMON_WORDS - 1
    others = [word.upper() for word in WORDS[n_common:]]
    with pytest.raises(InputError, match=f"have {n_common} whole words in common. .* at least {MIN_COMMON_WORDS}"):
        neighbor_changes(word_model(WORDS, table), word_model([*WORDS[:n_common], *others], table))


def test_models_of_other_tokenizers_have_whole_words_in_common() -> None:
    rng = np.random.default_rng(4)
    pieces = ["[UNK]", *WORDS, *(f"##{word}" for word in WORDS[:5])]
    wordpiece = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    scores = [("<unk>", 0.0), *((f"\u2581{word}", -1.0) for word in reversed(WORDS)), ("alaon", -2.0)]
    unigram = Tokenizer(models.Unigram(scores, unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    found = [
        WordNeighbors(StaticModel(rng.normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32), tokenizer))
        for tokenizer in (wordpiece, unigram)
    ]
    assert neighbor_changes(*found).n_common == len(WORDS)
