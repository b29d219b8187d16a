"""What callers hand to a model, checked once at the border."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core.compression import DTYPES
from m2v_core.errors import InputError, ModelFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def checked_table(token_embeddings: NDArray[Any]) -> NDArray[Any]:
    """The table, (n_rows, dim) float32, float16 or int8.

    Raises:
        InputError: Not such an array.
        ModelFormatError: It holds NaN or infinity.
    """
    if (
        not isinstance(token_embeddings, np.ndarray)
        or token_embeddings.ndim != 2
        or not token_embeddings.size
    ):
        shape = getattr(token_embeddings, "shape", type(token_embeddings).__name__)
        raise InputError(f"token_embeddings must be an array of shape (n_rows, dim), not {shape}.")
    if str(token_embeddings.dtype) not in DTYPES:
        raise InputError(f"token_embeddings must be {', '.join(DTYPES)}, not {token_embeddings.dtype}.")
    if token_embeddings.dtype != np.int8 and not np.isfinite(token_embeddings).all():
        row = int(np.flatnonzero(~np.isfinite(token_embeddings).all(axis=1))[0])
        raise ModelFormatError(f"The table of token embeddings holds NaN or infinity, first in row {row:,}.")
    return token_embeddings


def checked_weights(weights: NDArray[Any] | None, n_vocabulary: int) -> NDArray[np.float32] | None:
    """The weights, (n_vocabulary,) float32.

    Raises:
        ModelFormatError: Another shape, or NaN or infinity.
    """
    if weights is None:
        return None
    weights = np.asarray(weights, dtype=np.float32)
    if weights.shape != (n_vocabulary,):
        raise ModelFormatError(
            f"There must be {n_vocabulary:,} weights, one a token; their shape is {weights.shape}."
        )
    if not np.isfinite(weights).all():
        raise ModelFormatError("The weights hold NaN or infinity.")
    return weights


def checked_mapping(
    token_mapping: NDArray[Any] | None, n_vocabulary: int, n_rows: int
) -> NDArray[np.int32] | None:
    """The row of each token, (n_vocabulary,) int32 in [0, n_rows).

    Raises:
        ModelFormatError: Another shape or dtype, or a row outside the table.
    """
    if token_mapping is None:
        return None
    token_mapping = np.asarray(token_mapping)
    if token_mapping.shape != (n_vocabulary,) or not np.issubdtype(token_mapping.dtype, np.integer):
        raise ModelFormatError(
            f"token_mapping must be {n_vocabulary:,} integers, one a token, not {token_mapping.dtype} of "
            f"shape {token_mapping.shape}."
        )
    if token_mapping.min() < 0 or token_mapping.max() >= n_rows:
        raise ModelFormatError(
            f"token_mapping must point at rows 0 to {n_rows - 1:,}, but spans {token_mapping.min()} to "
            f"{token_mapping.max()}."
        )
    return token_mapping.astype(np.int32, copy=False)
