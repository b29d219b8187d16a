"""A person's texts, kept on the server for a while, so that a page finds them again after a refresh."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from m2v_core.storage.atomic import saving
from m2v_core.studio.jobs.folder import read_json, replace_json
from m2v_core.studio.jobs.store import hash_owner


class KeptTexts:
    """The last texts of each owner, a file each; the owner's name stands in none of them.

    Args:
        root: Where the files are; made when the first is written, readable by this user alone.
        keep_seconds: How long texts are kept after they were last used.
    """

    def __init__(self, root: Path, keep_seconds: float) -> None:
        self._root = root
        self._keep_seconds = keep_seconds

    def keep(self, texts: Sequence[str], owner: str) -> None:
        """Keep these texts instead of the last ones, and let go of everybody's that are too old.

        Raises:
            SaveError: They can't be written.
        """
        with saving("The list of texts", "Make room on the server."):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clean()
            replace_json(self._file(owner), list(texts))

    def find(self, owner: str) -> list[str]:
        """This owner's texts; empty if there are none, or they were too old."""
        file = self._file(owner)
        try:
            if time.time() - file.stat().st_mtime > self._keep_seconds:
                return []
            texts = read_json(file)
            file.touch()
        except (OSError, ValueError):
            return []
        return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else []

    def forget(self, owner: str) -> None:
        """Remove this owner's texts."""
        with contextlib.suppress(OSError):
            self._file(owner).unlink(missing_ok=True)

    def _file(self, owner: str) -> Path:
        return self._root / f"{hash_owner(owner)}.json"

    def _clean(self) -> None:
        oldest = time.time() - self._keep_seconds
        for file in self._root.iterdir():
            with contextlib.suppress(OSError):  # another process may be doing the same
                if file.stat().st_mtime < oldest:
                    file.unlink(missing_ok=True)
