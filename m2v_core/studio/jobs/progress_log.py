"""`progress.jsonl`: progress events as JSON lines, appended by a worker and read by the app."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from m2v_core.progress import Progress
from m2v_core.studio.jobs.records import Json, Stage, parse

# Frequent enough for a smooth progress bar; an hour of events takes about 1 MB.
_SECONDS_BETWEEN_EVENTS = 0.2


class ProgressWriter:
    """A progress callback that appends events to a file, at most five per second.

    The first and the last event of a stage are always written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stage = ""
        self._written_at = 0.0

    def __call__(self, event: Progress) -> None:
        """Append the event, or skip it if the previous one is too recent."""
        now = time.monotonic()
        is_edge = event.stage != self._stage or (event.total > 0 and event.done >= event.total)
        if not is_edge and now - self._written_at < _SECONDS_BETWEEN_EVENTS:
            return
        self._stage, self._written_at = event.stage, now
        line = json.dumps({"at": round(time.time(), 3), **asdict(event)})
        # Write the whole line in one call, so that readers never see a partial event.
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


class ProgressReader:
    """Reads a growing progress file incrementally; the file may not exist yet. Not thread-safe."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._stages: list[tuple[float, Progress]] = []  # start in seconds since the epoch, and the last event
        self._latest_at = 0.0

    def read(self, now: float, is_done: bool) -> tuple[Progress | None, tuple[Stage, ...]]:
        """Return the latest event and the stages so far.

        Args:
            now: The current time, or the time when the job ended, in seconds since the epoch.
            is_done: Whether the last stage is finished.
        """
        self._read_new_lines()
        ends = [began_at for began_at, _ in self._stages[1:]] + [now]
        stages = [
            Stage(event.stage, event.done, event.total, max(0.0, end - began_at), is_finished=True)
            for (began_at, event), end in zip(self._stages, ends, strict=False)
        ]
        if stages:
            stages[-1] = replace(stages[-1], is_finished=is_done)
        latest = self._stages[-1][1] if self._stages else None
        if latest is not None and latest.left_seconds is not None:
            latest = replace(latest, left_seconds=max(0.0, latest.left_seconds - max(0.0, now - self._latest_at)))
        return latest, tuple(stages)

    def _read_new_lines(self) -> None:
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                fresh = stream.read()
        except OSError:
            return
        # The last line may still be incomplete.
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(KeyError, TypeError, ValueError):  # skip damaged lines
                self._add(json.loads(line))

    def _add(self, row: Mapping[str, Json]) -> None:
        # Files written by earlier versions contain no estimate for the whole run and no counters.
        event = parse(Progress, {"left_seconds": None, "share": 0.0, "counters": {}, **row})
        began_at = self._latest_at = float(row["at"])
        if self._stages and self._stages[-1][1].stage == event.stage:
            began_at = self._stages.pop()[0]
        self._stages.append((began_at, event))
