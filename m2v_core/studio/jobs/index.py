"""All jobs of a root, read from disk and remembered until they change; finished ones are removed when old."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from m2v_core.storage.cache import age_seconds, surplus
from m2v_core.studio.jobs.folder import JobFolder, root_lock
from m2v_core.studio.jobs.records import FINISHED, SpecRecord, StateRecord

# Also what keeps a job id from the outside from being a path.
_JOB_ID = re.compile(r"[0-9a-f]{32}")
_TRASH = ".trash-"
UNBORN = ".new-"
# A submission takes seconds; what is older was left by a crash.
_SECONDS_TO_SUBMIT = 3600.0


@dataclass(frozen=True)
class Entry:
    """One job: its folder, what was asked for, and where it stands."""

    folder: JobFolder
    spec: SpecRecord
    state: StateRecord


class JobIndex:
    """Reads and removes the jobs in the folder `root`; an unchanged job costs one look at the date of its state.

    Safe for several threads: they may read a job twice, never half of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._specs: dict[str, SpecRecord] = {}
        self._states: dict[str, tuple[tuple[int, int], StateRecord]] = {}
        self._sizes: dict[str, int] = {}  # of finished jobs, which don't grow

    def find(self, job_id: str) -> Entry | None:
        """The job of that id; None without one, or when nobody knows whose it is."""
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
        """All jobs, the oldest first, which is the order of the queue."""
        found = (self.find(path.name) for path in self.root.iterdir())
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.spec.created_at)

    def _state(self, folder: JobFolder) -> StateRecord:
        # The stamp comes first: a change in between is then read again next time.
        stamp = folder.state_stamp()
        known = self._states.get(folder.id)
        if known is not None and known[0] == stamp:
            return known[1]
        state = folder.read_state()
        self._states[folder.id] = (stamp, state)
        return state

    def clean(self, keep_seconds: float | None, keep_bytes: int | None) -> list[str]:
        """The ids of the jobs removed; a queued or running job never is."""
        removed = []
        if keep_seconds is not None or keep_bytes is not None:
            with root_lock(self.root):
                removed = self._removable(keep_seconds, keep_bytes)
                for job_id in removed:
                    self.discard(JobFolder(self.root / job_id))
        self.empty_trash()
        return removed

    def discard(self, folder: JobFolder) -> None:
        """Make a job disappear at once; the caller holds the root's lock, and empties the trash later."""
        folder.path.rename(self.root / f"{_TRASH}{folder.id}")
        self._sizes.pop(folder.id, None)

    def empty_trash(self) -> None:
        """Remove what was discarded, and what a crash has left of submissions."""
        for path in self.root.glob(f"{_TRASH}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.root.glob(f"{UNBORN}*"):
            if age_seconds(path) > _SECONDS_TO_SUBMIT:
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
        removed = surplus(ended, max_size=keep_bytes, max_age_seconds=keep_seconds, held=n_running_bytes)
        # A folder whose spec can't be read is nobody's job; only its age tells when to let it go.
        known = {entry.folder.id for entry in entries}
        for path in self.root.iterdir():
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
