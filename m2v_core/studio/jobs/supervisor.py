"""The process that supervises one worker: `python -m m2v_core.studio.jobs.supervisor [--spare]`, started by a store.

It is small, so it does not run out of memory or hang in native code. It outlives the app, stops the worker on request
or after the time limit, removes secrets from the worker's output, and records the end of the job.
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

# Cancelling takes less than two seconds: a request, then SIGTERM, then SIGKILL.
_CANCEL_SECONDS = 0.8
_TERMINATE_SECONDS = 0.4
_POLL_SECONDS = 0.1

_MAX_LOG_BYTES = 5 * 2**20
_MAX_LINE_CHARS = 100_000


class LogWriter:
    """Appends the worker's output to the log, with secrets removed."""

    def __init__(self, file: Path, redactor: Redactor) -> None:
        self._file = file
        self._redactor = redactor
        self._remaining = _MAX_LOG_BYTES
        self._lock = threading.Lock()

    def drain(self, pipe: IO[str]) -> None:
        """Copy lines until the other end is closed."""
        # Long lines are dropped entirely, because a secret split across two pieces would not be removed.
        is_cut = False
        while piece := pipe.readline(_MAX_LINE_CHARS):
            is_end = piece.endswith("\n")
            is_cut = is_cut or (not is_end and len(piece) >= _MAX_LINE_CHARS)
            if not is_cut:
                self.write(piece)
            elif is_end:
                self.write(f"[line of more than {_MAX_LINE_CHARS} characters omitted]\n")
                is_cut = False

    def note(self, text: str) -> None:
        """Append a timestamped message from the supervisor."""
        self.write(f"[{iso_time(time.time())}] {text}\n")

    def write(self, line: str) -> None:
        """Append a line, unless the log is full."""
        line = self._redactor.text(line)
        with self._lock:
            if self._remaining <= 0:
                return
            self._remaining -= len(line)
            if self._remaining <= 0:
                line = "[the log is full; further output is omitted]\n"
            # On a full disk the pipe must still be drained, or the worker would block.
            with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as log:
                log.write(line)


class Supervisor:
    """Supervises one worker until it ends.

    Args:
        folder: The job.
        orders: From the store: `folder`, `target`, `secrets`, `memory_bytes`, `wall_seconds`, `teacher_parameters`.
        worker: The worker process, which waits for its orders.
    """

    def __init__(self, folder: JobFolder, orders: Mapping[str, Any], worker: subprocess.Popen[str]) -> None:
        self._folder = folder
        self._orders = orders
        self._worker = worker
        self._redactor = Redactor(orders["secrets"].values())
        self._log = LogWriter(folder.log_file, self._redactor)
        self._is_shutting_down = False

    def run(self) -> None:
        """Send the worker its orders, wait for it, and record the end of the job."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        started_at, worker = time.monotonic(), self._worker
        assert worker.stdin is not None and worker.stdout is not None
        self._log.note(f"worker {worker.pid} started")
        drain = threading.Thread(target=self._log.drain, args=(worker.stdout,), daemon=True)
        drain.start()
        _send(worker, json.dumps(self._orders))
        reason = self._watch(worker, started_at)
        if reason is not None:
            self._log.note(f"stopping the worker: {reason[1]}")
            _stop(worker)
        drain.join(timeout=2.0)
        self._log.note(f"worker ended with exit status {worker.returncode}")
        self._finish(*self._result(worker.returncode, reason))

    def _on_sigterm(self, *_: object) -> None:
        self._is_shutting_down = True

    def _watch(self, worker: subprocess.Popen[str], started_at: float) -> tuple[JobState, str] | None:
        """Wait until the worker ends (None) or must be stopped (the final state and message)."""
        wall_seconds = self._orders["wall_seconds"]
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=_POLL_SECONDS)
                return None
            if self._folder.cancel_flag.exists():
                return ("cancelled", "Cancelled.")
            if time.monotonic() - started_at > wall_seconds:
                limit = f"{wall_seconds / 60:.3g} minutes" if wall_seconds >= 60 else f"{wall_seconds:.3g} seconds"
                return ("failed", f"Stopped after {limit}, the time limit for jobs.")
            if self._is_shutting_down:
                return ("failed", "Stopped because the machine was shut down. Start it again.")

    def _result(self, exit_status: int, reason: tuple[JobState, str] | None) -> tuple[JobState, str, Mapping[str, Any]]:
        report = self._redactor.json(self._folder.read_report())
        if report is not None and report["state"] == "done":
            # Takes precedence over `reason`, because the result is already written.
            return ("done", report["message"], report["outcome"] or {})
        if reason is not None:
            return (*reason, {})
        if report is not None:
            return (report["state"], report["message"], {})
        if memory_cap.reports_out_of_memory(self._folder.read_log(4000)):
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
                state, message, outcome = "failed", f"The result could not be saved: {error.strerror}.", {}
        self._folder.remove_leftovers()
        with root_lock(self._folder.path.parent):
            self._folder.cancel_flag.unlink(missing_ok=True)
            record = self._folder.read_state()
            # A finished job never changes, even if it counts as failed because its record is damaged.
            if not record.is_finished:
                self._folder.write_state(record.changed(state, message, time.time(), outcome=outcome))


def _send(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended; its exit status is handled later
        worker.stdin.write(line + "\n")
        worker.stdin.flush()


def _stop(worker: subprocess.Popen[str]) -> None:
    """Stop the worker and wait until it has ended."""
    _send(worker, "cancel")
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(timeout=_CANCEL_SECONDS)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        _signal(worker, signal.SIGTERM)
        worker.wait(timeout=_TERMINATE_SECONDS)
        return
    _signal(worker, signal.SIGKILL)
    worker.wait()


def _signal(worker: subprocess.Popen[str], number: int) -> None:
    """Send a signal to the worker's process group, which includes its child processes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may have just ended
        os.killpg(worker.pid, number)


def main(arguments: list[str]) -> None:
    """Wait for orders from the store, then run the job.

    The store records the job as running before it sends the orders. If the input ends without orders, because the store
    died or does not need a spare worker, nothing is run.
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
        worker.communicate()  # it exits if it gets no orders
        return
    orders = json.loads(line)
    folder = JobFolder(Path(orders["folder"]))
    with folder.log_file.open("a") as log:  # a spare supervisor was started without a log file
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    Supervisor(folder, orders, worker).run()


if __name__ == "__main__":
    main(sys.argv[1:])
