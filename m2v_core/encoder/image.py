"""The kernels as machine code in a file, so that a process that uses them needs no compiler.

An image belongs to one processor, one version of the kernels and one of the compiler: all of these are in its name. It
lies in a folder that nobody but its owner can write to, and what isn't to the last bit as it was written is not run.

    sha256 of the rest (32 bytes) | length of the description (4 bytes) | description (JSON) | code
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import json
import mmap
import os
import platform
import stat
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

_MODULES = Path(__file__).parent
_DIGEST = 32
_FOLDER = "m2v-studio"
_HAS_OWNERS = hasattr(os, "geteuid")


class ImageError(Exception):
    """An image that isn't there or must not be run; the message says why."""


class Entry(NamedTuple):
    """A function in memory.

    Attributes:
        address: Its first byte.
        n_arguments: Whole numbers of 64 bits that it takes.
    """

    address: int
    n_arguments: int


class Loaded(NamedTuple):
    """The functions of an image.

    Attributes:
        entries: By name.
        reads_halves: Whether `pool` takes rows of float16.
        memory: The functions last as long as this.
    """

    entries: dict[str, Entry]
    reads_halves: bool
    memory: Any


def why_not_here() -> str | None:
    """Why this system runs no images; None where it does."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return "images are made for Linux on x86-64 alone"
    return None


@lru_cache(maxsize=1)
def version() -> str:
    """A digest of the kernels' source and of the compiler's version.

    Raises:
        OSError: The source can't be read.
    """
    parts = []
    for compiler in ("numba", "llvmlite"):
        spec = importlib.util.find_spec(compiler)  # importing it would cost what images spare
        origin = Path(spec.origin) if spec and spec.origin else _MODULES
        release = origin.with_name("_version.py")
        parts.append(release.read_bytes() if release.is_file() else str(origin).encode())
    sources = [_MODULES / f"{name}.py" for name in ("layout", "compiling", "linking", "image")]
    parts += [source.read_bytes() for source in [*sources, *sorted((_MODULES / "kernels").glob("*.py"))]]
    return _digest(*parts)


@lru_cache(maxsize=1)
def file_name() -> str:
    """The name of the image for this processor, these kernels and this compiler.

    Raises:
        OSError: The kernels' source or the processor's description can't be read.
    """
    return f"kernels-{_digest(version().encode(), _processor())}.bin"


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def _processor() -> bytes:
    """What the system says of the first processor, but for what changes from hour to hour."""
    with Path("/proc/cpuinfo").open("rb") as file:
        lines = file.read(1 << 14).split(b"\n\n")[0].splitlines()
    names = (b"vendor_id", b"cpu family", b"model", b"model name", b"stepping", b"flags")
    return b"\n".join(line for line in lines if line.split(b":")[0].strip() in names)


def folders() -> Iterator[Path]:
    """Where an image may lie, the best place first."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):  # nobody's home
        yield (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / _FOLDER
    import tempfile

    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir()) / (f"{_FOLDER}-{os.geteuid()}" if _HAS_OWNERS else _FOLDER)


def folder_to_write() -> Path:
    """The first place that this process can write to, and nobody else; made if need be.

    Raises:
        ImageError: There is none.
    """
    tried = []
    for folder in folders():
        tried.append(str(folder))
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_safe(folder.lstat(), stat.S_ISDIR) and os.access(folder, os.W_OK):
                return folder
    raise ImageError(f"no folder of one's own to write to among {', '.join(tried) or 'none'}")


def _is_safe(status: os.stat_result, is_kind: Any) -> bool:
    """Whether it is what it should be, and neither a link nor for others to write to."""
    is_own = not _HAS_OWNERS or (status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022)
    return is_own and bool(is_kind(status.st_mode))


def write(folder: Path, description: dict[str, Any], code: bytes) -> None:
    """Put an image in the folder, whole or not at all.

    Args:
        folder: As `folder_to_write` gives it.
        description: "entries": offset and number of arguments of each function; "addresses": offsets of the addresses
            of functions outside; "reads_halves".
        code: Runs at any multiple of 64.
    """
    text = json.dumps({**description, "name": file_name()}).encode()
    content = len(text).to_bytes(4, "little") + text + code
    temporary = folder / f"{file_name()}.{os.getpid()}"
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        temporary.replace(folder / file_name())
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def sole_builder(folder: Path) -> Iterator[None]:
    """While this holds, no other process builds an image there."""
    import fcntl

    with (folder / "lock").open("w") as file:
        with contextlib.suppress(OSError):  # some network folders know no locks: then twice the work
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def load() -> Loaded:
    """The functions of the image for this process.

    Raises:
        ImageError: There is none, or it is damaged, another's, or may not be run.
    """
    reasons = []
    for folder in folders():
        try:
            return _in_memory(*_read(folder))
        except FileNotFoundError:  # noqa: PERF203 - of two folders
            continue
        except (OSError, ImageError) as error:
            reasons.append(str(error))
    raise ImageError("; ".join(reasons) or "there is no image yet")


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    path = folder / file_name()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        if not _is_safe(os.fstat(file.fileno()), stat.S_ISREG) or not _is_safe(folder.lstat(), stat.S_ISDIR):
            raise ImageError(f"{path} could have been written by somebody else")
        content = file.read()
    if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        raise ImageError(f"{path} is damaged")
    size = int.from_bytes(content[_DIGEST : _DIGEST + 4], "little")
    description = json.loads(content[_DIGEST + 4 : _DIGEST + 4 + size])
    if description["name"] != file_name():
        raise ImageError(f"{path} is not what its name says")
    return description, content[_DIGEST + 4 + size :]


def _in_memory(description: dict[str, Any], code: bytes) -> Loaded:
    """The functions of an image; its memory is never writable and executable at once."""
    library = ctypes.CDLL(None, use_errno=True)
    memory = mmap.mmap(-1, len(code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(code)
    for name, offset in description["addresses"].items():
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        memory[offset : offset + 8] = address.to_bytes(8, "little")
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if library.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(code)), mmap.PROT_READ | mmap.PROT_EXEC):
        raise ImageError(f"this system refuses to run it: {os.strerror(ctypes.get_errno())}")
    entries = {
        name: Entry(start + offset, n_arguments) for name, (offset, n_arguments) in description["entries"].items()
    }
    return Loaded(entries, description["reads_halves"], memory)
