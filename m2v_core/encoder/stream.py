"""Splits streams of texts into blocks of bounded size."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np

from m2v_core.encoder.texts import checked_text, iterable_items
from m2v_core.errors import InputError

_CHARACTERS_PER_BLOCK = 8_000_000


def blocks_of_texts(sentences: Iterable[str], block_size: int) -> Iterator[list[str]]:
    """Yield blocks of up to `block_size` texts and some millions of characters, for streams of any length.

    Args:
        sentences: An iterable of texts; line ends are removed from the lines of an open text file.
        block_size: 1 or more.

    Raises:
        InputError: Not an iterable of texts, or `block_size` out of range.
    """
    if isinstance(block_size, bool) or not isinstance(block_size, (int, np.integer)) or block_size < 1:
        raise InputError(f"block_size must be a whole number of 1 or more, not {block_size!r}.")
    if isinstance(sentences, str):
        raise InputError("Pass an iterable of texts, not str; encode takes a single text.")
    if isinstance(sentences, io.TextIOBase):
        sentences = (line.removesuffix("\n").removesuffix("\r") for line in sentences)
    return _cut(iterable_items(sentences, "an iterable of texts"), block_size)


def _cut(sentences: Iterable[str], block_size: int) -> Iterator[list[str]]:
    block: list[str] = []
    n_characters = 0
    for index, item in enumerate(sentences):
        text = checked_text(item, index)
        block.append(text)
        n_characters += len(text)
        if len(block) == block_size or n_characters >= _CHARACTERS_PER_BLOCK:
            yield block
            block = []
            n_characters = 0
    if block:
        yield block
