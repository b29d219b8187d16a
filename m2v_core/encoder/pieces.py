"""The vocabulary of a WordPiece tokenizer as the kernels read it.

A text never seen before is bounded by tokenizing its distinct chunks. Most of these are plain ASCII, and of what BERT's
normalizer and pre-tokenizer do to a text little matters to ASCII: letters are put in lower case, punctuation stands
alone. Everything else is left to the tokenizer.

Source: `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of https://github.com/huggingface/tokenizers.
"""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from m2v_core.encoder.chunks import ChunkTable
from m2v_core.encoder.layout import FOREIGN, LETTER, PADDING, PUNCTUATION
from m2v_core.encoder.native import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LONGEST_PIECE = 64  # a vocabulary with longer ones is left to the tokenizer


class WordPieces(NamedTuple):
    """A WordPiece vocabulary, for chunks of plain ASCII.

    Attributes:
        first: The pieces that begin a word, one id each.
        inner: The pieces within a word, without the mark in front, one id each.
        kinds: (256,) uint8, what each byte is: `LETTER`, `PUNCTUATION`, a word of its own, or `FOREIGN`, for the
            tokenizer to judge.
        spelling: (256,) uint8, each byte as the vocabulary spells it: in lower case, say.
        longest: Bytes of the longest piece; 0 where the tokenizer is of another kind.
        unknown: Id of a word that can't be put together.
        longest_word: Bytes of the longest word that is not unknown.
    """

    first: ChunkTable
    inner: ChunkTable
    kinds: NDArray[np.uint8]
    spelling: NDArray[np.uint8]
    longest: int
    unknown: int
    longest_word: int


def word_pieces(tokenizer: Tokenizer) -> WordPieces:
    """The tokenizer's vocabulary; one of no pieces (`longest` 0) if the tokenizer is of another kind."""
    spec = json.loads(tokenizer.to_str())
    model, normalizer = spec["model"], spec["normalizer"]
    unknown = tokenizer.token_to_id(model.get("unk_token") or "")
    is_bert = (
        model["type"] == "WordPiece"
        and unknown is not None
        and (spec["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
        and (normalizer is None or normalizer["type"] == "BertNormalizer")
    )
    first: dict[bytes, int] = {}
    inner: dict[bytes, int] = {}
    if is_bert:
        mark = model["continuing_subword_prefix"]
        for piece, token_id in model["vocab"].items():
            if piece.startswith(mark) and piece != mark:
                inner[piece.removeprefix(mark).encode()] = token_id
            # A word may begin with what is the mark elsewhere.
            first[piece.encode()] = token_id
        first = {piece: token_id for piece, token_id in first.items() if piece.isascii() and piece}
        inner = {piece: token_id for piece, token_id in inner.items() if piece.isascii() and piece}
    longest = max(map(len, [b"", *first, *inner]))
    return WordPieces(
        first=_as_table(first),
        inner=_as_table(inner),
        kinds=_kinds(tokenizer, spec["added_tokens"]),
        spelling=_spelling(is_lower=bool(normalizer and normalizer.get("lowercase"))),
        longest=longest if longest <= _LONGEST_PIECE else 0,
        unknown=unknown or 0,
        longest_word=min(model["max_input_chars_per_word"], 1 << 31) if is_bert else 0,
    )


def _as_table(pieces: dict[bytes, int]) -> ChunkTable:
    table = ChunkTable()
    table.reserve(n_chunks=len(pieces), n_long_bytes=sum(len(piece) + 8 for piece in pieces))
    listed = np.array(bytearray(b"".join(piece + b"\xff" for piece in pieces) + bytes(PADDING)), np.uint8)
    kernels().add(table.address, listed, len(pieces))
    ids = np.fromiter(pieces.values(), np.int32, len(pieces))
    ones, no_marks = np.ones(len(pieces), np.int64), np.zeros(len(pieces), np.uint64)
    kernels().fill(table.address, listed, len(pieces), ids, ones, no_marks)
    return table


def _kinds(tokenizer: Tokenizer, added_tokens: list[dict[str, Any]]) -> NDArray[np.uint8]:
    kinds = np.full(256, FOREIGN, np.uint8)
    kinds[[ord(c) for c in string.ascii_letters + string.digits]] = LETTER
    kinds[[ord(c) for c in string.punctuation]] = PUNCTUATION
    for token in added_tokens:
        # Where an added token or one of its words may begin, the tokenizer looks for it.
        forms = [token["content"]]
        if token["normalized"] and tokenizer.normalizer is not None:
            forms.append(tokenizer.normalizer.normalize_str(token["content"]))
        for form in forms:
            beginnings = form[:1] + "".join(word[0] for word in form.split())
            kinds[list((beginnings.lower() + beginnings.upper()).encode())] = FOREIGN
    return kinds


def _spelling(is_lower: bool) -> NDArray[np.uint8]:
    every_byte = bytes(range(256))
    return np.frombuffer(every_byte.lower() if is_lower else every_byte, np.uint8)
