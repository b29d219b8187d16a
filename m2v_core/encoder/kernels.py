"""The compiled loops: find the chunks of a text, look them up, add the rows of their tokens.

Nothing here allocates much, calls Python or holds the interpreter's lock, and nothing starts threads: callers give
each of theirs a range of texts. Arrays of the table of chunks are described in `chunks`.

A slot of the table is four unsigned numbers of 64 bits, each with its first byte lowest:

    0  bytes 1 to 8 of the chunk, zeros beyond its end
    1  bytes 9 to 16 of the chunk, or the place of a longer chunk among `long_chunks`
    2  length in bytes (32 bits) | tokens (24 bits) | marks (8 bits); zero for an empty slot
    3  up to two token ids (32 bits each), or the place of the ids among `token_ids`
"""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import os
import platform
from typing import Any, NamedTuple

import numba.extending
import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core.compiler_lock import global_compiler_lock

intrinsic: Any = numba.extending.intrinsic

# Every processor with vector instructions since 2013 reads half precision by itself.
READS_HALVES = platform.machine() not in ("x86_64", "AMD64") or binding.get_host_cpu_features().get("f16c", False)

if hasattr(os, "register_at_fork"):
    # A child has no thread that would ever release the lock of a compilation in progress, so none may be.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )

USED = np.uint64(1 << 56)  # looked up since the table was last cleared of idle chunks
ALONE_UNSAFE = np.uint64(2 << 56)  # its tokens may depend on its neighbours
MAY_BEGIN_PHRASE = np.uint64(4 << 56)
MAY_GO_ON = np.uint64(8 << 56)

DONE, MISSING, UNSAFE = 0, 1, 2  # what became of a text
_NO_ROOM = 3

_ADDED_AT_ONCE = 64  # rows added in float32 before the sum goes on in float64: what the plain path does, bit for bit
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_LENGTH = np.uint64(0xFFFFFFFF)
_COUNT = np.uint64(0xFFFFFF)
_MARKS = np.uint64(0xFF << 56)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


class Chunks(NamedTuple):
    """The arrays of a table of chunks.

    Attributes:
        slots: (n_slots, 4) uint64, n_slots a power of two.
        token_ids: (n,) int32.
        long_chunks: (n,) uint8, chunks of over 16 bytes, eight bytes of padding after each.
        counts: (3,) int64: chunks, token ids and bytes of long chunks.
        hash_mask: (1,) uint64; less than all ones makes chunks collide.
    """

    slots: Any
    token_ids: Any
    long_chunks: Any
    counts: Any
    hash_mask: Any


class WordPieces(NamedTuple):
    """A WordPiece vocabulary, for chunks of plain ASCII.

    Attributes:
        first: `Chunks`, the pieces that begin a word, one id each.
        inner: `Chunks`, the pieces within a word, without the mark in front, one id each.
        kinds: (256,) uint8, what each byte is: `LETTER`, `PUNCTUATION`, a word of its own, or `FOREIGN`, for the
            tokenizer to judge.
        spelled: (256,) uint8, each byte as the vocabulary spells it: in lower case, say.
        longest: Bytes of the longest piece; 0 where the tokenizer is of another kind.
        unknown: Id of a word that can't be put together.
        longest_word: Bytes of the longest word that is not unknown.
    """

    first: Any
    inner: Any
    kinds: Any
    spelled: Any
    longest: Any
    unknown: Any
    longest_word: Any


LETTER, PUNCTUATION, FOREIGN = 0, 1, 2


def _compiled(kernel: Any) -> Any:
    """A kernel compiled once for this machine, or once a process where no folder can be written to."""
    try:
        return njit(nogil=True, cache=True)(kernel)
    except RuntimeError:
        return njit(nogil=True)(kernel)


@intrinsic
def _load(typing_context: Any, address: Any) -> Any:
    """Eight bytes from any address, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        value = builder.load(builder.inttoptr(arguments[0], word.as_pointer()), typ=word)
        value.align = 1
        return value

    return types.uint64(types.int64), generate


@intrinsic
def _load_byte(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        return builder.load(builder.inttoptr(arguments[0], byte.as_pointer()), typ=byte)

    return types.uint8(types.int64), generate


@intrinsic
def _load_id(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        return builder.load(builder.inttoptr(arguments[0], number.as_pointer()), typ=number)

    return types.int32(types.int64), generate


@intrinsic
def _store_id(typing_context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(32).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int32), generate


@intrinsic
def _store(typing_context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        builder.store(arguments[1], builder.inttoptr(arguments[0], word.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), generate


@intrinsic
def _trailing_zeros(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def _as_float32(typing_context: Any, value: Any) -> Any:
    """A cell of the table as float32; 16 bits are a number in half precision."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if value == types.uint16:
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())
        if value == types.int8:
            return builder.sitofp(arguments[0], ir.FloatType())
        return arguments[0]

    return types.float32(value), generate


# Loops over arrays count references to them at every call, which costs more than the work: below, memory is addresses.


@njit(inline="always")
def _addresses(chunks: Any) -> Any:
    """What `_find` reads of a table: slots, the last slot's number, hash mask, long chunks, token ids."""
    return (
        chunks.slots.ctypes.data,
        np.uint64(chunks.slots.shape[0] - 1),
        chunks.hash_mask[0],
        chunks.long_chunks.ctypes.data,
        chunks.token_ids.ctypes.data,
    )


@njit(inline="always")
def _is_cut_byte(byte: Any) -> Any:
    return byte == 0x20 or byte == 0x0A or byte == 0x09 or byte == 0x0D


@njit(nogil=True)
def _ends_in_space(start: Any, stop: Any) -> Any:
    """Whether the bytes from `start` to `stop` end in what any tokenizer could take for white space."""
    last = _load_byte(stop - 1)
    if last < 0x80:
        return last <= 0x20 or last == 0x7F
    if stop - start >= 2 and _load_byte(stop - 2) == 0xC2:
        return last == 0x85 or last == 0xA0
    if stop - start < 3:
        return False
    first, middle = _load_byte(stop - 3), _load_byte(stop - 2)
    if first == 0xE2:  # U+2000 to U+203F and U+205F to U+206F, with invisible characters among them
        return (middle == 0x80 and (last <= 0x8F or 0xA8 <= last <= 0xAF)) or (middle == 0x81 and last >= 0x9F)
    return (first == 0xE1 and middle == 0x9A and last == 0x80) or (first == 0xE3 and middle == 0x80 and last == 0x80)


@njit(nogil=True)
def _next_chunk(place: Any, end: Any, carries_space: Any, cuts_at_lines: Any) -> Any:
    """Start and stop of the chunk at or after `place`; an empty one at the end of the text."""
    if not carries_space:
        while place < end and _is_cut_byte(_load_byte(place)):
            place += 1
        start = place
        while place < end:
            word = _load(place)
            # Lowest mark: the first byte below 0x21. Marks above it may be wrong, so one at a time.
            marks = (word - _ONES * np.uint64(0x21)) & ~word & _HIGHS
            if marks == 0:
                place += 8
                continue
            place += np.int64(_trailing_zeros(marks) >> np.uint64(3))
            if place >= end or _is_cut_byte(_load_byte(place)):
                break
            place += 1
        return start, min(place, end)
    start = place
    place += 1
    while place < end:
        byte = _load_byte(place)
        if (byte == 0x20 or (cuts_at_lines and _is_cut_byte(byte))) and not _ends_in_space(start, place):
            break
        place += 1
    return start, min(place, end)


@njit(inline="always")
def _first_bytes(address: Any, length: Any) -> Any:
    """The first eight bytes, zeros beyond the end."""
    word = _load(address)
    if length < 8:
        word &= _ALL >> np.uint64(64 - 8 * length)
    return word


@njit(inline="always")
def _mixed(state: Any, word: Any) -> Any:
    state = (state ^ word) * np.uint64(0x9E3779B97F4A7C15)
    return state ^ (state >> np.uint64(32))


@njit(nogil=True)
def _find(addresses: Any, chunk: Any, length: Any) -> Any:
    """The address of a chunk's slot, or minus that of the empty slot where it would stand."""
    slots, last_slot, hash_mask, long_chunks, _ = addresses
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
        meta = _load(address + 16)
        if meta == 0:
            return -address
        if _load(address) == first and np.int64(meta & _LENGTH) == length:
            if length <= 16:
                if _load(address + 8) == second:
                    return address
            else:
                stored = long_chunks + np.int64(_load(address + 8))
                place = 8
                while place < length and _first_bytes(stored + place, length - place) == _first_bytes(
                    chunk + place, length - place
                ):
                    place += 8
                if place >= length:
                    return address
        slot = (slot + np.uint64(1)) & last_slot


@njit(nogil=True)
def _insert(chunks: Any, slot: Any, chunk: Any, length: Any) -> Any:
    """Write a chunk without tokens into an empty slot; there is room for it."""
    _store(slot, _first_bytes(chunk, length))
    _store(slot + 8, np.uint64(0))
    _store(slot + 16, np.uint64(length))
    _store(slot + 24, np.uint64(0))
    if 8 < length <= 16:
        _store(slot + 8, _first_bytes(chunk + 8, length - 8))
    elif length > 16:
        start = chunks.counts[2]
        _store(slot + 8, np.uint64(start))
        for i in range(length):
            chunks.long_chunks[start + i] = _load_byte(chunk + i)
        chunks.counts[2] = start + length + 8
    chunks.counts[0] += 1


@njit(nogil=True)
def _set_tokens(chunks: Any, slot: Any, token_ids: Any, start: Any, n_tokens: Any, marks: Any) -> Any:
    """Give a chunk its tokens; there is room for them."""
    if n_tokens <= 2:
        packed = np.uint64(0)
        if n_tokens > 0:
            packed = np.uint64(np.uint32(token_ids[start]))
        if n_tokens > 1:
            packed |= np.uint64(np.uint32(token_ids[start + 1])) << np.uint64(32)
        _store(slot + 24, packed)
    else:
        place = chunks.counts[1]
        _store(slot + 24, np.uint64(place))
        for i in range(n_tokens):
            chunks.token_ids[place + i] = token_ids[start + i]
        chunks.counts[1] = place + n_tokens
    _store(slot + 16, (_load(slot + 16) & _LENGTH) | (np.uint64(n_tokens) << np.uint64(32)) | marks)


@njit(inline="always")
def _token(packed: Any, token_ids: Any, n_tokens: Any, i: Any) -> Any:
    if n_tokens <= 2:
        return np.int64((packed >> np.uint64(32 * i)) & _LENGTH)
    return np.int64(_load_id(token_ids + 4 * (np.int64(packed) + i)))


@njit(nogil=True)
def _gather(
    place: Any, end: Any, splitting: Any, known: Any, extra: Any, unknown: Any, limit: Any, ids: Any, room: Any
) -> Any:
    """Write the ids of a text's tokens but for the unknown one: (outcome, number of them)."""
    n_read = 0
    n_kept = 0
    before = np.uint64(0)
    while n_read < limit:
        chunk, place = _next_chunk(place, end, splitting[0], splitting[1])
        if chunk == place:
            return DONE, n_kept
        token_ids = known[4]
        slot = _find(known, chunk, place - chunk)
        if slot < 0:
            token_ids = extra[4]
            slot = _find(extra, chunk, place - chunk)
            if slot < 0:
                return MISSING, n_kept
        meta = _load(slot + 16)
        if meta & ALONE_UNSAFE or (before & MAY_BEGIN_PHRASE and meta & MAY_GO_ON):
            return UNSAFE, n_kept
        if not meta & USED:
            _store(slot + 16, meta | USED)
        before = meta
        n_tokens = np.int64((meta >> np.uint64(32)) & _COUNT)
        n_taken = min(n_tokens, limit - n_read)
        if n_kept + n_taken > room:
            return _NO_ROOM, n_kept + n_taken
        packed = _load(slot + 24)
        for i in range(n_taken):
            token = _token(packed, token_ids, n_tokens, i)
            if token != unknown:
                _store_id(ids + 4 * n_kept, np.int32(token))
                n_kept += 1
        n_read += n_taken
    # The next chunk may have made a phrase of the last one.
    return (UNSAFE if before & MAY_BEGIN_PHRASE else DONE), n_kept


@_compiled
def pool(
    text: Any,
    bounds: Any,
    which: Any,
    splitting: Any,
    known: Any,
    extra: Any,
    unknown: Any,
    limit: Any,
    table: Any,
    mapping: Any,
    weights: Any,
    normalize: Any,
    embeddings: Any,
    outcomes: Any,
) -> None:
    """Write the embeddings of the texts whose chunks are all known.

    Args:
        text: uint8, every text's UTF-8 in a row, with eight bytes of padding.
        bounds: (n_texts + 1,) int64, where texts start and end.
        which: int64, the texts to do.
        splitting: Whether chunks carry the space before them, and whether line ends cut as spaces do.
        known: `Chunks`.
        extra: `Chunks` looked up where `known` lacks one.
        unknown: Id to leave out, -1 for none.
        limit: Tokens to read of each text.
        table: (n_rows, dim) float32, int8, or half precision as uint16.
        mapping: (n_vocabulary,) int32 row of each token, or empty.
        weights: (n_vocabulary,) float32, or empty.
        normalize: Whether to bring rows to unit length.
        embeddings: (n_texts, dim) float32, written to.
        outcomes: (n_texts,) uint8, written to: `DONE`, `MISSING` or `UNSAFE`.
    """
    dim = table.shape[1]
    ids = np.empty(512, np.int32)
    factors = np.empty(512, np.float32)
    total = np.empty(dim, np.float64)
    start = text.ctypes.data
    in_known, in_extra = _addresses(known), _addresses(extra)
    for at in range(which.shape[0]):
        i = which[at]
        outcome, n_tokens = _NO_ROOM, 0
        while outcome == _NO_ROOM:
            if n_tokens:
                ids = np.empty(2 * n_tokens, np.int32)
                factors = np.empty(2 * n_tokens, np.float32)
            outcome, n_tokens = _gather(
                start + bounds[i],
                start + bounds[i + 1],
                splitting,
                in_known,
                in_extra,
                unknown,
                limit,
                ids.ctypes.data,
                ids.shape[0],
            )
        outcomes[i] = outcome
        if outcome != DONE:
            continue
        for d in range(dim):
            embeddings[i, d] = 0
        if n_tokens == 0:
            continue
        if n_tokens > _ADDED_AT_ONCE:
            for d in range(dim):
                total[d] = 0
        if mapping.shape[0] or weights.shape[0]:
            for at_token in range(n_tokens):
                token = ids[at_token]
                factors[at_token] = weights[token] if weights.shape[0] else np.float32(1)
                ids[at_token] = mapping[token] if mapping.shape[0] else token
        for block in range(0, n_tokens, _ADDED_AT_ONCE):
            stop = min(block + _ADDED_AT_ONCE, n_tokens)
            if weights.shape[0]:
                _add_weighted_rows(table, ids, factors, block, stop, embeddings, i)
            else:
                _add_rows(table, ids, block, stop, embeddings, i)
            if n_tokens > _ADDED_AT_ONCE:
                for d in range(dim):
                    total[d] += embeddings[i, d]
                    embeddings[i, d] = 0
        if n_tokens > _ADDED_AT_ONCE:
            for d in range(dim):
                embeddings[i, d] = total[d] / n_tokens
        else:
            for d in range(dim):
                embeddings[i, d] = np.float64(embeddings[i, d]) / n_tokens
        if normalize:
            norm = np.float32(np.sqrt(_sum_of_squares(embeddings, i)))
            if norm > 0:
                for d in range(dim):
                    embeddings[i, d] /= norm


@njit(nogil=True)
def _add_rows(table: Any, rows: Any, begin: Any, stop: Any, embeddings: Any, i: Any) -> None:
    """Add rows to embedding i one after the other; four at a time, so that it is fetched and put back less often."""
    at = begin
    while at + 4 <= stop:
        one, two, three, four = (
            np.uint64(rows[at]),
            np.uint64(rows[at + 1]),
            np.uint64(rows[at + 2]),
            np.uint64(rows[at + 3]),
        )
        for d in range(table.shape[1]):
            so_far = embeddings[i, d] + _as_float32(table[one, d])
            so_far += _as_float32(table[two, d])
            so_far += _as_float32(table[three, d])
            embeddings[i, d] = so_far + _as_float32(table[four, d])
        at += 4
    while at < stop:
        one = np.uint64(rows[at])
        for d in range(table.shape[1]):
            embeddings[i, d] += _as_float32(table[one, d])
        at += 1


@njit(nogil=True)
def _add_weighted_rows(table: Any, rows: Any, weights: Any, begin: Any, stop: Any, embeddings: Any, i: Any) -> None:
    """As `_add_rows`, each row times its weight."""
    for at in range(begin, stop):
        one, weight = np.uint64(rows[at]), weights[at]
        for d in range(table.shape[1]):
            embeddings[i, d] += _as_float32(table[one, d]) * weight


@njit(nogil=True, fastmath={"reassoc", "contract"})
def _sum_of_squares(embeddings: Any, i: Any) -> Any:
    total = 0.0
    for d in range(embeddings.shape[1]):
        total += np.float64(embeddings[i, d]) * np.float64(embeddings[i, d])
    return total


@_compiled
def tokenize(
    text: Any,
    bounds: Any,
    which: Any,
    splitting: Any,
    known: Any,
    extra: Any,
    unknown: Any,
    limit: Any,
    counts: Any,
    outcomes: Any,
) -> Any:
    """The known ids of the texts whose chunks are all known, text after text.

    Args:
        text: As in `pool`, and so are the others not named here.
        counts: (n_texts,) int64, written to: ids of each text.

    Returns:
        int32, the ids.
    """
    found = np.empty(4096, np.int32)
    n_found = 0
    start = text.ctypes.data
    in_known, in_extra = _addresses(known), _addresses(extra)
    for at in range(which.shape[0]):
        i = which[at]
        outcome, n_tokens = _NO_ROOM, 0
        while outcome == _NO_ROOM:
            if n_tokens:
                longer = np.empty(2 * (n_found + n_tokens), np.int32)
                for j in range(n_found):  # a slice would compile three seconds longer
                    longer[j] = found[j]
                found = longer
            outcome, n_tokens = _gather(
                start + bounds[i],
                start + bounds[i + 1],
                splitting,
                in_known,
                in_extra,
                unknown,
                limit,
                found.ctypes.data + 4 * n_found,
                found.shape[0] - n_found,
            )
        outcomes[i] = outcome
        counts[i] = n_tokens if outcome == DONE else 0
        n_found += counts[i]
    return found[:n_found]


@njit(nogil=True)
def _word_pieces(chunk: Any, length: Any, pieces: Any, first: Any, inner: Any, spelled: Any, ids: Any) -> Any:
    """Write the ids of a chunk of plain ASCII into `ids`: their number, or -1 if the tokenizer has to judge.

    Greedily the longest piece first, as WordPiece does.
    """
    if length > spelled.shape[0] - 8:
        return -1
    for i in range(length):
        byte = _load_byte(chunk + i)
        if pieces.kinds[byte] == FOREIGN:
            return -1
        spelled[i] = pieces.spelled[byte]
    address = spelled.ctypes.data
    n_ids = 0
    begin = 0
    while begin < length:
        stop = begin + 1
        if pieces.kinds[spelled[begin]] == LETTER:
            while stop < length and pieces.kinds[spelled[stop]] == LETTER:
                stop += 1
        n_before = n_ids
        place = begin
        while place < stop:
            end = min(stop, place + pieces.longest)
            slot = np.int64(-1)
            while end > place:
                slot = _find(first if place == begin else inner, address + place, end - place)
                if slot >= 0:
                    break
                end -= 1
            if slot < 0 or stop - begin > pieces.longest_word:
                n_ids = n_before + 1
                ids[n_before] = pieces.unknown
                break
            ids[n_ids] = np.int32(_load(slot + 24))
            n_ids += 1
            place = end
        begin = stop
    return n_ids


@_compiled
def collect(
    text: Any,
    bounds: Any,
    which: Any,
    begin: Any,
    splitting: Any,
    known: Any,
    extra: Any,
    pieces: Any,
    new: Any,
    n_new: Any,
) -> Any:
    """Put the chunks that neither table has into `extra`, with their tokens or listed for the tokenizer.

    Args:
        text: As in `pool`, and so are the others not named here.
        begin: Place in `which` to begin at.
        pieces: `WordPieces`.
        new: uint8, written to: the bytes of each chunk for the tokenizer and 0xFF, which is in no UTF-8.
        n_new: Bytes of `new` in use.

    Returns:
        The place in `which` where room ran out, or its length; the bytes of `new` in use; and the bytes that the
        next chunk needs.
    """
    start = text.ctypes.data
    in_known, in_extra = _addresses(known), _addresses(extra)
    first, inner = _addresses(pieces.first), _addresses(pieces.inner)
    spelled = np.zeros(256, np.uint8)
    ids = np.empty(256, np.int32)
    for at in range(begin, which.shape[0]):
        place, end = start + bounds[which[at]], start + bounds[which[at] + 1]
        while True:
            chunk, place = _next_chunk(place, end, splitting[0], splitting[1])
            length = place - chunk
            if length == 0:
                break
            if _find(in_known, chunk, length) >= 0:
                continue
            slot = _find(in_extra, chunk, length)
            if slot >= 0:
                continue
            if (
                2 * extra.counts[0] >= extra.slots.shape[0]
                or extra.counts[1] + ids.shape[0] > extra.token_ids.shape[0]
                or extra.counts[2] + length + 8 > extra.long_chunks.shape[0]
                or n_new + length + 9 > new.shape[0]
            ):
                return at, n_new, length
            _insert(extra, -slot, chunk, length)
            if pieces.longest:
                n_ids = _word_pieces(chunk, length, pieces, first, inner, spelled, ids)
                if n_ids >= 0:
                    _set_tokens(extra, -slot, ids, 0, n_ids, np.uint64(0))
                    continue
            for j in range(length):
                new[n_new + j] = _load_byte(chunk + j)
            new[n_new + length] = 0xFF
            n_new += length + 1
    return which.shape[0], n_new, 0


@_compiled
def add(chunks: Any, new: Any, n_chunks: Any) -> None:
    """Put listed chunks into a table, without tokens.

    Args:
        chunks: `Chunks` with room for them.
        new: uint8, as `collect` lists them.
        n_chunks: Number listed.
    """
    addresses = _addresses(chunks)
    start = new.ctypes.data
    for _ in range(n_chunks):
        stop = start
        while _load_byte(stop) != 0xFF:
            stop += 1
        slot = _find(addresses, start, stop - start)
        if slot < 0:
            _insert(chunks, -slot, start, stop - start)
        start = stop + 1


@_compiled
def fill(chunks: Any, new: Any, token_ids: Any, n_tokens: Any, marks: Any) -> None:
    """Give listed chunks their tokens.

    Args:
        chunks: `Chunks` that has them, with room for the ids.
        new: uint8, as `collect` lists them.
        token_ids: int32, all their ids in a row.
        n_tokens: (n_chunks,) int64, ids of each.
        marks: (n_chunks,) uint64, marks of each.
    """
    address = new.ctypes.data
    addresses = _addresses(chunks)
    start = 0
    first = 0
    for i in range(n_tokens.shape[0]):
        stop = start
        while new[stop] != 0xFF:
            stop += 1
        slot = _find(addresses, address + start, stop - start)
        _set_tokens(chunks, slot, token_ids, first, n_tokens[i], marks[i])
        first += n_tokens[i]
        start = stop + 1


@_compiled
def to_bytes(text: Any, bounds: Any) -> None:
    """Turn bounds counted in characters into bounds counted in bytes.

    Args:
        text: uint8, UTF-8.
        bounds: (n_texts + 1,) int64, rising, from 0; written to.
    """
    place = 0
    n_characters = 0
    for i in range(bounds.shape[0]):
        while n_characters < bounds[i] or (n_characters and text[place] & 0xC0 == 0x80):
            if text[place] & 0xC0 != 0x80:
                n_characters += 1
            place += 1
        bounds[i] = place


@_compiled
def copy(source: Any, target: Any, longest: Any, only_used: Any, at_most: Any) -> None:
    """Copy chunks that `target` lacks and has room for; copies count as not used.

    Args:
        source: `Chunks`.
        target: `Chunks` with room for them.
        longest: Chunks of more bytes stay behind.
        only_used: Whether those never looked up stay behind.
        at_most: Chunks in `target` to stop at.
    """
    in_source, in_target = _addresses(source), _addresses(target)
    ids = np.empty(512, np.int32)
    for i in range(source.slots.shape[0]):
        address = in_source[0] + 32 * i
        meta = _load(address + 16)
        length = np.int64(meta & _LENGTH)
        if meta == 0 or length > longest or (only_used and not meta & USED):
            continue
        if target.counts[0] >= at_most:
            return
        packed = _load(address + 24)
        chunk = address if length <= 16 else in_source[3] + np.int64(_load(address + 8))
        slot = _find(in_target, chunk, length)
        if slot >= 0:
            continue
        n_tokens = np.int64((meta >> np.uint64(32)) & _COUNT)
        if n_tokens > ids.shape[0]:
            ids = np.empty(2 * n_tokens, np.int32)
        for j in range(n_tokens):
            ids[j] = _token(packed, in_source[4], n_tokens, j)
        _insert(target, -slot, chunk, length)
        _set_tokens(target, -slot, ids, 0, n_tokens, (meta & ~USED) & _MARKS)


@_compiled
def rehash(source: Any, target: Any) -> None:
    """Put all chunks of `source` into the empty slots of `target`, which shares all else with it."""
    in_source, in_target = _addresses(source), _addresses(target)
    for i in range(source.slots.shape[0]):
        address = in_source[0] + 32 * i
        length = np.int64(_load(address + 16) & _LENGTH)
        if length == 0:
            continue
        chunk = address if length <= 16 else in_source[3] + np.int64(_load(address + 8))
        slot = -_find(in_target, chunk, length)
        for part in range(0, 32, 8):
            _store(slot + part, _load(address + part))
