"""A callable for engines with Arrow tables: Ray Data, Hugging Face Datasets, Spark, or a loop."""

from __future__ import annotations

from functools import lru_cache
from os import PathLike
from types import EllipsisType
from typing import TYPE_CHECKING

from m2v_core.bulk.formats import DType, import_pyarrow
from m2v_core.bulk.options import EMBEDDING_COLUMN, EncodeOptions
from m2v_core.bulk.parquet import drop_null_texts, text_column
from m2v_core.bulk.readers import OnError
from m2v_core.bulk.vectors import in_dtype
from m2v_core.model import StaticModel

if TYPE_CHECKING:
    import pyarrow


class BatchEncoder:
    """Adds a column with the embeddings of a table's texts, as fixed-size lists; all other columns are unchanged.

    It pickles as the name of its model, which each process loads once.

    Args:
        model: A model folder accessible to every process, or a Hub name.
        column: Name of the column with the texts; None for "text", or for the only column of strings.
        embedding_column: Name of the new column.
        dtype: Number format of the embeddings; "int8" also adds `<embedding_column>_scale`, float32: an embedding is
            its int8 row times its scale.
        max_length: As in `StaticModel.encode`.
        normalize: As in `StaticModel.encode`.
        on_error: Whether a null text raises an error or its row is skipped.

    Raises:
        InputError: `dtype` or `on_error` has a value that is not allowed.
        MissingExtraError: pyarrow isn't installed.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        column: str | None = None,
        *,
        embedding_column: str = EMBEDDING_COLUMN,
        dtype: DType = "float32",
        max_length: int | EllipsisType | None = ...,
        normalize: bool | None = None,
        on_error: OnError = "fail",
    ) -> None:
        import_pyarrow()
        self._model = str(model)
        self._options = EncodeOptions(
            column,
            embedding_column=embedding_column,
            dtype=dtype,
            max_length=max_length,
            normalize=normalize,
            on_error=on_error,
        )

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return the table with one more column, or two for int8.

        Args:
            table: (n_rows, any columns), at least one of them of strings.

        Raises:
            InputError: The table has no such column, already has one with the new name, or contains a null text.
            NotFoundError: The model does not exist.
        """
        model = _loaded(self._model)
        options = self._options
        vectors = options.vector_column(model)
        vectors.check_is_free(table.column_names)
        name = "input"
        column = text_column(table.schema, options.wanted(), name)
        table, _ = drop_null_texts(table, column, options.wanted(), name)
        embeddings = model.encode(table.column(column).to_pylist(), **options.encode_arguments)
        arrays = vectors.arrays(in_dtype(embeddings, options.dtype))
        for field, array in zip(vectors.fields(), arrays, strict=True):
            table = table.append_column(field, array)
        return table


@lru_cache(maxsize=2)
def _loaded(model: str) -> StaticModel:
    return StaticModel.from_pretrained(model)
