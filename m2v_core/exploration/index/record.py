"""The record of what an index was built from, used to check whether the index is complete and up to date."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.bulk.formats import DType
from m2v_core.bulk.options import model_fingerprint
from m2v_core.errors import InputError, SaveError
from m2v_core.exploration.index.engines import Engine, EngineName, check_installed, engine_type, open_pairs
from m2v_core.exploration.index.stored import StoredVectors, VectorFile
from m2v_core.model import StaticModel
from m2v_core.storage.atomic import replacing_file

_VERSION = 1
_BYTES_COMPARED = 1 << 20  # at each end, because reading the whole index would take longer than a search


@dataclass(frozen=True)
class IndexRecord:
    """What an index was built from.

    Attributes:
        engine: Engine that wrote it.
        dtype: Number format of its rows.
        file: Name of its file.
        n_bytes: Size of its file.
        digest: Digest of its size and both ends.
        n_indexed: Number of rows in the graph, without rows of zeros and duplicates.
        n_copies: Number of duplicate rows.
        column: Name of the column of vectors.
        dim: Width of the vectors.
        settings: As in `StoredVectors`.
        model: Folder or Hub name of the model that computed the vectors; None if unknown.
        model_fingerprint: Fingerprint of that model.
        files: Files of the vectors; rows are numbered across all files in this order.
        made_by: Version of this package.
    """

    engine: EngineName
    dtype: DType
    file: str
    n_bytes: int
    digest: str
    n_indexed: int
    n_copies: int
    column: str
    dim: int
    settings: dict[str, Any]
    model: str | None
    model_fingerprint: str | None
    files: tuple[VectorFile, ...]
    made_by: str

    def compared(self, vectors: StoredVectors) -> Literal["same", "added", "changed"]:
        """Whether the vectors are the same as those of the index, have additional files, or changed."""
        files = set(vectors.files)
        has_same_settings = (self.column, self.dim, self.settings) == (vectors.column, vectors.dim, vectors.settings)
        if not has_same_settings or not files.issuperset(self.files):
            return "changed"
        return "same" if len(files) == len(self.files) else "added"


def read_record(vectors: StoredVectors) -> IndexRecord | None:
    """Read the record of the index next to the vectors; None if there is no valid one."""
    try:
        value = json.loads(_record_path(vectors).read_text(encoding="utf-8"))
        if value.pop("m2v_index") != _VERSION:
            return None
        value["files"] = tuple(VectorFile(**file) for file in value["files"])
        return IndexRecord(**value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def open_index(
    vectors: StoredVectors, record: IndexRecord, is_writable: bool = False, n_threads: int = 0
) -> tuple[Engine, NDArray[np.int64]]:
    """Open the graph, memory-mapped for searching or in memory for adding rows, and the list of duplicate rows.

    Raises:
        InputError: The index is damaged, or does not match the record.
        MissingExtraError: The engine that wrote it isn't installed.
    """
    path = vectors.folder / record.file
    kind = engine_type(record.engine, record.dtype)
    check_installed(record.engine)
    try:
        if digest_of(path) == (record.n_bytes, record.digest):
            engine = kind.open(path, is_writable, n_threads)
            pairs = open_pairs(copies_path(vectors))
            if (len(engine), len(pairs)) == (record.n_indexed, record.n_copies):
                return engine, pairs
        reason = "it was changed after it was written"
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
    raise InputError(f"The index {path} can't be used: {reason}. Rebuild it: m2v index {vectors.path}")


def copies_path(vectors: StoredVectors) -> Path:
    """Path of the list of duplicate rows."""
    return vectors.folder / f"{vectors.index_name}.copies.npy"


def write_record(vectors: StoredVectors, record: IndexRecord) -> None:
    """Write the record of an index, which makes the index valid.

    Raises:
        SaveError: The record can't be written.
    """
    path = _record_path(vectors)
    try:
        with replacing_file(path) as new:
            new.write_text(json.dumps({"m2v_index": _VERSION, **asdict(record)}), encoding="utf-8")
    except OSError as error:
        raise write_error(path, error.strerror or str(error)) from error


def check_model(model: StaticModel, name: str, dim: int, fingerprint: str | None) -> str:
    """Return the fingerprint of a model after checking that it computed the vectors.

    Args:
        model: The model.
        name: Name of the model in messages.
        dim: Width of the vectors.
        fingerprint: Fingerprint of the vectors' model; None if unknown, so that only the width is compared.

    Raises:
        InputError: The model is a different one.
    """
    if model.dim != dim:
        raise InputError(
            f"{name} has {model.dim} dimensions, but the vectors have {dim}. Pass the model that computed them."
        )
    found = model_fingerprint(model)
    if fingerprint not in (None, found):
        raise InputError(
            f"{name} is not the model that computed these vectors, or is a different version of it. Pass that model."
        )
    return found


def digest_of(path: Path) -> tuple[int, str]:
    """The size of a file, and a digest of its size and both ends."""
    n_bytes = path.stat().st_size
    digest = hashlib.sha256(str(n_bytes).encode())
    with path.open("rb") as file:
        digest.update(file.read(_BYTES_COMPARED))
        file.seek(max(n_bytes - _BYTES_COMPARED, 0))
        digest.update(file.read(_BYTES_COMPARED))
    return n_bytes, digest.hexdigest()


def write_error(path: Path, reason: str) -> SaveError:
    """The error for a file of an index that can't be written."""
    nearest = next(folder for folder in path.parents if folder.is_dir())
    return SaveError(
        f"Could not write {path}: {reason}. {shutil.disk_usage(nearest).free:,} bytes are free there. Fix the problem "
        "and rerun the command."
    )


def _record_path(vectors: StoredVectors) -> Path:
    return vectors.folder / f"{vectors.index_name}.json"
