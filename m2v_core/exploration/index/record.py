"""What an index was made of, kept in a file beside it, by which it is known to be whole and of these vectors."""

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
        n_indexed: Rows in the graph, without those of zeros and those that equal one before.
        n_copies: Rows that equal one before.
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
    n_copies: int
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


def open_index(
    vectors: StoredVectors, record: IndexRecord, is_to_grow: bool = False, n_threads: int = 0
) -> tuple[Engine, NDArray[np.int64]]:
    """The graph, to be searched from its file, or to grow in memory; and the rows that equal one of it.

    Raises:
        InputError: It is damaged, or not the one that the record is of.
        MissingExtraError: What wrote it isn't installed.
    """
    path = vectors.folder / record.file
    kind = engine_type(record.engine, record.dtype)
    check_installed(record.engine)
    try:
        if digest_of(path) == (record.n_bytes, record.digest):
            engine = kind.open(path, is_to_grow, n_threads)
            pairs = open_pairs(copies_path(vectors))
            if (len(engine), len(pairs)) == (record.n_indexed, record.n_copies):
                return engine, pairs
        reason = "it is not what was written"
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
    raise InputError(f"The index {path} can't be used: {reason}. Build it anew: m2v index {vectors.path}")


def copies_path(vectors: StoredVectors) -> Path:
    """Where the rows are listed that equal one before."""
    return vectors.folder / f"{vectors.index_name}.copies.npy"


def write_record(vectors: StoredVectors, record: IndexRecord) -> None:
    """Keep what an index was made of; from then on it is one.

    Raises:
        SaveError: It can't be written.
    """
    path = _record_path(vectors)
    try:
        with replacing_file(path) as new:
            new.write_text(json.dumps({"m2v_index": _VERSION, **asdict(record)}), encoding="utf-8")
    except OSError as error:
        raise could_not_write(path, error.strerror or str(error)) from error


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


def digest_of(path: Path) -> tuple[int, str]:
    """The size of a file, and a digest of that and both ends."""
    n_bytes = path.stat().st_size
    digest = hashlib.sha256(str(n_bytes).encode())
    with path.open("rb") as file:
        digest.update(file.read(_BYTES_COMPARED))
        file.seek(max(n_bytes - _BYTES_COMPARED, 0))
        digest.update(file.read(_BYTES_COMPARED))
    return n_bytes, digest.hexdigest()


def could_not_write(path: Path, reason: str) -> SaveError:
    """The error of a file of an index that can't be written."""
    nearest = next(folder for folder in path.parents if folder.is_dir())
    return SaveError(
        f"Could not write {path}: {reason}. {shutil.disk_usage(nearest).free:,} bytes are free there. Mend that and "
        "give the command again."
    )


def _record_path(vectors: StoredVectors) -> Path:
    return vectors.folder / f"{vectors.index_name}.json"
