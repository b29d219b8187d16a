"""The thread that starts jobs when their turn comes, and notices when a worker has died."""

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

_SECONDS_BETWEEN_GLANCES = 0.2
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_LOOKS_WHEN_IDLE = 5.0
_SECONDS_BETWEEN_CLEANINGS = 60.0
_SECONDS_OF_A_SPARE = 600.0  # it takes up a tenth of a GiB

# Both belong to the process, not to a store: another store on the same folder may start the job, and the one
# that started it may be gone when its keeper ends.
secrets_in_memory: dict[Path, Mapping[str, str]] = {}  # of jobs that wait, by folder
_keepers: list[subprocess.Popen[str]] = []
_keepers_lock = threading.Lock()


class Dispatcher:
    """Starts the jobs of a root in the order they came, so many at a time.

    Args:
        index: Reads the jobs of the root.
        kinds: What can be started; a job of another kind waits for a store that knows it.
        max_running: How many run at once, whoever started them.
        limits: What each worker may use.
        clean: Called about once a minute, off the lock.
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
        self._cleaned_at = float("-inf")
        self._keeps_spare = keeps_spare
        self._spare: subprocess.Popen[str] | None = None
        self._spare_until = float("-inf")
        self._is_closed = False
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="m2v-jobs", daemon=True)

    def start(self) -> None:
        """Settle what has happened meanwhile, then go on in a thread."""
        self.look()
        self._thread.start()

    def wake(self) -> None:
        """Look now: a job has come or gone."""
        self._news.set()

    def expect_job(self) -> None:
        """Have a spare worker ready, if the store keeps one: somebody is about to submit a job."""
        self._spare_until = time.monotonic() + _SECONDS_OF_A_SPARE
        self._news.set()

    def close(self) -> None:
        """Stop starting jobs; returns when the thread has ended."""
        self._is_closed = True
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()
        self._drop_spare()

    def look(self) -> bool:
        """Fail the jobs whose worker is gone, start those whose turn it is; True while any is unfinished."""
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
                is_busy = self.look()
                self._look_after_spare(is_busy)
                if time.monotonic() - self._cleaned_at > _SECONDS_BETWEEN_CLEANINGS:
                    self._clean()
                    self._cleaned_at = time.monotonic()
            except OSError:  # a full disk, too many open files: may be over the next time
                _log.exception("the job store %s could not be looked after", self._index.root)
            self._rest(_SECONDS_BETWEEN_LOOKS if is_busy else _SECONDS_BETWEEN_LOOKS_WHEN_IDLE)

    def _rest(self, seconds: float) -> None:
        """Wait, but no longer than until something happens: a full look reads every job's date."""
        until = time.monotonic() + seconds
        while not _has_ended_keepers() and time.monotonic() < until:
            if self._news.wait(_SECONDS_BETWEEN_GLANCES if _keepers else seconds):
                self._news.clear()
                return

    def _look_after_spare(self, is_busy: bool) -> None:
        """Have one for a while after a job: whoever distils is likely to try other settings."""
        if is_busy:
            self._spare_until = time.monotonic() + _SECONDS_OF_A_SPARE
        elif time.monotonic() >= self._spare_until:
            self._drop_spare()
        elif self._keeps_spare and self._spare is None:
            self._spare = _start_keeper(None)

    def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None and spare.stdin is not None:
            spare.stdin.close()  # without orders it ends

    def _take_spare(self) -> subprocess.Popen[str] | None:
        """The spare keeper, if it is alive."""
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.poll() is None else None

    def _unfinished(self) -> list[Entry]:
        states = ACTIVE | {"queued"}
        return [entry for entry in self._index.entries() if entry.state.state in states]

    def _has_work(self, unfinished: list[Entry]) -> bool:
        """Whether the lock is worth taking."""
        n_active = sum(entry.state.state in ACTIVE for entry in unfinished)
        has_waiting = n_active < len(unfinished) and n_active < self._max_running
        return has_waiting or any(is_abandoned(entry.state) for entry in unfinished)

    def _start(self, entry: Entry) -> bool:
        """Whether the job runs now; the caller holds the lock of the root."""
        folder, state = entry.folder, entry.state
        kind = self._kinds.get(entry.spec.kind)
        if kind is None:
            return False
        secrets = secrets_in_memory.get(folder.path, {})
        if entry.spec.needs_secrets and not secrets:
            if state.holder is None or not state.holder.is_alive:
                self._fail(entry, "The app restarted before this job's turn, and its sign-in is not kept on disk.")
            return False  # the process that holds them will start it
        try:
            keeper = (None if secrets else self._take_spare()) or _start_keeper(folder)
        except OSError as error:
            _log.exception("the worker of job %s could not be started", folder.id)
            self._fail(entry, f"The worker could not be started: {error.strerror}.")
            return False
        # The keeper waits for its orders, and ends if this process dies before it can give them; so a job is
        # either in the queue or written down as running, and never runs twice.
        worker = ProcessId.of(keeper.pid) or ProcessId(keeper.pid, "")
        folder.write_state(replace(state.moved("running", "Running.", time.time()), worker=worker))
        secrets_in_memory.pop(folder.path, None)
        orders = {
            "folder": str(folder.path),
            "target": kind.target,
            "secrets": secrets,
            "memory_bytes": self._limits.memory_bytes,
            "wall_seconds": self._limits.wall_seconds,
            "teacher_parameters": self._limits.teacher_parameters,
        }
        assert keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError), keeper.stdin:  # if it has died, the next look will tell
            keeper.stdin.write(json.dumps(orders) + "\n")
        return True

    def _fail(self, entry: Entry, message: str) -> None:
        """Write down that a job could not start; the caller holds the lock of the root."""
        secrets_in_memory.pop(entry.folder.path, None)
        message = f"{message} Start the job again."
        self._end(entry, entry.state.moved("failed", message, time.time()))

    def _end(self, entry: Entry, state: StateRecord) -> None:
        entry.folder.remove_leftovers()
        entry.folder.write_state(state)


def is_abandoned(state: StateRecord) -> bool:
    """Whether a job is said to run and its worker is gone: killed, or lost with the machine.

    The keeper writes down the end of its job before it ends itself, so look at the state again first.
    """
    return state.state in ACTIVE and not (state.worker is not None and state.worker.is_alive)


def after_abandonment(state: StateRecord) -> StateRecord:
    """The state of a job whose worker is gone."""
    if state.state == "cancelling":
        return state.moved("cancelled", "Cancelled.", time.time())
    message = "The worker was killed (out of memory?), or the machine restarted. Start the job again."
    return state.moved("failed", message, time.time())


def _start_keeper(folder: JobFolder | None) -> subprocess.Popen[str]:
    """A keeper that waits for its orders; a spare one where no job is named."""
    with Path(os.devnull).open("w") if folder is None else folder.log_file.open("a") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "m2v_core.studio.jobs.keeper", *(["--spare"] if folder is None else [])],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=worker_environment(),
            text=True,
            encoding="utf-8",
            start_new_session=True,  # a Ctrl-C for the app is none for its jobs
        )
    with _keepers_lock:
        _keepers.append(keeper)  # a spare one too, that it is let go of when it has ended
    return keeper


def _has_ended_keepers() -> bool:
    """Whether a keeper has ended since the last call; lets them go, so that none stays behind as a zombie."""
    with _keepers_lock:
        n_before = len(_keepers)
        _keepers[:] = [keeper for keeper in _keepers if keeper.poll() is None]
        return len(_keepers) < n_before
