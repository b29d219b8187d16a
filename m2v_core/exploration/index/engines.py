"""Approximate nearest neighbors by cosine: a graph of usearch or FAISS, and a list of duplicate rows.

In a graph, hundreds of equal rows would link only to each other. Therefore the graph contains only the first one, and
a separate list contains the others.
"""

from __future__ import annotations

import threading
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from m2v_core.bulk.formats import DType
from m2v_core.errors import InputError, NeedsExtra

EngineName = Literal["usearch", "faiss"]
Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # keys and cosines, nearest first

# Of 16 or 32 links per row and 128 or 256 candidates, 32 and 128 had the best recall for their build time on sentence
# embeddings. A search with 512 candidates finds over 0.95 of the true neighbors.
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 32, 128, 512
_USEARCH = {"connectivity": _CONNECTIVITY, "expansion_add": _EXPANSION_ADD, "expansion_search": _EXPANSION_SEARCH}
_SERIAL_ROWS = 4_000
_OVERHEAD_BYTES = 300  # links and key per row
_ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}


class UsearchEngine:
    """A usearch graph over keys; `n_threads` threads add rows, 0 for one per core."""

    dtypes: tuple[DType, ...] = ("float32", "float16", "int8")

    def __init__(self, index: Any, n_threads: int = 0) -> None:
        self._index = index
        self._n_threads = n_threads
        self._lock = threading.Lock()  # concurrent searches would share the working memory of the index's threads

    @classmethod
    def new(cls, dim: int, dtype: DType, n_threads: int = 0) -> UsearchEngine:
        """Create an empty index."""
        kind = {"float32": "f32", "float16": "f16", "int8": "i8"}[dtype]
        # With the metric "ip", usearch scales int8 rows but not their products.
        return cls(_usearch()(ndim=dim, metric="cos", dtype=kind, **_USEARCH), n_threads)

    @classmethod
    def open(cls, path: Path, is_writable: bool = False, n_threads: int = 0) -> UsearchEngine:
        """Open a file written by `save`: in memory if `is_writable`, otherwise memory-mapped."""
        return cls(_usearch().restore(path, view=not is_writable, **_USEARCH), n_threads)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._index)

    def add(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Add `(n, dim)` unit rows under `(n,)` new keys."""
        # If several threads add the first rows, searches sometimes can't reach parts of the graph.
        n_serial = max(_SERIAL_ROWS - len(self), 0)
        for part, n_threads in ((slice(n_serial), 1), (slice(n_serial, None), self._n_threads)):
            if len(keys[part]):
                self._index.add(keys[part].astype(np.uint64), rows[part], threads=n_threads)

    def search(self, queries: NDArray[np.float32], k: int) -> list[Found]:
        """Return the `k` nearest rows of each of `(n, dim)` unit rows, or all rows if there are fewer."""
        found = []
        for query in queries:
            with self._lock:
                matches = self._index.search(query, min(k, len(self)), threads=1)
            keys, distances = np.asarray(matches.keys), np.asarray(matches.distances, dtype=np.float32)
            found.append((keys.astype(np.int64), np.clip(1 - distances, -1, 1)))
        return found

    def save(self, path: Path) -> None:
        """Write the index; raises RuntimeError if that fails."""
        self._index.save(path)


class FaissEngine:
    """A FAISS graph (HNSW, in half precision by its scalar quantizer), with the methods of `UsearchEngine`."""

    dtypes: tuple[DType, ...] = ("float32", "float16")

    def __init__(self, index: Any, n_threads: int = 0) -> None:
        self._index = index
        if n_threads:
            _faiss().omp_set_num_threads(n_threads)
        graph = _faiss().downcast_index(index.index).hnsw
        graph.efConstruction, graph.efSearch = _EXPANSION_ADD, _EXPANSION_SEARCH

    @classmethod
    def new(cls, dim: int, dtype: DType, n_threads: int = 0) -> FaissEngine:
        """Create an empty index."""
        faiss = _faiss()
        # Don't use `index_factory`, which crashes the process if usearch was imported before.
        if dtype == "float32":
            graph = faiss.IndexHNSWFlat(dim, _CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
        else:
            graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, _CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
        return cls(faiss.IndexIDMap(graph), n_threads)

    @classmethod
    def open(cls, path: Path, is_writable: bool = False, n_threads: int = 0) -> FaissEngine:
        """Open a file written by `save`: in memory if `is_writable`, otherwise memory-mapped."""
        faiss = _faiss()
        return cls(faiss.read_index(str(path), 0 if is_writable else faiss.IO_FLAG_MMAP_IFC), n_threads)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """As in `UsearchEngine`."""
        self._index.add_with_ids(np.ascontiguousarray(rows), keys)

    def search(self, queries: NDArray[np.float32], k: int) -> list[Found]:
        """As in `UsearchEngine`."""
        similarities, keys = self._index.search(np.ascontiguousarray(queries), min(k, len(self)))
        return [
            (row[row >= 0], np.clip(cosines[row >= 0], -1, 1)) for row, cosines in zip(keys, similarities, strict=True)
        ]

    def save(self, path: Path) -> None:
        """As in `UsearchEngine`."""
        _faiss().write_index(self._index, str(path))


Engine = UsearchEngine | FaissEngine
_ENGINES: dict[EngineName, type[Engine]] = {"usearch": UsearchEngine, "faiss": FaissEngine}


def engine_type(name: EngineName, dtype: DType) -> type[Engine]:
    """Return the engine with this name.

    Raises:
        InputError: The engine does not exist, or does not support the precision.
    """
    if name not in _ENGINES:
        raise InputError(f"engine must be one of {', '.join(_ENGINES)}, not {name!r}.")
    if dtype not in get_args(DType):
        raise InputError(f"dtype must be one of {', '.join(get_args(DType))}, not {dtype!r}.")
    kind = _ENGINES[name]
    if dtype not in kind.dtypes:
        raise InputError(f"A {name} index supports {' or '.join(kind.dtypes)}, not {dtype}. Use usearch for that.")
    return kind


def check_installed(name: EngineName) -> None:
    """Raise an error early if an engine isn't installed.

    Raises:
        MissingExtraError: The engine isn't installed.
    """
    (_faiss if name == "faiss" else _usearch)()


def index_bytes(n_rows: int, dim: int, dtype: DType) -> int:
    """Approximate size of an index in bytes, in memory and in its file."""
    return n_rows * (dim * _ITEM_BYTES[dtype] + _OVERHEAD_BYTES)


def _usearch() -> Any:
    with NeedsExtra("usearch", "search"):
        from usearch.index import Index
    return Index


def _faiss() -> Any:
    with NeedsExtra("faiss-cpu", "faiss"):
        import faiss
    return faiss


class CopyFinder:
    """Detects rows that equal an earlier one; uses about 200 bytes per row."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._pairs: list[tuple[int, int]] = []

    def are_new(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each row differs from all rows before it.

        Args:
            keys: (n,) keys of the rows, ascending over all calls.
            rows: (n, dim).
        """
        found = np.ones(len(rows), dtype=np.bool_)
        for place, (key, row) in enumerate(zip(keys.tolist(), rows, strict=True)):
            first = self._first.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), key)
            if first != key:
                self._pairs.append((first, key))
                found[place] = False
        return found

    def pairs(self) -> NDArray[np.int64]:
        """(n_copies, 2): the key of the first of equal rows, and of a later one, sorted."""
        return np.array(sorted(self._pairs), dtype=np.int64).reshape(-1, 2)


def with_copies(found: Found, pairs: NDArray[np.int64], k: int) -> Found:
    """The `k` nearest of all rows, given the `k` nearest in the graph and `CopyFinder.pairs`."""
    keys: list[int] = []
    cosines: list[float] = []
    for key, cosine in zip(*found, strict=True):
        start, end = np.searchsorted(pairs[:, 0], [key, key + 1])
        here = [int(key), *pairs[start : min(end, start + k), 1].tolist()]
        keys += here
        cosines += [float(cosine)] * len(here)
        if len(keys) >= k:
            break
    return np.array(keys[:k], dtype=np.int64), np.array(cosines[:k], dtype=np.float32)


def open_pairs(path: Path) -> NDArray[np.int64]:
    """Memory-map the result of `CopyFinder.pairs` from its file.

    Raises:
        OSError: The file does not exist.
        ValueError: The file has another format.
    """
    pairs = np.load(path, mmap_mode="r")
    if pairs.dtype != np.int64 or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"{path} contains {pairs.dtype} {pairs.shape}")
    return np.asarray(pairs) if len(pairs) == 0 else pairs
