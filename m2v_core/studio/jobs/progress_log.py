"""`progress.jsonl`: one event a line, appended by a worker and followed by those who watch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from m2v_core.progress import Progress
from m2v_core.studio.jobs.records import Json, Stage, parsed

# Fast enough for a smooth bar, slow enough that an hour of work makes about a megabyte.
_SECONDS_BETWEEN_EVENTS = 0.2


class ProgressWriter:
    """A progress callback that appends events to a file, not more than five a second.

    The first and the last event of a stage are always written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stage = ""
        self._written_at = 0.0

    def __call__(self, event: Progress) -> None:
        """Append the event, or leave it out if the last one was a moment ago."""
        now = time.monotonic()
        is_edge = event.stage != self._stage or (event.total > 0 and event.done >= event.total)
        if not is_edge and now - self._written_at < _SECONDS_BETWEEN_EVENTS:
            return
        self._stage, self._written_at = event.stage, now
        line = json.dumps({"at": round(time.time(), 3), **asdict(event)})
        # One write of a whole line: a reader sees it or it doesn't, and it survives this process.
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


class ProgressReader:
    """Follows a progress file, which need not exist yet; each look reads only what is new.

    Not safe for several threads at once.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._stages: list[tuple[float, Progress]] = []  # when each began, seconds since the epoch, and its last event

    def read(self, now: float, is_done: bool) -> tuple[Progress | None, tuple[Stage, ...]]:
        """The latest event and the stages so far.

        Args:
            now: The time, or that of the job's end, in seconds since the epoch.
            is_done: Whether the last stage has been finished too.
        """
        self._follow()
        ends = [began_at for began_at, _ in self._stages[1:]] + [now]
        stages = [
            Stage(event.stage, event.done, event.total, max(0.0, end - began_at), is_finished=True)
            for (began_at, event), end in zip(self._stages, ends, strict=False)
        ]
        if stages:
            stages[-1] = replace(stages[-1], is_finished=is_done)
        return self._stages[-1][1] if self._stages else None, tuple(stages)

    def _follow(self) -> None:
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                fresh = stream.read()
        except OSError:
            return
        # A line without its end is still being written.
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a damaged line costs one event
                self._take(json.loads(line))

    def _take(self, row: Mapping[str, Json]) -> None:
        event = parsed(Progress, row)
        began_at = float(row["at"])
        if self._stages and self._stages[-1][1].stage == event.stage:
            began_at = self._stages.pop()[0]
        self._stages.append((began_at, event))
