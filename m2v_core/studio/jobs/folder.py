"""The folder of one job: which file is which, and how each is read and written."""

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
from m2v_core.studio.jobs.records import Json, SpecRecord, StateRecord, iso_time, parsed

DAMAGED = "The record of this job is damaged, so it can't go on. Start it again."


class JobFolder:
    """One job on disk.

        spec.json        what was asked for; never changes
        texts/*.json     long lists of text that belong to it
        state.json       where it stands; replaced whole
        progress.jsonl   one event a line, appended by the worker
        log.txt          what the worker printed, secrets removed
        cancel           exists once someone asked to stop
        staging/         the result while it is made
        result/          the result, whole
        report.json      how the work ended, from the worker to the process that watches it
        cache/           downloads made with a secret; gone when the job ends

    Beside the folder of all jobs stands `teacher_vectors/`, which jobs without a secret share.

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
        self.shared_cache = path.parent.parent / "teacher_vectors"
        self._report_file = path / "report.json"
        self._spec_file = path / "spec.json"
        self._state_file = path / "state.json"
        self._texts = path / "texts"

    def read_spec(self) -> SpecRecord | None:
        """What was asked for; None when that can't be read, so nobody knows whose job this is."""
        try:
            return parsed(SpecRecord, read_json(self._spec_file))
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def write_spec(self, spec: SpecRecord) -> None:
        """Write what was asked for."""
        replace_json(self._spec_file, {**asdict(spec), "created": iso_time(spec.created_at)})

    def read_texts(self) -> dict[str, list[str]]:
        """The long lists of text by name."""
        return {file.stem: read_json(file) for file in sorted(self._texts.glob("*.json"))}

    def write_texts(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Write the long lists of text, each to a file of its own."""
        self._texts.mkdir()
        for name, lines in texts.items():
            replace_json(self._texts / f"{name}.json", list(lines))

    def read_state(self) -> StateRecord:
        """Where the job stands; a damaged record reads as a failed job, the same on every reading."""
        try:
            return parsed(StateRecord, read_json(self._state_file))
        except (OSError, KeyError, TypeError, ValueError):
            return StateRecord("failed", DAMAGED, finished_at=self._touched_at())

    def state_stamp(self) -> tuple[int, int]:
        """A value that differs whenever `state.json` was replaced; (0, 0) without one."""
        try:
            status = self._state_file.stat()
        except OSError:
            return (0, 0)
        return (status.st_ino, status.st_mtime_ns)

    def write_state(self, record: StateRecord) -> None:
        """Replace the state; the caller holds the lock of the root."""
        replace_json(self._state_file, asdict(record))

    def read_report(self) -> dict[str, Any] | None:
        """How the work ended, as the worker saw it; None if it had no time to say so."""
        try:
            report: Json = read_json(self._report_file)
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) else None

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Tell the watching process how the work ended."""
        replace_json(self._report_file, report)

    def read_log(self, max_chars: int) -> str:
        """The end of the log; empty without one."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - 4 * max_chars))  # a character is up to 4 bytes
                return log.read().decode("utf-8", errors="replace")[-max_chars:]
        except OSError:
            return ""

    def remove_leftovers(self) -> None:
        """Remove what only a running job needs, downloads made with a secret first."""
        for folder in (self.private_cache, self.staging):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.cancel_flag, self._report_file):
            file.unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """Bytes of all files in the folder."""
        return sum(_size_bytes(Path(parent, name)) for parent, _, files in os.walk(self.path) for name in files)

    def _touched_at(self) -> float:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return time.time()


def _size_bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # removed meanwhile
        return 0


def root_lock(root: Path) -> AbstractContextManager[None]:
    """The lock under which any job of a root changes its state."""
    return exclusive(root / ".lock")


def read_json(file: Path) -> Json:
    """The value in a file; OSError or ValueError if there is none."""
    return json.loads(file.read_text(encoding="utf-8"))


def replace_json(file: Path, value: Json) -> None:
    """Write a value beside the file and rename it: a reader sees the old one or the new one, whole."""
    with replacing_file(file) as new, new.open("w", encoding="utf-8") as stream:
        # ASCII, so that a lone surrogate in somebody's text survives.
        json.dump(value, stream, ensure_ascii=True, indent=1 if isinstance(value, dict) else None)
        stream.write("\n")
