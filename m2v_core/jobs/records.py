"""What a job is: the records that the store hands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from m2v_core.progress import Progress

JobState = Literal["queued", "running", "cancelling", "done", "failed", "cancelled"]
FINISHED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True)
class JobSpec:
    """What to do.

    Attributes:
        kind: The name of the work, `"distill"`; see `m2v_core.jobs.kinds`.
        parameters: The keyword arguments of that work, as plain JSON values. Never a secret.
        texts: Long lists of text, each kept in a file of its own: `{"vocabulary": [...]}`.
        title: What people call it; shown, never interpreted.
    """

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True)
class JobLimits:
    """What one worker may use.

    Attributes:
        memory_bytes: Private memory of the worker; None for no cap. Enforced on Linux alone.
        wall_seconds: Seconds from its start to its end; time in the queue does not count.
    """

    memory_bytes: int | None = 6 * 2**30
    wall_seconds: float = 3600.0


@dataclass(frozen=True)
class Stage:
    """One stage of a job, begun or finished.

    Attributes:
        name: `"load"`, `"encode"`, ...
        done: Units finished, 0 to `total`.
        total: Units in the stage; 0 while unknown.
        seconds: How long it took, or has taken so far.
        is_finished: Whether a later stage has begun, or the job is done.
    """

    name: str
    done: int
    total: int
    seconds: float
    is_finished: bool


@dataclass(frozen=True)
class Job:
    """A job as it was when asked for; ask again for news.

    Attributes:
        id: Its name, unguessable; safe to show to its owner.
        kind: As submitted.
        title: As submitted.
        parameters: As submitted.
        state: `"queued"`, `"running"`, `"cancelling"`, `"done"`, `"failed"` or `"cancelled"`.
        message: A sentence for people: why it waits, failed or ended.
        queue_position: 1 for the next in line; None unless queued.
        progress: The latest event; None before the first.
        stages: The stages so far, in order; the last one may be going on.
        created_at: Seconds since the epoch.
        started_at: Seconds since the epoch; None until it has left the queue.
        finished_at: Seconds since the epoch; None until it has ended.
        elapsed_seconds: From its start to its end or to now; 0.0 while queued.
        outcome: What the work returned about its result, as plain JSON values; empty unless done.
    """

    id: str
    kind: str
    title: str
    parameters: Mapping[str, Any]
    state: JobState
    message: str
    queue_position: int | None
    progress: Progress | None
    stages: tuple[Stage, ...]
    created_at: float
    started_at: float | None
    finished_at: float | None
    elapsed_seconds: float
    outcome: Mapping[str, Any]

    @property
    def is_finished(self) -> bool:
        """Whether it is done, failed or cancelled: nothing about it will change any more."""
        return self.state in FINISHED
