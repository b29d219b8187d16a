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

from m2v_core.encoder import kernels, plain
from m2v_core.encoder.chunks import ChunkTable, SharedTable
from m2v_core.encoder.splitting import ALONE_UNSAFE, Splitting

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PADDING = "\0" * 8  # kernels read eight bytes at a time
_BYTES_FOR_THREADS = 200_000  # a second thread pays from here on
_PARTS_PER_THREAD = 4
_MAX_TOKENS = 1 << 24  # of a chunk, as many as a slot can count
_MARK_BITS = np.uint64(56)
_NO_LIMIT = np.iinfo(np.int64).max


class KernelRun:
    """Encodes one block of texts.

    Args:
        texts: Without lone surrogates; together they fit into memory thrice.
        max_length: Tokens to read of each text; None for all.
        table: The model's rows.
        tokenizer: Reads the chunks that are new.
        splitting: How the tokenizer's texts fall into chunks.
        shared: Chunks known so far; new ones are added.
        pieces: The tokenizer's vocabulary, if it is of that kind.
    """

    def __init__(
        self,
        texts: list[str],
        max_length: int | None,
        table: plain.Table,
        tokenizer: Tokenizer,
        splitting: Splitting,
        shared: SharedTable,
        pieces: kernels.WordPieces,
    ) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self._splitting = splitting
        self._shared = shared
        self._pieces = pieces
        self._n_texts = len(texts)
        self._limit = _NO_LIMIT if max_length is None else min(max_length, _NO_LIMIT)
        self._unknown = -1 if table.unk_token_id is None else table.unk_token_id
        self._how_split = (splitting.carries_space, splitting.cuts_at_lines)

        data = "".join([*texts, _PADDING]).encode()
        self._text = np.frombuffer(data, np.uint8)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        self._bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(lengths, out=self._bounds[1:])
        if self._bounds[-1] + len(_PADDING) < len(data):
            kernels.to_bytes(self._text, self._bounds)

    def pool(self, embeddings: NDArray[np.float32], normalize: bool) -> NDArray[np.int64]:
        """Write all embeddings but for those of some texts, and say which these are: they must be read whole.

        Args:
            embeddings: (n_texts, dim) float32, written to.
            normalize: Whether rows get unit length.
        """
        rows, mapping, weights = _parts_of(self._table)

        def pool(which: NDArray[np.int64], known: ChunkTable, extra: ChunkTable) -> None:
            kernels.pool(
                self._text,
                self._bounds,
                which,
                self._how_split,
                known.arrays,
                extra.arrays,
                self._unknown,
                self._limit,
                rows,
                mapping,
                weights,
                normalize,
                embeddings,
                outcomes,
            )

        outcomes = np.empty(self._n_texts, np.uint8)
        self._run(pool, outcomes)
        return np.flatnonzero(outcomes == kernels.UNSAFE)

    def tokenize(self) -> tuple[list[list[int]], NDArray[np.int64]]:
        """The known ids of each text, empty for texts that must be read whole, and which these are."""
        found: list[list[int]] = [[] for _ in range(self._n_texts)]
        counts = np.zeros(self._n_texts, np.int64)

        def tokenize(which: NDArray[np.int64], known: ChunkTable, extra: ChunkTable) -> None:
            ids = kernels.tokenize(
                self._text,
                self._bounds,
                which,
                self._how_split,
                known.arrays,
                extra.arrays,
                self._unknown,
                self._limit,
                counts,
                outcomes,
            ).tolist()
            start = 0
            for i, count in zip(which.tolist(), counts[which].tolist(), strict=True):
                if count:
                    found[i] = ids[start : start + count]
                    start += count

        outcomes = np.empty(self._n_texts, np.uint8)
        self._run(tokenize, outcomes)
        return found, np.flatnonzero(outcomes == kernels.UNSAFE)

    def _run(
        self, work: Callable[[NDArray[np.int64], ChunkTable, ChunkTable], None], outcomes: NDArray[np.uint8]
    ) -> None:
        """Do the work for all texts: at once where all chunks are known, and again where some had to be learned."""
        known = self._shared.table
        everything = np.arange(self._n_texts)
        with self._shared.reading():
            self._in_parallel(lambda which: work(which, known, _nothing()), everything)
        missing = np.flatnonzero(outcomes == kernels.MISSING)
        if len(missing):
            extra = self._learn(missing, known)
            with self._shared.reading():
                self._in_parallel(lambda which: work(which, known, extra), missing)
            self._shared.keep(extra)

    def _in_parallel(self, work: Callable[[NDArray[np.int64]], None], which: NDArray[np.int64]) -> None:
        sizes = self._bounds[which + 1] - self._bounds[which]
        ends = np.cumsum(sizes)
        n_threads = _n_cores()
        if n_threads == 1 or len(which) < 2 or ends[-1] < _BYTES_FOR_THREADS:
            work(which)
            return
        n_parts = n_threads * _PARTS_PER_THREAD
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, n_parts) / n_parts)
        list(_threads(os.getpid()).map(work, [part for part in np.split(which, np.unique(cuts)) if len(part)]))

    def _learn(self, which: NDArray[np.int64], known: ChunkTable) -> ChunkTable:
        """The chunks of these texts that are not known, with their tokens."""
        extra = ChunkTable(hash_mask=known.arrays.hash_mask[0])
        new = np.empty(1 << 16, np.uint8)
        place, n_new, n_needed = 0, 0, 0
        while True:
            with self._shared.reading():
                place, n_new, n_needed = kernels.collect(
                    self._text,
                    self._bounds,
                    which,
                    place,
                    self._how_split,
                    known.arrays,
                    extra.arrays,
                    self._pieces,
                    new,
                    n_new,
                )
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
        kernels.fill(extra.arrays, new, token_ids, n_tokens, marks << _MARK_BITS)
        return extra


def _parts_of(table: plain.Table) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.float32]]:
    """Table, mapping and weights as the kernels take them: read-only, and empty where there is none."""
    rows = np.ascontiguousarray(table.token_embeddings)
    if rows.dtype == np.float16:
        rows = rows.view(np.uint16) if kernels.READS_HALVES else rows.astype(np.float32)
    mapping = np.empty(0, np.int32) if table.token_mapping is None else np.ascontiguousarray(table.token_mapping)
    weights = np.empty(0, np.float32) if table.weights is None else np.ascontiguousarray(table.weights)
    return _read_only(rows), _read_only(mapping), _read_only(weights)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The kernels are compiled for arrays that can't be written; one variant is enough."""
    view = array.view()
    view.flags.writeable = False
    return view


@lru_cache(maxsize=1)
def _nothing() -> ChunkTable:
    return ChunkTable(n_slots=2)


def _n_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _threads(process_id: int) -> ThreadPoolExecutor:
    """The threads of this process: after a fork the parent's are not there."""
    return ThreadPoolExecutor(_n_cores(), thread_name_prefix="m2v-encode")
