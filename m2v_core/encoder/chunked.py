"""The fast path: each distinct chunk of text is tokenized once and cached, and compiled loops sum its rows.

Any number of threads can share one reader without a lock. The shared table of cached chunks is only read while the GIL
is released; a call collects new chunks in a separate table, which is merged under the GIL.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from tokenizers import Tokenizer

from m2v_core.encoder import plain
from m2v_core.encoder.splitting import Splitting
from m2v_core.encoder.subwords import build_subwords
from m2v_core.native import kernels
from m2v_core.native.cpus import n_usable_cpus

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.typing import NDArray

    from m2v_core.native.extension import ChunkTable, Subwords

_T = TypeVar("_T")

# Building the kernels' subword model takes as long as encoding this many characters without it.
CHARACTERS_BEFORE_SUBWORDS = 40_000
# Limits of one model's cache: 128 MiB of slots, 32 MiB of token ids and 32 MiB of long chunks. All but the largest
# corpora have fewer distinct words than the three million chunks that fit.
MAX_SLOTS = 1 << 22
MAX_TOKEN_IDS = 1 << 23
MAX_LONG_BYTES = 1 << 25
# Longer chunks (links, or text in languages without spaces) seldom recur, so they are not cached.
MAX_CHUNK_BYTES = 128

# Work per thread: this many parts for each thread, each with at least and at most this many characters.
_PARTS_PER_THREAD = 4
_CHARACTERS_PER_PART = (1 << 16, 1 << 20)
_TEXTS_PER_PART = 8_192
_NO_LIMIT = sys.maxsize


class ChunkedReader:
    """Computes embeddings and token ids of texts from those of their chunks.

    Args:
        table: The model's rows.
        tokenizer: Tokenizes new chunks, and texts whose chunks depend on each other. No truncation or padding.
        splitting: How texts are split into chunks.
        characters_per_token: The maximum number of characters of a text is this times `max_length`.
        tokens: The tokenizer's vocabulary, in the order of the ids.
    """

    def __init__(
        self,
        table: plain.Table,
        tokenizer: Tokenizer,
        splitting: Splitting,
        characters_per_token: int,
        tokens: Sequence[str],
    ) -> None:
        assert kernels is not None
        self._table = table
        self._tokenizer = tokenizer
        self._splitting = splitting
        self._characters_per_token = characters_per_token
        self._tokens = tokens
        self._n_vocabulary = len(table.token_embeddings if table.token_mapping is None else table.token_mapping)
        unknown = table.unk_token_id
        self._encoder = kernels.Encoder(
            np.require(table.token_embeddings, requirements=["C", "A"]),
            None if table.token_mapping is None else np.require(table.token_mapping, np.int32, ["C", "A"]),
            None if table.weights is None else np.require(table.weights, np.float32, ["C", "A"]),
            self._n_vocabulary,
            -1 if unknown is None else unknown,
            splitting.carries_space,
            splitting.cuts_at_lines,
        )
        self._known: ChunkTable = kernels.ChunkTable(self._n_vocabulary)
        self._subwords: Subwords | None = None
        self._n_characters_before_subwords = CHARACTERS_BEFORE_SUBWORDS

    def embed(
        self,
        texts: list[str],
        max_length: int | None,
        normalize: bool,
        embeddings: NDArray[np.float32],
        advance: Callable[[int], None] | None = None,
    ) -> None:
        """Write the embeddings of the texts.

        Args:
            texts: Without lone surrogates.
            max_length: Maximum number of tokens per text; None for no limit.
            normalize: Whether to scale embeddings to unit length.
            embeddings: (n_texts, dim) float32, the output.
            advance: Called with the number of texts finished since the last call.

        Raises:
            UnicodeEncodeError: A text contains a lone surrogate.
        """

        def embed(start: int, stop: int) -> int:
            self._embed_part(texts, start, stop, max_length, normalize, embeddings[start:stop])
            return stop - start

        for n_done in self._in_parts(embed, texts, max_length):
            if advance is not None:
                advance(n_done)

    def token_ids(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        """Return the ids of each text's known tokens; arguments and errors as in `embed`."""
        parts = self._in_parts(
            lambda start, stop: self._tokenize_part(texts, start, stop, max_length), texts, max_length
        )
        return [ids for part in parts for ids in part]

    def _embed_part(
        self,
        texts: list[str],
        start: int,
        stop: int,
        max_length: int | None,
        normalize: bool,
        embeddings: NDArray[np.float32],
    ) -> None:
        limits, known, subwords = self._limits(max_length), self._known, self._subwords
        rest = self._encoder.pool(texts, start, stop, *limits, known, None, subwords, normalize, embeddings)
        if rest is None:
            return
        extra, missing, unsafe = rest
        if missing:
            self._tokenize_new_chunks(extra)
            again = [texts[start + i] for i in missing]
            found = np.empty((len(again), self._table.dim), np.float32)
            rest = self._encoder.pool(again, 0, len(again), *limits, known, extra, subwords, normalize, found)
            embeddings[missing] = found
            unsafe += [missing[i] for i in (*rest[1], *rest[2])]
        self._merge_new_chunks(extra)
        if unsafe:
            ids = self._tokenize_whole([texts[start + i] for i in unsafe], max_length)
            embeddings[unsafe] = self._table.means(ids, normalize)

    def _tokenize_part(self, texts: list[str], start: int, stop: int, max_length: int | None) -> list[list[int]]:
        limits, known, subwords = self._limits(max_length), self._known, self._subwords
        ids: list[list[int]]
        ids, rest = self._encoder.token_ids(texts, start, stop, *limits, known, None, subwords)
        if rest is None:
            return ids
        extra, missing, unsafe = rest
        if missing:
            self._tokenize_new_chunks(extra)
            again = [texts[start + i] for i in missing]
            found, rest = self._encoder.token_ids(again, 0, len(again), *limits, known, extra, subwords)
            for i, ids_of_text in zip(missing, found, strict=True):
                ids[i] = ids_of_text
            unsafe += [missing[i] for i in (*rest[1], *rest[2])]
        self._merge_new_chunks(extra)
        whole = self._tokenize_whole([texts[start + i] for i in unsafe], max_length)
        for i, ids_of_text in zip(unsafe, whole, strict=True):
            ids[i] = ids_of_text
        return ids

    def _limits(self, max_length: int | None) -> tuple[int, int]:
        """Maximum tokens and characters per text; as in Model2Vec, characters are truncated before tokens."""
        if max_length is None:
            return _NO_LIMIT, _NO_LIMIT
        return min(max_length, _NO_LIMIT), min(max_length * self._characters_per_token, _NO_LIMIT)

    def _in_parts(self, work: Callable[[int, int], _T], texts: list[str], max_length: int | None) -> Iterable[_T]:
        """Return the results of `work` for each part of the texts, in order, computed with one thread per core."""
        assert kernels is not None
        self._prepare(texts)
        n_threads = n_usable_cpus()
        ends = kernels.parts(
            texts, self._limits(max_length)[1], _PARTS_PER_THREAD * n_threads, *_CHARACTERS_PER_PART, _TEXTS_PER_PART
        )
        starts = [0, *ends[:-1]]
        if len(ends) < 2 or n_threads == 1:
            return map(work, starts, ends)
        return _threads(os.getpid()).map(work, starts, ends)

    def _prepare(self, texts: list[str]) -> None:
        """Build the subword model once enough text has been encoded to make up for the cost."""
        if self._n_characters_before_subwords > 0:
            self._n_characters_before_subwords -= sum(map(len, texts))
            if self._n_characters_before_subwords <= 0:
                self._subwords = build_subwords(self._tokenizer, self._splitting, self._tokens)

    def _tokenize_new_chunks(self, extra: ChunkTable) -> None:
        """Tokenize the chunks of `extra` that have no tokens yet."""
        chunks = extra.awaiting()
        marks = self._splitting.marks if self._splitting.marks_chunks else None
        extra.fill(
            plain.token_ids(self._tokenizer, chunks, None),
            [0] * len(chunks) if marks is None else [marks(chunk) for chunk in chunks],
        )

    def _merge_new_chunks(self, extra: ChunkTable | None) -> None:
        if extra is not None:
            self._known = self._known.merged(extra, MAX_SLOTS, MAX_TOKEN_IDS, MAX_LONG_BYTES, MAX_CHUNK_BYTES)

    def _tokenize_whole(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        texts = plain.truncate(texts, max_length, self._characters_per_token)
        ids = plain.token_ids(self._tokenizer, texts, max_length)
        return plain.drop_token(ids, self._table.unk_token_id)


@lru_cache(maxsize=1)
def _threads(process_id: int) -> ThreadPoolExecutor:
    """Return the thread pool of this process; keyed by process id because threads do not survive a fork."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(n_usable_cpus(), thread_name_prefix="m2v-encode")
