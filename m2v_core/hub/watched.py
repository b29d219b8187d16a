"""Files that report how far they have been read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from m2v_core.progress import ProgressReporter


class WatchedFile(io.BufferedReader):
    """A file or bytes that report how far they have been read; bytes sent again are not counted twice."""

    def __init__(self, content: Path | bytes, reporter: ProgressReporter) -> None:
        super().__init__(io.FileIO(content) if isinstance(content, Path) else _BytesIO(content))
        self._reporter = reporter
        self._reported = 0
        self.is_counting = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next bytes; raises an error to stop the upload when it is cancelled."""
        content = super().read(size)
        if self.is_counting:
            n_new = max(0, self.tell() - self._reported)
            self._reported += n_new
            self._reporter.advance(n_new)
        return content


class _BytesIO(io.RawIOBase):
    """Bytes as an unbuffered file."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._content.readinto(buffer)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()
