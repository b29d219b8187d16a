"""Engines that use one given path, and the slow reference."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from tokenizers import Tokenizer

from m2v_core.encoder.chunked import ChunkedReader
from m2v_core.encoder.engine import Engine
from m2v_core.encoder.plain import Table

DIM = 3


class SubwordEngine(Engine):
    """Chunked; uses the kernels' subword model from the first text on."""

    n_characters_before_subwords = 1

    def _chunked(self) -> ChunkedReader | None:
        is_new = self._reader is None
        reader = super()._chunked()
        if is_new and reader is not None:
            reader._n_characters_before_subwords = self.n_characters_before_subwords
        return reader


class TokenizerEngine(SubwordEngine):
    """Chunked; the tokenizer processes every new chunk."""

    n_characters_before_subwords = sys.maxsize


class PlainEngine(Engine):
    """Without the kernels."""

    def _chunked(self) -> None:
        return None


def _maker(engine_class: type[Engine]) -> Callable[[Table, Tokenizer, int], Engine]:
    def make(table: Table, tokenizer: Tokenizer, characters_per_token: int) -> Engine:
        n_tokens = tokenizer.get_vocab_size(with_added_tokens=True)
        tokens = [tokenizer.id_to_token(i) or "" for i in range(n_tokens)]
        return engine_class(table, tokenizer, characters_per_token, tokens)

    return make


PATHS = {
    "subwords": _maker(SubwordEngine),
    "tokenizer": _maker(TokenizerEngine),
    "plain": _maker(PlainEngine),
}


def engine(path: str, tokenizer: Tokenizer, characters_per_token: int = 3, unknown: int | None = None) -> Engine:
    """Create an engine with an empty cache; without `unknown`, the unknown token counts as any other."""
    n_rows = tokenizer.get_vocab_size(with_added_tokens=True)
    rows = np.random.default_rng(0).standard_normal((n_rows, DIM)).astype(np.float32)
    return PATHS[path](Table(rows, None, None, unknown), tokenizer, characters_per_token)


def judged(tokenizer: Tokenizer, text: str, max_length: int | None = None, characters_per_token: int = 3) -> list[int]:
    """Return the tokenizer's ids for the whole text."""
    if max_length is not None:
        text = text[: max_length * characters_per_token]
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids[:max_length]
