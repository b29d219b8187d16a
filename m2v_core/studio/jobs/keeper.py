"""The process that watches over one worker: `python -m m2v_core.studio.jobs.keeper [--spare]`, started by a store.

It is small, so it neither runs out of memory nor hangs in somebody's native code. It outlives the app; it
stops the worker when asked or when the time is over, removes secrets from what the worker prints, and writes
down how the job ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from m2v_core.studio import memory_cap
from m2v_core.studio.jobs.folder import JobFolder, root_lock
from m2v_core.studio.jobs.records import JobState, iso_time
from m2v_core.studio.jobs.redaction import Redactor

# Cancelling takes less than two seconds in all: first ask, then SIGTERM, then SIGKILL.
_SECONDS_TO_STOP_BY_ITSELF = 0.8
_SECONDS_TO_TERMINATE = 0.4
_SECONDS_BETWEEN_LOOKS = 0.1

_MAX_LOG_BYTES = 5 * 2**20
_MAX_LINE_CHARS = 100_000


class LogWriter:
    """Appends what a worker prints to the log, secrets removed."""

    def __init__(self, file: Path, redactor: Redactor) -> None:
        self._file = file
        self._redactor = redactor
        self._room = _MAX_LOG_BYTES
        self._lock = threading.Lock()

    def drain(self, pipe: IO[str]) -> None:
        """Copy lines until the other end is closed."""
        # A line that doesn't fit is dropped as a whole: half a secret at the cut would go unseen.
        is_cut = False
        while piece := pipe.readline(_MAX_LINE_CHARS):
            is_end = piece.endswith("\n")
            is_cut = is_cut or (not is_end and len(piece) >= _MAX_LINE_CHARS)
            if not is_cut:
                self.write(piece)
            elif is_end:
                self.write(f"[a line of more than {_MAX_LINE_CHARS} characters is not kept]\n")
                is_cut = False

    def note(self, text: str) -> None:
        """Add a remark of the keeper's own, with the time."""
        self.write(f"[{iso_time(time.time())}] {text}\n")

    def write(self, line: str) -> None:
        """Add a line, unless the log is full."""
        line = self._redactor.text(line)
        with self._lock:
            if self._room <= 0:
                return
            self._room -= len(line)
            if self._room <= 0:
                line = "[the log is full; what follows is not kept]\n"
            # On a full disk the worker must still get rid of its words, or it would wait forever.
            with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as log:
                log.write(line)


class Keeper:
    """Runs one worker to its end.

    Args:
        folder: The job.
        orders: From the store: `folder`, `target`, `secrets`, `memory_bytes`, `wall_seconds`, `teacher_parameters`.
        worker: Waits for them.
    """

    def __init__(self, folder: JobFolder, orders: Mapping[str, Any], worker: subprocess.Popen[str]) -> None:
        self._folder = folder
        self._orders = orders
        self._worker = worker
        self._redactor = Redactor(orders["secrets"].values())
        self._log = LogWriter(folder.log_file, self._redactor)
        self._is_shutting_down = False

    def run(self) -> None:
        """Give the worker its orders, watch it, and write down how the job ended."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        started_at, worker = time.monotonic(), self._worker
        assert worker.stdin is not None and worker.stdout is not None
        self._log.note(f"worker {worker.pid} started")
        drain = threading.Thread(target=self._log.drain, args=(worker.stdout,), daemon=True)
        drain.start()
        _tell(worker, json.dumps(self._orders))
        reason = self._watch(worker, started_at)
        if reason is not None:
            self._log.note(f"stopping the worker: {reason[1]}")
            _stop(worker)
        drain.join(timeout=2.0)
        self._log.note(f"worker ended with exit status {worker.returncode}")
        self._finish(*self._verdict(worker.returncode, reason))

    def _on_sigterm(self, *_: object) -> None:
        self._is_shutting_down = True

    def _watch(self, worker: subprocess.Popen[str], started_at: float) -> tuple[JobState, str] | None:
        """Why the worker must stop; None once it has ended by itself."""
        wall_seconds = self._orders["wall_seconds"]
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=_SECONDS_BETWEEN_LOOKS)
                return None
            if self._folder.cancel_flag.exists():
                return ("cancelled", "Cancelled.")
            if time.monotonic() - started_at > wall_seconds:
                limit = f"{wall_seconds / 60:.3g} minutes" if wall_seconds >= 60 else f"{wall_seconds:.3g} seconds"
                return ("failed", f"Stopped after {limit}, the limit for one job here.")
            if self._is_shutting_down:
                return ("failed", "Stopped with the machine it ran on. Start it again.")

    def _verdict(
        self, exit_status: int, reason: tuple[JobState, str] | None
    ) -> tuple[JobState, str, Mapping[str, Any]]:
        report = self._redactor.json(self._folder.read_report())
        if report is not None and report["state"] == "done":
            # Even if someone asked to stop: it was finished first.
            return ("done", report["message"], report["outcome"] or {})
        if reason is not None:
            return (*reason, {})
        if report is not None:
            return (report["state"], report["message"], {})
        if memory_cap.tells_of_shortage(self._folder.read_log(4000)):
            return ("failed", memory_cap.message(self._orders["memory_bytes"]), {})
        if exit_status == -signal.SIGKILL:
            return ("failed", "The worker was killed (out of memory?).", {})
        cause = signal.Signals(-exit_status).name if exit_status < 0 else f"exit status {exit_status}"
        details = f"The details are in the log of job {self._folder.id}."
        return ("failed", f"The worker crashed ({cause}). {details}", {})

    def _finish(self, state: JobState, message: str, outcome: Mapping[str, Any]) -> None:
        if state == "done":
            try:
                self._folder.staging.rename(self._folder.result)
            except OSError as error:
                state, message, outcome = "failed", f"The result could not be kept: {error.strerror}.", {}
        self._folder.remove_leftovers()
        with root_lock(self._folder.path.parent):
            self._folder.cancel_flag.unlink(missing_ok=True)
            record = self._folder.read_state()
            # What has finished never changes, even if it was called so because its record is damaged.
            if not record.is_finished:
                self._folder.write_state(record.moved(state, message, time.time(), outcome=outcome))


def _tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended; its exit status will say why
        worker.stdin.write(line + "\n")
        worker.stdin.flush()


def _stop(worker: subprocess.Popen[str]) -> None:
    """Ask, then insist; the worker has ended on return."""
    _tell(worker, "cancel")
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(timeout=_SECONDS_TO_STOP_BY_ITSELF)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        _signal(worker, signal.SIGTERM)
        worker.wait(timeout=_SECONDS_TO_TERMINATE)
        return
    _signal(worker, signal.SIGKILL)
    worker.wait()


def _signal(worker: subprocess.Popen[str], number: int) -> None:
    """Send a signal to the worker and all it started, which is the session that it leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended this very moment
        os.killpg(worker.pid, number)


def main(arguments: list[str]) -> None:
    """Wait for the store's word, then run the job.

    The store writes down that the job runs before it gives the word. Without it (the store died in between, or has no
    use for a spare one), nothing is done.
    """
    worker = subprocess.Popen(
        [sys.executable, "-m", "m2v_core.studio.jobs.worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        start_new_session=True,
    )
    line = sys.stdin.readline()
    if not line:
        worker.communicate()  # without orders it ends
        return
    orders = json.loads(line)
    folder = JobFolder(Path(orders["folder"]))
    with folder.log_file.open("a") as log:  # of a spare one it is known only now
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    Keeper(folder, orders, worker).run()


if __name__ == "__main__":
    main(sys.argv[1:])
