"""Writing a folder so that readers see all of it or none."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from m2v_core.errors import SaveError

_IS_WINDOWS = os.name == "nt"


@contextlib.contextmanager
def replacing(target: Path, n_bytes: int) -> Iterator[Path]:
    """A staging folder to fill; when the block ends well, its files take their places in `target`.

    A new `target` appears in one rename. In an existing one each file is replaced by a rename, once all are
    safely on disk; files of other names are left alone. When the block fails, `target` is as before and the
    staging folder is gone.

    Args:
        target: The folder to write.
        n_bytes: About what will be written, for the message when the disk is full.

    Raises:
        SaveError: Writing failed.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    staging = (target if target.is_dir() else target.parent) / f".m2v-saving-{secrets.token_hex(8)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        yield staging
        _sync(staging)
        _publish(staging, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise SaveError(_explain(target, n_bytes, error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not target.exists():
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _publish(staging: Path, target: Path) -> None:
    if staging.parent != target:
        try:
            staging.rename(target)
        except OSError:
            # Someone else may have made the folder meanwhile; then it is one that exists.
            if not target.is_dir():
                raise
        else:
            _sync_folder(target.parent)
            return
    files = [path.relative_to(staging) for path in staging.rglob("*") if path.is_file()]
    # Looked at before the first rename: half of a model replaced would be a broken one.
    for file in files:
        if (target / file).is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder stands where a file must go", str(target / file))
    # Windows refuses to replace a table that a loaded model maps. Tables go first, so that nothing is replaced then.
    files.sort(key=lambda file: (file.suffix != ".safetensors", -(staging / file).stat().st_size))
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (staging / file).replace(target / file)
    _sync_folder(target)


def _sync(staging: Path) -> None:
    for path in staging.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    _sync_folder(staging)


def _sync_folder(folder: Path) -> None:
    # Elsewhere a folder can't be opened, and its entries are journalled anyway.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(target: Path, n_bytes: int, error: Exception) -> str:
    nearest = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
    n_free_bytes = shutil.disk_usage(nearest).free
    if _IS_WINDOWS and isinstance(error, PermissionError):
        return (
            f"Could not write {target}: {error}. Windows does not replace the files of a model in use. Nothing was "
            "changed; delete the models loaded from there or load them with load_in_memory=True, or choose another "
            "folder."
        )
    return (
        f"Could not write {target}: {error}. It needs {n_bytes:,} bytes, and {n_free_bytes:,} are free "
        "there. Nothing was changed; make room or choose another folder."
    )
