"""The files of texts that a pattern means, here and wherever fsspec reaches."""

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
# S3, the Hub, Google, Azure, archives, and whatever has times.
_VERSIONS = ("ETag", "etag", "blob_id", "md5Hash", "content_md5", "CRC", "mtime", "LastModified", "last_modified")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class InputFile:
    """One file of texts.

    Attributes:
        path: Absolute, or a URL.
        n_bytes: Its size.
        version: Changes when the file does.
    """

    path: str
    n_bytes: int
    version: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.partition("::")[0].rpartition("/")[2] if is_url(self.path) else Path(self.path).name

    @contextmanager
    def local(self, folder: Path, name: str) -> Iterator[Path]:
        """The file where it lies, or a copy of it in a folder, for as long as it is read.

        Args:
            folder: Where a copy may lie.
            name: What tells the copy from others; one that a killed process left is replaced.

        Raises:
            InputError: It can't be fetched.
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
        except M2VError as error:  # about the file, not its copy
            error.args = tuple(str(part).replace(str(copy), self.path) for part in error.args)
            raise
        finally:
            copy.unlink(missing_ok=True)


def is_url(path: str | Path) -> bool:
    """Whether fsspec finds it, rather than the system."""
    return "://" in str(path)


def is_many(path: str | Path) -> bool:
    """Whether a path means any number of files: a pattern, a folder or a URL."""
    if is_url(path) or Path(path).is_dir():
        return True
    return glob.has_magic(str(path)) and not Path(path).is_file()


def find_inputs(pattern: str | Path) -> list[InputFile]:
    """All files that a path, a folder, a pattern such as `texts/**/*.parquet`, or a URL of one means, sorted.

    Of a folder, those whose ending says what they are, as deep as they lie.

    Raises:
        NotFoundError: There is none.
        InputError: They can't be listed.
        MissingExtraError: The package for such URLs isn't installed.
    """
    found = list(_remote(str(pattern)) if is_url(pattern) else _local(Path(pattern).expanduser()))
    if not found:
        raise NotFoundError(
            f"No file of texts at {pattern}. Name a file, a folder, or a pattern such as 'texts/*.parquet', in quotes."
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
    """What a listing says that changes with a file. fsspec's own `ukey` is for some kinds another in each process."""
    return " ".join(str(entry[key]) for key in ("size", *_VERSIONS) if entry.get(key) is not None)


def _file_system(url: str) -> tuple[Any, str]:
    with NeedsExtra("fsspec", "bulk"):
        from fsspec.core import url_to_fs
    try:
        with _errors_of(url):
            files, path = url_to_fs(url)
            return files, path
    except ImportError as error:  # fsspec names the package that knows such URLs
        raise M2VError(f"{url} can't be reached: {error}.") from error


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"No file of texts at {url}. Check the address.") from error
    except M2VError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise SaveError(f"{url} can't be fetched: {error.strerror}. Make room where the embeddings go.") from error
        reason = " ".join(str(error).split())
        raise InputError(
            f"{url} can't be read ({type(error).__name__}: {reason}). Check the address and your access."
        ) from error
