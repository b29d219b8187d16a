"""The table of chunks: what goes in comes out, whatever collides, grows or is thrown out."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2v_core.encoder import chunks, layout
from m2v_core.encoder.chunks import ChunkTable, SharedTable
from m2v_core.encoder.native import kernels
from tests.core.encoder import forms
from tests.core.encoder.paths import engine, judged

EVERY_MASK = (0, 1, 0xFF, (1 << 64) - 1)


def fill(table: ChunkTable, entries: dict[bytes, list[int]], marks: int = 0) -> None:
    """Put chunks with their ids into a table."""
    ids = [token_id for of_chunk in entries.values() for token_id in of_chunk]
    long_bytes = sum(len(chunk) + 8 for chunk in entries)
    table.reserve(n_chunks=len(entries), n_ids=len(ids), n_long_bytes=long_bytes)
    listed = np.frombuffer(b"".join(chunk + b"\xff" for chunk in entries) + bytes(8), np.uint8)
    kernels().add(table.address, listed, len(entries))
    counts = np.fromiter(map(len, entries.values()), np.int64, len(entries))
    every_mark = np.full(len(entries), marks << 56, np.uint64)
    kernels().fill(table.address, listed, len(entries), np.array(ids, np.int32), counts, every_mark)


def read(table: ChunkTable, texts: list[bytes], limit: int = 1 << 40) -> tuple[list[list[int]], list[int]]:
    """The ids of texts, and what became of each."""
    data = np.frombuffer(b"".join(texts) + bytes(8), np.uint8)
    bounds = np.cumsum([0, *map(len, texts)])
    counts, outcomes = np.zeros(len(texts), np.int64), np.empty(len(texts), np.uint8)
    everything = np.arange(len(texts))
    nothing = ChunkTable(n_slots=2)
    ids = np.empty(100_000, np.int32)
    found = (ids, len(ids), counts, outcomes)
    stop = kernels().tokenize(
        data, bounds, False, True, everything, 0, len(texts), table.address, nothing.address, -1, limit, *found
    )
    assert stop == len(texts)
    ends = np.cumsum(counts)
    return [ids[end - count : end].tolist() for end, count in zip(ends, counts, strict=True)], outcomes.tolist()


entries_of_any_length = st.dictionaries(
    st.binary(min_size=1, max_size=40).map(lambda chunk: bytes(0x21 + byte % 0x5D for byte in chunk))
    | st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 24, 127, 128, 129]).flatmap(
        lambda length: st.sampled_from([b"a" * length, b"a" * (length - 1) + b"b", b"b" + b"a" * (length - 1)])
    ),
    st.lists(st.integers(0, 2**31 - 1), max_size=5),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(entries=entries_of_any_length, others=entries_of_any_length, mask=st.sampled_from(EVERY_MASK))
def test_chunks_are_told_apart_byte_by_byte(entries, others, mask):
    table = ChunkTable(n_slots=2, hash_mask=np.uint64(mask))
    fill(table, entries)
    assert len(table) == len(entries)
    texts = [*entries, *others]
    ids, outcomes = read(table, texts)
    for text, ids_of_text, outcome in zip(texts, ids, outcomes, strict=True):
        assert outcome == (layout.DONE if text in entries else layout.MISSING)
        assert ids_of_text == entries.get(text, [])


@settings(deadline=None, max_examples=40)
@given(entries=entries_of_any_length, others=entries_of_any_length, mask=st.sampled_from(EVERY_MASK))
def test_copying_merges_two_tables(entries, others, mask):
    table = ChunkTable(hash_mask=np.uint64(mask))
    other = ChunkTable(n_slots=2, hash_mask=np.uint64(mask))
    fill(table, entries)
    fill(other, others, marks=8)
    table.reserve_for(other)
    kernels().copy(other.address, table.address, chunks.LONGEST_KEPT, False, 1 << 20)
    kept = {chunk: ids for chunk, ids in others.items() if len(chunk) <= chunks.LONGEST_KEPT} | entries
    assert len(table) == len(kept)
    assert read(table, list(kept))[0] == list(kept.values())
    lost = [chunk for chunk in others if chunk not in kept]
    assert read(table, lost)[1] == [layout.MISSING] * len(lost)


def test_a_table_grows_and_forgets_nothing():
    entries = {f"chunk{'-' * (i % 60)}{i}".encode(): [i] * (i % 7) for i in range(5_000)}
    table = ChunkTable(n_slots=2)
    listed = list(entries.items())
    for start in range(0, len(listed), 37):
        fill(table, dict(listed[start : start + 37]))
    assert 4 * len(table) <= 3 * table.n_slots
    assert read(table, list(entries)) == (list(entries.values()), [layout.DONE] * len(entries))


def test_a_phrase_is_read_whole():
    table = ChunkTable()
    fill(table, {b"ice": [1]}, marks=4)
    fill(table, {b"cream": [2]}, marks=8)
    fill(table, {b"odd": [3]}, marks=2)
    fill(table, {b"plain": [4]})
    texts = [b"ice", b"ice cream", b"cream ice", b"ice plain cream", b"plain odd", b"plain ice cream"]
    whole = {b"ice cream", b"plain odd", b"plain ice cream"}
    assert read(table, texts)[1] == [layout.UNSAFE if text in whole else layout.DONE for text in texts]
    # Behind the limit a chunk matters only where it may have made a phrase of the last one.
    limited = [layout.UNSAFE if text == b"ice" else layout.DONE for text in (b"plain", b"ice", b"plain")]
    assert read(table, [b"plain odd", b"ice cream", b"plain ice"], limit=1)[1] == limited


def words(seed: int, n: int) -> list[str]:
    rng = random.Random(seed)
    lengths = [1, 2, 3, 7, 8, 9, 15, 16, 17, 30, 127, 128, 129, 140]
    alphabets = ["ab", "the\u0301 ", "\u4e2d\u6587", "e\xe9\U0001f984", "xyz.,"]
    return ["".join(rng.choices(rng.choice(alphabets), k=rng.choice(lengths))) for _ in range(n)]


@pytest.mark.parametrize("mask", [0, 1])
@pytest.mark.parametrize("form", ["BERT uncased", "XLM-R", "GPT-2", "BERT with phrases"])
def test_collisions_change_no_id(form, mask):
    tokenizer = forms.tokenizer(form)
    reader = engine("kernel", tokenizer)
    reader._shared._table = ChunkTable(n_slots=2, hash_mask=np.uint64(mask))
    for seed in range(3):
        texts = [" ".join(words(seed + i, 8)) for i in range(12)]
        for _ in "cold", "warm":
            assert reader.token_ids(texts, None) == [judged(tokenizer, text) for text in texts]
    assert len(reader._shared.table) > 100


@pytest.mark.parametrize(
    "limits", [{"MAX_SLOTS": 64}, {"MAX_IDS_BYTES": 256}, {"MAX_LONG_BYTES": 512}, {"LONGEST_KEPT": 5}]
)
@pytest.mark.parametrize("form", ["BERT uncased", "T5", "GPT-2"])
def test_bounded_memory_changes_no_id(form, limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(chunks, name, value)
    tokenizer = forms.tokenizer(form)
    reader = engine("kernel", tokenizer)
    for seed in range(40):
        texts = [" ".join(words(seed // 2, 4)), "the sea", " ".join(words(seed, 2))]
        assert reader.token_ids(texts, None) == [judged(tokenizer, text) for text in texts]
        table = reader._shared.table
        assert 4 * len(table) <= 3 * chunks.MAX_SLOTS
        assert 4 * table.counts[1] <= chunks.MAX_IDS_BYTES
        assert table.counts[2] <= chunks.MAX_LONG_BYTES
    n_before = len(reader._shared.table)
    assert n_before > 0
    reader.token_ids(texts, None)
    assert len(reader._shared.table) <= n_before + 1_000


def test_what_is_read_again_and_again_stays(monkeypatch):
    monkeypatch.setattr(chunks, "MAX_SLOTS", 128)
    shared = SharedTable()
    common = {f"common{i}".encode(): [i] for i in range(8)}
    first = ChunkTable()
    fill(first, common)
    shared.keep(first)
    for batch in range(40):
        assert read(shared.table, list(common)) == (list(common.values()), [layout.DONE] * 8)
        new = ChunkTable()
        fill(new, {f"rare{batch}-{i}".encode(): [i] for i in range(20)})
        shared.keep(new)
        assert 4 * len(shared.table) <= 3 * 128
    assert read(shared.table, [b"rare0-0"])[1] == [layout.MISSING]


def test_more_than_fits_is_not_kept(monkeypatch):
    monkeypatch.setattr(chunks, "MAX_SLOTS", 16)
    shared = SharedTable()
    new = ChunkTable()
    fill(new, {f"word{i}".encode(): [i] for i in range(50)})
    shared.keep(new)
    assert len(shared.table) == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.sampled_from("a\x00\x7f\x80\xe9\u07ff\u0800\uffff\U00010000\U0010ffff"), max_size=12)))
def test_bounds_in_characters_become_bounds_in_bytes(texts):
    data = np.frombuffer("".join([*texts, "\0" * 8]).encode(), np.uint8)
    bounds = np.cumsum([0, *map(len, texts)])
    kernels().to_bytes(data, bounds, len(bounds))
    assert bounds.tolist() == np.cumsum([0, *(len(text.encode()) for text in texts)]).tolist()


@pytest.mark.parametrize("alphabet", ["a", "\xe9", "\u4e2d", "\U0001f984"])
@pytest.mark.parametrize("form", ["BERT uncased", "Qwen 2", "WordLevel at white space"])
def test_chunks_of_every_length(form, alphabet):
    tokenizer = forms.tokenizer(form)
    reader = engine("kernel", tokenizer)
    chunks_of_text = [alphabet * length for length in (*range(1, 42), *range(125, 132), 255, 256, 257)]
    texts = [*chunks_of_text, " ".join(chunks_of_text), "\t".join(chunks_of_text), *(f" {c} " for c in chunks_of_text)]
    for _ in "cold", "warm":
        assert reader.token_ids(texts, None) == [judged(tokenizer, text) for text in texts]
        assert reader.token_ids(texts[::-1], None) == [judged(tokenizer, text) for text in texts[::-1]]
