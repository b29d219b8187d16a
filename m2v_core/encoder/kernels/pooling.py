"""The means of the rows of texts' tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2v_core.encoder import layout
from m2v_core.encoder.kernels.finding import addresses
from m2v_core.encoder.kernels.memory import (
    READS_HALVES,
    adding_in_any_order,
    as_float32,
    bytes_at,
    float32s_at,
    float64s_at,
    halves_at,
    helper,
    int8s_at,
    int32s_at,
    int64s_at,
)
from m2v_core.encoder.kernels.reading import DONE, NO_ROOM, gather

_ADDED_AT_ONCE = 64  # rows added in float32 before the sum goes on in float64: what the plain path does, bit for bit
_FLOAT32, _INT8 = layout.FLOAT32, layout.INT8


@helper
def _add_rows_of(rows: Any, dim: Any, ids: Any, begin: Any, stop: Any, total: Any) -> None:
    """Add rows one after the other; four at a time, so that the sum is fetched and put back less often."""
    at = begin
    while at + 4 <= stop:
        one, two = ids[at] * dim, ids[at + 1] * dim
        three, four = ids[at + 2] * dim, ids[at + 3] * dim
        for d in range(dim):
            so_far = total[d] + as_float32(rows[one + d])
            so_far += as_float32(rows[two + d])
            so_far += as_float32(rows[three + d])
            total[d] = so_far + as_float32(rows[four + d])
        at += 4
    while at < stop:
        one = ids[at] * dim
        for d in range(dim):
            total[d] += as_float32(rows[one + d])
        at += 1


@helper
def _add_weighted_rows_of(rows: Any, dim: Any, ids: Any, factors: Any, begin: Any, stop: Any, total: Any) -> None:
    """As `_add_rows_of`, each row times its factor."""
    for at in range(begin, stop):
        one, factor = ids[at] * dim, factors[at]
        for d in range(dim):
            total[d] += as_float32(rows[one + d]) * factor


@helper
def _add_rows(rows: Any, kind: Any, dim: Any, ids: Any, begin: Any, stop: Any, total: Any) -> None:
    if kind == _FLOAT32:
        _add_rows_of(float32s_at(rows), dim, ids, begin, stop, total)
    elif kind == _INT8:
        _add_rows_of(int8s_at(rows), dim, ids, begin, stop, total)
    elif READS_HALVES:
        _add_rows_of(halves_at(rows), dim, ids, begin, stop, total)


@helper
def _add_weighted_rows(
    rows: Any, kind: Any, dim: Any, ids: Any, factors: Any, begin: Any, stop: Any, total: Any
) -> None:
    if kind == _FLOAT32:
        _add_weighted_rows_of(float32s_at(rows), dim, ids, factors, begin, stop, total)
    elif kind == _INT8:
        _add_weighted_rows_of(int8s_at(rows), dim, ids, factors, begin, stop, total)
    elif READS_HALVES:
        _add_weighted_rows_of(halves_at(rows), dim, ids, factors, begin, stop, total)


@adding_in_any_order
def _sum_of_squares(numbers: Any, dim: Any) -> Any:
    total = 0.0
    for d in range(dim):
        total += np.float64(numbers[d]) * np.float64(numbers[d])
    return total


def pool(
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
    rows: Any,
    kind: Any,
    dim: Any,
    mapping: Any,
    weights: Any,
    normalize: Any,
    scratch: Any,
    room: Any,
    embeddings: Any,
    outcomes: Any,
) -> Any:
    """Write the embeddings of the texts whose chunks are all known.

    Args:
        text: As in `tokenize`, and so are the others not named here.
        rows: (n_rows, dim) in one of three kinds.
        kind: `FLOAT32`, `INT8`, or `FLOAT16` where `READS_HALVES`.
        dim: Width of the rows.
        mapping: (n_vocabulary,) int32 row of each token, or 0.
        weights: (n_vocabulary,) float32, or 0.
        normalize: Whether to bring embeddings to unit length.
        scratch: (room + dim,) numbers of 64 bits, to work in.
        room: Tokens of one text that fit.
        embeddings: (n_texts, dim) float32, written to.

    Returns:
        The place in `which` of a text of too many tokens, or its length.
    """
    in_known, in_extra = addresses(known), addresses(extra)
    bound_of = int64s_at(bounds)
    id_of, factor_of, sum_of = int32s_at(scratch), float32s_at(scratch + 4 * room), float64s_at(scratch + 8 * room)
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
            scratch,
            room,
        )
        if outcome == NO_ROOM:
            return at
        bytes_at(outcomes)[i] = outcome
        if outcome != DONE:
            continue
        total = float32s_at(embeddings + 4 * dim * i)
        for d in range(dim):
            total[d] = 0
        if n_tokens == 0:
            continue
        if n_tokens > _ADDED_AT_ONCE:
            for d in range(dim):
                sum_of[d] = 0
        if mapping or weights:
            for at_token in range(n_tokens):
                token = id_of[at_token]
                factor_of[at_token] = float32s_at(weights)[token] if weights else np.float32(1)
                id_of[at_token] = int32s_at(mapping)[token] if mapping else token
        for block in range(0, n_tokens, _ADDED_AT_ONCE):
            stop = min(block + _ADDED_AT_ONCE, n_tokens)
            if weights:
                _add_weighted_rows(rows, kind, dim, id_of, factor_of, block, stop, total)
            else:
                _add_rows(rows, kind, dim, id_of, block, stop, total)
            if n_tokens > _ADDED_AT_ONCE:
                for d in range(dim):
                    sum_of[d] += total[d]
                    total[d] = 0
        if n_tokens > _ADDED_AT_ONCE:
            for d in range(dim):
                total[d] = sum_of[d] / n_tokens
        else:
            for d in range(dim):
                total[d] = np.float64(total[d]) / n_tokens
        if normalize:
            norm = np.float32(np.sqrt(_sum_of_squares(total, dim)))
            if norm > 0:
                for d in range(dim):
                    total[d] /= norm
    return n_which
