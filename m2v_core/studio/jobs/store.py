"""The job store: submit, monitor, cancel and delete background jobs, stored in files."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from hmac import compare_digest
from pathlib import Path
from secrets import token_hex

from m2v_core.errors import InputError, LimitError, NotFoundError
from m2v_core.storage.atomic import saving
from m2v_core.studio.jobs.dispatcher import Dispatcher, after_abandonment, is_abandoned, secrets_in_memory
from m2v_core.studio.jobs.folder import JobFolder, root_lock
from m2v_core.studio.jobs.index import INCOMPLETE, Entry, JobIndex
from m2v_core.studio.jobs.kinds import KINDS, Kind, check_spec
from m2v_core.studio.jobs.progress_log import ProgressReader
from m2v_core.studio.jobs.records import ACTIVE, Job, JobLimits, JobSpec, SpecRecord, StateRecord
from m2v_core.studio.processes import ProcessId


class JobStore:
    """The jobs in a folder, and a thread that starts them.

    Stores, threads and processes can share a folder and its `max_running` limit. Running jobs continue when the store
    is closed or its process ends; a new store on the same folder finds them again.

    Methods that take a job id also take its owner; for other owners' jobs they raise `NotFoundError`.

    Args:
        root: Folder of the jobs, created if missing and readable only by this user.
        max_running: Maximum number of running jobs; others are queued in order of submission.
        max_waiting: Maximum number of queued jobs of all owners.
        max_per_owner: Maximum number of unfinished jobs of one owner.
        limits: Limits of each worker.
        max_lines: Maximum number of lines of texts by name, such as `{"vocabulary": 250_000}`.
        keep_seconds: Age at which finished jobs are removed; None keeps them.
        keep_bytes: Total size above which the oldest finished jobs are removed; None keeps them.
        kinds: Additional kinds of jobs by name; see `m2v_core.studio.jobs.kinds`.
        keeps_spare: Whether to keep a spare worker (about 0.1 GiB) for ten minutes after a job or `expect_job`. The
            next job without secrets then starts half a second sooner.

    Raises:
        InputError: A maximum is not positive.
        SaveError: `root` can't be created or written.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        max_running: int = 1,
        max_waiting: int = 100,
        max_per_owner: int = 3,
        limits: JobLimits | None = None,
        max_lines: Mapping[str, int | None] | None = None,
        keep_seconds: float | None = None,
        keep_bytes: int | None = None,
        kinds: Mapping[str, Kind] | None = None,
        keeps_spare: bool = False,
    ) -> None:
        for name, value in (
            ("max_running", max_running),
            ("max_waiting", max_waiting),
            ("max_per_owner", max_per_owner),
        ):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")
        self._root = Path(root).expanduser().absolute()
        self._kinds = {**KINDS, **(kinds or {})}
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_per_owner = max_per_owner
        self._max_lines = dict(max_lines or {})
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes
        self._index = JobIndex(self._root)
        self._readers: dict[str, ProgressReader] = {}
        self._readers_lock = threading.Lock()
        self._dispatcher = Dispatcher(
            self._index,
            self._kinds,
            max_running,
            limits or JobLimits(),
            self._clean_as_configured,
            keeps_spare,
        )
        with saving(f"The job folder {self._root}"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._dispatcher.start()

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def expect_job(self) -> None:
        """Start a spare worker, if enabled, for a job that is about to be submitted."""
        self._dispatcher.expect_job()

    def submit(self, spec: JobSpec, owner: str, *, secrets: Mapping[str, str] | None = None) -> str:
        """Queue a job and return its id.

        Args:
            spec: The job.
            owner: The owner: a nonempty string that is secret or verified.
            secrets: Values that must not be written to disk, such as `{"hf_token": ...}`. They are passed to the worker
                through a pipe. A job with `hf_token` downloads to a private cache, which is deleted afterwards.

        Raises:
            InputError: A kind, parameter or text is unknown, a value is invalid or not JSON, or contains a secret.
            LimitError: The queue is full, the owner has too many unfinished jobs, or a text is too long.
            SaveError: The job can't be written.
        """
        secrets = {name: value for name, value in (secrets or {}).items() if value}
        check_spec(spec, secrets, self._kinds, self._max_lines)
        owner_hash = hash_owner(owner)
        folder = JobFolder(self._root / token_hex(16))
        incomplete = JobFolder(self._root / f"{INCOMPLETE}{folder.id}")
        with saving("The job"):
            try:
                incomplete.path.mkdir(mode=0o700)
                incomplete.write_texts(spec.texts)
                with root_lock(self._root):
                    entries = self._index.entries()
                    self._check_limits(entries, owner_hash)
                    # Strictly increasing, as it determines the order of the queue.
                    now = max([time.time(), *(entry.spec.created_at + 1e-5 for entry in entries)])
                    record = SpecRecord(
                        owner_hash=owner_hash,
                        kind=spec.kind,
                        title=spec.title,
                        parameters=dict(spec.parameters),
                        created_at=now,
                        needs_secrets=bool(secrets),
                    )
                    incomplete.write_spec(record)
                    state = StateRecord("queued", "", holder=ProcessId.own() if secrets else None)
                    incomplete.write_state(state.changed("queued", "Queued.", now))
                    if secrets:
                        secrets_in_memory[folder.path] = secrets
                    incomplete.path.rename(folder.path)
            finally:
                shutil.rmtree(incomplete.path, ignore_errors=True)
        self._dispatcher.wake()
        return folder.id

    def get(self, job_id: str, owner: str) -> Job:
        """Return a snapshot of a job: state, position in the queue, latest progress, stages so far.

        Raises:
            NotFoundError: The job does not exist, or has another owner.
        """
        entry = self._find(job_id, owner)
        queue = _queue(self._index.entries()) if entry.state.state == "queued" else []
        return self._view(entry, queue)

    def list_jobs(self, owner: str) -> list[Job]:
        """Return the owner's jobs, newest first."""
        owner_hash = hash_owner(owner)
        entries = self._index.entries()
        queue = _queue(entries)
        own = [entry for entry in entries if compare_digest(entry.spec.owner_hash, owner_hash)]
        return [self._view(entry, queue) for entry in reversed(own)]

    def is_idle(self) -> bool:
        """Return whether no job of any owner is queued or running."""
        return all(entry.state.is_finished for entry in self._index.entries())

    def wait(self, job_id: str, owner: str, timeout_seconds: float | None = None) -> Job:
        """Wait until a job has finished or the timeout has passed, and return it.

        Raises:
            NotFoundError: The job does not exist, or has another owner.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            job = self.get(job_id, owner)
            if job.is_finished or (deadline is not None and time.monotonic() >= deadline):
                return job
            time.sleep(0.1)

    def cancel(self, job_id: str, owner: str) -> Job:
        """Cancel a job and return it immediately; a running worker stops within two seconds.

        Finished jobs are not changed.

        Raises:
            NotFoundError: The job does not exist, or has another owner.
        """
        self._find(job_id, owner)
        with saving("The job's state"), root_lock(self._root):
            entry = self._find(job_id, owner)
            if entry.state.state == "queued":
                secrets_in_memory.pop(entry.folder.path, None)
                state = entry.state.changed("cancelled", "Cancelled before it started.", time.time())
                entry.folder.write_state(state)
            elif entry.state.state == "running":
                # The supervisor checks the flag; the state is for the app.
                entry.folder.cancel_flag.touch()
                entry.folder.write_state(entry.state.changed("cancelling", "Stopping.", time.time()))
        self._dispatcher.wake()
        return self.get(job_id, owner)

    def delete(self, job_id: str, owner: str) -> None:
        """Delete a finished or queued job with all of its files.

        Raises:
            InputError: The job is running; cancel it first.
            NotFoundError: The job does not exist, or has another owner.
        """
        self._find(job_id, owner)
        with saving("The job's folder"):
            with root_lock(self._root):
                entry = self._find(job_id, owner)
                if entry.state.state in ACTIVE:
                    raise InputError("The job is running. Cancel it first, then delete it.")
                secrets_in_memory.pop(entry.folder.path, None)
                self._index.discard(entry.folder)
            self._index.empty_trash()
        with self._readers_lock:
            self._readers.pop(job_id, None)

    def result_folder(self, job_id: str, owner: str) -> Path:
        """Return the folder of a job's result: for `"distill"`, a saved `StaticModel`.

        Raises:
            NotFoundError: The job does not exist, has another owner, or is not done.
        """
        entry = self._find(job_id, owner)
        if entry.state.state != "done":
            raise NotFoundError(f"This job has no result: it is {entry.state.state}.")
        return entry.folder.result

    def texts(self, job_id: str, owner: str) -> dict[str, list[str]]:
        """Return a job's long lists of texts by name, as submitted.

        Raises:
            NotFoundError: The job does not exist, has another owner, or its texts are missing or damaged.
        """
        folder = self._find(job_id, owner).folder
        try:
            return folder.read_texts()
        except (OSError, ValueError) as error:
            raise NotFoundError("The texts of this job can't be read. The job may have been deleted.") from error

    def log(self, job_id: str, owner: str, max_chars: int = 20_000) -> str:
        """Return the end of a job's log, with secrets removed; empty before it starts.

        Raises:
            NotFoundError: The job does not exist, or has another owner.
        """
        return self._find(job_id, owner).folder.read_log(max_chars)

    def clean(self, keep_seconds: float | None = None, keep_bytes: int | None = None) -> list[str]:
        """Remove finished jobs older than `keep_seconds`, then the oldest until the rest fit, and return their ids.

        The store also does this automatically, with its own settings.
        """
        with saving("The job folder"):
            return self._index.clean(keep_seconds, keep_bytes)

    def close(self) -> None:
        """Stop starting jobs. Running jobs continue, and a new store finds them again."""
        self._dispatcher.close()

    def _check_limits(self, entries: Sequence[Entry], owner_hash: str) -> None:
        unfinished = [entry for entry in entries if not entry.state.is_finished]
        if len(unfinished) >= self._max_running + self._max_waiting:
            raise LimitError(f"The queue is full ({self._max_waiting} jobs). Try again later.")
        n_own = sum(compare_digest(entry.spec.owner_hash, owner_hash) for entry in unfinished)
        if n_own >= self._max_per_owner:
            unfinished_jobs = "1 unfinished job" if n_own == 1 else f"{n_own} unfinished jobs"
            raise LimitError(
                f"You have {unfinished_jobs}; the limit here is {self._max_per_owner}. Wait until one finishes, or "
                "cancel one."
            )

    def _find(self, job_id: str, owner: str) -> Entry:
        entry = self._index.find(job_id)
        if entry is None or not compare_digest(entry.spec.owner_hash, hash_owner(owner)):
            raise NotFoundError("Job not found. It may have been deleted.")
        return entry

    def _view(self, entry: Entry, queue: Sequence[str]) -> Job:
        spec, state = entry.spec, entry.state
        if is_abandoned(state):
            # The supervisor may have just recorded the end, or failed to, for example because the disk is full.
            state = entry.folder.read_state()
            state = after_abandonment(state) if is_abandoned(state) else state
        until = state.finished_at or time.time()
        with self._readers_lock:
            reader = self._readers.setdefault(entry.folder.id, ProgressReader(entry.folder.progress_file))
            progress, stages = reader.read(until, is_done=state.state == "done")
        is_queued = state.state == "queued" and entry.folder.id in queue
        return Job(
            id=entry.folder.id,
            kind=spec.kind,
            title=spec.title,
            parameters=spec.parameters,
            state=state.state,
            message=state.message,
            queue_position=queue.index(entry.folder.id) + 1 if is_queued else None,
            progress=progress,
            stages=stages,
            created_at=spec.created_at,
            started_at=state.started_at,
            finished_at=state.finished_at,
            elapsed_seconds=0.0 if state.started_at is None else max(0.0, until - state.started_at),
            outcome=state.outcome,
        )

    def _clean_as_configured(self) -> None:
        self._index.clean(self._keep_seconds, self._keep_bytes)
        with self._readers_lock:
            for job_id in [job_id for job_id in self._readers if self._index.find(job_id) is None]:
                del self._readers[job_id]


def _queue(entries: Sequence[Entry]) -> list[str]:
    return [entry.folder.id for entry in entries if entry.state.state == "queued"]


def hash_owner(owner: str) -> str:
    """Return the hash that identifies an owner on disk without revealing the owner's key.

    Raises:
        InputError: The owner is empty.
    """
    if not owner:
        raise InputError("The owner of a job or a model must be a nonempty string.")
    return hashlib.sha256(owner.encode("utf-8", errors="surrogatepass")).hexdigest()
