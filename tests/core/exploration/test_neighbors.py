from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from m2v_core.errors import InputError
from m2v_core.exploration import rows as row_module
from m2v_core.exploration.neighbors import DocumentNeighbors, WordNeighbors
from m2v_core.exploration.rows import top_k
from m2v_core.model import StaticModel
from m2v_core.native.cosines import unit_rows
from m2v_core.tokenization import build_static_vocabulary
from m2v_core.tokenization.spelling import fragments_of_added_words, readable_tokens
from tests.static_models import TOKENIZERS, random_table
from tests.teachers import tokenizer_json


def oracle(query: np.ndarray, rows: np.ndarray, k: int) -> list[int]:
    """Slow reference: sort all rows by descending cosine, then by index."""
    scores = [float(np.dot(row, query)) for row in rows]
    return sorted(range(len(rows)), key=lambda row: (-scores[row], row))[:k]


@given(seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 60), k=st.integers(1, 70))
def test_top_k_equals_the_result_of_sorting(seed: int, n_rows: int, k: int) -> None:
    # Small whole numbers, so that many rows are equally near and every sum is exact.
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (n_rows, 4)).astype(np.float32) / 16
    queries = rng.integers(-2, 3, (3, 4)).astype(np.float32) / 16
    indices, similarities = top_k(queries, rows, k)
    assert indices.shape == similarities.shape == (3, min(k, n_rows))
    for query, found, scores in zip(queries, indices, similarities, strict=True):
        assert found.tolist() == oracle(query, rows, k)
        np.testing.assert_array_equal(scores, rows[found] @ query)


def test_top_k_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, queries = unit_rows(rng.normal(size=(50, 8))), unit_rows(rng.normal(size=(7, 8)))
    whole = top_k(queries, rows, 5)
    monkeypatch.setattr(row_module, "_BLOCK_BYTES", 400)  # two queries at a time
    blocks = top_k(queries, rows, 5)
    np.testing.assert_array_equal(whole[0], blocks[0])
    np.testing.assert_allclose(whole[1], blocks[1], atol=1e-6)


def test_cosines_stay_within_bounds() -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(500, 300)))
    _, similarities = top_k(rows, rows, 1)
    assert similarities.max() <= 1
    np.testing.assert_allclose(similarities, 1, atol=1e-6)


def test_unit_rows_keeps_zeros_and_its_argument() -> None:
    vectors = np.array([[3, 4], [0, 0]], dtype=np.float16)
    np.testing.assert_allclose(unit_rows(vectors), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    floats = np.array([[3, 4]], dtype=np.float32)
    unit_rows(floats)
    np.testing.assert_array_equal(floats, [[3, 4]])


def test_no_rows_and_invalid_arguments() -> None:
    rows = np.zeros((0, 4), dtype=np.float32)
    query = np.ones((1, 4), dtype=np.float32)
    assert top_k(query, rows, 3)[0].shape == (1, 0)
    with pytest.raises(InputError, match="k is 0"):
        top_k(query, rows, 0)
    with pytest.raises(InputError, match=r"\(1, 4\) don't match rows of shape \(2, 3\)"):
        top_k(query, np.zeros((2, 3), dtype=np.float32), 1)


def model_of(
    rows: dict[str, list[float]], weights: list[float] | None = None, mapping: list[int] | None = None
) -> StaticModel:
    """A model whose text embedding is the row of the token that equals the text."""
    table = np.array(list(rows.values()), dtype=np.float16)
    n_vocabulary = len(mapping) if mapping else len(table)
    tokens = tuple(rows)[:n_vocabulary]
    return cast(
        "StaticModel",
        SimpleNamespace(
            tokens=tokens,
            tokenizer=Tokenizer(models.WordLevel({token: place for place, token in enumerate(tokens)})),
            special_token_ids=[],
            token_embeddings=table,
            token_mapping=None if mapping is None else np.array(mapping),
            weights=None if weights is None else np.array(weights, dtype=np.float32),
            encode=lambda texts: np.array([rows.get(text, [0, 0]) for text in texts], dtype=np.float32),
        ),
    )


ROWS = {
    "[UNK]": [0, 0],
    "king": [1, 0],
    "King": [1, 0.1],
    "queen": [1, 0.5],
    "##ing": [1, 0.01],
    "cabbage": [-1, 1],
}


def test_search_excludes_the_text_itself_pieces_and_empty_rows() -> None:
    found = WordNeighbors(model_of(ROWS)).search("king", 10)
    assert [(neighbor.text, neighbor.rank) for neighbor in found] == [("queen", 3), ("cabbage", 5)]
    assert found[0].similarity == pytest.approx(1 / np.sqrt(1.25), abs=1e-3)
    assert [neighbor.text for neighbor in WordNeighbors(model_of(ROWS)).search("king", 1)] == ["queen"]
    assert WordNeighbors(model_of(ROWS), whole_words=False).search("king", 1)[0].text == "ing"


def test_search_for_unknown_text() -> None:
    assert WordNeighbors(model_of(ROWS)).search("xyzzy") == []
    assert WordNeighbors(model_of({"[UNK]": [0, 0]})).search("king") == []


def test_search_uses_weights_and_mapping() -> None:
    silenced = WordNeighbors(model_of(ROWS, weights=[1, 1, 1, 0, 1, 1]))
    assert [neighbor.text for neighbor in silenced.search("king")] == ["cabbage"]
    rows = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.6, 0.8]}
    shared = WordNeighbors(model_of(rows, mapping=[0, 1, 0]))  # c shares a's row
    assert [neighbor.text for neighbor in shared.search("a", 1)] == ["c"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_special_tokens_are_not_words(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    opening = {"Unigram": "\u2581", "byte-level BPE": "\u0120"}.get(kind, "")  # start of a word
    special = ["[PAD]", "[CLS]", f"{opening}<s>"]
    tokenizer.add_special_tokens(special)
    likeness = f"{opening}[MASK]"
    tokenizer.add_tokens([likeness])
    model = StaticModel(random_table(tokenizer.get_vocab_size()), tokenizer)
    for whole_words in (True, False):
        words = WordNeighbors(model, whole_words)
        left = {model.tokens[rank] for rank in words.ranks}
        assert not left & {*special, "[UNK]", "<unk>"}
        assert likeness in left  # an added word may look like a special token
        found = {neighbor.rank for neighbor in words.search("sea", 1000)}
        assert found <= set(words.ranks.tolist()) and tokenizer.token_to_id(likeness) in found


def test_norms_are_lengths_times_weights() -> None:
    words = WordNeighbors(model_of(ROWS, weights=[1, 2, 1, 1, 1, 0.5]))
    assert list(words.texts) == ["king", "King", "queen", "cabbage"]
    assert words.ranks.tolist() == [1, 2, 3, 5]
    expected = [2, np.hypot(1, 0.1), np.hypot(1, 0.5), np.sqrt(2) / 2]
    np.testing.assert_allclose(words.norms(), expected, rtol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(words.rows, axis=1), 1, rtol=1e-6)
    shared = WordNeighbors(model_of({"a": [3.0, 4.0], "b": [0.0, 1.0]}, mapping=[1, 0]))
    assert shared.norms().tolist() == [1, 5]


def test_documents() -> None:
    documents = ["king", "no such words", "cabbage", "queen", "king"]
    index = DocumentNeighbors(model_of(ROWS), documents)
    found = index.search("king", 10)
    assert [(neighbor.text, neighbor.rank) for neighbor in found] == [
        ("king", 0),
        ("king", 4),
        ("queen", 3),
        ("cabbage", 2),
    ]
    assert found[0].similarity == pytest.approx(1)
    assert [neighbor.rank for neighbor in index.search("queen", 1)] == [3]
    assert index.search("xyzzy") == []
    with pytest.raises(InputError, match="k is 0"):
        index.search("king", 0)


@pytest.mark.parametrize("family", ["wordpiece", "unigram", "bytelevel"])
def test_pieces_of_an_added_word_are_no_neighbors_of_it(family: str) -> None:
    """A teacher reads them in the word, and so finds them similar."""
    teacher = Tokenizer.from_str(tokenizer_json(family))
    readable = zip(*readable_tokens(list(teacher.get_vocab())), strict=True)
    known = next(text for text, starts in sorted(readable) if starts and len(text) > 4 and text.isalpha())
    phrase = f"{known} zyzzyva"
    added = ["zyzzyva", phrase]
    tokenizer = build_static_vocabulary(teacher, added).tokenizer
    fragments = fragments_of_added_words(tokenizer)
    assert set(fragments) == set(added) and known not in fragments[phrase]
    assert fragments_of_added_words(teacher) == {}
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    texts, starts_word = readable_tokens(tokens)
    table = random_table(len(tokens), 8)
    words = {text: place for place, (text, starts) in enumerate(zip(texts, starts_word, strict=True)) if starts}
    words |= {text: tokens.index(text) for text in added}
    pieces = [text for text in fragments["zyzzyva"] if text in words]
    assert pieces
    alike = [*pieces, *added, known]
    table[[words[text] for text in alike]] = table[0] + 0.01 * table[1 : len(alike) + 1]  # near each other
    neighbors = WordNeighbors(StaticModel(table, tokenizer))
    found = {text: {neighbor.text for neighbor in neighbors.search(text, 10)} for text in alike}
    assert not found["zyzzyva"].intersection(pieces) and found["zyzzyva"] >= {phrase, known}
    assert known in found[phrase]
    for piece in pieces:
        assert not found[piece].intersection(added)
