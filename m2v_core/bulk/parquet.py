"""Reads and writes Parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from m2v_core.bulk import readers
from m2v_core.bulk.formats import InputFormat, import_pyarrow
from m2v_core.bulk.readers import Block, Reader, Wanted
from m2v_core.bulk.vectors import VectorColumn
from m2v_core.errors import InputError, NotFoundError

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

_OTHERWISE = "Write JSONL, or omit the other columns (keep_columns=False, --no-keep-columns)."
_MADE_BY = b"m2v_made_by"  # key in the file's metadata


class ParquetReader:
    """A Parquet file with a column of strings.

    Attributes:
        unpacked_bytes: Uncompressed size of the texts of the largest row group, counting repeated texts once.
    """

    format: InputFormat = "parquet"

    def __init__(self, path: str | Path, wanted: Wanted) -> None:
        import_pyarrow("pyarrow.parquet")
        self.name = str(path)
        self._path = Path(path)
        self._wanted = wanted
        with open_parquet(self._path) as file:
            self._schema = file.schema_arrow
            self._n_rows = file.metadata.num_rows
            self.columns: tuple[str, ...] | None = tuple(self._schema.names)
            self.column: str = text_column(self._schema, wanted, self.name)
            chunks = list(_chunks(file.metadata, self.column))
        self.unpacked_bytes: int = max((chunk.total_uncompressed_size for chunk in chunks), default=0)
        # Repeated texts are stored once, so the file size does not bound the memory for the rows.
        has_dictionary = any("DICTIONARY" in encoding for chunk in chunks for encoding in chunk.encodings)
        self._dictionaries = [self.column] if has_dictionary else []

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks from the start of the file."""
        import pyarrow

        columns = None if self._wanted.with_rows else [self.column]
        n_read = 0
        try:
            with open_parquet(self._path, self._dictionaries) as file:
                for number in range(file.metadata.num_row_groups):
                    n_in_block = _rows_in_block(file.metadata.row_group(number))
                    for batch in file.iter_batches(n_in_block, row_groups=[number], columns=columns):
                        for part in _parts(batch, self.column):
                            block = self._block(part, n_read)
                            n_read += len(part)
                            block.share = n_read / self._n_rows
                            yield block
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(error, NotFoundError):
                raise
            raise InputError(
                f"{self.name} is damaged, or was changed: {_one_line(error)}. Download or create it again."
            ) from error

    def _block(self, batch: Any, n_before: int) -> Block:
        import pyarrow

        table = pyarrow.Table.from_batches([batch])
        table, problems = drop_null_texts(table, self.column, self._wanted, self.name, n_before)
        texts = table.column(self.column)
        rows = None
        if self._wanted.with_rows:
            kind = self._schema.field(self.column).type
            if texts.type != kind:
                texts = texts.cast(texts.type.value_type).cast(kind)
            rows = table.set_column(table.schema.get_field_index(self.column), self.column, texts)
            rows = rows.replace_schema_metadata()
        return Block(texts.to_pylist(), rows, problems)

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns and their types."""
        return self._schema.remove_metadata()


def open_parquet(path: Path, dictionaries: list[str] | None = None) -> Any:
    """Open a Parquet file to be read in parts, because a row group may be larger than memory.

    Args:
        path: Path of the file.
        dictionaries: Columns to read as dictionaries, so that repeated values are stored once in memory.

    Raises:
        NotFoundError: No such file.
        InputError: The file is not Parquet, or is incomplete.
    """
    import pyarrow
    from pyarrow import parquet

    if not path.exists():
        raise NotFoundError(f"No input file at {path}. Check the path.")
    try:
        return parquet.ParquetFile(path, read_dictionary=dictionaries, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} can't be read as Parquet ({_one_line(error)}). Check that it is complete.") from error


def text_column(schema: pyarrow.Schema, wanted: Wanted, name: str) -> str:
    """The name of the column with the texts.

    Raises:
        InputError: The column does not exist, is ambiguous, or contains no strings.
    """
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))

    texts = tuple(item.name for item in schema if is_text(item.type))
    if wanted.column is None and "text" not in texts and len(texts) == 1:
        only: str = texts[0]
        return only
    column = wanted.chosen(tuple(schema.names), name)
    if column not in texts:
        raise InputError(
            f"Column {column!r} of {name} contains {schema.field(column).type}, not strings. Columns of strings: "
            f"{', '.join(map(repr, texts)) or 'none'}."
        )
    return column


def drop_null_texts(
    table: pyarrow.Table, column: str, wanted: Wanted, name: str, n_before: int = 0
) -> tuple[pyarrow.Table, list[str]]:
    """Return the rows that have a text, and a message for each row that has none.

    Raises:
        InputError: A row has no text, and such rows are not skipped.
    """
    texts = table.column(column)
    if not texts.null_count:
        return table, []
    numbers = np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False)).tolist()
    problems = [
        wanted.problem(f"{name}, row {n_before + number + 1:,}, has null instead of a text under {column!r}.")
        for number in numbers
    ]
    return table.filter(texts.is_valid()), problems


def schema_of(reader: Reader) -> pyarrow.Schema:
    """The columns of a file and their types. JSONL is read once completely for types that fit all rows.

    Raises:
        InputError: The values under one key have incompatible types.
    """
    import pyarrow

    if isinstance(reader, ParquetReader):
        return reader.schema
    if reader.columns is not None:
        return pyarrow.schema([(name, pyarrow.string()) for name in reader.columns])
    schema = pyarrow.schema([])
    for block in reader.blocks():
        assert isinstance(block.rows, list)
        for name in dict.fromkeys(name for row in block.rows for name in row):
            schema = _widened(schema, name, [row.get(name) for row in block.rows])
    return pyarrow.schema([(item.name, _without_null(item.type)) for item in schema])


def check_same_columns(schema: pyarrow.Schema, other: pyarrow.Schema, reader: Reader) -> None:
    """Raise an error if the columns differ from those of the previous files.

    Args:
        schema: Schema of the file.
        other: Schema of the previous files.
        reader: Reader of the file, for its name.

    Raises:
        InputError: A column is missing, added or of another type.
    """
    found, expected = ({item.name: str(item.type) for item in kind} for kind in (schema, other))
    for name in {**expected, **found}:
        if found.get(name) != expected.get(name):
            raise InputError(
                f"{reader.name} has {_described(name, found)}, but the previous files have "
                f"{_described(name, expected)}. Use files with the same columns, skip this one (on_error='skip', "
                "--on-error skip), or omit all columns except the embeddings (keep_columns=False, --no-keep-columns)."
            )


def _described(name: str, columns: dict[str, str]) -> str:
    return f"a column {name!r} of {columns[name]}" if name in columns else f"no column {name!r}"


def _widened(schema: pyarrow.Schema, name: str, values: list[Any]) -> pyarrow.Schema:
    import pyarrow

    try:
        found = pyarrow.schema([(name, pyarrow.array(values).type)])
        return pyarrow.unify_schemas([schema, found], promote_options="permissive")
    except (pyarrow.ArrowException, OverflowError) as error:
        raise InputError(
            f"The values under {name!r} don't fit in one column of a Parquet file ({_one_line(error)}). {_OTHERWISE}"
        ) from error


class ParquetWriter:
    """Writes each block as a row group with the columns of the input and those of the embeddings.

    Args:
        file: An empty file.
        schema: Schema of the other columns.
        vectors: The columns of embeddings.
        made_by: The model of the embeddings, for the file's metadata; see `made_by`.
    """

    def __init__(
        self, file: BinaryIO, schema: pyarrow.Schema, vectors: VectorColumn, made_by: dict[str, Any] | None = None
    ) -> None:
        import pyarrow
        from pyarrow import parquet

        self._rows_schema = schema
        self._vectors = vectors
        metadata = None if made_by is None else {_MADE_BY: json.dumps(made_by)}
        self._schema = pyarrow.schema([*schema, *vectors.fields()], metadata)
        # Dictionaries and statistics of embeddings would take time and have no use.
        others = schema.names
        self._writer = parquet.ParquetWriter(file, self._schema, use_dictionary=others, write_statistics=others)

    def write(self, block: Block, embeddings: NDArray[Any]) -> None:
        """Write the rows of a block."""
        import pyarrow

        if not len(embeddings):
            return
        rows = block.rows
        if rows is None:
            columns = []
        elif isinstance(rows, list):
            columns = pyarrow.Table.from_pylist(rows, schema=self._rows_schema).columns
        else:
            columns = rows.columns
        table = pyarrow.Table.from_arrays([*columns, *self._vectors.arrays(embeddings)], schema=self._schema)
        self._writer.write_table(table, row_group_size=len(table))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def made_by(schema: pyarrow.Schema) -> dict[str, Any]:
    """The model of a file's embeddings as saved by `ParquetWriter`: name and fingerprint; empty for other files."""
    try:
        value = json.loads((schema.metadata or {}).get(_MADE_BY, b"{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _chunks(metadata: Any, column: str) -> Iterator[Any]:
    """Metadata of a column in each row group."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            if group.column(place).path_in_schema == column:
                yield group.column(place)


def _parts(batch: Any, column: str) -> Iterator[Any]:
    """Yield the rows in parts whose texts, including repeated ones, are not larger than a block."""
    from pyarrow import compute, types

    texts = batch.column(column)
    if not types.is_dictionary(texts.type):
        yield batch
        return
    lengths = compute.binary_length(texts.dictionary).take(texts.indices).fill_null(0)
    ends = np.cumsum(lengths.to_numpy(), dtype=np.int64)
    start = 0
    while start < len(batch):
        n_before = int(ends[start - 1]) if start else 0
        end = max(int(np.searchsorted(ends, n_before + readers.BYTES_PER_BLOCK, side="right")), start + 1)
        yield batch.slice(start, end - start)
        start = end


def _rows_in_block(group: Any) -> int:
    bytes_per_row = max(group.total_byte_size // max(group.num_rows, 1), 1)
    return int(min(max(readers.BYTES_PER_BLOCK // bytes_per_row, 1), readers.ROWS_PER_BLOCK))


def _without_null(kind: Any) -> Any:
    """The type, with string instead of null for columns that are null in every row."""
    import pyarrow
    from pyarrow import types

    if types.is_null(kind):
        return pyarrow.string()
    if types.is_list(kind):
        return pyarrow.list_(_without_null(kind.value_type))
    if types.is_struct(kind):
        # Parquet does not support structs without fields.
        if kind.num_fields == 0:
            raise InputError(f"A key contains only empty objects, which Parquet can't store. {_OTHERWISE}")
        return pyarrow.struct([(part.name, _without_null(part.type)) for part in kind])
    return kind


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
