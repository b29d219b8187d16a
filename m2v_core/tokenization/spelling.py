"""How tokenizers spell their tokens, and how people write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def readable_tokens(tokens: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """Each token as people write it, and whether it begins a word.

    The marks are those of WordPiece ("##ing" continues a word), Unigram ("▁the" begins one) and byte-level
    BPE ("Ġthe" begins one, and every byte is a printable character).

    Args:
        tokens: A whole vocabulary: whether unmarked tokens begin words shows only beside the others.

    Returns:
        The texts, and (n_tokens,) bool.

    Source: the byte table is `bytes_to_unicode` of https://github.com/openai/gpt-2/blob/master/src/encoder.py.
    """
    if any(token.startswith("Ġ") and len(token) > 1 for token in tokens):
        # A token with other characters than those was added as a word.
        starts = [token.startswith("Ġ") or not _BYTES.keys() >= set(token) for token in tokens]
        return [_from_bytes(token).strip() for token in tokens], np.array(starts, dtype=bool)
    if any(token.startswith("▁") and len(token) > 1 for token in tokens):
        texts = [token.replace("▁", " ").strip() for token in tokens]
        return texts, np.array([token.startswith("▁") for token in tokens], dtype=bool)
    texts = [token.removeprefix("##") if len(token) > 2 else token for token in tokens]
    return texts, np.array([text == token for text, token in zip(texts, tokens, strict=True)], dtype=bool)


def word_ids(tokens: Sequence[str], counts: NDArray[np.bool_]) -> dict[str, int]:
    """The words of a vocabulary as people write them, each once, with the id of the first token that is it.

    Args:
        tokens: A whole vocabulary.
        counts: (n_tokens,), the tokens to look at.
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
