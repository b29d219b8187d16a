"""Validating and compressing tables of token embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core.errors import InputError, ModelFormatError, NeedsExtra
from m2v_core.native.cosines import row_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = ("float32", "float16", "int8")
INT8_MAX = 127
_NUMBERS_AT_ONCE = 2**17  # per block of a table, which stays in the CPU cache between the two passes


def compressed(
    token_embeddings: NDArray[Any],
    weights: NDArray[np.float32] | None,
    token_mapping: NDArray[np.int32] | None,
    *,
    quantize_to: str | None,
    dimensionality: int | None,
    vocabulary_quantization: int | None,
) -> tuple[NDArray[Any], NDArray[np.float32] | None, NDArray[np.int32] | None]:
    """Return the table, weights and mapping of a compressed model.

    Args:
        token_embeddings: (n_rows, dim) float32, float16 or int8.
        weights: (n_vocabulary,) float32, or None if all are 1.
        token_mapping: (n_vocabulary,) int32 row of each token, or None if token i has row i.
        quantize_to: As in `quantize`; None keeps the number format.
        dimensionality: As in `truncate`; None keeps all dimensions.
        vocabulary_quantization: `n_clusters` in `quantize_vocabulary`; None keeps all rows.

    Raises:
        InputError: An argument is out of range, or the vocabulary is quantized already.
        MissingExtraError: `vocabulary_quantization` without scikit-learn.
    """
    table = token_embeddings
    if dimensionality is not None:
        table = truncate(table, dimensionality)
    if vocabulary_quantization is not None:
        if token_mapping is not None:
            raise InputError(
                f"This model's vocabulary is already quantized to {len(table):,} rows; start from the full model."
            )
        table, token_mapping, weights = quantize_vocabulary(table, weights, vocabulary_quantization)
    dtype = quantize_to if quantize_to is not None else str(token_embeddings.dtype)
    table, weights = quantize(table, weights, token_mapping, dtype)
    return table, weights, token_mapping


def quantize(
    token_embeddings: NDArray[Any],
    weights: NDArray[np.float32] | None,
    token_mapping: NDArray[np.int32] | None,
    dtype: str,
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Convert the table to another number format, with weights that preserve its values.

    Each row is scaled to fill the range of int8, and the scale goes into the weights, which every reader of the
    format applies. With one scale for the whole table, most rows would get only a few levels.

    Args:
        token_embeddings: (n_rows, dim) float64, float32, float16 or int8.
        weights: (n_vocabulary,) float32, or None if all are 1.
        token_mapping: (n_vocabulary,) int32 row of each token, or None if token i has row i.
        dtype: `"float32"`, `"float16"` or `"int8"`.

    Returns:
        (n_rows, dim) contiguous of `dtype`, int8 within [-127, 127]; and (n_vocabulary,) float32 weights or
        None. A token's vector is `weights[token] * table[row]`.

    Raises:
        InputError: `dtype` is not supported, or values exceed the range of float16.
    """
    _check_dtype(dtype)
    if token_embeddings.dtype == dtype:
        return np.ascontiguousarray(token_embeddings), weights
    if dtype == "int8":
        return _to_int8(token_embeddings, weights, token_mapping)

    table = token_embeddings.astype(np.float32)
    if token_embeddings.dtype == np.int8 and weights is not None and token_mapping is None:
        # The weights contain the scale: with one row per token they can be multiplied into the rows.
        table *= weights[:, None]
        weights = None
    if dtype == "float16" and (peak := float(np.abs(table).max(initial=0.0))) > 65504:
        raise InputError(
            f"float16 supports values up to 65504, but this table reaches {peak:.4g}; use quantize_to='float32'."
        )
    return np.ascontiguousarray(table, dtype=dtype), weights


def truncate(token_embeddings: NDArray[Any], dimensionality: int) -> NDArray[Any]:
    """Keep the first dimensions of every row: after PCA, those with the highest variance.

    Args:
        token_embeddings: (n_rows, dim), any dtype.
        dimensionality: Dimensions to keep, 1 to dim.

    Returns:
        (n_rows, dimensionality) contiguous, of the same dtype.

    Raises:
        InputError: `dimensionality` is out of range.
    """
    dim = token_embeddings.shape[1]
    if not _is_count(dimensionality) or not 1 <= dimensionality <= dim:
        raise InputError(f"dimensionality must be a whole number from 1 to {dim}, not {dimensionality!r}.")
    return np.ascontiguousarray(token_embeddings[:, :dimensionality])


def quantize_vocabulary(
    token_embeddings: NDArray[Any],
    weights: NDArray[np.float32] | None,
    n_clusters: int,
    seed: int = 42,
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.float32]]:
    """Replace the rows by `n_clusters` shared rows; return these and the row and weight of each token.

    Runs k-means over the rows. As in Model2Vec, rows of a table without weights are first scaled to unit length, and
    their lengths become the weights: tokens are then clustered by direction, and frequent tokens keep small weights.

    Args:
        token_embeddings: (n_vocabulary, dim) float32, float16 or int8; one row per token.
        weights: (n_vocabulary,) float32, or None if all are 1.
        n_clusters: Number of rows to keep, 1 to n_vocabulary.
        seed: Seed of the initial centers, so that equal input gives equal output.

    Returns:
        Centroids (n_clusters, dim) of the input dtype, float32 for int8; token_mapping (n_vocabulary,)
        int32 in [0, n_clusters); weights (n_vocabulary,) float32.

    Raises:
        InputError: `n_clusters` is out of range.
        MissingExtraError: scikit-learn isn't installed.
    """
    n_vocabulary = len(token_embeddings)
    if not _is_count(n_clusters) or not 1 <= n_clusters <= n_vocabulary:
        raise InputError(
            f"vocabulary_quantization must be a whole number from 1 to {n_vocabulary:,}, the number of rows of this "
            f"table, not {n_clusters!r}."
        )
    with NeedsExtra("scikit-learn", "distill"):
        from sklearn.cluster import KMeans

    table = token_embeddings.astype(np.float32)
    if weights is None:
        weights = row_lengths(table)  # (n_vocabulary,)
        np.divide(table, weights[:, None], out=table, where=weights[:, None] > 0)
    # With few centers, the start hardly matters. With a thousand, the best of three starts gains 0.05% of inertia.
    n_starts = 10 if n_clusters < 100 else 1
    kmeans = KMeans(n_clusters, init="random", n_init=n_starts, random_state=seed).fit(table)

    dtype = np.float32 if token_embeddings.dtype == np.int8 else token_embeddings.dtype
    centroids = np.ascontiguousarray(kmeans.cluster_centers_, dtype=dtype)
    return centroids, kmeans.labels_.astype(np.int32), weights.astype(np.float32)


def checked_table(token_embeddings: NDArray[Any]) -> NDArray[Any]:
    """Return the table, (n_rows, dim) float32, float16 or int8, after validating it.

    Raises:
        InputError: Not such an array.
        ModelFormatError: It contains NaN or infinity.
    """
    if not isinstance(token_embeddings, np.ndarray) or token_embeddings.ndim != 2 or not token_embeddings.size:
        shape = getattr(token_embeddings, "shape", type(token_embeddings).__name__)
        raise InputError(f"token_embeddings must be an array of shape (n_rows, dim), not {shape}.")
    if str(token_embeddings.dtype) not in DTYPES:
        raise InputError(f"token_embeddings must be {', '.join(DTYPES)}, not {token_embeddings.dtype}.")
    if token_embeddings.dtype != np.int8 and (row := _first_row_not_finite(token_embeddings)) is not None:
        raise ModelFormatError(f"The table of token embeddings contains NaN or infinity, first in row {row:,}.")
    return token_embeddings


def _first_row_not_finite(table: NDArray[Any]) -> int | None:
    """The first row of a float16 or float32 table that contains NaN or infinity; None if there is none.

    Compares bit patterns, because NumPy tests float16 one number at a time: NaN and infinity are the largest positive
    numbers when read as signed integers, and the largest negative ones when read as unsigned integers.
    """
    signed, unsigned = (np.dtype(f"{kind}{table.itemsize}") for kind in "iu")
    infinities = np.array([np.inf, -np.inf], table.dtype)
    positive, negative = infinities.view(signed)[0], infinities.view(unsigned)[1]
    n_rows_at_once = max(1, _NUMBERS_AT_ONCE // table.shape[1])
    for start in range(0, len(table), n_rows_at_once):
        block = table[start : start + n_rows_at_once]
        if block.view(signed).max() >= positive or block.view(unsigned).max() >= negative:
            return start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
    return None


def checked_weights(weights: NDArray[Any] | None, n_vocabulary: int) -> NDArray[np.float32] | None:
    """Return the weights, (n_vocabulary,) float32, after validating them.

    Raises:
        ModelFormatError: Wrong shape, or NaN or infinity.
    """
    if weights is None:
        return None
    weights = np.asarray(weights, dtype=np.float32)
    if weights.shape != (n_vocabulary,):
        raise ModelFormatError(f"weights must be of shape ({n_vocabulary},), one per token, not {weights.shape}.")
    if not np.isfinite(weights).all():
        raise ModelFormatError("The weights contain NaN or infinity.")
    return weights


def checked_mapping(token_mapping: NDArray[Any] | None, n_vocabulary: int, n_rows: int) -> NDArray[np.int32] | None:
    """Return the row of each token, (n_vocabulary,) int32 in [0, n_rows), after validating it.

    Raises:
        ModelFormatError: Wrong shape or dtype, or a row outside the table.
    """
    if token_mapping is None:
        return None
    token_mapping = np.asarray(token_mapping)
    if token_mapping.shape != (n_vocabulary,) or not np.issubdtype(token_mapping.dtype, np.integer):
        raise ModelFormatError(
            f"token_mapping must be {n_vocabulary:,} integers, one per token, not {token_mapping.dtype} of "
            f"shape {token_mapping.shape}."
        )
    if token_mapping.min() < 0 or token_mapping.max() >= n_rows:
        raise ModelFormatError(
            f"token_mapping must contain rows 0 to {n_rows - 1:,}, but spans {token_mapping.min()} to "
            f"{token_mapping.max()}."
        )
    return token_mapping.astype(np.int32, copy=False)


def _to_int8(
    token_embeddings: NDArray[Any],
    weights: NDArray[np.float32] | None,
    token_mapping: NDArray[np.int32] | None,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize each row to 255 levels; return the rows, and the weights multiplied by each row's scale."""
    table = token_embeddings.astype(np.float32)
    scales = np.abs(table).max(axis=1, initial=0.0) / INT8_MAX  # (n_rows,)
    # A zero row stays zero under any scale; 1.0 avoids 0 / 0.
    scales[scales == 0.0] = 1.0
    table /= scales[:, None]
    # Subnormal scales round coarsely, so a quotient may be slightly above 127.
    levels = np.clip(np.rint(table, out=table), -INT8_MAX, INT8_MAX, out=table).astype(np.int8)
    token_scales = scales if token_mapping is None else scales[token_mapping]  # (n_vocabulary,)
    return levels, token_scales if weights is None else weights * token_scales


def _check_dtype(dtype: str) -> None:
    if dtype == "float64":
        raise InputError(
            "float64 is not supported: other readers of the format reject it, and it adds no accuracy; use 'float32'."
        )
    if dtype not in DTYPES:
        raise InputError(f"quantize_to must be one of {', '.join(map(repr, DTYPES))}, not {dtype!r}.")


def _is_count(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
