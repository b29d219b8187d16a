"""Converts texts to token ids and embeddings on the faster of two paths with the same results.

- chunked: caches the tokens of each chunk of text, and sums rows in compiled loops on every core (`chunked`);
- plain: the tokenizer reads each text whole, and NumPy sums the rows (`plain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tokenizers import Tokenizer

from m2v_core import native
from m2v_core.encoder import plain
from m2v_core.encoder.splitting import Splitting, chunk_splitting
from m2v_core.encoder.texts import well_formed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2v_core.encoder.chunked import ChunkedReader

_T = TypeVar("_T")

# Block size of the plain path.
_CHARACTERS_PER_BLOCK = 2_000_000
_TEXTS_PER_BLOCK = 8_192


class Engine:
    """Encodes with one model's table and tokenizer; any number of threads can share it.

    Args:
        table: The model's rows.
        tokenizer: No truncation or padding.
        characters_per_token: The maximum number of characters of a text is this times `max_length`.
        tokens: The tokenizer's vocabulary, in the order of the ids.
    """

    def __init__(
        self, table: plain.Table, tokenizer: Tokenizer, characters_per_token: int, tokens: Sequence[str]
    ) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self._characters_per_token = characters_per_token
        self._tokens = tokens
        self._splitting: Splitting | str | None = None
        self._reader: ChunkedReader | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self._table, self._tokenizer, self._characters_per_token, self._tokens)

    @property
    def plain_path_reason(self) -> str | None:
        """Why the plain path is used; None if the chunked path is used."""
        if native.kernels is None:
            return "the compiled kernels are not installed"
        splitting = self._splitting_of_tokenizer()
        return splitting if isinstance(splitting, str) else None

    def embeddings(
        self, texts: list[str], max_length: int | None, normalize: bool, advance: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return the means of the rows of known tokens, (n_texts, dim) float32; zeros for texts without any.

        Args:
            texts: Any number.
            max_length: Maximum number of tokens per text, unknown tokens included; None for no limit.
            normalize: Whether to scale rows to unit length.
            advance: Called with the number of texts finished since the last call.
        """
        embeddings = np.empty((len(texts), self._table.dim), np.float32)
        reader = self._chunked()
        if reader is not None:
            _with_replacement(reader.embed, texts, max_length, normalize, embeddings, advance)
            return embeddings
        for start, block in self._blocks(well_formed(texts), max_length):
            ids = self._tokenize_whole(block, max_length)
            embeddings[start : start + len(block)] = self._table.means(ids, normalize)
            if advance is not None:
                advance(len(block))
        return embeddings

    def token_ids(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        """Return the ids of each text's known tokens.

        Args:
            texts: Any number.
            max_length: Maximum number of tokens per text, unknown tokens included; None for no limit.
        """
        reader = self._chunked()
        if reader is not None:
            return _with_replacement(reader.token_ids, texts, max_length)
        blocks = self._blocks(well_formed(texts), max_length)
        return [ids for _, block in blocks for ids in self._tokenize_whole(block, max_length)]

    def sequences(
        self, texts: list[str], max_length: int | None, advance: Callable[[int], None] | None = None
    ) -> list[NDArray[np.float32]]:
        """Return the rows of each text's known tokens in order, (n_tokens, dim) float32 for each text.

        Args:
            texts: Any number.
            max_length: Maximum number of tokens per text, unknown tokens included; None for no limit.
            advance: Called with the number of texts finished since the last call.
        """
        sequences: list[NDArray[np.float32]] = []
        for _, block in self._blocks(well_formed(texts), None):
            ids = self.token_ids(block, max_length)
            sequences += [self._table.rows(np.array(ids_of_text, np.int64)) for ids_of_text in ids]
            if advance is not None:
                advance(len(block))
        return sequences

    def _splitting_of_tokenizer(self) -> Splitting | str:
        if self._splitting is None:
            self._splitting = chunk_splitting(self._tokenizer)
        return self._splitting

    def _chunked(self) -> ChunkedReader | None:
        if self._reader is None and native.kernels is not None:
            splitting = self._splitting_of_tokenizer()
            if isinstance(splitting, Splitting):
                from m2v_core.encoder.chunked import ChunkedReader

                self._reader = ChunkedReader(
                    self._table, self._tokenizer, splitting, self._characters_per_token, self._tokens
                )
        return self._reader

    def _tokenize_whole(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        texts = plain.truncate(texts, max_length, self._characters_per_token)
        return plain.drop_token(plain.token_ids(self._tokenizer, texts, max_length), self._table.unk_token_id)

    def _blocks(self, texts: list[str], max_length: int | None) -> Iterator[tuple[int, list[str]]]:
        """Yield the texts in blocks of bounded size, each with the index of its first text."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        if max_length is not None:
            np.minimum(lengths, min(max_length * self._characters_per_token, np.iinfo(np.int64).max), out=lengths)
        ends = np.cumsum(lengths)
        start = 0
        while start < len(texts):
            so_far = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, so_far + _CHARACTERS_PER_BLOCK, side="right"))
            stop = min(max(stop, start + 1), start + _TEXTS_PER_BLOCK)
            yield start, texts[start:stop]
            start = stop


def _with_replacement(work: Callable[..., _T], texts: list[str], *arguments: Any) -> _T:
    """Return the result of `work`; if the texts contain surrogates, retry with the surrogates replaced."""
    try:
        return work(texts, *arguments)
    except (TypeError, UnicodeEncodeError):  # checking for surrogates first would slow down every call
        return work(well_formed(texts), *arguments)
