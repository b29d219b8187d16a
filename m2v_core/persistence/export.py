"""Packing a saved model for people to take away."""

from __future__ import annotations

import secrets
import zipfile
from pathlib import Path

from m2v_core.errors import NotFoundError, SaveError

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a ZIP's dates: the same files make the same archive
_INCOMPRESSIBLE = frozenset({".safetensors", ".onnx"})  # weights: deflating costs seconds and saves next to nothing


def write_zip(model_folder: str | Path, zip_path: str | Path) -> Path:
    """The path of a new archive that holds one folder, named as the archive is, with every file of the model.

    It is written beside and renamed, so that `zip_path` never holds half an archive.

    Args:
        model_folder: A saved model.
        zip_path: Where to write; an archive that stands there is replaced. Its folder must exist.

    Raises:
        NotFoundError: No such model folder.
        SaveError: The archive can't be written.
    """
    model_folder, zip_path = Path(model_folder), Path(zip_path)
    if not model_folder.is_dir():
        raise NotFoundError(f"No model folder at {model_folder}. Save a model there first.")
    # A name of its own, so that two who write the same archive don't write into each other's.
    unfinished = zip_path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for path in sorted(model_folder.rglob("*")):
                if path.is_file():
                    _add(archive, path, f"{zip_path.stem}/{path.relative_to(model_folder).as_posix()}")
        unfinished.replace(zip_path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise SaveError(f"{zip_path} can't be written ({error.strerror}). Free some space and try again.") from error
    return zip_path


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_STORED if path.suffix in _INCOMPRESSIBLE else zipfile.ZIP_DEFLATED
    with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
        while block := source.read(2**20):
            target.write(block)
