"""Builds an index of vectors, which consists of three files next to them.

`_index.usearch` or `_index.faiss` is a graph of the distinct rows, `_index.copies.npy` lists rows equal to one of them,
and `_index.json` records what both were built from. It is written last and identifies the graph by its size and both
ends, so files left over from a killed process do not count as an index. Rows of zeros, of texts without known
tokens, are not in the index, because they have no neighbors.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m2v_core._version import __version__
from m2v_core.bulk.formats import DType
from m2v_core.bulk.run import found_at
from m2v_core.errors import InputError, M2VError, MissingExtraError, SaveError
from m2v_core.exploration.index.engines import CopyFinder, Engine, EngineName, check_installed, engine_type, index_bytes
from m2v_core.exploration.index.record import (
    IndexRecord,
    check_model,
    copies_path,
    digest_of,
    open_index,
    read_record,
    write_error,
    write_record,
)
from m2v_core.exploration.index.stored import StoredVectors, find_vectors
from m2v_core.model import StaticModel
from m2v_core.native.cosines import unit_rows
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage.atomic import exclusive, replacing_file


@dataclass(frozen=True)
class BuiltIndex:
    """Result of building an index.

    Attributes:
        path: Path of its file.
        record: What it was built from.
        n_rows: Number of vectors.
        n_added: Number of vectors that this call added.
    """

    path: Path
    record: IndexRecord
    n_rows: int
    n_added: int


def build_index(
    path: str | Path,
    *,
    model: str | None = None,
    engine: EngineName | None = None,
    dtype: DType | None = None,
    threads: int | None = None,
    restart: bool = False,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> BuiltIndex:
    """Write an index next to vectors, or update the existing one.

    An up-to-date index is not changed; newly encoded files are added; if other files changed, the index is rebuilt. The
    vectors are read a few thousand at a time. The index itself is built in memory: about 2 x dim + 500 bytes per row in
    float16.

    Args:
        path: A folder or a Parquet file written by `m2v encode`.
        model: The model that computed the vectors, if it is not recorded (as for some single files) or has moved.
        engine: "usearch" or "faiss"; None for that of the existing index, or for usearch if it is installed.
        dtype: Number format of the index, independent of that of the vectors; None for that of the existing index, or
            for float16. "int8", only with usearch, saves one byte per number and misses about a tenth of the nearest
            rows.
        threads: Number of threads; None for one per core.
        restart: Whether to rebuild an up-to-date index.
        progress: Receives one stage, "index", in rows.
        cancel: Set it to stop.

    Raises:
        NotFoundError: The vectors or the model do not exist.
        InputError: The vectors can't be read, an argument is not allowed, or the model did not compute the vectors.
        SaveError: The index can't be written, or another process is writing it.
        MissingExtraError: pyarrow isn't installed, or no engine is.
        Cancelled: `cancel` was set; an existing index is unchanged.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}.")
    vectors = find_vectors(path)
    before = read_record(vectors)
    engine = engine or (before.engine if before else _installed_engine())
    dtype = dtype or (before.dtype if before else "float16")
    kind = engine_type(engine, dtype)
    check_installed(engine)
    vectors.check_files()
    state = "changed" if before is None else before.compared(vectors)
    named, fingerprint = vectors.model, vectors.model_fingerprint
    if before is not None and state != "changed":
        named, fingerprint = before.model or named, before.model_fingerprint
    if model is not None:
        fingerprint = check_model(StaticModel.from_pretrained(model), model, vectors.dim, fingerprint)
        named = found_at(model)
    opened: Engine | None = None
    if before is not None and state != "changed" and not restart and (before.engine, before.dtype) == (engine, dtype):
        with contextlib.suppress(InputError):  # damaged: rebuild it
            opened, _ = open_index(vectors, before, state == "added", threads or 0)
    if before is not None and opened is not None and state == "same":
        record = replace(before, model=named, model_fingerprint=fingerprint)
        if record != before:
            write_record(vectors, record)
        return BuiltIndex(vectors.folder / record.file, record, vectors.n_rows, 0)
    n_before = 0
    if before is not None and opened is not None:
        known = set(before.files)
        files = tuple(file for file in vectors.files if file not in known)
        vectors = replace(vectors, files=(*before.files, *files))
        n_before = vectors.n_rows - sum(file.n_rows for file in files)
    _check_disk_space(vectors, dtype)
    record = IndexRecord(
        engine=engine,
        dtype=dtype,
        file=f"{vectors.index_name}.{engine}",
        n_bytes=0,
        digest="",
        n_indexed=0,
        n_copies=0,
        column=vectors.column,
        dim=vectors.dim,
        settings=vectors.settings,
        model=named,
        model_fingerprint=fingerprint,
        files=vectors.files,
        made_by=__version__,
    )
    opened = opened or kind.new(vectors.dim, dtype, threads or 0)
    record = _build(vectors, opened, n_before, record, ProgressReporter(progress, cancel))
    return BuiltIndex(vectors.folder / record.file, record, vectors.n_rows, vectors.n_rows - n_before)


def _build(
    vectors: StoredVectors,
    engine: Engine,
    n_before: int,
    record: IndexRecord,
    reporter: ProgressReporter,
) -> IndexRecord:
    path = vectors.folder / record.file
    busy = f"Another process is building {path}. Wait until it finishes."
    try:
        with exclusive(path.with_name(f"{path.name}.lock"), 0, busy=busy, is_removed=True):
            with replacing_file(path, is_alone=True) as part, replacing_file(copies_path(vectors)) as new_copies:
                reporter.start("index", vectors.n_rows, n_before)
                copies = CopyFinder()
                number = 0
                for rows in vectors.batches():
                    keys = np.arange(number, number + len(rows), dtype=np.int64)[rows.any(axis=1)]
                    units = unit_rows(rows[rows.any(axis=1)])
                    are_new = copies.are_new(keys, units)
                    number += len(rows)
                    if number > n_before:  # earlier rows are read only to find duplicates
                        engine.add(keys[are_new], units[are_new])
                        reporter.advance(len(rows))
                engine.save(part)
                n_bytes, digest = digest_of(part)
                pairs = copies.pairs()
                record = replace(record, n_bytes=n_bytes, digest=digest, n_indexed=len(engine), n_copies=len(pairs))
                with new_copies.open("wb") as copies_file:
                    np.save(copies_file, pairs)
            write_record(vectors, record)
    except M2VError:
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        reason = "out of memory" if isinstance(error, MemoryError) else " ".join(str(error).split())
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise write_error(path, reason) from error
    for other in ("usearch", "faiss"):
        if other != record.engine:
            with contextlib.suppress(OSError):
                path.with_name(f"{vectors.index_name}.{other}").unlink(missing_ok=True)
    return record


def _installed_engine() -> EngineName:
    for name in ("usearch", "faiss"):
        with contextlib.suppress(MissingExtraError):
            check_installed(name)
            return name
    raise MissingExtraError("usearch", "search")


def _check_disk_space(vectors: StoredVectors, dtype: DType) -> None:
    n_bytes = index_bytes(vectors.n_rows, vectors.dim, dtype)
    n_free_bytes = shutil.disk_usage(vectors.folder).free
    if n_bytes > n_free_bytes:
        raise SaveError(
            f"The index of {vectors.path} needs about {n_bytes:,} bytes, but only {n_free_bytes:,} are free there. "
            "Free up space, or use int8 (dtype='int8', --dtype int8)."
        )
