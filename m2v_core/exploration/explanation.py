"""Explains the similarity of two texts: each token's share of the cosine.

A text's embedding is the mean of its tokens' rows, so the cosine of two texts is a sum with one term per token:
for a token with row r in a text whose rows sum to S, and the other text's unit embedding u, it is r·u / |S|.
The shares are exact, and those of either text sum to the cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.model import StaticModel

SpanKind = Literal["known", "unknown", "unread", "between"]


@dataclass(frozen=True)
class Span:
    """A part of a text.

    Attributes:
        text: The characters.
        kind: `"known"`: it has rows. `"unknown"`: the model has no row for it. `"unread"`: it is beyond the maximum
            length of a text. `"between"`: whitespace, or text that the tokenizer drops.
        share: Its share of the cosine; 0 unless known.
    """

    text: str
    kind: SpanKind
    share: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """A similarity and its parts.

    Attributes:
        similarity: Cosine of the two texts, -1 to 1; 0 if one has no known token.
        a: The spans of the first text: their texts concatenate to the text, their shares sum to the similarity.
        b: The spans of the second text, likewise.
    """

    similarity: float
    a: tuple[Span, ...]
    b: tuple[Span, ...]


def explain_similarity(model: StaticModel, a: str, b: str) -> Explanation:
    """Compute the cosine of two texts, and each token's share of it."""
    texts = well_formed(checked_texts([a, b]))
    rows = [_known_rows(model, text) for text in texts]
    sums = [known.sum(axis=0) for known in rows]  # (dim,) float64 each
    norms = [float(np.linalg.norm(total)) for total in sums]
    if not all(norms):
        left, right = (_spans(model, text, np.zeros(len(known))) for text, known in zip(texts, rows, strict=True))
        return Explanation(0.0, left, right)
    product = norms[0] * norms[1]
    similarity = float(np.clip(sums[0] @ sums[1] / product, -1, 1))
    left = _spans(model, texts[0], rows[0] @ sums[1] / product)
    right = _spans(model, texts[1], rows[1] @ sums[0] / product)
    return Explanation(similarity, left, right)


def _known_rows(model: StaticModel, text: str) -> NDArray[np.float64]:
    """The rows that are averaged for the text, (n_known, dim)."""
    sequence = model.encode_as_sequence(text, max_length=model.max_length)
    return np.asarray(sequence, dtype=np.float64).reshape(-1, model.dim)


def _spans(model: StaticModel, text: str, shares: NDArray[np.float64]) -> tuple[Span, ...]:
    """Split the text into tokens; the known ones get the `shares`, (n_known,), in order."""
    read = text[: model.max_characters]
    encoding = model.tokenizer.encode(read, add_special_tokens=False)
    tokens = list(zip(encoding.ids, encoding.offsets, strict=True))[: model.max_length]
    ranges: list[tuple[int, int, SpanKind, float]] = []
    rest = iter(shares)
    for token_id, (start, end) in tokens:
        is_known = token_id != model.unk_token_id
        share = float(next(rest)) if is_known else 0.0
        while start < end and text[start].isspace():
            start += 1  # byte-level tokens include the space before them
        is_empty_before = bool(ranges) and ranges[-1][0] == ranges[-1][1]
        if ranges and (start < ranges[-1][1] or start == end or is_empty_before):
            # The bytes of one character may be several tokens, and a space marker corresponds to no character.
            first, last, kind, so_far = ranges[-1]
            merged: SpanKind = "known" if is_known or kind == "known" else "unknown"
            ranges[-1] = (start if is_empty_before else first, max(last, end), merged, so_far + share)
        else:
            ranges.append((start, end, "known" if is_known else "unknown", share))
    n_read = len(read) if len(encoding.ids) == len(tokens) else (ranges[-1][1] if ranges else 0)
    spans: list[Span] = []
    place = 0
    for start, end, kind, share in ranges:
        if start > place:
            spans.append(Span(text[place:start], "between"))
        spans.append(Span(text[start:end], kind, share))
        place = end
    if n_read > place:
        spans.append(Span(text[place:n_read], "between"))
    if len(text) > max(n_read, place):
        spans.append(Span(text[max(n_read, place) :], "unread"))
    return tuple(spans)
