"""The compiled kernels of this process.

They come from an image, which a process of its own builds once for each processor; until then callers do without. Where
images can't be built or run, numba compiles the same kernels in this process. `M2V_KERNELS=numba` in the environment
asks for that, `M2V_KERNELS=off` for none at all.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import subprocess

    from m2v_core.encoder import image

logger = logging.getLogger(__name__)

_BUILD = "import sys; sys.path[:] = sys.argv[2:]; from m2v_core.encoder.compiling import main; main()"

Kernel = Callable[..., int]


class Kernels(NamedTuple):
    """The entry points of `m2v_core.encoder.kernels`; each takes numbers, and arrays for their addresses.

    Attributes:
        reads_halves: Whether `pool` takes rows of float16.
        memory: The functions last as long as this.
    """

    pool: Kernel
    tokenize: Kernel
    collect: Kernel
    to_bytes: Kernel
    add: Kernel
    fill: Kernel
    copy: Kernel
    rehash: Kernel
    multiply_by_gram: Kernel
    reads_halves: bool
    memory: Any


class _Build:
    """A process that builds the image."""

    def __init__(self) -> None:
        import subprocess
        import tempfile

        from m2v_core.encoder import image

        if not sys.executable:
            raise image.ImageError("this interpreter can't start another")
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-c", _BUILD, str(image.folder_to_write()), *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env=environment,
            start_new_session=True,  # what it makes is of use even if this process is interrupted
        )

    def is_done(self, wait: bool) -> bool:
        """Whether it has come to an end.

        Raises:
            ImageError: It failed.
        """
        from m2v_core.encoder.image import ImageError

        status = self._process.wait() if wait else self._process.poll()
        if status is None:
            return False
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        self._said.close()
        if status:
            raise ImageError(lines[-1] if lines else f"the process that builds it ended with status {status}")
        return True


class _Native:
    """What this process knows of its kernels."""

    def __init__(self) -> None:
        self.kernels: Kernels | None = None
        self.has_none = os.environ.get("M2V_KERNELS") == "off"
        self._build: _Build | None = None
        self._no_image = "M2V_KERNELS asks for none" if os.environ.get("M2V_KERNELS") == "numba" else ""
        self.begin()

    def begin(self) -> None:
        """Also in a forked child, where nobody would release the lock; a build is its parent's to wait for."""
        self._lock = threading.Lock()
        self._build = None

    def prepare(self, may_build: bool, wait: bool) -> None:
        """Get the kernels if it takes no time, or if it may; whoever finds another thread at it goes without."""
        if not self._lock.acquire(blocking=wait):
            return
        try:
            if self.kernels is None and not self.has_none:
                loaded = None if self._no_image else self._from_image(may_build, wait)
                if self._no_image and may_build:
                    loaded = self._from_numba()
                if loaded is not None:
                    self.kernels = _kernels_of(loaded)
        finally:
            self._lock.release()

    def _from_image(self, may_build: bool, wait: bool) -> image.Loaded | None:
        from m2v_core.encoder import image  # for short texts alone it would be idle

        try:
            if self._build is None:
                reason = image.why_not_here()
                if reason:
                    raise image.ImageError(reason)
                try:
                    return image.load()
                except image.ImageError as error:
                    if may_build:
                        logger.info("Building the encoder's kernels, for %s.", error)
                        self._build = _Build()
            if self._build is not None and self._build.is_done(wait):
                return image.load()
        except (OSError, ValueError, image.ImageError) as error:
            self._no_image = str(error)
        return None

    def _from_numba(self) -> image.Loaded | None:
        logger.info("The encoder's kernels are compiled in this process: %s.", self._no_image)
        try:
            from m2v_core.encoder.compiling import in_this_process

            return in_this_process()
        except Exception as error:  # whatever is wrong with a compiler, texts are read without it
            self.has_none = True
            logger.warning(
                "Encoding goes on without compiled kernels, many times slower: no image, for %s; and numba failed with "
                "%s: %s",
                self._no_image,
                type(error).__name__,
                error,
            )
        return None


def _kernels_of(loaded: image.Loaded) -> Kernels:
    functions = {name: _callable_of(entry) for name, entry in loaded.entries.items()}
    return Kernels(**functions, reads_halves=loaded.reads_halves, memory=loaded.memory)


def _callable_of(entry: image.Entry) -> Kernel:
    number = ctypes.c_int64
    function = ctypes.CFUNCTYPE(number, *[number] * entry.n_arguments)(entry.address)

    def kernel(*arguments: Any) -> int:
        return int(function(*[_number(argument) for argument in arguments]))

    return kernel


def _number(argument: Any) -> int:
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return int(argument.ctypes.data)
    return int(argument)


_native = _Native()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.begin)


def kernels_ready(may_build: bool = True, wait: bool = False) -> bool:
    """Whether `kernels` has them.

    Args:
        may_build: Whether what takes seconds may begin: building the image, in the background, or compiling here where
            images aren't possible.
        wait: Whether to wait for the image; with `may_build` the answer is final then.
    """
    if _native.kernels is None and not _native.has_none:
        _native.prepare(may_build, wait)
    return _native.kernels is not None


def build_beforehand() -> None:
    """Begin to build the image in the background, where there is none yet and images can be run."""
    from m2v_core.encoder import image

    if image.why_not_here() is None:
        kernels_ready()


def kernels() -> Kernels:
    """The kernels, once they are ready.

    Raises:
        RuntimeError: They are not.
    """
    if _native.kernels is None:
        raise RuntimeError("The kernels are not there; kernels_ready says when they are.")
    return _native.kernels
