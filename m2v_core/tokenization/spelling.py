"""Converts tokens to readable text."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from m2v_core.tokenization.words import is_unspaced_script


def readable_tokens(tokens: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """Return each token as readable text, and whether it begins a word.

    The marks are those of WordPiece ("##ing" continues a word), Unigram ("▁the" begins a word) and byte-level
    BPE ("Ġthe" begins a word, and each byte is a printable character).

    Args:
        tokens: A whole vocabulary, because the kind of marks depends on all tokens.

    Returns:
        The texts, and (n_tokens,) bool.

    Source: the byte table is `bytes_to_unicode` of https://github.com/openai/gpt-2/blob/master/src/encoder.py.
    """
    if any(token.startswith("Ġ") and len(token) > 1 for token in tokens):
        # Tokens with other characters were added as words.
        starts = [token.startswith("Ġ") or not _BYTES.keys() >= set(token) for token in tokens]
        return [_from_bytes(token).strip() for token in tokens], np.array(starts, dtype=bool)
    if any(token.startswith("▁") and len(token) > 1 for token in tokens):
        texts = [token.replace("▁", " ").strip() for token in tokens]
        return texts, np.array([token.startswith("▁") for token in tokens], dtype=bool)
    texts = [token.removeprefix("##") if len(token) > 2 else token for token in tokens]
    return texts, np.array([text == token for text, token in zip(texts, tokens, strict=True)], dtype=bool)


def added_words(tokenizer: Tokenizer) -> dict[str, int]:
    """The words that were joined to a teacher's pieces, with their ids; of a word-level tokenizer, the phrases."""
    return {
        token.content: token_id
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if not token.special and (token.single_word or is_unspaced_script(token.content))
    }


def fragments_of_added_words(tokenizer: Tokenizer) -> dict[str, frozenset[str]]:
    """The pieces that stand for parts of words where the tokenizer lacks the words that were added to it.

    A piece that is a whole word of a phrase is no fragment: "as" is one of "aspirin", but "heart" is none of "heart
    attack".

    Args:
        tokenizer: A static model's.

    Returns:
        Fragments as people write them, by added word; without words that have none, and of word-level tokenizers, which
        have no pieces, nothing.
    """
    added = added_words(tokenizer)
    if not added or isinstance(tokenizer.model, models.WordLevel):
        return {}
    spec = json.loads(tokenizer.to_str())
    others = [token for token in spec["added_tokens"] if token["content"] not in added]
    pieces = Tokenizer.from_str(json.dumps(spec | {"added_tokens": others}))
    ids = pieces.get_vocab(with_added_tokens=True)
    known = dict(zip(ids.values(), zip(*readable_tokens(list(ids)), strict=True), strict=True))
    # Scripts without spaces have words within words.
    words = [word for word in added if not is_unspaced_script(word)]
    encodings = pieces.encode_batch([f" {word}" for word in words], add_special_tokens=False)
    found: dict[str, frozenset[str]] = {}
    for word, encoding in zip(words, encodings, strict=True):
        parts: list[list[str]] = [[]]  # by word of a phrase
        for token_id in encoding.ids:
            text, is_start = known[token_id]
            if is_start:
                parts.append([])
            if text:
                parts[-1].append(text)
        if fragments := frozenset(text for part in parts if len(part) > 1 for text in part):
            found[word] = fragments
    return found


def word_ids(tokens: Sequence[str], counts: NDArray[np.bool_]) -> dict[str, int]:
    """Return the words of a vocabulary as readable text, each with the id of its first token.

    Args:
        tokens: A whole vocabulary.
        counts: (n_tokens,), the tokens to include.
    """
    texts, starts_word = readable_tokens(tokens)
    words: dict[str, int] = {}
    for token_id in np.flatnonzero(starts_word & counts).tolist():
        if texts[token_id]:
            words.setdefault(texts[token_id], token_id)
    return words


def _byte_of_character() -> dict[str, int]:
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_of_character()


def _from_bytes(token: str) -> str:
    if not _BYTES.keys() >= set(token):
        return token
    return bytes(_BYTES[character] for character in token).decode("utf-8", errors="replace")
