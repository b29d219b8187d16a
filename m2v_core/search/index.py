"""An index beside the vectors it is of: `_index.usearch` or `_index.faiss`, and `_index.json` on what it was made of.

The second is written last and tells the first by its size and both ends, so that whatever a killed process leaves is no
index. Rows of zeros, of texts without any known token, are near nothing and not in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from m2v_core import __version__
from m2v_core.bulk.checkpoint import Checkpoint, model_fingerprint
from m2v_core.bulk.formats import DType
from m2v_core.errors import InputError, M2VError, MissingExtraError, NotFoundError, SaveError
from m2v_core.exploration.rows import unit_rows
from m2v_core.model import StaticModel
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.search.engines import Engine, EngineName, check_installed, engine_type, index_bytes
from m2v_core.search.stored import StoredVectors, VectorFile, find_vectors

_VERSION = 1
_BYTES_COMPARED = 1 << 20  # at each end: to read all of an index would take longer than a search


@dataclass(frozen=True)
class IndexRecord:
    """What an index was made of.

    Attributes:
        engine: That wrote it.
        dtype: Number format in which it holds the rows.
        file: Its name.
        n_bytes: Its size.
        digest: Of its size and both ends.
        n_indexed: Rows it holds, without those of zeros.
        column: The one of vectors.
        dim: Their width.
        settings: As in `StoredVectors`.
        model: Folder or Hub name of the model that made the vectors; None where nobody said.
        model_fingerprint: Of that model.
        files: Of the vectors; the rows are numbered through them, in this order.
        made_by: Version of this package.
    """

    engine: EngineName
    dtype: DType
    file: str
    n_bytes: int
    digest: str
    n_indexed: int
    column: str
    dim: int
    settings: dict[str, Any]
    model: str | None
    model_fingerprint: str | None
    files: tuple[VectorFile, ...]
    made_by: str

    def compared(self, vectors: StoredVectors) -> Literal["same", "added", "changed"]:
        """Whether the vectors are those of the index, those and more, or others."""
        files = set(vectors.files)
        is_made_so = (self.column, self.dim, self.settings) == (vectors.column, vectors.dim, vectors.settings)
        if not is_made_so or not files.issuperset(self.files):
            return "changed"
        return "same" if len(files) == len(self.files) else "added"


@dataclass(frozen=True)
class BuiltIndex:
    """What became of an index.

    Attributes:
        path: Its file.
        record: What it was made of.
        n_rows: Vectors there are.
        n_added: How many of them this call read.
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
    """Write an index beside vectors, or bring the one that is there up to date.

    One that is up to date stays; files that were encoded since are added to it; where others changed, all is built
    anew. The vectors are read a few thousand at a time. The index itself is built in memory: about 2 x dim + 160 bytes
    a row in float16.

    Args:
        path: A folder that `m2v encode` filled, or a Parquet file that it wrote.
        model: That made the vectors, where nobody wrote it down, as of a single file, or it has moved.
        engine: "usearch", or "faiss"; None for that of the index there is, or else usearch where it is installed.
        dtype: Number format of the index, which need not be that of the vectors; None for that of the index there is,
            or else float16. "int8", of usearch alone, takes half of that and finds a little less.
        threads: None for one a core.
        restart: Whether to build anew what could stay.
        progress: Receives one stage, "index", in rows.
        cancel: Set it to stop.

    Raises:
        NotFoundError: There are no such vectors, or there is no such model.
        InputError: The vectors can't be read, an argument is not allowed, or the model is another one.
        SaveError: The index can't be written, or another process writes it.
        MissingExtraError: pyarrow isn't installed, or no engine.
        Cancelled: `cancel` was set; the index that was there still is.
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
        named, fingerprint = before.model, before.model_fingerprint
    if model is not None:
        fingerprint = check_model(StaticModel.from_pretrained(model), model, vectors.dim, fingerprint)
        local = Path(model).expanduser()
        named = str(local.absolute() if local.exists() else model)
    opened: Engine | None = None
    if before is not None and state != "changed" and not restart and (before.engine, before.dtype) == (engine, dtype):
        with contextlib.suppress(InputError):  # damaged: to be built anew
            opened = open_index(vectors, before, state == "added", threads or 0)
    if before is not None and opened is not None and state == "same":
        record = replace(before, model=named, model_fingerprint=fingerprint)
        if record != before:
            _write_record(vectors, record)
        return BuiltIndex(vectors.folder / record.file, record, vectors.n_rows, 0)
    n_before = 0
    files = vectors.files
    if before is not None and opened is not None:
        known = set(before.files)
        files = tuple(file for file in vectors.files if file not in known)
        vectors = vectors.with_files([*before.files, *files])
        n_before = vectors.n_rows - sum(file.n_rows for file in files)
    _check_room(vectors, dtype)
    record = IndexRecord(
        engine=engine,
        dtype=dtype,
        file=f"{vectors.index_name}.{engine}",
        n_bytes=0,
        digest="",
        n_indexed=0,
        column=vectors.column,
        dim=vectors.dim,
        settings=vectors.settings,
        model=named,
        model_fingerprint=fingerprint,
        files=vectors.files,
        made_by=__version__,
    )
    opened = opened or kind.new(vectors.dim, dtype, threads or 0)
    record = _build(vectors, opened, files, n_before, record, ProgressReporter(progress, cancel))
    return BuiltIndex(vectors.folder / record.file, record, vectors.n_rows, vectors.n_rows - n_before)


def _build(
    vectors: StoredVectors,
    engine: Engine,
    files: tuple[VectorFile, ...],
    n_before: int,
    record: IndexRecord,
    reporter: ProgressReporter,
) -> IndexRecord:
    path = vectors.folder / record.file
    checkpoint = Checkpoint(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(checkpoint.open())
        except SaveError as error:
            raise SaveError(f"Another run is building {path}. Wait for it to end.") from error
        except OSError as error:
            raise _could_not_write(path, error.strerror or str(error)) from error
        try:
            reporter.start("index", vectors.n_rows, n_before)
            number = n_before
            for rows in vectors.batches(files):
                is_any = rows.any(axis=1)
                keys = np.arange(number, number + len(rows), dtype=np.int64)
                if is_any.any():
                    engine.add(keys[is_any], unit_rows(rows[is_any]))
                number += len(rows)
                reporter.advance(len(rows))
            engine.save(checkpoint.part_path)
            n_bytes, digest = _digest(checkpoint.part_path)
            record = replace(record, n_bytes=n_bytes, digest=digest, n_indexed=len(engine))
            checkpoint.publish(file)
            _write_record(vectors, record)
        except BaseException as error:
            checkpoint.remove()
            if isinstance(error, OSError | RuntimeError | MemoryError) and not isinstance(error, M2VError):
                reason = "out of memory" if isinstance(error, MemoryError) else " ".join(str(error).split())
                raise _could_not_write(path, reason) from error
            raise
    for other in ("usearch", "faiss"):
        if other != record.engine:
            with contextlib.suppress(OSError):
                path.with_name(f"{vectors.index_name}.{other}").unlink(missing_ok=True)
    return record


def read_record(vectors: StoredVectors) -> IndexRecord | None:
    """What the index beside some vectors was made of; None where there is none that can be used."""
    try:
        value = json.loads(_record_path(vectors).read_text(encoding="utf-8"))
        if value.pop("m2v_index") != _VERSION:
            return None
        value["files"] = tuple(VectorFile(**file) for file in value["files"])
        return IndexRecord(**value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def open_index(vectors: StoredVectors, record: IndexRecord, is_to_grow: bool = False, n_threads: int = 0) -> Engine:
    """The index, to be searched from its file, or to grow in memory.

    Raises:
        InputError: It is damaged, or not the one that the record is of.
        MissingExtraError: What wrote it isn't installed.
    """
    path = vectors.folder / record.file
    kind = engine_type(record.engine, record.dtype)
    check_installed(record.engine)
    try:
        if _digest(path) == (record.n_bytes, record.digest):
            engine = kind.open(path, is_to_grow, n_threads)
            if len(engine) == record.n_indexed:
                return engine
        reason = "it is not what was written"
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
    raise InputError(f"The index {path} can't be used: {reason}. Build it anew: m2v index {vectors.path}")


def check_model(model: StaticModel, name: str, dim: int, fingerprint: str | None) -> str:
    """The fingerprint of a model, which must be the one that made the vectors.

    Args:
        model: The model.
        name: What to call it.
        dim: Width of the vectors.
        fingerprint: Of the model that made them; None where nobody wrote it down, so that only the width is compared.

    Raises:
        InputError: It is another one.
    """
    if model.dim != dim:
        raise InputError(
            f"{name} makes vectors of {model.dim} dimensions, and these have {dim}. Name the model that made them."
        )
    found = model_fingerprint(model)
    if fingerprint not in (None, found):
        raise InputError(
            f"{name} is another model than the one that made these vectors, or another version of it. Name that one."
        )
    return found


def _installed_engine() -> EngineName:
    for name in ("usearch", "faiss"):
        with contextlib.suppress(MissingExtraError):
            check_installed(name)
            return name
    raise MissingExtraError("usearch", "search")


def _check_room(vectors: StoredVectors, dtype: DType) -> None:
    n_bytes = index_bytes(vectors.n_rows, vectors.dim, dtype)
    n_free_bytes = shutil.disk_usage(vectors.folder).free
    if n_bytes > n_free_bytes:
        raise SaveError(
            f"An index of {vectors.path} takes about {n_bytes:,} bytes, and {n_free_bytes:,} are free there. Make "
            "room, or choose int8 (dtype='int8', --dtype int8)."
        )


def _record_path(vectors: StoredVectors) -> Path:
    return vectors.folder / f"{vectors.index_name}.json"


def _write_record(vectors: StoredVectors, record: IndexRecord) -> None:
    path = _record_path(vectors)
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump({"m2v_index": _VERSION, **asdict(record)}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise _could_not_write(path, error.strerror or str(error)) from error


def _digest(path: Path) -> tuple[int, str]:
    n_bytes = path.stat().st_size
    digest = hashlib.sha256(str(n_bytes).encode())
    with path.open("rb") as file:
        digest.update(file.read(_BYTES_COMPARED))
        file.seek(max(n_bytes - _BYTES_COMPARED, 0))
        digest.update(file.read(_BYTES_COMPARED))
    return n_bytes, digest.hexdigest()


def _could_not_write(path: Path, reason: str) -> SaveError:
    nearest = next(folder for folder in path.parents if folder.is_dir())
    return SaveError(
        f"Could not write {path}: {reason}. {shutil.disk_usage(nearest).free:,} bytes are free there. Mend that and "
        "give the command again."
    )


def missing_index(vectors: StoredVectors) -> NotFoundError:
    """The error of a search that needs an index, and there is none."""
    return NotFoundError(
        f"{vectors.path} holds {vectors.n_rows:,} vectors and no index. Build one: m2v index {vectors.path}. Or search "
        "without, which reads them all each time (exact=True, --exact)."
    )
