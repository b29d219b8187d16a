"""Putting chunks into tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2v_core.encoder import layout
from m2v_core.encoder.kernels.finding import COUNT, LENGTH, addresses, find, insert, set_tokens
from m2v_core.encoder.kernels.memory import bytes_at, int64s_at, load, uint64s_at

_USED = layout.USED
_MARKS = np.uint64(0xFF << 56)
_N_SLOTS, _N_CHUNKS, _TOKEN_IDS = layout.N_SLOTS, layout.N_CHUNKS, layout.TOKEN_IDS


def add(table: Any, new: Any, n_new: Any) -> Any:
    """Put listed chunks into a table, without tokens.

    Args:
        table: With room for them.
        new: uint8, as `collect` lists them.
        n_new: Number listed.
    """
    in_table = addresses(table)
    start = new
    for _ in range(n_new):
        stop = start
        while bytes_at(stop)[0] != 0xFF:
            stop += 1
        slot = find(in_table, start, stop - start)
        if slot < 0:
            insert(table, -slot, start, stop - start)
        start = stop + 1
    return n_new


def fill(table: Any, new: Any, n_new: Any, token_ids: Any, n_tokens: Any, marks: Any) -> Any:
    """Give listed chunks their tokens.

    Args:
        table: That has them, with room for the ids.
        new: uint8, as `collect` lists them.
        n_new: Number listed.
        token_ids: int32, all their ids in a row.
        n_tokens: (n_new,) int64, ids of each.
        marks: (n_new,) uint64, marks of each.
    """
    in_table = addresses(table)
    start = new
    ids = token_ids
    for i in range(n_new):
        stop = start
        while bytes_at(stop)[0] != 0xFF:
            stop += 1
        slot = find(in_table, start, stop - start)
        count = int64s_at(n_tokens)[i]
        set_tokens(table, slot, ids, count, uint64s_at(marks)[i])
        ids += 4 * count
        start = stop + 1
    return n_new


def copy(source: Any, target: Any, longest: Any, only_used: Any, at_most: Any) -> Any:
    """Copy chunks that `target` lacks and has room for; copies count as not used.

    Args:
        source: A table.
        target: A table with room for them.
        longest: Chunks of more bytes stay behind.
        only_used: Whether those never looked up stay behind.
        at_most: Chunks in `target` to stop at.
    """
    in_source, in_target = addresses(source), addresses(target)
    n_slots = int64s_at(source)[_N_SLOTS]
    for i in range(n_slots):
        address = in_source[0] + 32 * i
        meta = load(address + 16)
        length = np.int64(meta & LENGTH)
        if meta == 0 or length > longest or (only_used and not meta & _USED):
            continue
        if int64s_at(target)[_N_CHUNKS] >= at_most:
            return i
        chunk = address if length <= 16 else in_source[3] + np.int64(load(address + 8))
        slot = find(in_target, chunk, length)
        if slot >= 0:
            continue
        n_tokens = np.int64((meta >> np.uint64(32)) & COUNT)
        ids = address + 24  # two ids stand in the slot as in any list
        if n_tokens > 2:
            ids = in_source[4] + 4 * np.int64(load(address + 24))
        insert(target, -slot, chunk, length)
        set_tokens(target, -slot, ids, n_tokens, (meta & ~_USED) & _MARKS)
    return n_slots


def rehash(source: Any, target: Any) -> Any:
    """Put all chunks of `source` into the empty slots of `target`, which shares all else with it."""
    in_source, in_target = addresses(source), addresses(target)
    n_slots = int64s_at(source)[_N_SLOTS]
    for i in range(n_slots):
        address = in_source[0] + 32 * i
        length = np.int64(load(address + 16) & LENGTH)
        if length == 0:
            continue
        chunk = address if length <= 16 else in_source[3] + np.int64(load(address + 8))
        slot = uint64s_at(-find(in_target, chunk, length))
        for part in range(4):
            slot[part] = uint64s_at(address)[part]
    return n_slots
