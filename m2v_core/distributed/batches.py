"""The callable for engines that hand over Arrow tables: Ray Data, Hugging Face Datasets, Spark, or a loop."""

from __future__ import annotations

from functools import lru_cache
from os import PathLike
from types import EllipsisType
from typing import TYPE_CHECKING

from m2v_core.bulk.formats import DType, import_pyarrow
from m2v_core.bulk.options import EMBEDDING_COLUMN, EncodeOptions
from m2v_core.bulk.parquet import text_column, with_texts
from m2v_core.bulk.readers import OnError
from m2v_core.bulk.vectors import in_dtype
from m2v_core.model import StaticModel

if TYPE_CHECKING:
    import pyarrow


class BatchEncoder:
    """Adds the embeddings of a table's texts as a column of fixed-size lists; all other columns stay as they are.

    It pickles as the name of its model, which each process loads once.

    Args:
        model: A model folder that every process can reach, or a Hub name.
        column: Column that holds the texts; None for "text", or else the only one of strings.
        embedding_column: Name of the one that is added.
        dtype: Number format of the embeddings; "int8" adds `<embedding_column>_scale` too, float32: an embedding is its
            int8 row times its scale.
        max_length: As in `StaticModel.encode`.
        normalize: As in `StaticModel.encode`.
        on_error: Whether a null for a text raises, or its row is left out.

    Raises:
        InputError: `dtype` or `on_error` is none of those allowed.
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
        """The table with one column more, or two for int8.

        Args:
            table: (n_rows, any columns), one of them of strings.

        Raises:
            InputError: It has no such column, one of the new name already, or a null for a text.
            NotFoundError: There is no such model.
        """
        model = _loaded(self._model)
        options = self._options
        vectors = options.vector_column(model)
        vectors.check_is_free(table.column_names)
        name = "The table"
        column = text_column(table.schema, options.wanted(), name)
        table, _ = with_texts(table, column, options.wanted(), name)
        embeddings = model.encode(table.column(column).to_pylist(), **options.encode_arguments)
        arrays = vectors.arrays(in_dtype(embeddings, options.dtype))
        for field, array in zip(vectors.fields(), arrays, strict=True):
            table = table.append_column(field, array)
        return table


@lru_cache(maxsize=2)
def _loaded(model: str) -> StaticModel:
    return StaticModel.from_pretrained(model)
