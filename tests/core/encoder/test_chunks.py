"""The table of chunks returns what was inserted after collisions, growth and eviction."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2v_core.encoder import chunked
from m2v_core.encoder.splitting import MAY_BEGIN_PHRASE, MAY_CONTINUE, UNSAFE_ALONE
from m2v_core.native import kernels
from tests.core.encoder import forms
from tests.core.encoder.paths import engine, judged

EVERY_MASK = (0, 1, 0xFF, (1 << 64) - 1)
N_VOCABULARY = 2**31 - 1
ROOMY = (1 << 20, 1 << 20, 1 << 20)


def table_of(entries: dict[bytes, list[int]], mask: int = EVERY_MASK[-1], marks: int = 0):
    """A table with these chunks and their ids."""
    table = kernels.ChunkTable(N_VOCABULARY, mask)
    for chunk, ids in entries.items():
        table.add(chunk, ids, marks)
    return table


entries_of_any_length = st.dictionaries(
    st.binary(min_size=1, max_size=40)
    | st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 24, 127, 128, 129]).flatmap(
        lambda length: st.sampled_from([b"a" * length, b"a" * (length - 1) + b"b", b"b" + b"a" * (length - 1)])
    ),
    st.lists(st.integers(0, N_VOCABULARY - 1), max_size=5),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(entries=entries_of_any_length, others=entries_of_any_length, mask=st.sampled_from(EVERY_MASK))
def test_chunks_are_compared_byte_by_byte(entries, others, mask):
    table = table_of(entries, mask, marks=8)
    assert len(table) == len(entries)
    for chunk in (*entries, *others):
        assert table.get(chunk) == ((entries[chunk], 8) if chunk in entries else None)


@settings(deadline=None, max_examples=60)
@given(
    entries=entries_of_any_length,
    others=entries_of_any_length,
    mask=st.sampled_from(EVERY_MASK),
    max_chunk_bytes=st.sampled_from([1, 16, 1000]),
)
def test_merging(entries, others, mask, max_chunk_bytes):
    merged = table_of(entries, mask).merged(table_of(others, mask), *ROOMY, max_chunk_bytes)
    kept = {chunk: ids for chunk, ids in others.items() if len(chunk) <= max_chunk_bytes} | entries
    assert len(merged) == len(kept)
    for chunk in (*entries, *others):
        assert merged.get(chunk) == ((kept[chunk], 0) if chunk in kept else None)


def test_a_growing_table_keeps_every_chunk():
    entries = {f"chunk{'-' * (i % 60)}{i}".encode(): [i] * (i % 7) for i in range(5_000)}
    table, small = kernels.ChunkTable(N_VOCABULARY), list(entries.items())
    for start in range(0, len(small), 37):
        table = table.merged(table_of(dict(small[start : start + 37])), *ROOMY, 1_000)
    n_slots, n_chunks, *_ = table.counts
    assert n_chunks == len(entries) <= n_slots * 3 // 4
    assert all(table.get(chunk) == (ids, 0) for chunk, ids in entries.items())


def test_a_merge_does_not_change_the_table_that_others_read():
    table = table_of({b"one": [1]})
    merged = table
    for i in range(2_000):
        merged = merged.merged(table_of({b"%d" % i: [i, i, i]}), *ROOMY, 100)
    assert merged is not table
    assert table.get(b"one") == ([1], 0)
    assert merged.get(b"1999") == ([1999] * 3, 0)


def test_chunks_that_were_not_looked_up_are_evicted():
    tokenizer = forms.tokenizer("BERT uncased")
    reader = engine("tokenizer", tokenizer)
    reader.token_ids(["used unused"], None)
    reader.token_ids(["used"], None)
    small = kernels.ChunkTable(tokenizer.get_vocab_size(with_added_tokens=True))
    for i in range(60):
        small.add(b"%d" % i, [1], 0)
    merged = reader._reader._known.merged(small, 82, *ROOMY[1:], 100)  # 82 slots hold 60 chunks, but not 62
    assert merged.get(b"used") is not None
    assert merged.get(b"unused") is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda table: table.add(b"a", [N_VOCABULARY], 0), "token id"),
        (lambda table: table.add(b"a", [-1], 0), "token id"),
        (lambda table: table.add(b"", [1], 0), "at least one byte"),
        (lambda table: table.add(b"a", [1], 256), "marks"),
        (lambda table: table.merged(kernels.ChunkTable(5), *ROOMY, 100), "one vocabulary"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(kernels.ChunkTable(N_VOCABULARY))


def test_texts_with_a_phrase_are_tokenized_whole():
    marks = {"ice": MAY_BEGIN_PHRASE, "cream": MAY_CONTINUE, "odd": UNSAFE_ALONE, "plain": 0}
    tokenizer = forms.tokenizer("BERT uncased")
    reader = engine("tokenizer", tokenizer)._chunked()
    table = kernels.ChunkTable(tokenizer.get_vocab_size(with_added_tokens=True))
    for i, (chunk, mark) in enumerate(marks.items()):
        table.add(chunk.encode(), [i], mark)

    def unsafe(texts: list[str], max_tokens: int) -> list[str]:
        _, rest = reader._encoder.token_ids(texts, 0, len(texts), max_tokens, 1 << 30, table, None, None)
        return [] if rest is None else [texts[i] for i in rest[2]]

    texts = ["ice", "ice cream", "cream ice", "ice plain cream", "plain odd", "plain ice cream"]
    assert unsafe(texts, 1 << 30) == ["ice cream", "plain odd", "plain ice cream"]
    # After the limit, a chunk matters only if it may form a phrase with the last one.
    assert unsafe(["plain odd", "ice cream", "plain ice"], 1) == ["ice cream"]


def words(seed: int, n: int) -> list[str]:
    rng = random.Random(seed)
    lengths = [1, 2, 3, 7, 8, 9, 15, 16, 17, 30, 127, 128, 129, 140]
    alphabets = ["ab", "the\u0301 ", "\u4e2d\u6587", "e\xe9\U0001f984", "xyz.,"]
    return ["".join(rng.choices(rng.choice(alphabets), k=rng.choice(lengths))) for _ in range(n)]


@pytest.mark.parametrize("mask", [0, 1])
@pytest.mark.parametrize("form", ["BERT uncased", "XLM-R", "GPT-2", "BERT with phrases"])
def test_collisions_change_no_id(form, mask):
    tokenizer = forms.tokenizer(form)
    reader = engine("subwords", tokenizer)
    reader._chunked()._known = kernels.ChunkTable(tokenizer.get_vocab_size(with_added_tokens=True), mask)
    for seed in range(3):
        texts = [" ".join(words(seed + i, 8)) for i in range(12)]
        for _ in "cold", "warm":
            assert reader.token_ids(texts, None) == [judged(tokenizer, text) for text in texts]
    assert len(reader._reader._known) > 100


@pytest.mark.parametrize(
    "limits", [{"MAX_SLOTS": 64}, {"MAX_TOKEN_IDS": 64}, {"MAX_LONG_BYTES": 512}, {"MAX_CHUNK_BYTES": 5}]
)
@pytest.mark.parametrize("form", ["BERT uncased", "T5", "GPT-2"])
def test_bounded_memory_changes_no_id(form, limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(chunked, name, value)
    tokenizer = forms.tokenizer(form)
    reader = engine("subwords", tokenizer)
    for seed in range(40):
        texts = [" ".join(words(seed // 2, 4)), "the sea", " ".join(words(seed, 2))]
        assert reader.token_ids(texts, None) == [judged(tokenizer, text) for text in texts]
        n_slots, n_chunks, n_ids, n_long_bytes = reader._reader._known.counts
        assert n_chunks <= chunked.MAX_SLOTS * 3 // 4
        assert n_ids <= chunked.MAX_TOKEN_IDS
        assert n_long_bytes <= chunked.MAX_LONG_BYTES
        assert n_slots <= 2 * max(1024, chunked.MAX_SLOTS)


def test_a_chunk_of_any_length_and_alphabet():
    tokenizer = forms.tokenizer("GPT-2")
    reader = engine("subwords", tokenizer)
    texts = [letter * n for letter in "a\xe9\u4e2d\U0001f984" for n in (*range(1, 40), 247, 248, 249, 1000)]
    texts += [" ".join(string.printable[:n] for n in range(1, 90))]
    for _ in "cold", "warm":
        assert reader.token_ids(texts, None) == [judged(tokenizer, text) for text in texts]
