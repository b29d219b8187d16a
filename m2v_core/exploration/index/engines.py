"""Approximate nearest neighbours by cosine: a graph of usearch, or one of FAISS, and the rows beside it.

Hundreds of equal rows in a graph would link to each other and to nothing else. So it holds the first of them, and a
list beside it the others.
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
Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # keys and cosines, the nearest first

# Of 16 or 32 links, and 128 or 256 candidates looked at for them, 32 and 128 found most for the time they took, on
# vectors of sentences. A search that looks at 512 candidates
# finds over 0.95 of the true neighbours.
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 32, 128, 512
_USEARCH = {"connectivity": _CONNECTIVITY, "expansion_add": _EXPANSION_ADD, "expansion_search": _EXPANSION_SEARCH}
_ROWS_ALONE = 4_000
_BYTES_BESIDE = 300  # links and key of a row
_ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}


class UsearchEngine:
    """A graph of usearch over keys, added to by `n_threads`, 0 for one a core; mapped once it is only searched."""

    dtypes: tuple[DType, ...] = ("float32", "float16", "int8")

    def __init__(self, index: Any, n_threads: int = 0) -> None:
        self._index = index
        self._n_threads = n_threads
        self._lock = threading.Lock()  # its threads have a place to work in each, which two searches would share

    @classmethod
    def new(cls, dim: int, dtype: DType, n_threads: int = 0) -> UsearchEngine:
        """One without rows."""
        kind = {"float32": "f32", "float16": "f16", "int8": "i8"}[dtype]
        # Of metric "ip", usearch scales int8 rows and not their products.
        return cls(_usearch()(ndim=dim, metric="cos", dtype=kind, **_USEARCH), n_threads)

    @classmethod
    def open(cls, path: Path, is_to_grow: bool = False, n_threads: int = 0) -> UsearchEngine:
        """What `save` wrote; in memory if it is to grow."""
        return cls(_usearch().restore(path, view=not is_to_grow, **_USEARCH), n_threads)

    def __len__(self) -> int:
        """Rows it holds."""
        return len(self._index)

    def add(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Take in `(n, dim)` unit rows under `(n,)` new keys."""
        # Threads that begin a graph together now and then leave parts of it that no search reaches.
        n_alone = max(_ROWS_ALONE - len(self), 0)
        for part, n_threads in ((slice(n_alone), 1), (slice(n_alone, None), self._n_threads)):
            if len(keys[part]):
                self._index.add(keys[part].astype(np.uint64), rows[part], threads=n_threads)

    def search(self, queries: NDArray[np.float32], k: int) -> list[Found]:
        """For each of `(n, dim)` unit rows the `k` nearest, or all there are."""
        found = []
        for query in queries:
            with self._lock:
                matches = self._index.search(query, min(k, len(self)), threads=1)
            keys, distances = np.asarray(matches.keys), np.asarray(matches.distances, dtype=np.float32)
            found.append((keys.astype(np.int64), np.clip(1 - distances, -1, 1)))
        return found

    def save(self, path: Path) -> None:
        """Write all of it; RuntimeError if it can't be written."""
        self._index.save(path)


class FaissEngine:
    """A graph of FAISS (HNSW, in half precision by its scalar quantizer), with the methods of `UsearchEngine`."""

    dtypes: tuple[DType, ...] = ("float32", "float16")

    def __init__(self, index: Any, n_threads: int = 0) -> None:
        self._index = index
        if n_threads:
            _faiss().omp_set_num_threads(n_threads)
        graph = _faiss().downcast_index(index.index).hnsw
        graph.efConstruction, graph.efSearch = _EXPANSION_ADD, _EXPANSION_SEARCH

    @classmethod
    def new(cls, dim: int, dtype: DType, n_threads: int = 0) -> FaissEngine:
        """One without rows."""
        faiss = _faiss()
        # Not by `index_factory`, which crashes the process where usearch was imported before.
        if dtype == "float32":
            graph = faiss.IndexHNSWFlat(dim, _CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
        else:
            graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, _CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
        return cls(faiss.IndexIDMap(graph), n_threads)

    @classmethod
    def open(cls, path: Path, is_to_grow: bool = False, n_threads: int = 0) -> FaissEngine:
        """What `save` wrote; in memory if it is to grow."""
        faiss = _faiss()
        return cls(faiss.read_index(str(path), 0 if is_to_grow else faiss.IO_FLAG_MMAP_IFC), n_threads)

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
    """The engine of that name.

    Raises:
        InputError: There is none, or it has no such precision.
    """
    if name not in _ENGINES:
        raise InputError(f"engine must be one of {', '.join(_ENGINES)}, not {name!r}.")
    if dtype not in get_args(DType):
        raise InputError(f"dtype must be one of {', '.join(get_args(DType))}, not {dtype!r}.")
    kind = _ENGINES[name]
    if dtype not in kind.dtypes:
        raise InputError(f"An index of {name} holds {' or '.join(kind.dtypes)}, not {dtype}. Choose usearch for that.")
    return kind


def check_installed(name: EngineName) -> None:
    """Refuse before the work an engine that isn't there.

    Raises:
        MissingExtraError: It isn't installed.
    """
    (_faiss if name == "faiss" else _usearch)()


def index_bytes(n_rows: int, dim: int, dtype: DType) -> int:
    """About what an index takes, in memory and in its file."""
    return n_rows * (dim * _ITEM_BYTES[dtype] + _BYTES_BESIDE)


def _usearch() -> Any:
    with NeedsExtra("usearch", "search"):
        from usearch.index import Index
    return Index


def _faiss() -> Any:
    with NeedsExtra("faiss-cpu", "faiss"):
        import faiss
    return faiss


class CopyFinder:
    """Tells which rows equal an earlier one; some 200 bytes a row."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._pairs: list[tuple[int, int]] = []

    def are_new(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows equal none before them.

        Args:
            keys: (n,) of the rows, rising from call to call.
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
    """The `k` nearest of all rows, from the `k` nearest in the graph and `CopyFinder.pairs`."""
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
    """What `CopyFinder.pairs` gave, mapped from its file.

    Raises:
        OSError: There is no such file.
        ValueError: It is something else.
    """
    pairs = np.load(path, mmap_mode="r")
    if pairs.dtype != np.int64 or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"{path} holds {pairs.dtype} {pairs.shape}")
    return np.asarray(pairs) if len(pairs) == 0 else pairs
