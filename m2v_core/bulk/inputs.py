"""Finds the input files of a pattern, locally and on file systems that fsspec supports."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2v_core.bulk.formats import is_input_name
from m2v_core.errors import InputError, M2VError, NeedsExtra, NotFoundError, SaveError

FETCHED = "_fetched-"
# S3, the Hub, Google, Azure, archives, and file systems with timestamps.
_VERSIONS = ("ETag", "etag", "blob_id", "md5Hash", "content_md5", "CRC", "mtime", "LastModified", "last_modified")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class InputFile:
    """One file of texts.

    Attributes:
        path: Absolute path, or a URL.
        n_bytes: Size of the file.
        version: Changes when the file changes.
    """

    path: str
    n_bytes: int
    version: str

    @property
    def name(self) -> str:
        """The last component of its path."""
        return self.path.partition("::")[0].rpartition("/")[2] if is_url(self.path) else Path(self.path).name

    @contextmanager
    def local(self, folder: Path, name: str) -> Iterator[Path]:
        """Yield the path of the file, or of a temporary copy of a remote file.

        Args:
            folder: Folder for the copy.
            name: Unique name for the copy; a copy left by a killed process is replaced.

        Raises:
            InputError: The file can't be downloaded.
        """
        if not is_url(self.path):
            yield Path(self.path)
            return
        copy = folder / f"{FETCHED}{name}{Path(self.name).suffix}"
        try:
            files, path = _file_system(self.path)
            with _errors_of(self.path), files.open(path, "rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 22)
            yield copy
        except M2VError as error:  # the message should name the file, not its copy
            error.args = tuple(str(part).replace(str(copy), self.path) for part in error.args)
            raise
        finally:
            copy.unlink(missing_ok=True)


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL for fsspec rather than a local path."""
    return "://" in str(path)


def is_multi_file(path: str | Path) -> bool:
    """Whether a path can stand for any number of files: a pattern, a folder or a URL."""
    if is_url(path) or Path(path).is_dir():
        return True
    return glob.has_magic(str(path)) and not Path(path).is_file()


def find_inputs(pattern: str | Path) -> list[InputFile]:
    """Find the files of a path, a folder, a pattern such as `texts/**/*.parquet`, or a URL of one of these; sorted.

    Folders are searched recursively for files with a supported extension.

    Raises:
        NotFoundError: No file was found.
        InputError: They can't be listed.
        MissingExtraError: The package for such URLs isn't installed.
    """
    found = list(_remote(str(pattern)) if is_url(pattern) else _local(Path(pattern).expanduser()))
    if not found:
        raise NotFoundError(
            f"No input file at {pattern}. Pass a file, a folder, or a quoted pattern such as 'texts/*.parquet'."
        )
    return sorted(found, key=lambda file: file.path)


def _local(path: Path) -> Iterator[InputFile]:
    names = [str(path)]
    if path.is_dir():
        names = [str(file) for file in path.rglob("*") if is_input_name(file.relative_to(path).as_posix())]
    elif not path.exists():
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207 - of an absolute pattern too
    for name in names:
        if os.path.isfile(name):  # noqa: PTH113 - glob gives strings
            status = os.stat(name)  # noqa: PTH116
            yield InputFile(os.path.abspath(name), status.st_size, f"{status.st_size} {status.st_mtime_ns}")  # noqa: PTH100


def _remote(url: str) -> Iterator[InputFile]:
    files, path = _file_system(url)
    with _errors_of(url):
        if glob.has_magic(path):
            entries = files.glob(path, detail=True)
        elif files.isdir(path):
            entries = files.find(path, detail=True)
            entries = {name: entry for name, entry in entries.items() if is_input_name(name.removeprefix(path))}
        else:
            entries = {path: files.info(path)}
        chained = "::" + url.partition("::")[2] if "::" in url else ""
        scheme = url.partition("://")[0]
        for name, entry in entries.items():
            if entry["type"] == "file":
                full = f"{scheme}://{name}{chained}" if chained else files.unstrip_protocol(name)
                yield InputFile(full, int(entry["size"] or 0), _version(entry))


def _version(entry: dict[str, Any]) -> str:
    """Metadata of a listing that changes with the file. For some file systems, fsspec's `ukey` differs per process."""
    return " ".join(str(entry[key]) for key in ("size", *_VERSIONS) if entry.get(key) is not None)


def _file_system(url: str) -> tuple[Any, str]:
    with NeedsExtra("fsspec", "bulk"):
        from fsspec.core import url_to_fs
    try:
        with _errors_of(url):
            files, path = url_to_fs(url)
            return files, path
    except ImportError as error:  # fsspec names the package for such URLs
        raise M2VError(f"{url} can't be reached: {error}.") from error


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"No input file at {url}. Check the address.") from error
    except M2VError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise SaveError(f"{url} can't be downloaded: {error.strerror}. Free some disk space.") from error
        reason = " ".join(str(error).split())
        raise InputError(
            f"{url} can't be read ({type(error).__name__}: {reason}). Check the address and your access."
        ) from error
