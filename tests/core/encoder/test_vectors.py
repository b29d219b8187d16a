"""Means of rows on every path, compared with float64 sums computed here."""

from __future__ import annotations

import numpy as np
import pytest

from m2v_core.encoder import chunked
from m2v_core.encoder.plain import Table
from m2v_core.encoder.splitting import Splitting, chunk_splitting
from m2v_core.native import kernels
from tests.core.encoder import forms
from tests.core.encoder.paths import PATHS, judged

TEXTS = (
    *("", " ", "the", "the sea", "zzz\U0001f984", "[MASK] the", "ice cream " * 9, "a b c d e f g " * 40),
    *(" ".join(["fox"] * n) for n in (63, 64, 65, 127, 128, 129, 511, 512, 513, 1_300)),
    "The ICE fox sells shells by the sea, and new york is a city." * 7,
)
KINDS = ("float32", "float16", "int8")
TOKENIZER = forms.tokenizer("BERT uncased")
N_TOKENS = TOKENIZER.get_vocab_size()
UNKNOWN = TOKENIZER.token_to_id("[UNK]")


def table_of(kind: str, dim: int, is_weighted: bool, is_mapped: bool) -> Table:
    rng = np.random.default_rng(dim)
    n_rows = 11 if is_mapped else N_TOKENS
    rows = rng.standard_normal((n_rows, dim)) * np.logspace(-1, 1, n_rows)[:, None]
    if kind == "int8":
        rows = np.clip(np.round(rows * 10), -127, 127)
    weights = rng.uniform(0.01, 3, N_TOKENS).astype(np.float32) if is_weighted else None
    mapping = rng.integers(0, n_rows, N_TOKENS).astype(np.int32) if is_mapped else None
    return Table(rows.astype(kind), weights, mapping, UNKNOWN)


def slow_means(table: Table, max_length: int | None, normalize: bool) -> np.ndarray:
    """(n_texts, dim) float64, token by token."""
    means = np.zeros((len(TEXTS), table.dim))
    for mean, text in zip(means, TEXTS, strict=True):
        ids = [token_id for token_id in judged(TOKENIZER, text, max_length) if token_id != UNKNOWN]
        for token_id in ids:
            row = table.token_embeddings[token_id if table.token_mapping is None else table.token_mapping[token_id]]
            mean += row.astype(np.float64) * (1.0 if table.weights is None else float(table.weights[token_id]))
        if ids:
            mean /= len(ids)
        norm = np.sqrt((mean * mean).sum())
        if normalize and norm > 0:
            mean /= norm
    return means


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_mapped", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_means_are_those_of_the_definition(kind, is_weighted, is_mapped, path):
    for dim in (1, 3, 8, 13, 64, 257):
        table = table_of(kind, dim, is_weighted, is_mapped)
        reader = PATHS[path](table, TOKENIZER, 3)
        for max_length, normalize in ((None, True), (None, False), (7, True), (100, False)):
            expected = slow_means(table, max_length, normalize)
            largest = max(1.0, np.abs(expected).max())
            for _ in "cold", "warm":
                means = reader.embeddings(list(TEXTS), max_length, normalize)
                assert means.dtype == np.float32
                np.testing.assert_allclose(means, expected, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("kind", KINDS)
def test_one_text_gets_the_same_embedding_as_in_a_batch(kind):
    table = table_of(kind, 33, True, False)
    many = PATHS["subwords"](table, TOKENIZER, 3).embeddings(list(TEXTS), None, True)
    for text, embedding in zip(TEXTS, many, strict=True):
        alone = PATHS["plain"](table, TOKENIZER, 3).embeddings([text], None, True)
        np.testing.assert_allclose(alone[0], embedding, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 3, 7, 8, 16, 33, 96, 100, 256, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_every_instruction_set_gives_the_same_bits(kind, dim):
    assert kernels is not None
    splitting = chunk_splitting(TOKENIZER)
    assert isinstance(splitting, Splitting)
    for is_weighted in (False, True):
        table = table_of(kind, dim, is_weighted, is_weighted)
        reader = chunked.ChunkedReader(table, TOKENIZER, splitting, 3, [""] * N_TOKENS)
        expected = np.empty((len(TEXTS), dim), np.float32)
        reader.embed(list(TEXTS), None, True, expected)
        for instructions in kernels.available_instructions:
            reader._encoder = kernels.Encoder(
                table.token_embeddings, table.token_mapping, table.weights, N_TOKENS, UNKNOWN, False, True, instructions
            )
            embeddings = np.empty_like(expected)
            reader.embed(list(TEXTS), None, True, embeddings)
            np.testing.assert_array_equal(embeddings, expected, err_msg=instructions)


def test_every_float16_value_is_converted_as_in_numpy():
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)
    finite = np.where(np.isfinite(halves), halves, np.float16(0))
    rows = finite[: N_TOKENS * (finite.size // N_TOKENS)].reshape(N_TOKENS, -1)
    table = Table(np.ascontiguousarray(rows), None, None, None)
    token = TOKENIZER.id_to_token
    texts = [token(i) for i in range(N_TOKENS) if judged(TOKENIZER, token(i)) == [i]]
    assert len(texts) > 60
    ids = [TOKENIZER.token_to_id(text) for text in texts]
    means = PATHS["subwords"](table, TOKENIZER, 9).embeddings(texts, None, False)
    np.testing.assert_array_equal(means, rows[ids].astype(np.float32))


def test_rows_may_be_a_view():
    wide = table_of("float32", 20, False, False).token_embeddings
    narrow = Table(wide[:, :7], None, None, UNKNOWN)
    own = Table(wide[:, :7].copy(), None, None, UNKNOWN)
    for path in PATHS.values():
        expected = path(own, TOKENIZER, 3).embeddings(list(TEXTS), None, True)
        np.testing.assert_array_equal(path(narrow, TOKENIZER, 3).embeddings(list(TEXTS), None, True), expected)


def test_many_new_and_long_texts():
    table = table_of("float16", 13, True, True)
    texts = [*TEXTS, *(f"\xe4{i}" * 9 for i in range(5_000)), "\xfc" * 90_000, "fox " * 5_000]
    reader = PATHS["subwords"](table, TOKENIZER, 3)
    ids = reader.token_ids(texts, None)
    assert ids == [[i for i in judged(TOKENIZER, text) if i != UNKNOWN] for text in texts]
    expected = PATHS["plain"](table, TOKENIZER, 3).embeddings(texts, None, True)
    np.testing.assert_allclose(reader.embeddings(texts, None, True), expected, rtol=0, atol=1e-6)
