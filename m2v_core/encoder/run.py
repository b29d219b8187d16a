"""One block of texts through the kernels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from m2v_core.cpus import n_usable_cpus
from m2v_core.encoder import layout, plain
from m2v_core.encoder.chunks import ChunkTable, SharedTable
from m2v_core.encoder.native import kernels
from m2v_core.encoder.splitting import ALONE_UNSAFE, Splitting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2v_core.encoder.pieces import WordPieces

_KINDS = {"float32": layout.FLOAT32, "float16": layout.FLOAT16, "int8": layout.INT8}
_TOKENS_AT_FIRST = 4_096  # room for; doubled where it runs out
_BYTES_FOR_THREADS = 200_000  # a second thread pays from here on
_PARTS_PER_THREAD = 4
_MAX_TOKENS = 1 << 24  # of a chunk, as many as a slot can count
_MARK_BITS = np.uint64(56)
_NO_LIMIT = np.iinfo(np.int64).max


class Rows:
    """A model's rows as the kernels take them.

    Attributes:
        dim: Width.
        arguments: Address, kind and width of the rows, addresses of mapping and weights; 0 where there is none.
    """

    def __init__(self, table: plain.Table) -> None:
        def ready(array: NDArray[Any] | None, kind: type | None = None) -> NDArray[Any]:
            return np.require(np.empty(0) if array is None else array, kind, ["C", "A"])

        rows = ready(table.token_embeddings)
        if rows.dtype == np.float16 and not kernels().reads_halves:
            rows = rows.astype(np.float32)
        # Kept as long as their addresses.
        self._arrays = (rows, ready(table.token_mapping, np.int32), ready(table.weights, np.float32))
        at, mapping, weights = (array.ctypes.data if array.size else 0 for array in self._arrays)
        self.dim = table.dim
        self.arguments = (at, _KINDS[rows.dtype.name], table.dim, mapping, weights)


class KernelRun:
    """Encodes one block of texts.

    Args:
        texts: Without lone surrogates; together they fit into memory thrice.
        max_length: Tokens to read of each text; None for all.
        rows: The model's.
        unknown: The token left out, if there is one.
        tokenizer: Reads the chunks that are new.
        splitting: How the tokenizer's texts fall into chunks.
        shared: Chunks known so far; new ones are added.
        pieces: The tokenizer's vocabulary, if it is of that kind.
    """

    def __init__(
        self,
        texts: list[str],
        max_length: int | None,
        rows: Rows,
        unknown: int | None,
        tokenizer: Tokenizer,
        splitting: Splitting,
        shared: SharedTable,
        pieces: WordPieces,
    ) -> None:
        self._rows = rows
        self._tokenizer = tokenizer
        self._splitting = splitting
        self._shared = shared
        self._pieces = pieces
        self._n_texts = len(texts)
        self._limit = _NO_LIMIT if max_length is None else min(max_length, _NO_LIMIT)
        self._unknown = -1 if unknown is None else unknown

        data = "".join([*texts, "\0" * layout.PADDING]).encode()
        bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=bounds[1:])
        text = np.frombuffer(data, np.uint8)
        if bounds[-1] + layout.PADDING < len(data):
            kernels().to_bytes(text, bounds, len(bounds))
        self._text, self._bounds = text, bounds
        # An address takes NumPy a microsecond; these are passed again and again.
        self._texts = (text.ctypes.data, bounds.ctypes.data, splitting.carries_space, splitting.cuts_at_lines)

    def pool(self, embeddings: NDArray[np.float32], normalize: bool) -> NDArray[np.int64]:
        """Write all embeddings but for those of some texts, and say which these are: they must be read whole.

        Args:
            embeddings: (n_texts, dim) float32, written to.
            normalize: Whether rows get unit length.
        """

        def pool(which: NDArray[np.int64], known: ChunkTable, extra: ChunkTable) -> None:
            begin, room = 0, _TOKENS_AT_FIRST
            while begin < len(which):
                begin = kernels().pool(
                    *self._reading(which, begin, known, extra),
                    *self._rows.arguments,
                    normalize,
                    *(np.empty(room + self._rows.dim), room, embeddings, outcomes),
                )
                room *= 2

        outcomes = np.empty(self._n_texts, np.uint8)
        self._run(pool, outcomes)
        return np.flatnonzero(outcomes == layout.UNSAFE)

    def tokenize(self) -> tuple[list[list[int]], NDArray[np.int64]]:
        """The known ids of each text, empty for texts that must be read whole, and which these are."""
        found: list[list[int]] = [[] for _ in range(self._n_texts)]
        counts = np.zeros(self._n_texts, np.int64)

        def tokenize(which: NDArray[np.int64], known: ChunkTable, extra: ChunkTable) -> None:
            begin, room = 0, _TOKENS_AT_FIRST
            while begin < len(which):
                ids = np.empty(room, np.int32)
                stop = kernels().tokenize(
                    *self._reading(which, begin, known, extra),
                    *(ids, room, counts, outcomes),
                )
                done = which[begin:stop]
                start = 0
                for i, count in zip(done.tolist(), counts[done].tolist(), strict=True):
                    if count:
                        found[i] = ids[start : start + count].tolist()
                        start += count
                begin, room = stop, 2 * room

        outcomes = np.empty(self._n_texts, np.uint8)
        self._run(tokenize, outcomes)
        return found, np.flatnonzero(outcomes == layout.UNSAFE)

    def _reading(self, which: NDArray[np.int64], begin: int, known: ChunkTable, extra: ChunkTable) -> tuple[Any, ...]:
        """What kernels that read take first: the texts from a place in `which` on, and how to read them."""
        return (
            *(*self._texts, which, begin, len(which)),
            *(known.address, extra.address, self._unknown, self._limit),
        )

    def _run(
        self, work: Callable[[NDArray[np.int64], ChunkTable, ChunkTable], None], outcomes: NDArray[np.uint8]
    ) -> None:
        """Do the work for all texts: at once where all chunks are known, and again where some had to be learned."""
        known = self._shared.table
        everything = np.arange(self._n_texts)
        with self._shared.reading():
            self._in_parallel(lambda which: work(which, known, _nothing()), everything)
        missing = np.flatnonzero(outcomes == layout.MISSING)
        if len(missing):
            extra = self._learn(missing, known)
            with self._shared.reading():
                self._in_parallel(lambda which: work(which, known, extra), missing)
            self._shared.keep(extra)

    def _in_parallel(self, work: Callable[[NDArray[np.int64]], None], which: NDArray[np.int64]) -> None:
        n_threads = n_usable_cpus() if len(which) > 1 and self._bounds[-1] >= _BYTES_FOR_THREADS else 1
        if n_threads > 1:
            ends = np.cumsum(self._bounds[which + 1] - self._bounds[which])
            if ends[-1] >= _BYTES_FOR_THREADS:
                n_parts = n_threads * _PARTS_PER_THREAD
                cuts = np.unique(np.searchsorted(ends, ends[-1] * np.arange(1, n_parts) / n_parts))
                list(_threads(os.getpid()).map(work, [part for part in np.split(which, cuts) if len(part)]))
                return
        work(which)

    def _learn(self, which: NDArray[np.int64], known: ChunkTable) -> ChunkTable:
        """The chunks of these texts that are not known, with their tokens."""
        extra = ChunkTable(hash_mask=known.hash_mask)
        new = np.empty(1 << 16, np.uint8)
        progress = np.zeros(2, np.int64)
        spelled = np.empty(layout.LONGEST_SPELLED + layout.PADDING, np.uint8)
        ids = np.empty(layout.LONGEST_SPELLED, np.int32)
        first, inner, *spelling = self._pieces
        place = 0
        while True:
            with self._shared.reading():
                place = kernels().collect(
                    *self._texts,
                    *(which, place, len(which)),
                    *(known.address, extra.address),
                    *(first.address, inner.address, *spelling, spelled, ids),
                    *(new, len(new), progress),
                )
            n_new, n_needed = map(int, progress)
            if place == len(which):
                break
            extra.reserve(n_chunks=2 * len(extra) + 1, n_ids=2 * len(extra) + 256, n_long_bytes=n_needed + 8)
            new = np.concatenate([new, np.empty(len(new) + n_needed, np.uint8)])
        chunks = [chunk.decode() for chunk in new[:n_new].tobytes().split(b"\xff")[:-1]]
        sequences = plain.token_ids(self._tokenizer, chunks, None)
        marks = np.zeros(len(chunks), np.uint64)
        if self._splitting.marks_chunks:
            marks[:] = [self._splitting.marks(chunk) for chunk in chunks]
        n_tokens = np.fromiter(map(len, sequences), np.int64, len(sequences))
        for i in np.flatnonzero(n_tokens >= _MAX_TOKENS):
            sequences[i], n_tokens[i], marks[i] = [], 0, ALONE_UNSAFE
        total = int(n_tokens.sum())
        token_ids = np.fromiter(itertools.chain.from_iterable(sequences), np.int32, total)
        extra.reserve(n_ids=total)
        kernels().fill(extra.address, new, len(chunks), token_ids, n_tokens, marks << _MARK_BITS)
        return extra


@lru_cache(maxsize=1)
def _nothing() -> ChunkTable:
    return ChunkTable(n_slots=2)


@lru_cache(maxsize=1)
def _threads(process_id: int) -> ThreadPoolExecutor:
    """The threads of this process: after a fork the parent's are not there."""
    return ThreadPoolExecutor(n_usable_cpus(), thread_name_prefix="m2v-encode")
