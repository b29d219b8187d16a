"""Atomic writes of files and folders, and locks between processes."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from m2v_core.errors import M2VError, SaveError

_IS_WINDOWS = os.name == "nt"


@contextlib.contextmanager
def exclusive(path: Path, timeout: float = -1.0, *, busy: str = "", is_removed: bool = False) -> Iterator[None]:
    """Hold the lock file `path` against other threads and processes; a crash releases it.

    Args:
        path: The lock file; its folder must exist.
        timeout: Seconds to wait for the lock; without limit if negative.
        busy: Error message if the lock can't be acquired in time.
        is_removed: Whether to remove the lock file afterwards.

    Raises:
        SaveError: The lock was not acquired in time.
        OSError: The lock file can't be created.
    """
    lock = FileLock(path, timeout=timeout, poll_interval=0.01)
    try:
        lock.acquire()
    except Timeout as error:
        raise SaveError(busy) from error
    try:
        yield
    finally:
        if is_removed:  # while still locked: filelock retries if the locked file has been removed
            with contextlib.suppress(OSError):
                path.unlink()
        lock.release()


@contextlib.contextmanager
def saving(what: object, remedy: str = "Free some space and try again.") -> Iterator[None]:
    """Convert a failed write in the block into an error that names what could not be written.

    Args:
        what: A description or path, for the message.
        remedy: What to do next, for the message.

    Raises:
        SaveError: The block raised OSError.
    """
    try:
        yield
    except M2VError:
        raise
    except OSError as error:
        raise SaveError(f"{what} can't be written: {error.strerror or error}. {remedy}") from error


@contextlib.contextmanager
def replacing_file(path: Path, *, is_alone: bool = False, is_synced: bool = True) -> Iterator[Path]:
    """Yield a path to write to; when the block ends without an error, that file replaces `path` in one rename.

    The new file gets the permissions that the umask allows. If the block fails, `path` is unchanged and the new file
    is removed.

    Args:
        path: The file to replace; its folder must exist.
        is_alone: Whether the caller holds a lock. The new file is then named `<path>.part`, which overwrites what a
            killed process left behind; otherwise it has a hidden, unique name.
        is_synced: Whether to flush the new file to disk first, so that it also survives a power failure.

    Raises:
        OSError: Writing failed.
    """
    part = path.with_name(f"{path.name}.part" if is_alone else f".{secrets.token_hex(8)}.part")
    try:
        part.open("wb").close()
        mode = part.stat().st_mode
        yield part
        _add_permissions(part, mode)
        if is_synced:
            _sync_file(part)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(target: Path, n_bytes: int) -> Iterator[Path]:
    """Yield a staging folder to fill; when the block succeeds, move its files into `target`.

    A new `target` appears in one rename. In an existing folder, each file is replaced by a rename once all files are
    flushed to disk; other files are left alone. The files get the permissions that the umask allows. If the block
    fails, `target` is unchanged and the staging folder is removed.

    Args:
        target: The folder to write.
        n_bytes: Approximate size of the files, for the message when the disk is full.

    Raises:
        SaveError: Writing failed.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    staging = (target if target.is_dir() else target.parent) / f".m2v-saving-{secrets.token_hex(8)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        mode = staging.stat().st_mode
        yield staging
        for file in _files(staging):
            _add_permissions(file, mode)
        _sync(staging)
        _publish(staging, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise SaveError(_error_message(target, n_bytes, error)) from error
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
            # Another process may have created the folder in the meantime.
            if not target.is_dir():
                raise
        else:
            _sync_folder(target.parent)
            return
    files = [path.relative_to(staging) for path in _files(staging)]
    # Checked before the first rename, so that a model is never replaced halfway.
    for file in files:
        if (target / file).is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has the name of a file", str(target / file))
    # Windows refuses to replace a table that a loaded model maps. Tables go first, so that a refusal changes nothing.
    files.sort(key=lambda file: (file.suffix != ".safetensors", -(staging / file).stat().st_size))
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (staging / file).replace(target / file)
    _sync_folder(target)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _add_permissions(file: Path, mode: int) -> None:
    """Add the read and write permissions in `mode` that `file` lacks.

    `mode` is that of a file or folder just created there, because reading the umask changes it for all threads.
    Libraries that write to a temporary file first (safetensors since 0.8) make it readable by its owner only.
    """
    own = file.stat().st_mode
    if missing := mode & 0o666 & ~own:
        file.chmod(stat.S_IMODE(own) | missing)


def _sync(staging: Path) -> None:
    for path in _files(staging):
        _sync_file(path)
    _sync_folder(staging)


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # On other systems a folder can't be opened, and its entries are journaled anyway.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error_message(target: Path, n_bytes: int, error: Exception) -> str:
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
        "there. Nothing was changed; free some space or choose another folder."
    )
