"""All jobs of a root, read from disk and remembered until they change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from m2v_core.studio.jobs.folder import JobFolder
from m2v_core.studio.jobs.records import SpecRecord, StateRecord

# Also what keeps a job id from the outside from being a path.
_JOB_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Entry:
    """One job: its folder, what was asked for, and where it stands."""

    folder: JobFolder
    spec: SpecRecord
    state: StateRecord


class JobIndex:
    """Reads the jobs of a root; an unchanged job costs one look at the date of its state.

    Safe for several threads: they may read a job twice, never half of it.

    Args:
        root: The folder of the jobs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[str, SpecRecord] = {}
        self._states: dict[str, tuple[tuple[int, int], StateRecord]] = {}

    def find(self, job_id: str) -> Entry | None:
        """The job of that id; None without one, or when nobody knows whose it is."""
        if _JOB_ID.fullmatch(job_id) is None:
            return None
        folder = JobFolder(self._root / job_id)
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
        found = (self.find(path.name) for path in self._root.iterdir())
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
