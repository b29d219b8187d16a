"""The job store: submit, follow, cancel and keep background jobs, in plain files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from m2v_core.jobs.records import Job, JobLimits, JobSpec


class JobStore:
    """The jobs under one folder, and a thread that starts them when their turn comes.

    Any number of stores, threads and processes may share a folder; `max_running` then bounds them all together.
    Running jobs outlive the store and the process that made it: a new store finds them again.

    Every call that names a job names its owner too. Another owner's job is the same as none: `NotFoundError`.

    Args:
        root: Folder of the jobs; made when absent, readable by this user alone.
        max_running: How many jobs run at once; the others wait in the order they came.
        max_waiting: How many jobs may wait, all owners together.
        max_per_owner: How many unfinished jobs one owner may have.
        limits: What each worker may use.
        keep_seconds: Finished jobs older than this are removed; None to keep them.
        keep_bytes: The oldest finished jobs are removed until all jobs together take no more; None for no bound.
        kinds: Further kinds of work by name, each as `"module:function"`; see `m2v_core.jobs.kinds`.

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
        keep_seconds: float | None = None,
        keep_bytes: int | None = None,
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> JobStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, spec: JobSpec, owner: str, *, secrets: Mapping[str, str] | None = None) -> str:
        """The id of a new job, queued.

        Args:
            spec: What to do.
            owner: Who may see it: any non-empty string that only they know, or that you checked.
            secrets: Values the work needs that must never reach the disk: `{"hf_token": ...}`. They travel to the
                worker through a pipe. A job with `hf_token` downloads into a cache of its own, deleted afterwards.

        Raises:
            InputError: An unknown kind or parameter, a value that is not JSON, or a secret among the parameters.
            LimitError: The queue is full, or this owner has as many unfinished jobs as allowed.
            SaveError: The job can't be written.
        """
        raise NotImplementedError

    def get(self, job_id: str, owner: str) -> Job:
        """The job as it stands: state, place in the queue, latest progress, stages so far.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        raise NotImplementedError

    def list_jobs(self, owner: str) -> list[Job]:
        """This owner's jobs, the newest first."""
        raise NotImplementedError

    def wait(self, job_id: str, owner: str, timeout_seconds: float | None = None) -> Job:
        """The job once it has finished, or as it stands when the time is over.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        raise NotImplementedError

    def cancel(self, job_id: str, owner: str) -> Job:
        """The job, cancelled or about to be; returns at once, a running worker is gone within two seconds.

        A finished job is left as it is.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        raise NotImplementedError

    def delete(self, job_id: str, owner: str) -> None:
        """Remove a finished or queued job with all its files.

        Raises:
            InputError: The job is running; cancel it first.
            NotFoundError: No such job, or not this owner's.
        """
        raise NotImplementedError

    def result_folder(self, job_id: str, owner: str) -> Path:
        """The folder the job made: for `"distill"`, a saved `StaticModel`.

        Raises:
            NotFoundError: No such job, not this owner's, or not done.
        """
        raise NotImplementedError

    def log(self, job_id: str, owner: str, max_chars: int = 20_000) -> str:
        """The end of the job's log, secrets removed; empty before it starts.

        Raises:
            NotFoundError: No such job, or not this owner's.
        """
        raise NotImplementedError

    def clean(self, keep_seconds: float | None = None, keep_bytes: int | None = None) -> list[str]:
        """The ids of the jobs removed: finished ones too old, then the oldest until the rest fits.

        A queued or running job is never removed. Runs by itself now and then, with the store's own settings.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Stop starting jobs. Running ones go on, and a new store finds them again."""
        raise NotImplementedError
