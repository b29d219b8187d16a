"""Writes blocks of rows and embeddings to NumPy and JSONL files."""

from __future__ import annotations

import base64
import json
import math
from datetime import date, time
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from numpy.lib.format import write_array_header_1_0

from m2v_core.bulk.formats import DType
from m2v_core.bulk.readers import Block
from m2v_core.bulk.vectors import VectorColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Writer(Protocol):
    """Writes blocks to a file."""

    def write(self, block: Block, embeddings: NDArray[Any]) -> None:
        """Write the rows of a block and their embeddings, (n, dim) float32 or float16."""
        ...

    def close(self) -> None:
        """Write the end of the data; the file stays open."""
        ...


class NpyWriter:
    """Writes only the embeddings, an array `(n_texts, dim)`.

    Args:
        file: An empty file.
        dim: Width of the embeddings.
        dtype: Their number format.
    """

    def __init__(self, file: BinaryIO, dim: int, dtype: DType) -> None:
        self._file = file
        self._dim = dim
        self._descr = "<f2" if dtype == "float16" else "<f4"
        self._n_rows = 0
        self._write_header()

    def _write_header(self) -> None:
        # NumPy leaves room in the header for larger row counts, so its length does not change.
        shape = (self._n_rows, self._dim)
        write_array_header_1_0(self._file, {"descr": self._descr, "fortran_order": False, "shape": shape})

    def write(self, block: Block, embeddings: NDArray[Any]) -> None:
        """Write the embeddings of a block."""
        self._file.write(np.ascontiguousarray(embeddings, dtype=self._descr).data)
        self._n_rows += len(embeddings)

    def close(self) -> None:
        """Update the number of rows in the header."""
        self._file.seek(0)
        self._write_header()


class JsonlWriter:
    """Writes one object per row: the columns of the input, and the embedding as a list of numbers, without rounding.

    Args:
        file: An empty file.
        vectors: Key, width and number format of the embeddings.
    """

    def __init__(self, file: BinaryIO, vectors: VectorColumn) -> None:
        self._file = file
        self._column = vectors
        # Enough digits to restore every number of the format exactly.
        numbers = ", ".join(["%.5g" if vectors.dtype == "float16" else "%.9g"] * vectors.dim)
        self._embedding = f"{json.dumps(vectors.name, ensure_ascii=False).replace('%', '%%')}: [{numbers}]}}\n"

    def write(self, block: Block, embeddings: NDArray[Any]) -> None:
        """Write the rows of a block."""
        rows = block.rows
        if rows is None:
            rows = [{}] * len(embeddings)
        elif not isinstance(rows, list):
            rows = rows.to_pylist()
        lines = []
        for row, embedding in zip(rows, embeddings, strict=True):
            self._column.check_is_free(row)
            head = row_as_json(row)[:-1]
            lines.append(f"{head}, " if row else head)
            lines.append(self._embedding % tuple(embedding.tolist()))
        self._file.write("".join(lines).encode())

    def close(self) -> None:
        """Do nothing."""


def row_as_json(row: dict[str, Any]) -> str:
    """Format a row as one line of JSON, with dates in ISO 8601, bytes in Base64 and NaN as null."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:  # NaN or infinity, which JSON does not support
        return json.dumps(_without_nan(row), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """Convert a Parquet value that JSON does not support."""
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
