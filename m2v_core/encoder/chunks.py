"""The chunks already tokenized, shared by all threads that encode with one model."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core.encoder import layout
from m2v_core.encoder.native import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What one model may keep: 128 MiB of slots, and 32 MiB each for ids and longer chunks, in arrays that are at most twice
# as long: 256 MiB in all.
# Three million chunks are more than the distinct words of any corpus but the largest.
MAX_SLOTS = 1 << 22
MAX_IDS_BYTES = 1 << 25
MAX_LONG_BYTES = 1 << 25
# Longer chunks (links, or languages without spaces) hardly come again; they are read, and then forgotten.
LONGEST_KEPT = 128  # bytes


class ChunkTable:
    """Chunks with their tokens, found by hash and verified byte by byte. Never gets smaller.

    Args:
        n_slots: Room for three quarters as many chunks; a power of two.
        hash_mask: Bits of the hash to use; fewer make chunks collide.

    Attributes:
        header: (HEADER_WORDS,) int64, as `layout` has it.
        address: Where the header lies, which is what kernels take for a table. Another after `reserve`.
    """

    def __init__(self, n_slots: int = 1024, hash_mask: np.uint64 = layout.EVERY_BIT) -> None:
        self._slots = np.zeros((n_slots, 4), np.uint64)
        self._token_ids = np.zeros(n_slots, np.int32)
        self._long_chunks = np.zeros(4 * n_slots, np.uint8)
        self.header = np.zeros(layout.HEADER_WORDS, np.int64)
        self.header.view(np.uint64)[layout.HASH_MASK] = hash_mask
        self.header = self._header_with(self._slots, self._token_ids, self._long_chunks)
        self.address: int = self.header.ctypes.data

    def __len__(self) -> int:
        return int(self.header[layout.N_CHUNKS])

    @property
    def counts(self) -> NDArray[np.int64]:
        """(3,) int64: chunks, token ids and bytes of long chunks."""
        return self.header[[layout.N_CHUNKS, layout.N_IDS, layout.N_LONG]]

    @property
    def n_slots(self) -> int:
        """A power of two, at least a quarter of them empty."""
        return len(self._slots)

    @property
    def hash_mask(self) -> np.uint64:
        """Bits of the hash in use."""
        return np.uint64(self.header.view(np.uint64)[layout.HASH_MASK])

    def reserve(self, n_chunks: int = 0, n_ids: int = 0, n_long_bytes: int = 0) -> None:
        """Make room for that many more."""
        used_chunks, used_ids, used_bytes = map(int, self.counts)
        token_ids = _longer(self._token_ids, used_ids, used_ids + n_ids)
        long_chunks = _longer(self._long_chunks, used_bytes, used_bytes + n_long_bytes)
        n_slots = self.n_slots
        while not layout.fits(used_chunks + n_chunks, n_slots):
            n_slots *= 2
        slots = self._slots if n_slots == self.n_slots else np.zeros((n_slots, 4), np.uint64)
        header = self._header_with(slots, token_ids, long_chunks)
        if slots is not self._slots:
            kernels().rehash(self.address, header)
        self._slots, self._token_ids, self._long_chunks = slots, token_ids, long_chunks
        self.header, self.address = header, header.ctypes.data

    def _header_with(
        self, slots: NDArray[np.uint64], token_ids: NDArray[np.int32], long_chunks: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        header = self.header.copy()
        header[[layout.SLOTS, layout.N_SLOTS]] = slots.ctypes.data, len(slots)
        header[[layout.TOKEN_IDS, layout.ROOM_FOR_IDS]] = token_ids.ctypes.data, len(token_ids)
        header[[layout.LONG_CHUNKS, layout.ROOM_FOR_LONG]] = long_chunks.ctypes.data, len(long_chunks)
        return header

    def reserve_for(self, other: ChunkTable) -> None:
        """Make room for all that another table has."""
        self.reserve(*map(int, other.counts))

    def exceeds(self, other: ChunkTable) -> bool:
        """Whether this table with all that another has would be over the limits."""
        n_chunks, n_ids, n_long_bytes = map(int, self.counts + other.counts)
        return not layout.fits(n_chunks, MAX_SLOTS) or 4 * n_ids > MAX_IDS_BYTES or n_long_bytes > MAX_LONG_BYTES


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
        with self._writing():
            table = self.table
            if table.exceeds(new):
                table = self._without_idle(table)
            if table.exceeds(new):  # `new` alone is that large
                return
            table.reserve_for(new)
            kernels().copy(new.address, table.address, LONGEST_KEPT, False, MAX_SLOTS)
            self._table = table

    @staticmethod
    def _without_idle(table: ChunkTable) -> ChunkTable:
        kept = ChunkTable(hash_mask=table.hash_mask)
        kept.reserve_for(table)
        kernels().copy(table.address, kept.address, LONGEST_KEPT, True, 3 * MAX_SLOTS // 8)
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
