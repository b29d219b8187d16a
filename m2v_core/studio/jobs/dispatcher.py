"""The thread that starts queued jobs and detects dead workers."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from m2v_core.studio.jobs.folder import JobFolder, root_lock
from m2v_core.studio.jobs.index import Entry, JobIndex
from m2v_core.studio.jobs.kinds import Kind
from m2v_core.studio.jobs.records import ACTIVE, JobLimits, StateRecord
from m2v_core.studio.processes import ProcessId, worker_environment

_log = logging.getLogger(__name__)

_CHILD_POLL_SECONDS = 0.2
_POLL_SECONDS = 1.0
_IDLE_POLL_SECONDS = 5.0
_CLEANUP_SECONDS = 60.0
_SPARE_SECONDS = 600.0  # a spare worker uses about 0.1 GiB

# Both are per process, not per store: another store on the same folder may start the job, and the store
# that started it may be closed when its supervisor ends.
secrets_in_memory: dict[Path, Mapping[str, str]] = {}  # of queued jobs, by folder
_supervisors: list[subprocess.Popen[str]] = []
_supervisors_lock = threading.Lock()


class Dispatcher:
    """Starts the jobs of a root in order of submission.

    Args:
        index: Reads the jobs of the root.
        kinds: Kinds of jobs to start; jobs of other kinds wait for a store that supports them.
        max_running: Maximum number of running jobs in the root, across processes.
        limits: Limits of each worker.
        clean: Called about once a minute, without holding the lock.
        keeps_spare: See `JobStore`.
    """

    def __init__(
        self,
        index: JobIndex,
        kinds: Mapping[str, Kind],
        max_running: int,
        limits: JobLimits,
        clean: Callable[[], object],
        keeps_spare: bool = False,
    ) -> None:
        self._index = index
        self._kinds = kinds
        self._max_running = max_running
        self._limits = limits
        self._clean = clean
        self._cleaned_at = float("-inf")  # monotonic
        self._keeps_spare = keeps_spare
        self._spare: subprocess.Popen[str] | None = None
        self._spare_until = float("-inf")
        self._is_closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="m2v-jobs", daemon=True)

    def start(self) -> None:
        """Update the jobs once, then start the thread."""
        self.update()
        self._thread.start()

    def wake(self) -> None:
        """Update immediately, after a change in the queue."""
        self._wake.set()

    def expect_job(self) -> None:
        """Start a spare worker, if enabled, for a job that is about to be submitted."""
        self._spare_until = time.monotonic() + _SPARE_SECONDS
        self._wake.set()

    def close(self) -> None:
        """Stop starting jobs, and join the thread."""
        self._is_closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stop_spare()

    def update(self) -> bool:
        """Fail jobs whose worker is dead, and start queued ones; return whether any job is unfinished."""
        unfinished = self._unfinished()
        if not self._has_work(unfinished):
            return bool(unfinished)
        with root_lock(self._index.root):
            for entry in self._unfinished():
                if is_abandoned(entry.state):
                    self._end(entry, after_abandonment(entry.state))
            unfinished = self._unfinished()
            free = self._max_running - sum(entry.state.state in ACTIVE for entry in unfinished)
            for entry in unfinished:
                if free > 0 and entry.state.state == "queued" and self._start(entry):
                    free -= 1
        return bool(unfinished)

    def _run(self) -> None:
        while not self._is_closed:
            is_busy = True
            try:
                is_busy = self.update()
                self._manage_spare(is_busy)
                if time.monotonic() - self._cleaned_at > _CLEANUP_SECONDS:
                    self._clean()
                    self._cleaned_at = time.monotonic()
            except OSError:  # a full disk or too many open files, which may be temporary
                _log.exception("the job store %s could not be updated", self._index.root)
            self._wait(_POLL_SECONDS if is_busy else _IDLE_POLL_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Wait until woken or a supervisor ends; polling is cheaper than an update, which reads all jobs."""
        until = time.monotonic() + seconds
        while not _reap_supervisors() and time.monotonic() < until:
            if self._wake.wait(_CHILD_POLL_SECONDS if _supervisors else seconds):
                self._wake.clear()
                return

    def _manage_spare(self, is_busy: bool) -> None:
        """Keep a spare worker for a while after a job, because users often try other settings next."""
        if is_busy:
            self._spare_until = time.monotonic() + _SPARE_SECONDS
        elif time.monotonic() >= self._spare_until:
            self._stop_spare()
        elif self._keeps_spare and self._spare is None:
            self._spare = _start_supervisor(None)

    def _stop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None and spare.stdin is not None:
            spare.stdin.close()  # it exits at the end of its input

    def _take_spare(self) -> subprocess.Popen[str] | None:
        """Return the spare supervisor, if it is alive."""
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.poll() is None else None

    def _unfinished(self) -> list[Entry]:
        states = ACTIVE | {"queued"}
        return [entry for entry in self._index.entries() if entry.state.state in states]

    def _has_work(self, unfinished: list[Entry]) -> bool:
        """Whether an update needs the lock."""
        n_active = sum(entry.state.state in ACTIVE for entry in unfinished)
        has_waiting = n_active < len(unfinished) and n_active < self._max_running
        return has_waiting or any(is_abandoned(entry.state) for entry in unfinished)

    def _start(self, entry: Entry) -> bool:
        """Try to start a job, and return whether it is running; the caller holds the lock of the root."""
        folder, state = entry.folder, entry.state
        kind = self._kinds.get(entry.spec.kind)
        if kind is None:
            return False
        secrets = secrets_in_memory.get(folder.path, {})
        if entry.spec.needs_secrets and not secrets:
            if state.holder is None or not state.holder.is_alive:
                self._fail(
                    entry, "The app restarted while the job was queued, and access tokens are not stored on disk."
                )
            return False  # the process that holds the secrets will start it
        try:
            supervisor = (None if secrets else self._take_spare()) or _start_supervisor(folder)
        except OSError as error:
            _log.exception("the worker of job %s could not be started", folder.id)
            self._fail(entry, f"The worker could not be started: {error.strerror}.")
            return False
        # The supervisor waits for its orders, and exits if this process dies before sending them. So a job is either
        # queued or recorded as running, and never runs twice.
        worker = ProcessId.of(supervisor.pid) or ProcessId(supervisor.pid, "")
        folder.write_state(replace(state.changed("running", "Running.", time.time()), worker=worker))
        secrets_in_memory.pop(folder.path, None)
        orders = {
            "folder": str(folder.path),
            "target": kind.target,
            "secrets": secrets,
            "memory_bytes": self._limits.memory_bytes,
            "wall_seconds": self._limits.wall_seconds,
            "teacher_parameters": self._limits.teacher_parameters,
        }
        assert supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError), supervisor.stdin:  # the next update handles a dead supervisor
            supervisor.stdin.write(json.dumps(orders) + "\n")
        return True

    def _fail(self, entry: Entry, message: str) -> None:
        """Record that a job could not start; the caller holds the lock of the root."""
        secrets_in_memory.pop(entry.folder.path, None)
        message = f"{message} Start the job again."
        self._end(entry, entry.state.changed("failed", message, time.time()))

    def _end(self, entry: Entry, state: StateRecord) -> None:
        entry.folder.remove_leftovers()
        entry.folder.write_state(state)


def is_abandoned(state: StateRecord) -> bool:
    """Whether a job is recorded as active but its process is dead.

    The supervisor records the end of its job before it exits, so reread the state first.
    """
    return state.state in ACTIVE and not (state.worker is not None and state.worker.is_alive)


def after_abandonment(state: StateRecord) -> StateRecord:
    """The state of a job whose process is dead."""
    if state.state == "cancelling":
        return state.changed("cancelled", "Cancelled.", time.time())
    message = "The worker was killed (out of memory?), or the machine restarted. Start the job again."
    return state.changed("failed", message, time.time())


def _start_supervisor(folder: JobFolder | None) -> subprocess.Popen[str]:
    """Start a supervisor that waits for its orders; None starts a spare one."""
    with Path(os.devnull).open("w") if folder is None else folder.log_file.open("a") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "m2v_core.studio.jobs.supervisor", *(["--spare"] if folder is None else [])],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=worker_environment(),
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C stops only the app
        )
    with _supervisors_lock:
        _supervisors.append(supervisor)
    return supervisor


def _reap_supervisors() -> bool:
    """Reap finished supervisors, which would remain as zombies; return whether there were any."""
    with _supervisors_lock:
        n_before = len(_supervisors)
        _supervisors[:] = [supervisor for supervisor in _supervisors if supervisor.poll() is None]
        return len(_supervisors) < n_before
