"""Removing finished jobs: those too old, then the oldest until the rest fits."""

from __future__ import annotations

import shutil
from pathlib import Path

from m2v_core.storage.cache import age_seconds, surplus
from m2v_core.studio.jobs.folder import JobFolder, root_lock
from m2v_core.studio.jobs.index import JobIndex
from m2v_core.studio.jobs.records import FINISHED

_TRASH = ".trash-"
UNBORN = ".new-"
# A submission takes seconds; what is older was left by a crash.
_SECONDS_TO_SUBMIT = 3600.0


class Cleaner:
    """Removes jobs from a root.

    Args:
        root: The folder of the jobs.
        index: Reads them.
    """

    def __init__(self, root: Path, index: JobIndex) -> None:
        self._root = root
        self._index = index
        self._sizes: dict[str, int] = {}  # of finished jobs, which don't grow

    def clean(self, keep_seconds: float | None, keep_bytes: int | None) -> list[str]:
        """The ids of the jobs removed; a queued or running job never is."""
        removed = []
        if keep_seconds is not None or keep_bytes is not None:
            with root_lock(self._root):
                removed = self._choose(keep_seconds, keep_bytes)
                for job_id in removed:
                    self.discard(JobFolder(self._root / job_id))
        self.empty_trash()
        return removed

    def discard(self, folder: JobFolder) -> None:
        """Make a job disappear at once; the caller holds the root's lock, and empties the trash later."""
        folder.path.rename(self._root / f"{_TRASH}{folder.id}")
        self._sizes.pop(folder.id, None)

    def empty_trash(self) -> None:
        """Remove what was discarded, and what a crash has left of submissions."""
        for path in self._root.glob(f"{_TRASH}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self._root.glob(f"{UNBORN}*"):
            if age_seconds(path) > _SECONDS_TO_SUBMIT:
                shutil.rmtree(path, ignore_errors=True)

    def _choose(self, keep_seconds: float | None, keep_bytes: int | None) -> list[str]:
        ended: list[tuple[float, str, int]] = []
        n_running_bytes = 0
        entries = self._index.entries()
        for entry in entries:
            is_finished = entry.state.state in FINISHED
            size = self._size(entry.folder, is_finished) if keep_bytes is not None else 0
            if is_finished:
                ended.append((entry.state.finished_at or 0.0, entry.folder.id, size))
            else:
                n_running_bytes += size
        removed = surplus(ended, max_size=keep_bytes, max_age_seconds=keep_seconds, held=n_running_bytes)
        # A folder whose spec can't be read is nobody's job; only its age tells when to let it go.
        known = {entry.folder.id for entry in entries}
        for path in self._root.iterdir():
            is_nobodys = path.is_dir() and not path.name.startswith(".") and path.name not in known
            if is_nobodys and keep_seconds is not None and age_seconds(path) > keep_seconds:
                removed.append(path.name)
        return removed

    def _size(self, folder: JobFolder, is_finished: bool) -> int:
        if not is_finished:
            return folder.size_bytes()
        if folder.id not in self._sizes:
            self._sizes[folder.id] = folder.size_bytes()
        return self._sizes[folder.id]
