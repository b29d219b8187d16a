"""The tokenizer's subword model in the form that the kernels run, for chunks of plain ASCII.

Tokenizing the distinct chunks dominates the time for new text. Most of them are plain ASCII, where a normalizer only
changes letters to lowercase. Its effect on each character is measured here; chunks with any character that it changes
in another way go to the tokenizer. Characters can be measured one by one because `splitting` only accepts normalizers
that process characters independently.

Source: the models of https://github.com/huggingface/tokenizers.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from m2v_core.encoder.splitting import Splitting, components
from m2v_core.native import kernels

if TYPE_CHECKING:
    from m2v_core.native.extension import Subwords

# As in native/src/subwords.h.
_FOREIGN, _LETTER, _DIGIT, _PUNCTUATION = range(4)
_MAX_INNER_PREFIX = 16
_CANDIDATES = string.ascii_letters + string.digits + string.punctuation
_SPACE_MARK = "\u2581"  # Metaspace's replacement for a space
_BYTE_LEVEL_SPACE = "\u0120"  # the byte-level form of a space
_UNKNOWN_PENALTY = 10.0  # Source: models/unigram/model.rs, K_UNK_PENALTY


def build_subwords(tokenizer: Tokenizer, splitting: Splitting, tokens: Sequence[str]) -> Subwords | None:
    """Return the tokenizer's subword model for the kernels; None if its kind is not supported.

    Args:
        tokenizer: No truncation or padding.
        splitting: How texts are split into chunks.
        tokens: The tokenizer's vocabulary, in the order of the ids.
    """
    assert kernels is not None
    builders: dict[str, Callable[..., dict[str, Any] | None]] = {
        "WordPiece": _word_piece,
        "Unigram": _unigram,
        "BPE": _byte_level_bpe,
    }
    name = type(tokenizer.model).__name__
    if name not in builders:
        return None
    bytes_of = _classes_and_spelling(tokenizer, splitting)
    if bytes_of is None:
        return None
    arguments = builders[name](tokenizer, splitting, tokens)
    if arguments is None:
        return None
    classes, spelling = bytes_of
    subwords: Subwords = kernels.Subwords(name, len(tokens), classes, spelling, **arguments)
    return subwords


def _classes_and_spelling(tokenizer: Tokenizer, splitting: Splitting) -> tuple[bytes, bytes] | None:
    """Return each byte's class and normalized form; None if normalizing bytes together gives another result."""
    normalizer = tokenizer.normalizer
    foreign = _beginnings_of_added_tokens(tokenizer)
    for part in components(normalizer):
        if part["type"] == "Replace" and "String" in part["pattern"]:
            foreign.update(part["pattern"]["String"])
    classes, spelling = bytearray(256), bytearray(range(256))
    plain = []
    for character in _CANDIDATES:
        read = character if normalizer is None else normalizer.normalize_str(character)
        if character in foreign or read not in (character, character.lower()):
            continue
        plain.append(character)
        spelling[ord(character)] = ord(read)
        is_letter, is_digit = character.isalpha(), character.isdigit()
        classes[ord(character)] = _LETTER if is_letter else _DIGIT if is_digit else _PUNCTUATION
    if normalizer is not None:
        together = (" " if splitting.carries_space else "") + "".join(plain)
        if normalizer.normalize_str(together) != together.translate(dict(enumerate(spelling))):
            return None
    return bytes(classes), bytes(spelling)


def _beginnings_of_added_tokens(tokenizer: Tokenizer) -> set[str]:
    """Return the characters with which an added token or one of its words may begin, in both cases."""
    beginnings: set[str] = set()
    for token in tokenizer.get_added_tokens_decoder().values():
        forms = [token.content]
        if token.normalized and tokenizer.normalizer is not None:
            forms.append(tokenizer.normalizer.normalize_str(token.content))
        for form in forms:
            first = form[:1] + "".join(word[0] for word in form.split())
            beginnings.update(first.lower() + first.upper())
    return beginnings


def _word_piece(tokenizer: Tokenizer, splitting: Splitting, tokens: Sequence[str]) -> dict[str, Any] | None:
    model = tokenizer.model
    unknown = tokenizer.token_to_id(model.unk_token)
    kinds = [part["type"] for part in components(tokenizer.pre_tokenizer)]
    inner_prefix = model.continuing_subword_prefix.encode()
    if kinds != ["BertPreTokenizer"] or unknown is None or len(inner_prefix) > _MAX_INNER_PREFIX:
        return None
    return {
        # Added tokens can stay in the list: chunks that could contain one have a foreign character.
        "pieces": tuple(tokens),
        "unknown": unknown,
        "max_word_bytes": min(model.max_input_chars_per_word, 1 << 31),
        "inner_prefix": inner_prefix,
    }


def _unigram(tokenizer: Tokenizer, splitting: Splitting, tokens: Sequence[str]) -> dict[str, Any] | None:
    model = json.loads(tokenizer.model.__getstate__())
    pre_tokenizers = components(tokenizer.pre_tokenizer)
    kinds = [part["type"] for part in pre_tokenizers]
    unknown = model["unk_id"]
    if (
        kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"])
        or pre_tokenizers[-1]["replacement"] != _SPACE_MARK
        or unknown is None
        or model.get("alpha")
    ):
        return None
    has_mark = splitting.carries_space or pre_tokenizers[-1]["prepend_scheme"] == "always"
    listed = model["vocab"]
    scores = np.zeros(len(tokens))
    scores[: len(listed)] = [score for _, score in listed]
    return {
        "pieces": {piece: i for i, (piece, _) in enumerate(listed) if piece.replace(_SPACE_MARK, "").isascii()},
        "unknown": unknown,
        "prefix": _SPACE_MARK.encode() if has_mark else b"",
        "has_space": splitting.carries_space,
        "scores": scores,
        "unknown_score": min((score for _, score in listed), default=0.0) - _UNKNOWN_PENALTY,
    }


def _byte_level_bpe(tokenizer: Tokenizer, splitting: Splitting, tokens: Sequence[str]) -> dict[str, Any] | None:
    model = json.loads(tokenizer.model.__getstate__())
    pre_tokenizers = components(tokenizer.pre_tokenizer)
    kinds = [part["type"] for part in pre_tokenizers]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"], ["WhitespaceSplit", "ByteLevel"]):
        return None
    byte_level = pre_tokenizers[-1]
    cuts_punctuation = kinds[0] == "Split" or byte_level.get("use_regex", True)
    if not cuts_punctuation or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    vocabulary = model["vocab"]
    byte_ids = np.full(256, -1, np.int32)
    for character in _CANDIDATES:
        byte_ids[ord(character)] = vocabulary.get(character, -1)
    byte_ids[ord(" ")] = vocabulary.get(_BYTE_LEVEL_SPACE, -1)
    pairs = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    merges = [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in pairs]
    whole_words = {}
    if model.get("ignore_merges"):
        spelled = ((piece.replace(_BYTE_LEVEL_SPACE, " "), token_id) for piece, token_id in vocabulary.items())
        whole_words = {piece: token_id for piece, token_id in spelled if piece.isascii()}
    return {
        "pieces": whole_words,
        "unknown": -1,
        "prefix": b" " if splitting.carries_space or byte_level["add_prefix_space"] else b"",
        "has_space": splitting.carries_space,
        "byte_ids": byte_ids,
        "merges": np.array(merges, np.int32).reshape(-1, 3),
        "prefers_whole_words": bool(model.get("ignore_merges")),
    }
