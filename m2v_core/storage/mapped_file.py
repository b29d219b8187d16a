"""Arrays mapped from files: read-only, shared between processes, and read page by page on first use."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core.errors import ModelFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MappedFile(mmap.mmap):
    """A file mapped read-only. It is unmapped when the last array over it is deleted.

    POSIX: after the file is replaced by a rename, as every save of this library does, or deleted, the mapping keeps
    the old content. Truncating the file in place makes reads beyond its new end kill the process (SIGBUS); `check`
    detects that. Overwriting it in place changes the arrays.

    Windows: a mapped file can't be truncated, replaced or deleted. Such attempts raise PermissionError.

    Network file systems may not keep these guarantees.

    Args:
        path: The file to map, of 1 byte or more.

    Attributes:
        path: The mapped file.

    Raises:
        OSError: The file can't be opened or mapped.
        ValueError: The file is empty.
    """

    path: Path

    def __new__(cls, path: Path) -> MappedFile:
        """Map the whole file at `path`."""
        with path.open("rb") as file:
            self = super().__new__(cls, file.fileno(), 0, access=mmap.ACCESS_READ)
        self.path = path
        return self

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A read-only view of the file as an array, without copying.

        Args:
            offset: Byte at which the array starts.
            shape: Shape of the array, in C order.
            dtype: Its dtype.

        Raises:
            TypeError: The array would end beyond the end of the file.
        """
        return np.ndarray(shape, dtype, buffer=self, offset=offset)

    def check(self) -> None:
        """Verify that the file has not been truncated since it was mapped. Takes about a microsecond.

        Raises:
            ModelFormatError: The file is shorter now, so reading the mapping could kill the process.
        """
        size = self.size()  # of the mapping's own file descriptor; the path may be another file by now
        if size < len(self):
            raise ModelFormatError(
                f"{self.path} was truncated from {len(self):,} to {size:,} bytes while a model was using it. Another "
                "program wrote to the file in place instead of replacing it. Restore the file and load the model "
                "again; from_pretrained(..., load_in_memory=True) makes a model independent of its file."
            )


def mapped_file(array: NDArray[Any]) -> MappedFile | None:
    """The mapped file that `array` is a view of; None if the array is in memory."""
    base = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, MappedFile) else None


def check_mapped(array: NDArray[Any]) -> None:
    """Verify before reading `array` that the file it is mapped from, if any, has not been truncated.

    Raises:
        ModelFormatError: The file was truncated.
    """
    file = mapped_file(array)
    if file is not None:
        file.check()
