"""The chunks already tokenized, shared by all threads that encode with one model."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2v_core.encoder.kernels import Chunks

# What one model may keep: 128 MiB of slots, and 32 MiB each for ids and longer chunks, in arrays that are at most twice
# as long: 256 MiB in all.
# Two million chunks are more than the distinct words of any corpus but the largest.
MAX_SLOTS = 1 << 22
MAX_IDS_BYTES = 1 << 25
MAX_LONG_BYTES = 1 << 25
# Longer chunks (links, or languages without spaces) hardly come again; they are read, and then forgotten.
LONGEST_KEPT = 128  # bytes

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


class ChunkTable:
    """Chunks with their tokens, found by hash and verified byte by byte. Never gets smaller.

    Args:
        n_slots: Room for half as many chunks; a power of two.
        hash_mask: Bits of the hash to use; fewer make chunks collide.
    """

    def __init__(self, n_slots: int = 1024, hash_mask: np.uint64 = _ALL) -> None:
        from m2v_core.encoder.kernels import Chunks

        self.arrays: Chunks = Chunks(
            slots=np.zeros((n_slots, 4), np.uint64),
            token_ids=np.zeros(n_slots, np.int32),
            long_chunks=np.zeros(4 * n_slots, np.uint8),
            counts=np.zeros(3, np.int64),
            hash_mask=np.full(1, hash_mask, np.uint64),
        )

    def __len__(self) -> int:
        return int(self.arrays.counts[0])

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    def reserve(self, n_chunks: int = 0, n_ids: int = 0, n_long_bytes: int = 0) -> None:
        """Make room for that many more."""
        from m2v_core.encoder import kernels

        used_chunks, used_ids, used_bytes = map(int, self.arrays.counts)
        arrays = self.arrays
        arrays = arrays._replace(
            token_ids=_longer(arrays.token_ids, used_ids, used_ids + n_ids),
            long_chunks=_longer(arrays.long_chunks, used_bytes, used_bytes + n_long_bytes),
        )
        n_slots = len(arrays.slots)
        while n_slots < 2 * (used_chunks + n_chunks):
            n_slots *= 2
        if n_slots > len(arrays.slots):
            slots = np.zeros((n_slots, 4), np.uint64)
            kernels.rehash(arrays, arrays._replace(slots=slots))
            arrays = arrays._replace(slots=slots)
        self.arrays = arrays

    def reserve_for(self, other: ChunkTable) -> None:
        """Make room for all that another table has."""
        self.reserve(*map(int, other.arrays.counts))

    def exceeds(self, other: ChunkTable) -> bool:
        """Whether this table with all that another has would be over the limits."""
        n_chunks, n_ids, n_long_bytes = map(int, self.arrays.counts + other.arrays.counts)
        return 2 * n_chunks > MAX_SLOTS or 4 * n_ids > MAX_IDS_BYTES or n_long_bytes > MAX_LONG_BYTES


def _longer(array: NDArray[Any], n_used: int, n_needed: int) -> NDArray[Any]:
    if n_needed <= len(array):
        return array
    longer = np.zeros(max(n_needed, 2 * len(array)), array.dtype)
    longer[:n_used] = array[:n_used]
    return longer


class SharedTable:
    """One model's `ChunkTable`: many threads read it at once, and one at a time adds to it.

    When it would grow over the limits a new table takes its place, with the chunks that were looked up since the last
    time, at most half of what fits. Who still reads the old one goes on with it.
    """

    def __init__(self) -> None:
        self._table: ChunkTable | None = None
        self._begin()
        _EVERY_TABLE.add(self)

    def _begin(self) -> None:
        self._condition = threading.Condition()
        self._n_readers = 0
        self._is_writing = False

    @property
    def table(self) -> ChunkTable:
        """The table to read."""
        if self._table is None:
            self._table = ChunkTable()
        return self._table

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While this holds, nobody adds to any table."""
        with self._condition:
            while self._is_writing:
                self._condition.wait()
            self._n_readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._n_readers -= 1
                self._condition.notify_all()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._condition:
            while self._is_writing:
                self._condition.wait()
            self._is_writing = True
            while self._n_readers:
                self._condition.wait()
        try:
            yield
        finally:
            with self._condition:
                self._is_writing = False
                self._condition.notify_all()

    def keep(self, new: ChunkTable) -> None:
        """Add the chunks of another table."""
        from m2v_core.encoder import kernels

        with self._writing():
            table = self.table
            if table.exceeds(new):
                table = self._without_idle(table)
            if table.exceeds(new):  # `new` alone is that large
                return
            table.reserve_for(new)
            kernels.copy(new.arrays, table.arrays, LONGEST_KEPT, False, MAX_SLOTS)
            self._table = table

    @staticmethod
    def _without_idle(table: ChunkTable) -> ChunkTable:
        from m2v_core.encoder import kernels

        kept = ChunkTable(hash_mask=table.arrays.hash_mask[0])
        kept.reserve_for(table)
        kernels.copy(table.arrays, kept.arrays, LONGEST_KEPT, True, MAX_SLOTS // 4)
        return kept

    def reset_after_fork(self) -> None:
        """In a forked child: the threads that held locks are not there, nor will a write in progress end."""
        if self._is_writing:
            self._table = None
        self._begin()


_EVERY_TABLE: weakref.WeakSet[SharedTable] = weakref.WeakSet()


def _reset_all() -> None:
    for table in list(_EVERY_TABLE):
        table.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
