"""Chunks in their table: found by hash, and verified byte by byte."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2v_core.encoder import layout
from m2v_core.encoder.kernels.memory import bytes_at, helper, int32s_at, int64s_at, load, uint64s_at

LENGTH = np.uint64(0xFFFFFFFF)
COUNT = np.uint64(0xFFFFFF)
_EVERY_BIT = layout.EVERY_BIT
_N_CHUNKS, _N_IDS, _N_LONG = layout.N_CHUNKS, layout.N_IDS, layout.N_LONG
_SLOTS, _N_SLOTS, _HASH_MASK = layout.SLOTS, layout.N_SLOTS, layout.HASH_MASK
_TOKEN_IDS, _LONG_CHUNKS = layout.TOKEN_IDS, layout.LONG_CHUNKS


@helper
def addresses(table: Any) -> Any:
    """What `find` reads of a table: slots, the last slot's number, hash mask, long chunks, token ids."""
    header = int64s_at(table)
    return (
        header[_SLOTS],
        np.uint64(header[_N_SLOTS] - 1),
        np.uint64(header[_HASH_MASK]),
        header[_LONG_CHUNKS],
        header[_TOKEN_IDS],
    )


@helper
def _first_bytes(address: Any, length: Any) -> Any:
    """The first eight bytes, zeros beyond the end."""
    word = load(address)
    if length < 8:
        word &= _EVERY_BIT >> np.uint64(64 - 8 * length)
    return word


@helper
def _mixed(state: Any, word: Any) -> Any:
    state = (state ^ word) * np.uint64(0x9E3779B97F4A7C15)
    return state ^ (state >> np.uint64(32))


@helper
def find(table: Any, chunk: Any, length: Any) -> Any:
    """The address of a chunk's slot, or minus that of the empty slot where it would stand.

    Args:
        table: `addresses` of one.
        chunk: Address of the first byte.
        length: Bytes.
    """
    slots, last_slot, hash_mask, long_chunks, _ = table
    first = _first_bytes(chunk, length)
    second = np.uint64(0)
    state = _mixed(np.uint64(length), first)
    if length > 8:
        if length <= 16:
            second = _first_bytes(chunk + 8, length - 8)
            state = _mixed(state, second)
        else:
            place = 8
            while place < length:
                state = _mixed(state, _first_bytes(chunk + place, length - place))
                place += 8
    slot = (state ^ (state >> np.uint64(29))) & hash_mask & last_slot
    while True:
        address = slots + np.int64(slot << np.uint64(5))
        meta = load(address + 16)
        if meta == 0:
            return -address
        if load(address) == first and np.int64(meta & LENGTH) == length:
            if length <= 16:
                if load(address + 8) == second:
                    return address
            else:
                stored = long_chunks + np.int64(load(address + 8))
                place = 8
                while place < length and _first_bytes(stored + place, length - place) == _first_bytes(
                    chunk + place, length - place
                ):
                    place += 8
                if place >= length:
                    return address
        slot = (slot + np.uint64(1)) & last_slot


@helper
def token(packed: Any, token_ids: Any, n_tokens: Any, i: Any) -> Any:
    """Id i of a chunk's, from the last word of its slot and the address of its table's ids."""
    if n_tokens <= 2:
        return np.int64((packed >> np.uint64(32 * i)) & LENGTH)
    return np.int64(int32s_at(token_ids)[np.int64(packed) + i])


@helper
def insert(table: Any, address: Any, chunk: Any, length: Any) -> None:
    """Write a chunk without tokens into the empty slot at this address; the table has room for it."""
    header, slot = int64s_at(table), uint64s_at(address)
    slot[0] = _first_bytes(chunk, length)
    slot[1] = np.uint64(0)
    slot[2] = np.uint64(length)
    slot[3] = np.uint64(0)
    if 8 < length <= 16:
        slot[1] = _first_bytes(chunk + 8, length - 8)
    elif length > 16:
        start = header[_N_LONG]
        slot[1] = np.uint64(start)
        stored = bytes_at(header[_LONG_CHUNKS] + start)
        for i in range(length):
            stored[i] = bytes_at(chunk)[i]
        header[_N_LONG] = start + length + 8
    header[_N_CHUNKS] += 1


@helper
def set_tokens(table: Any, address: Any, token_ids: Any, n_tokens: Any, marks: Any) -> None:
    """Give the chunk whose slot is at this address its tokens, int32; the table has room for them."""
    header, slot, new = int64s_at(table), uint64s_at(address), int32s_at(token_ids)
    if n_tokens <= 2:
        packed = np.uint64(0)
        if n_tokens > 0:
            packed = np.uint64(np.uint32(new[0]))
        if n_tokens > 1:
            packed |= np.uint64(np.uint32(new[1])) << np.uint64(32)
        slot[3] = packed
    else:
        place = header[_N_IDS]
        slot[3] = np.uint64(place)
        stored = int32s_at(header[_TOKEN_IDS])
        for i in range(n_tokens):
            stored[place + i] = new[i]
        header[_N_IDS] = place + n_tokens
    slot[2] = (slot[2] & LENGTH) | (np.uint64(n_tokens) << np.uint64(32)) | marks
