"""Temporary storage of users' texts on the server, so that they survive a page reload."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from m2v_core.storage.atomic import saving
from m2v_core.studio.jobs.folder import read_json, replace_json
from m2v_core.studio.jobs.store import hash_owner


class TextStore:
    """The most recent texts of each owner, one file per owner, named by a hash of the owner.

    Args:
        root: Folder of the files, created on the first write and readable only by this user.
        keep_seconds: Seconds since the last use after which texts are deleted.
    """

    def __init__(self, root: Path, keep_seconds: float) -> None:
        self._root = root
        self._keep_seconds = keep_seconds

    def put(self, texts: Sequence[str], owner: str) -> None:
        """Replace the owner's texts, and delete expired texts of all owners.

        Raises:
            SaveError: The texts can't be written.
        """
        with saving("The list of texts", "Free up disk space on the server."):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clean()
            replace_json(self._file(owner), list(texts))

    def get(self, owner: str) -> list[str]:
        """Return the owner's texts; empty if there are none or they have expired."""
        file = self._file(owner)
        try:
            if time.time() - file.stat().st_mtime > self._keep_seconds:
                return []
            texts = read_json(file)
            file.touch()
        except (OSError, ValueError):
            return []
        return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else []

    def delete(self, owner: str) -> None:
        """Delete the owner's texts."""
        with contextlib.suppress(OSError):
            self._file(owner).unlink(missing_ok=True)

    def _file(self, owner: str) -> Path:
        return self._root / f"{hash_owner(owner)}.json"

    def _clean(self) -> None:
        oldest = time.time() - self._keep_seconds
        for file in self._root.iterdir():
            with contextlib.suppress(OSError):  # another process may have deleted it
                if file.stat().st_mtime < oldest:
                    file.unlink(missing_ok=True)
