"""Where the chunks of a text begin and end."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2v_core.encoder.kernels.memory import bytes_at, helper, int64s_at, load, trailing_zeros

_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)


@helper
def _is_cut_byte(byte: Any) -> Any:
    return byte == 0x20 or byte == 0x0A or byte == 0x09 or byte == 0x0D


@helper
def _ends_in_space(start: Any, stop: Any) -> Any:
    """Whether the bytes from `start` to `stop` end in what any tokenizer could take for white space."""
    last = bytes_at(stop - 1)[0]
    if last < 0x80:
        return last <= 0x20 or last == 0x7F
    if stop - start >= 2 and bytes_at(stop - 2)[0] == 0xC2:
        return last == 0x85 or last == 0xA0
    if stop - start < 3:
        return False
    first, middle = bytes_at(stop - 3)[0], bytes_at(stop - 2)[0]
    if first == 0xE2:  # U+2000 to U+203F and U+205F to U+206F, with invisible characters among them
        return (middle == 0x80 and (last <= 0x8F or 0xA8 <= last <= 0xAF)) or (middle == 0x81 and last >= 0x9F)
    return (first == 0xE1 and middle == 0x9A and last == 0x80) or (first == 0xE3 and middle == 0x80 and last == 0x80)


@helper
def next_chunk(place: Any, end: Any, carries_space: Any, cuts_at_lines: Any) -> Any:
    """Start and stop of the chunk at or after `place`; an empty one at the end of the text."""
    if not carries_space:
        while place < end and _is_cut_byte(bytes_at(place)[0]):
            place += 1
        start = place
        while place < end:
            word = load(place)
            # Lowest mark: the first byte below 0x21. Marks above it may be wrong, so one at a time.
            marks = (word - _ONES * np.uint64(0x21)) & ~word & _HIGHS
            if marks == 0:
                place += 8
                continue
            place += np.int64(trailing_zeros(marks) >> np.uint64(3))
            if place >= end or _is_cut_byte(bytes_at(place)[0]):
                break
            place += 1
        return start, min(place, end)
    start = place
    place += 1
    while place < end:
        byte = bytes_at(place)[0]
        if (byte == 0x20 or (cuts_at_lines and _is_cut_byte(byte))) and not _ends_in_space(start, place):
            break
        place += 1
    return start, min(place, end)


def to_bytes(text: Any, bounds: Any, n_bounds: Any) -> Any:
    """Turn bounds counted in characters into bounds counted in bytes.

    Args:
        text: uint8, UTF-8.
        bounds: (n_bounds,) int64, rising, from 0; written to.
        n_bounds: One more than there are texts.
    """
    byte_of, bound_of = bytes_at(text), int64s_at(bounds)
    place = 0
    n_characters = 0
    for i in range(n_bounds):
        while n_characters < bound_of[i] or (n_characters and byte_of[place] & 0xC0 == 0x80):
            if byte_of[place] & 0xC0 != 0x80:
                n_characters += 1
            place += 1
        bound_of[i] = place
    return n_bounds
