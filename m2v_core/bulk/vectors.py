"""Embeddings as columns of an Arrow table: float32, float16, or int8 with a column of scales."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core.bulk.formats import DType
from m2v_core.errors import InputError
from m2v_core.storage import compression

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray


def in_dtype(embeddings: NDArray[np.float32], dtype: DType, n_before: int = 0) -> NDArray[Any]:
    """Convert embeddings to the precision of the file; int8 stays float32 until `VectorColumn` scales it.

    Args:
        embeddings: (n, dim) float32.
        dtype: Number format of the file.
        n_before: Number of texts before these, for the error message.

    Raises:
        InputError: A value is too large for float16.
    """
    if dtype != "float16":
        return embeddings
    with np.errstate(over="ignore"):
        halves = embeddings.astype(np.float16)
    if not np.isfinite(halves).all():
        number = n_before + int(np.flatnonzero(~np.isfinite(halves).all(axis=1))[0]) + 1
        raise InputError(f"The embedding of text {number:,} is too large for float16. Choose float32.")
    return halves


@dataclass(frozen=True)
class VectorColumn:
    """A column of fixed-size lists; for int8, also a float32 column `<name>_scale`.

    An embedding is its int8 row times its scale; cosine similarity does not depend on the scale.

    Attributes:
        name: Name of the column.
        dim: Width of the embeddings.
        dtype: Their number format.
    """

    name: str
    dim: int
    dtype: DType

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all added columns."""
        return (self.name, f"{self.name}_scale") if self.dtype == "int8" else (self.name,)

    def check_is_free(self, columns: Container[str]) -> None:
        """Raise an error if the input uses these names.

        Raises:
            InputError: The input has a column with one of these names.
        """
        for name in self.names:
            if name in columns:
                raise InputError(
                    f"The input already has a column {name!r}. Choose another name for the column of embeddings "
                    "(embedding_column, --embedding-column)."
                )

    def fields(self) -> list[pyarrow.Field]:
        """Name and type of each added column."""
        import pyarrow

        numbers = {"float32": pyarrow.float32(), "float16": pyarrow.float16(), "int8": pyarrow.int8()}
        kinds = [pyarrow.list_(numbers[self.dtype], self.dim), pyarrow.float32()]
        return [pyarrow.field(name, kind) for name, kind in zip(self.names, kinds, strict=False)]

    def arrays(self, embeddings: NDArray[Any]) -> list[pyarrow.Array]:
        """The data of each added column.

        Args:
            embeddings: (n, dim), as `in_dtype` returned them.
        """
        import pyarrow

        scales = []
        if self.dtype == "int8":
            embeddings, factors = compression.quantize(embeddings, None, None, "int8")
            scales = [pyarrow.array(factors, pyarrow.float32())]
        flat = pyarrow.array(np.ascontiguousarray(embeddings).reshape(-1))
        return [pyarrow.FixedSizeListArray.from_arrays(flat, self.dim), *scales]
