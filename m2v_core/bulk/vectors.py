"""Embeddings as columns of an Arrow table: float32, float16, or int8 with the scale of each row beside it."""

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
    """The embeddings in the precision that files hold; those for int8 stay float32 until `VectorColumn` scales them.

    Args:
        embeddings: (n, dim) float32.
        dtype: What is asked for.
        n_before: Texts before these, for the message.

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
    """A column of fixed-size lists, and beside one of int8 the column `<name>_scale` of float32.

    An embedding is its row of int8 times its scale; for cosines the scale doesn't matter.

    Attributes:
        name: Of the column.
        dim: Width of the embeddings.
        dtype: Their number format.
    """

    name: str
    dim: int
    dtype: DType

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns that are added."""
        return (self.name, f"{self.name}_scale") if self.dtype == "int8" else (self.name,)

    def check_is_free(self, columns: Container[str]) -> None:
        """Refuse names that the input uses.

        Raises:
            InputError: It does.
        """
        for name in self.names:
            if name in columns:
                raise InputError(
                    f"The input has a column {name!r} already. Choose another name for that of the embeddings "
                    "(embedding_column, --embedding-column)."
                )

    def fields(self) -> list[pyarrow.Field]:
        """Name and type of each column that is added."""
        import pyarrow

        numbers = {"float32": pyarrow.float32(), "float16": pyarrow.float16(), "int8": pyarrow.int8()}
        kinds = [pyarrow.list_(numbers[self.dtype], self.dim), pyarrow.float32()]
        return [pyarrow.field(name, kind) for name, kind in zip(self.names, kinds, strict=False)]

    def arrays(self, embeddings: NDArray[Any]) -> list[pyarrow.Array]:
        """What each of them holds.

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
