"""The folder of a job: its paths, and reading and writing its files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2v_core.storage.atomic import exclusive, replacing_file
from m2v_core.studio.jobs.records import Json, SpecRecord, StateRecord, iso_time, parse

SHARED_CACHE = "teacher_vectors"
"""Name of the cache that jobs without secrets share, next to the folder of all jobs."""
DAMAGED = "The record of this job is damaged, so the job can't continue. Start it again."


class JobFolder:
    """A job on disk.

        spec.json        the submitted job; never changes
        texts/*.json     its long lists of texts
        state.json       its state; replaced atomically
        progress.jsonl   progress events, appended by the worker
        log.txt          the worker's output, with secrets removed
        cancel           exists after cancellation was requested
        staging/         the incomplete result
        result/          the complete result
        report.json      the outcome, written by the worker for its supervisor
        cache/           downloads made with a secret; deleted when the job ends

    The cache `teacher_vectors/`, next to the folder of all jobs, is shared by jobs without secrets.

    Args:
        path: The folder; its name is the job's id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.progress_file = path / "progress.jsonl"
        self.log_file = path / "log.txt"
        self.cancel_flag = path / "cancel"
        self.staging = path / "staging"
        self.result = path / "result"
        self.private_cache = path / "cache"
        self.shared_cache = path.parent.parent / SHARED_CACHE
        self._report_file = path / "report.json"
        self._spec_file = path / "spec.json"
        self._state_file = path / "state.json"
        self._texts = path / "texts"

    def read_spec(self) -> SpecRecord | None:
        """Read the submitted job; None if it is missing or damaged."""
        try:
            return parse(SpecRecord, read_json(self._spec_file))
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def write_spec(self, spec: SpecRecord) -> None:
        """Write the submitted job."""
        replace_json(self._spec_file, {**asdict(spec), "created": iso_time(spec.created_at)})

    def read_texts(self) -> dict[str, list[str]]:
        """Read the long lists of texts by name."""
        return {file.stem: read_json(file) for file in sorted(self._texts.glob("*.json"))}

    def write_texts(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Write the long lists of texts, one file each."""
        self._texts.mkdir()
        for name, lines in texts.items():
            replace_json(self._texts / f"{name}.json", list(lines))

    def read_state(self) -> StateRecord:
        """Read the state; a damaged record is always read as a failed job."""
        try:
            return parse(StateRecord, read_json(self._state_file))
        except (OSError, KeyError, TypeError, ValueError):
            return StateRecord("failed", DAMAGED, finished_at=self._modified_at())

    def state_stamp(self) -> tuple[int, int]:
        """Return a value that changes whenever `state.json` is replaced; (0, 0) if it is missing."""
        try:
            status = self._state_file.stat()
        except OSError:
            return (0, 0)
        return (status.st_ino, status.st_mtime_ns)

    def write_state(self, record: StateRecord) -> None:
        """Replace the state; the caller holds the lock of the root."""
        replace_json(self._state_file, asdict(record))

    def read_report(self) -> dict[str, Any] | None:
        """Read the worker's report; None if there is none."""
        try:
            report: Json = read_json(self._report_file)
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) else None

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write the worker's report for its supervisor."""
        replace_json(self._report_file, report)

    def read_log(self, max_chars: int) -> str:
        """Read the end of the log; empty if there is none."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - 4 * max_chars))  # a character is up to 4 bytes
                return log.read().decode("utf-8", errors="replace")[-max_chars:]
        except OSError:
            return ""

    def remove_leftovers(self) -> None:
        """Delete files that only a running job needs, starting with downloads made with a secret."""
        for folder in (self.private_cache, self.staging):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.cancel_flag, self._report_file):
            file.unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """Total size of the files in the folder."""
        return sum(_size_bytes(Path(parent, name)) for parent, _, files in os.walk(self.path) for name in files)

    def _modified_at(self) -> float:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return time.time()


def _size_bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # it was deleted
        return 0


def root_lock(root: Path) -> AbstractContextManager[None]:
    """The lock that protects the states of all jobs of a root."""
    return exclusive(root / ".lock")


def read_json(file: Path) -> Json:
    """Read a JSON file; raises OSError or ValueError if it is missing or invalid."""
    return json.loads(file.read_text(encoding="utf-8"))


def replace_json(file: Path, value: Json) -> None:
    """Replace a JSON file atomically."""
    with replacing_file(file) as new, new.open("w", encoding="utf-8") as stream:
        # ASCII, so that lone surrogates in users' texts are preserved.
        json.dump(value, stream, ensure_ascii=True, indent=1 if isinstance(value, dict) else None)
        stream.write("\n")
