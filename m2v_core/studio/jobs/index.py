"""The jobs of a root, read from disk and cached until they change, and removal of old jobs."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from m2v_core.storage.cache import age_seconds, select_evictions
from m2v_core.studio.jobs.folder import JobFolder, root_lock
from m2v_core.studio.jobs.records import FINISHED, SpecRecord, StateRecord

# Also prevents path traversal through a job id.
_JOB_ID = re.compile(r"[0-9a-f]{32}")
_TRASH = ".trash-"
INCOMPLETE = ".new-"
# A submission takes seconds; older folders are left over from crashes.
_MAX_SUBMIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Entry:
    """A job: its folder, the submitted job, and its state."""

    folder: JobFolder
    spec: SpecRecord
    state: StateRecord


class JobIndex:
    """Reads and removes the jobs in the folder `root`; reading an unchanged job costs one `stat`. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._specs: dict[str, SpecRecord] = {}
        self._states: dict[str, tuple[tuple[int, int], StateRecord]] = {}
        self._sizes: dict[str, int] = {}  # of finished jobs

    def find(self, job_id: str) -> Entry | None:
        """Return a job by id; None if it does not exist or its owner can't be read."""
        if _JOB_ID.fullmatch(job_id) is None:
            return None
        folder = JobFolder(self.root / job_id)
        if not folder.path.is_dir():
            self._specs.pop(job_id, None)
            self._states.pop(job_id, None)
            return None
        spec = self._specs.get(job_id) or folder.read_spec()
        if spec is None:
            return None
        self._specs[job_id] = spec
        return Entry(folder, spec, self._state(folder))

    def entries(self) -> list[Entry]:
        """All jobs, oldest first, which is the order of the queue."""
        found = (self.find(path.name) for path in self.root.iterdir())
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.spec.created_at)

    def _state(self, folder: JobFolder) -> StateRecord:
        # The stamp is read first, so that a concurrent change is detected on the next read.
        stamp = folder.state_stamp()
        cached = self._states.get(folder.id)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        state = folder.read_state()
        self._states[folder.id] = (stamp, state)
        return state

    def clean(self, keep_seconds: float | None, keep_bytes: int | None) -> list[str]:
        """Remove old finished jobs, and return their ids."""
        removed = []
        if keep_seconds is not None or keep_bytes is not None:
            with root_lock(self.root):
                removed = self._removable(keep_seconds, keep_bytes)
                for job_id in removed:
                    self.discard(JobFolder(self.root / job_id))
        self.empty_trash()
        return removed

    def discard(self, folder: JobFolder) -> None:
        """Move a job to the trash; the caller holds the root's lock and empties the trash later."""
        folder.path.rename(self.root / f"{_TRASH}{folder.id}")
        self._sizes.pop(folder.id, None)

    def empty_trash(self) -> None:
        """Delete discarded jobs, and incomplete submissions left over from crashes."""
        for path in self.root.glob(f"{_TRASH}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.root.glob(f"{INCOMPLETE}*"):
            if age_seconds(path) > _MAX_SUBMIT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def _removable(self, keep_seconds: float | None, keep_bytes: int | None) -> list[str]:
        ended: list[tuple[float, str, int]] = []
        n_running_bytes = 0
        entries = self.entries()
        for entry in entries:
            is_finished = entry.state.state in FINISHED
            size = self._size(entry.folder, is_finished) if keep_bytes is not None else 0
            if is_finished:
                ended.append((entry.state.finished_at or 0.0, entry.folder.id, size))
            else:
                n_running_bytes += size
        removed = select_evictions(ended, max_size=keep_bytes, max_age_seconds=keep_seconds, held=n_running_bytes)
        # Folders without a readable spec are removed by age only.
        valid = {entry.folder.id for entry in entries}
        for path in self.root.iterdir():
            is_damaged = path.is_dir() and not path.name.startswith(".") and path.name not in valid
            if is_damaged and keep_seconds is not None and age_seconds(path) > keep_seconds:
                removed.append(path.name)
        return removed

    def _size(self, folder: JobFolder, is_finished: bool) -> int:
        if not is_finished:
            return folder.size_bytes()
        if folder.id not in self._sizes:
            self._sizes[folder.id] = folder.size_bytes()
        return self._sizes[folder.id]
