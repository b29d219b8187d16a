"""Vectors written by `m2v encode`, in a folder of Parquet files or a single file, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from m2v_core.bulk import manifest
from m2v_core.bulk.formats import import_pyarrow
from m2v_core.bulk.options import EMBEDDING_COLUMN
from m2v_core.bulk.parquet import made_by, open_parquet, text_column
from m2v_core.bulk.readers import Wanted
from m2v_core.errors import InputError, NotFoundError
from m2v_core.exploration.index.engines import EngineName

_ROWS_AT_ONCE = 4096
_NUMBERS = ("halffloat", "float", "int8")  # Arrow's names for the number formats of VectorColumn
_INDEX, _INDEX_OF_FILE = "_index", ".index"


@dataclass(frozen=True)
class VectorFile:
    """One Parquet file of vectors.

    Attributes:
        name: File name in its folder.
        n_rows: Number of vectors.
        n_bytes: Size of the file.
        version: Changes when its input changes.
    """

    name: str
    n_rows: int
    n_bytes: int
    version: str


@dataclass(frozen=True)
class StoredVectors:
    """Location, settings and rows of stored vectors.

    Rows are numbered across all files in order.

    Attributes:
        path: The folder or the single file, as passed.
        folder: Folder of the files and of their index.
        index_name: Prefix of the names of the index files.
        files: The finished files.
        settings: Everything that determines the vectors, except the texts; empty if not recorded.
        column: Name of the column of vectors.
        dim: Width of the vectors.
        text_column: Name of the column of texts; None if the files contain no texts.
        model: Folder or Hub name of the model that computed them; None if not recorded.
    """

    path: Path
    folder: Path
    index_name: str
    files: tuple[VectorFile, ...]
    settings: dict[str, Any]
    column: str
    dim: int
    text_column: str | None
    model: str | None

    @property
    def n_rows(self) -> int:
        """Number of rows in all files."""
        return sum(file.n_rows for file in self.files)

    @property
    def model_fingerprint(self) -> str | None:
        """Fingerprint of the model that computed the vectors; None if not recorded."""
        return self.settings.get("model")

    def check_files(self) -> None:
        """Raise an error if files differ from the manifest.

        Raises:
            InputError: A file is missing or has another size.
        """
        for file in self.files:
            path = self.folder / file.name
            if not path.is_file() or path.stat().st_size != file.n_bytes:
                what = "has changed in size since it was written" if path.is_file() else "is missing"
                raise InputError(f"{path} {what}. Rerun the command that encoded {self.folder} to repair it.")

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """Yield all vectors in order, a few thousand at a time: (n, dim) float32, not necessarily normalized.

        The scales of int8 vectors are omitted: they are positive, so cosines do not depend on them.

        Raises:
            InputError: A file is damaged, or contains an invalid vector.
        """
        for file in self.files:
            n_read = 0
            with self._opened(file) as parquet_file:
                for batch in parquet_file.iter_batches(_ROWS_AT_ONCE, columns=[self.column]):
                    rows = _as_array(batch.column(0), self.dim)
                    if rows is None or not np.isfinite(rows).all():
                        raise InputError(
                            f"Column {self.column!r} of {self.folder / file.name} contains something other than "
                            f"vectors of {self.dim} numbers in rows {n_read:,} to {n_read + len(batch) - 1:,}. Encode "
                            "it again."
                        )
                    n_read += len(batch)
                    yield rows
            self._check_count(file, n_read)

    def place(self, number: int) -> tuple[VectorFile, int]:
        """The file of a row number, and the index of the row in it, from 0."""
        ends = np.cumsum([file.n_rows for file in self.files])
        place = int(np.searchsorted(ends, number, side="right"))
        return self.files[place], number - int(ends[place]) + self.files[place].n_rows

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """All columns of some rows, except the vectors, in the order of `numbers`.

        Only the row groups with these rows are read.

        Raises:
            InputError: A file is damaged, or was changed.
        """
        found: dict[int, dict[str, Any]] = {}
        by_file: dict[VectorFile, list[tuple[int, int]]] = {}
        for number in dict.fromkeys(numbers):
            file, row = self.place(number)
            by_file.setdefault(file, []).append((row, number))
        of_vectors = self.column, f"{self.column}_scale"
        for file, wanted in by_file.items():
            with self._opened(file) as parquet_file:
                self._check_count(file, parquet_file.metadata.num_rows)
                names = [name for name in parquet_file.schema_arrow.names if name not in of_vectors]
                sizes = [parquet_file.metadata.row_group(i).num_rows for i in range(parquet_file.num_row_groups)]
                ends = np.cumsum(sizes)
                for group in sorted({int(np.searchsorted(ends, row, side="right")) for row, _ in wanted}):
                    start = int(ends[group]) - sizes[group]
                    here = [(row - start, number) for row, number in wanted if start <= row < ends[group]]
                    table = parquet_file.read_row_group(group, columns=names).take([row for row, _ in here])
                    rows = table.to_pylist() if names else [{}] * len(here)
                    found.update((number, row) for (_, number), row in zip(here, rows, strict=True))
        return [found[number] for number in numbers]

    def _check_count(self, file: VectorFile, n_rows: int) -> None:
        if n_rows != file.n_rows:
            raise InputError(
                f"{self.folder / file.name} has {n_rows:,} rows, but had {file.n_rows:,} when it was written. Rerun "
                f"the command that encoded {self.folder}."
            )

    @contextmanager
    def _opened(self, file: VectorFile) -> Iterator[Any]:
        path = self.folder / file.name
        try:
            with open_parquet(path) as opened:
                yield opened
        except (OSError, import_pyarrow().ArrowException) as error:
            if isinstance(error, NotFoundError):
                raise
            reason = " ".join(str(error).split())
            raise InputError(f"{path} is damaged, or was changed: {reason}. Encode it again.") from error


def find_vectors(path: str | Path) -> StoredVectors:
    """Find the vectors in a folder or a single Parquet file written by `m2v encode`.

    Args:
        path: The folder, the file, or an index of either.

    Raises:
        NotFoundError: There are no vectors at the path.
        InputError: A file has no column of vectors.
        MissingExtraError: pyarrow isn't installed.
    """
    import_pyarrow("pyarrow.parquet")
    path = Path(path).expanduser().absolute()
    if path.suffix in (".json", *(f".{name}" for name in get_args(EngineName))):
        if path.stem == _INDEX:
            path = path.parent
        elif path.stem.endswith(_INDEX_OF_FILE):
            path = path.with_name(path.stem.removesuffix(_INDEX_OF_FILE))
    if path.is_dir():
        return _of_folder(path)
    if path.suffix.lower() in (".parquet", ".pq") and path.is_file():
        return _of_file(path)
    what = "is neither a folder nor a Parquet file" if path.exists() else "does not exist"
    raise NotFoundError(
        f"{path} {what}. Pass a folder or a Parquet file written by m2v encode (m2v encode --input 'texts/*.parquet' "
        "--output FOLDER)."
    )


def _of_folder(folder: Path) -> StoredVectors:
    contents = manifest.contents(folder)
    entries = sorted(contents.entries, key=lambda entry: entry.output)
    if not entries:
        raise NotFoundError(f"{folder} contains no finished files yet. Rerun the command that encodes it.")
    files = tuple(VectorFile(entry.output, entry.n_texts, entry.n_bytes, entry.version) for entry in entries)
    first = folder / files[0].name
    schema = open_parquet(first).schema_arrow
    column = contents.settings.get("embedding column", EMBEDDING_COLUMN)
    dim = _widths(schema).get(column)
    if dim is None:
        raise InputError(f"{first} lacks the column {column!r} of vectors that its manifest lists. Encode it again.")
    texts = _text_column(schema, contents.settings.get("column"))
    return StoredVectors(folder, folder, _INDEX, files, contents.settings, column, dim, texts, contents.model)


def _of_file(path: Path) -> StoredVectors:
    opened = open_parquet(path)
    widths = _widths(opened.schema_arrow)
    if EMBEDDING_COLUMN not in widths and len(widths) != 1:
        several = f"several columns of vectors, {', '.join(map(repr, widths))}"
        raise InputError(
            f"{path} has {several if widths else 'no column of vectors'}. Pass a file with one column of fixed-size "
            f"lists, as written by m2v encode, or with a column named {EMBEDDING_COLUMN!r}."
        )
    column = EMBEDDING_COLUMN if EMBEDDING_COLUMN in widths else next(iter(widths))
    status = path.stat()
    file = VectorFile(path.name, opened.metadata.num_rows, status.st_size, f"{status.st_size} {status.st_mtime_ns}")
    texts = _text_column(opened.schema_arrow, None)
    name = f"{path.name}{_INDEX_OF_FILE}"
    made = made_by(opened.schema_arrow)
    settings = {"model": made["fingerprint"]} if "fingerprint" in made else {}
    return StoredVectors(path, path.parent, name, (file,), settings, column, widths[column], texts, made.get("model"))


def _widths(schema: Any) -> dict[str, int]:
    """The columns of vectors and their widths."""
    types = import_pyarrow("pyarrow.types")
    return {
        field.name: field.type.list_size
        for field in schema
        if types.is_fixed_size_list(field.type) and str(field.type.value_type) in _NUMBERS
    }


def _text_column(schema: Any, column: str | None) -> str | None:
    try:
        return text_column(schema, Wanted(column), "")
    except InputError:  # there are only vectors, or the column of texts is ambiguous
        return None


def _as_array(column: Any, dim: int) -> NDArray[np.float32] | None:
    """Convert a column of fixed-size lists to (n, dim) float32; None if one of them is null."""
    numbers = column.flatten()
    if column.null_count or numbers.null_count:
        return None
    return np.asarray(numbers.to_numpy(zero_copy_only=False).reshape(-1, dim), dtype=np.float32)
