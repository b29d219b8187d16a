"""The job store: submit, follow, cancel and keep background jobs, in plain files."""

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
from m2v_core.studio.jobs.index import UNBORN, Entry, JobIndex
from m2v_core.studio.jobs.kinds import KINDS, Kind, check_spec
from m2v_core.studio.jobs.progress_log import ProgressReader
from m2v_core.studio.jobs.records import ACTIVE, Job, JobLimits, JobSpec, SpecRecord, StateRecord
from m2v_core.studio.processes import ProcessId


class JobStore:
    """The jobs under one folder, and a thread that starts them when their turn comes.

    Any number of stores, threads and processes may share a folder; `max_running` then bounds them together.
    Running jobs outlive the store and the process that made it: a new store finds them again.

    Every call that names a job names its owner too. Another owner's job is the same as none: `NotFoundError`.

    Args:
        root: Folder of the jobs; made when absent, readable by this user alone.
        max_running: How many jobs run at once; the others wait in the order they came.
        max_waiting: How many jobs may wait, all owners together.
        max_per_owner: How many unfinished jobs one owner may have.
        limits: What each worker may use.
        max_lines: How many lines a text of that name may have, such as `{"vocabulary": 250_000}`.
        keep_seconds: Finished jobs older than this are removed; None to keep them.
        keep_bytes: The oldest finished jobs are removed until all jobs together take no more; None to keep
            them.
        kinds: Further kinds of work by name; see `m2v_core.studio.jobs.kinds`.
        keeps_spare: Whether, for ten minutes after a job or `expect_job`, a process of a tenth of a GiB stands ready
            for the next one that needs no secret: that one begins half a second sooner.

    Raises:
        InputError: A number above that is not positive.
        SaveError: `root` can't be made or written.
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
        """Say that somebody is about to submit a job: it begins sooner where the store keeps a spare worker."""
        self._dispatcher.expect_job()

    def submit(self, spec: JobSpec, owner: str, *, secrets: Mapping[str, str] | None = None) -> str:
        """The id of a new job, queued.

        Args:
            spec: What to do.
            owner: Who may see it: any non-empty string that only they know, or that you checked.
            secrets: Values the work needs that must never reach the disk: `{"hf_token": ...}`. They travel to
                the worker through a pipe. A job with `hf_token` downloads into a cache of its own, deleted
                afterwards.

        Raises:
            InputError: An unknown kind, parameter or text; a value that is not JSON, or that the work would refuse; a
                secret among them.
            LimitError: The queue is full, this owner has as many unfinished jobs as allowed, or a text is too long.
            SaveError: The job can't be written.
        """
        secrets = {name: value for name, value in (secrets or {}).items() if value}
        check_spec(spec, secrets, self._kinds, self._max_lines)
        owner_hash = hash_owner(owner)
        folder = JobFolder(self._root / token_hex(16))
        unborn = JobFolder(self._root / f"{UNBORN}{folder.id}")
        with saving("The job"):
            try:
                unborn.path.mkdir(mode=0o700)
                unborn.write_texts(spec.texts)
                with root_lock(self._root):
                    entries = self._index.entries()
                    self._check_limits(entries, owner_hash)
                    # Strictly later than the others, as it is the order of the queue.
                    now = max([time.time(), *(entry.spec.created_at + 1e-5 for entry in entries)])
                    record = SpecRecord(
                        owner_hash=owner_hash,
                        kind=spec.kind,
                        title=spec.title,
                        parameters=dict(spec.parameters),
                        created_at=now,
                        needs_secrets=bool(secrets),
                    )
                    unborn.write_spec(record)
                    state = StateRecord("queued", "", holder=ProcessId.own() if secrets else None)
                    unborn.write_state(state.moved("queued", "Waiting for its turn.", now))
                    if secrets:
                        secrets_in_memory[folder.path] = secrets
                    unborn.path.rename(folder.path)
            finally:
                shutil.rmtree(unborn.path, ignore_errors=True)
        self._dispatcher.wake()
        return folder.id

    def get(self, job_id: str, owner: str) -> Job:
        """The job as it stands: state, place in the queue, latest progress, stages so far.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        entry = self._find(job_id, owner)
        queue = _queue(self._index.entries()) if entry.state.state == "queued" else []
        return self._view(entry, queue)

    def list_jobs(self, owner: str) -> list[Job]:
        """This owner's jobs, the newest first."""
        owner_hash = hash_owner(owner)
        entries = self._index.entries()
        queue = _queue(entries)
        own = [entry for entry in entries if compare_digest(entry.spec.owner_hash, owner_hash)]
        return [self._view(entry, queue) for entry in reversed(own)]

    def wait(self, job_id: str, owner: str, timeout_seconds: float | None = None) -> Job:
        """The job once it has finished, or as it stands when the time is over.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            job = self.get(job_id, owner)
            if job.is_finished or (deadline is not None and time.monotonic() >= deadline):
                return job
            time.sleep(0.1)

    def cancel(self, job_id: str, owner: str) -> Job:
        """The job, cancelled or about to be; returns at once, a running worker is gone within two seconds.

        A finished job is left as it is.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        self._find(job_id, owner)
        with saving("The job's state"), root_lock(self._root):
            entry = self._find(job_id, owner)
            if entry.state.state == "queued":
                secrets_in_memory.pop(entry.folder.path, None)
                state = entry.state.moved("cancelled", "Cancelled before it started.", time.time())
                entry.folder.write_state(state)
            elif entry.state.state == "running":
                # The flag is what the worker's keeper looks for; the state is for everybody else.
                entry.folder.cancel_flag.touch()
                entry.folder.write_state(entry.state.moved("cancelling", "Stopping.", time.time()))
        self._dispatcher.wake()
        return self.get(job_id, owner)

    def delete(self, job_id: str, owner: str) -> None:
        """Remove a finished or queued job with all its files.

        Raises:
            InputError: The job is running; cancel it first.
            NotFoundError: No such job, or not this owner's.
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
        """The folder the job made: for `"distill"`, a saved `StaticModel`.

        Raises:
            NotFoundError: No such job, not this owner's, or not done.
        """
        entry = self._find(job_id, owner)
        if entry.state.state != "done":
            raise NotFoundError(f"This job has no result: it is {entry.state.state}.")
        return entry.folder.result

    def texts(self, job_id: str, owner: str) -> dict[str, list[str]]:
        """The job's long lists of text by name, as submitted.

        Raises:
            NotFoundError: No such job, not this owner's, or its texts are gone or damaged.
        """
        folder = self._find(job_id, owner).folder
        try:
            return folder.read_texts()
        except (OSError, ValueError) as error:
            raise NotFoundError("The texts of this job can't be read. It may have been cleaned away.") from error

    def log(self, job_id: str, owner: str, max_chars: int = 20_000) -> str:
        """The end of the job's log, secrets removed; empty before it starts.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        return self._find(job_id, owner).folder.read_log(max_chars)

    def clean(self, keep_seconds: float | None = None, keep_bytes: int | None = None) -> list[str]:
        """The ids of the jobs removed: finished ones too old, then the oldest until the rest fits.

        A queued or running job is never removed. Runs by itself now and then, with the store's own settings.
        """
        with saving("The job folder"):
            return self._index.clean(keep_seconds, keep_bytes)

    def close(self) -> None:
        """Stop starting jobs. Running ones go on, and a new store finds them again."""
        self._dispatcher.close()

    def _check_limits(self, entries: Sequence[Entry], owner_hash: str) -> None:
        unfinished = [entry for entry in entries if not entry.state.is_finished]
        if len(unfinished) >= self._max_running + self._max_waiting:
            raise LimitError(f"The queue is full: {self._max_waiting} jobs may wait here at once. Try again later.")
        n_own = sum(compare_digest(entry.spec.owner_hash, owner_hash) for entry in unfinished)
        if n_own >= self._max_per_owner:
            unfinished_jobs = "1 unfinished job" if n_own == 1 else f"{n_own} unfinished jobs"
            raise LimitError(
                f"You have {unfinished_jobs}, and {self._max_per_owner} may be so at once. Wait for one to end, or "
                "cancel one."
            )

    def _find(self, job_id: str, owner: str) -> Entry:
        entry = self._index.find(job_id)
        if entry is None or not compare_digest(entry.spec.owner_hash, hash_owner(owner)):
            raise NotFoundError("No such job among yours. It may have been cleaned away: list your jobs.")
        return entry

    def _view(self, entry: Entry, queue: Sequence[str]) -> Job:
        spec, state = entry.spec, entry.state
        if is_abandoned(state):
            # Either its end was written a moment ago, or nobody has written it: the disk may be full.
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
    """What stands on disk for an owner: whoever reads it can't take the owner's place.

    Raises:
        InputError: An empty owner.
    """
    if not owner:
        raise InputError("A job or a model needs an owner, any non-empty string; got an empty one.")
    return hashlib.sha256(owner.encode("utf-8", errors="surrogatepass")).hexdigest()
