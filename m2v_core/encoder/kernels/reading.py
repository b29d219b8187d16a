"""The token ids of texts whose chunks are known, and the chunks that are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2v_core.encoder import layout
from m2v_core.encoder.kernels.finding import COUNT, addresses, find, insert, set_tokens, token
from m2v_core.encoder.kernels.memory import bytes_at, helper, int32s_at, int64s_at, load, uint64s_at
from m2v_core.encoder.kernels.splitting import next_chunk

DONE = layout.DONE
NO_ROOM = 3  # beside what may become of a text

_MISSING, _UNSAFE = layout.MISSING, layout.UNSAFE
_LETTER, _FOREIGN, _LONGEST_SPELLED = layout.LETTER, layout.FOREIGN, layout.LONGEST_SPELLED
_USED, _ALONE_UNSAFE = layout.USED, layout.ALONE_UNSAFE
_MAY_BEGIN_PHRASE, _MAY_GO_ON = layout.MAY_BEGIN_PHRASE, layout.MAY_GO_ON
_N_SLOTS, _N_CHUNKS = layout.N_SLOTS, layout.N_CHUNKS
_N_IDS, _ROOM_FOR_IDS = layout.N_IDS, layout.ROOM_FOR_IDS
_N_LONG, _ROOM_FOR_LONG = layout.N_LONG, layout.ROOM_FOR_LONG

_fits = helper(layout.fits)


@helper
def gather(
    place: Any,
    end: Any,
    carries_space: Any,
    cuts_at_lines: Any,
    known: Any,
    extra: Any,
    unknown: Any,
    limit: Any,
    ids: Any,
    room: Any,
) -> Any:
    """Write the ids of a text's tokens but for the unknown one: (outcome, number of them)."""
    n_read = 0
    n_kept = 0
    before = np.uint64(0)
    while n_read < limit:
        chunk, place = next_chunk(place, end, carries_space, cuts_at_lines)
        if chunk == place:
            return DONE, n_kept
        token_ids = known[4]
        slot = find(known, chunk, place - chunk)
        if slot < 0:
            token_ids = extra[4]
            slot = find(extra, chunk, place - chunk)
            if slot < 0:
                return _MISSING, n_kept
        meta = load(slot + 16)
        if meta & _ALONE_UNSAFE or (before & _MAY_BEGIN_PHRASE and meta & _MAY_GO_ON):
            return _UNSAFE, n_kept
        if not meta & _USED:
            uint64s_at(slot)[2] = meta | _USED
        before = meta
        n_tokens = np.int64((meta >> np.uint64(32)) & COUNT)
        n_taken = min(n_tokens, limit - n_read)
        if n_kept + n_taken > room:
            return NO_ROOM, n_kept
        packed = load(slot + 24)
        for i in range(n_taken):
            token_id = token(packed, token_ids, n_tokens, i)
            if token_id != unknown:
                int32s_at(ids)[n_kept] = np.int32(token_id)
                n_kept += 1
        n_read += n_taken
    # The next chunk may have made a phrase of the last one.
    return (_UNSAFE if before & _MAY_BEGIN_PHRASE else DONE), n_kept


def tokenize(
    text: Any,
    bounds: Any,
    carries_space: Any,
    cuts_at_lines: Any,
    which: Any,
    begin: Any,
    n_which: Any,
    known: Any,
    extra: Any,
    unknown: Any,
    limit: Any,
    ids: Any,
    room: Any,
    counts: Any,
    outcomes: Any,
) -> Any:
    """Write the known ids of the texts whose chunks are all known, text after text.

    Args:
        text: uint8, every text's UTF-8 in a row, with `PADDING`.
        bounds: (n_texts + 1,) int64, where texts start and end.
        carries_space: Whether chunks carry the space before them.
        cuts_at_lines: Whether line ends cut as spaces do.
        which: (n_which,) int64, the texts to do.
        begin: Place in `which` to begin at.
        n_which: Number of them.
        known: A table.
        extra: A table that is looked up where `known` lacks a chunk.
        unknown: Id to leave out, -1 for none.
        limit: Tokens to read of each text.
        ids: (room,) int32, written to.
        room: How many ids fit.
        counts: (n_texts,) int64, written to: ids of each text.
        outcomes: (n_texts,) uint8, written to: `DONE`, `MISSING` or `UNSAFE`.

    Returns:
        The place in `which` where room ran out, or its length.
    """
    in_known, in_extra = addresses(known), addresses(extra)
    bound_of, count_of = int64s_at(bounds), int64s_at(counts)
    n_found = 0
    for at in range(begin, n_which):
        i = int64s_at(which)[at]
        outcome, n_tokens = gather(
            text + bound_of[i],
            text + bound_of[i + 1],
            carries_space,
            cuts_at_lines,
            in_known,
            in_extra,
            unknown,
            limit,
            ids + 4 * n_found,
            room - n_found,
        )
        if outcome == NO_ROOM:
            return at
        bytes_at(outcomes)[i] = outcome
        count_of[i] = n_tokens if outcome == DONE else 0
        n_found += count_of[i]
    return n_which


@helper
def _word_pieces(
    chunk: Any,
    length: Any,
    first: Any,
    inner: Any,
    kinds: Any,
    spelling: Any,
    longest: Any,
    unknown: Any,
    longest_word: Any,
    spelled: Any,
    ids: Any,
) -> Any:
    """Write the ids of a chunk of plain ASCII into `ids`: their number, or -1 if the tokenizer has to judge.

    Greedily the longest piece first, as WordPiece does.
    """
    if length > _LONGEST_SPELLED:
        return -1
    kind_of, byte_of, id_of = bytes_at(kinds), bytes_at(spelled), int32s_at(ids)
    for i in range(length):
        byte = bytes_at(chunk)[i]
        if kind_of[byte] == _FOREIGN:
            return -1
        byte_of[i] = bytes_at(spelling)[byte]
    n_ids = 0
    begin = 0
    while begin < length:
        stop = begin + 1
        if kind_of[byte_of[begin]] == _LETTER:
            while stop < length and kind_of[byte_of[stop]] == _LETTER:
                stop += 1
        n_before = n_ids
        place = begin
        while place < stop:
            end = min(stop, place + longest)
            slot = np.int64(-1)
            while end > place:
                slot = find(first if place == begin else inner, spelled + place, end - place)
                if slot >= 0:
                    break
                end -= 1
            if slot < 0 or stop - begin > longest_word:
                n_ids = n_before + 1
                id_of[n_before] = np.int32(unknown)
                break
            id_of[n_ids] = np.int32(load(slot + 24))
            n_ids += 1
            place = end
        begin = stop
    return n_ids


def collect(
    text: Any,
    bounds: Any,
    carries_space: Any,
    cuts_at_lines: Any,
    which: Any,
    begin: Any,
    n_which: Any,
    known: Any,
    extra: Any,
    first: Any,
    inner: Any,
    kinds: Any,
    spelling: Any,
    longest: Any,
    unknown: Any,
    longest_word: Any,
    spelled: Any,
    ids: Any,
    new: Any,
    room: Any,
    progress: Any,
) -> Any:
    """Put the chunks that neither table has into `extra`, with their tokens or listed for the tokenizer.

    Args:
        text: As in `tokenize`, and so are the others not named here.
        extra: Written to.
        first: Table of the pieces that begin a word, and so on: `WordPieces`.
        spelled: (`LONGEST_SPELLED` + `PADDING`,) uint8, to work in.
        ids: (`LONGEST_SPELLED`,) int32, to work in.
        new: (room,) uint8, written to: the bytes of each chunk for the tokenizer and 0xFF, which is in no UTF-8.
        room: Bytes of `new`.
        progress: (2,) int64, written to: the bytes of `new` in use, and the bytes that the next chunk needs.

    Returns:
        The place in `which` where room ran out, or its length.
    """
    in_known, in_extra = addresses(known), addresses(extra)
    in_first, in_inner = addresses(first), addresses(inner)
    bound_of, header = int64s_at(bounds), int64s_at(extra)
    n_new = int64s_at(progress)[0]
    for at in range(begin, n_which):
        i = int64s_at(which)[at]
        place, end = text + bound_of[i], text + bound_of[i + 1]
        while True:
            chunk, place = next_chunk(place, end, carries_space, cuts_at_lines)
            length = place - chunk
            if length == 0:
                break
            if find(in_known, chunk, length) >= 0:
                continue
            slot = find(in_extra, chunk, length)
            if slot >= 0:
                continue
            if (
                not _fits(header[_N_CHUNKS] + 1, header[_N_SLOTS])
                or header[_N_IDS] + _LONGEST_SPELLED > header[_ROOM_FOR_IDS]
                or header[_N_LONG] + length + 8 > header[_ROOM_FOR_LONG]
                or n_new + length + 9 > room
            ):
                int64s_at(progress)[0] = n_new
                int64s_at(progress)[1] = length
                return at
            insert(extra, -slot, chunk, length)
            if longest:
                n_ids = _word_pieces(
                    chunk, length, in_first, in_inner, kinds, spelling, longest, unknown, longest_word, spelled, ids
                )
                if n_ids >= 0:
                    set_tokens(extra, -slot, ids, n_ids, np.uint64(0))
                    continue
            for j in range(length):
                bytes_at(new)[n_new + j] = bytes_at(chunk)[j]
            bytes_at(new)[n_new + length] = 0xFF
            n_new += length + 1
    int64s_at(progress)[0] = n_new
    return n_which
