"""What callers hand over to be encoded, checked once at the border."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import numpy as np

from m2v_core.errors import InputError


def checked_texts(sentences: str | Iterable[str]) -> list[str]:
    """The texts as a list.

    Raises:
        InputError: Not a text nor an iterable of texts; names the first that is none.
    """
    if isinstance(sentences, str):
        return [sentences]
    if isinstance(sentences, (bytes, bytearray, Mapping)) or not isinstance(sentences, Iterable):
        raise InputError(f"Pass a text or a list of texts, not {type(sentences).__name__}.")
    texts = list(sentences)
    if set(map(type, texts)) <= {str}:
        return texts
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"Every text must be a string, but number {index} (counting from 0) is of type "
                f"{type(text).__name__}; convert or drop it."
            )
    return texts


def checked_max_length(max_length: int | None) -> int | None:
    """The limit in tokens, or None for no limit.

    Raises:
        InputError: Not a whole number of 1 or more.
    """
    return None if max_length is None else _checked_count("max_length", max_length, ", or None for no limit")


def checked_batch_size(batch_size: int) -> int:
    """The number of texts in a batch.

    Raises:
        InputError: Not a whole number of 1 or more.
    """
    return _checked_count("batch_size", batch_size)


def _checked_count(name: str, value: int, otherwise: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} must be a whole number of 1 or more{otherwise}, not {value!r}.")
    return int(value)


def without_surrogates(texts: list[str]) -> list[str]:
    """The texts as UTF-8 can hold them: pairs of surrogates joined, lone ones U+FFFD."""
    warnings.warn(
        "Lone surrogates, which are no characters, were read as U+FFFD; to silence this, decode the source "
        "of the texts with errors='replace'.",
        UserWarning,
        stacklevel=5,
    )
    return [text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for text in texts]
