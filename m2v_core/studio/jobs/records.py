"""Dataclasses for jobs, in the API and on disk."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from m2v_core.progress import Progress
from m2v_core.studio.processes import ProcessId

Json = Any
"""A plain JSON value: None, bool, int, float, str, list or dict of these."""

JobState = Literal["queued", "running", "cancelling", "done", "failed", "cancelled"]
ACTIVE: frozenset[JobState] = frozenset({"running", "cancelling"})
FINISHED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})

_Record = TypeVar("_Record")
_hints = functools.cache(get_type_hints)


@dataclass(frozen=True)
class JobSpec:
    """A job to submit.

    Attributes:
        kind: Kind of job, such as `"distill"`; see `m2v_core.studio.jobs.kinds`.
        parameters: Keyword arguments of the job as JSON values; must not contain secrets.
        texts: Long lists of texts, stored in separate files: `{"vocabulary": [...]}`.
        title: Title to display; not interpreted.
    """

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True)
class JobLimits:
    """Limits of one worker.

    Attributes:
        memory_bytes: Private memory of the worker; None for no limit. Enforced on Linux only.
        wall_seconds: Maximum run time in seconds, excluding the time in the queue.
        teacher_parameters: Maximum number of parameters of a teacher; None for no limit.
    """

    memory_bytes: int | None = 6 * 2**30
    wall_seconds: float = 3600.0
    teacher_parameters: int | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of a job that has started.

    Attributes:
        name: `"load"`, `"encode"`, ...
        done: Completed units, 0 to `total`.
        total: Units in the stage; 0 while unknown.
        seconds: Duration so far.
        is_finished: Whether a later stage has started, or the job is done.
    """

    name: str
    done: int
    total: int
    seconds: float
    is_finished: bool


@dataclass(frozen=True)
class Job:
    """A snapshot of a job.

    Attributes:
        id: Random id.
        kind: As submitted.
        title: As submitted.
        parameters: As submitted.
        state: `"queued"`, `"running"`, `"cancelling"`, `"done"`, `"failed"` or `"cancelled"`.
        message: User-facing sentence about the state, such as the error.
        queue_position: 1 for the next job to start; None unless queued.
        progress: The latest event; None before the first.
        stages: The stages so far, in order; the last one may be running.
        created_at: Seconds since the epoch.
        started_at: Seconds since the epoch; None while queued.
        finished_at: Seconds since the epoch; None until finished.
        elapsed_seconds: Seconds from the start until the end, or until now; 0.0 while queued.
        outcome: Facts about the result, returned by the job, as JSON values; empty unless done.
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
        """Whether it is done, failed or cancelled, and will not change."""
        return self.state in FINISHED


@dataclass(frozen=True)
class SpecRecord:
    """`spec.json`: the submitted job, its owner and time. Never changes.

    Attributes:
        owner_hash: SHA-256 of the owner in hex, so that reading the folder does not reveal the owner's key.
        kind: As submitted.
        title: As submitted.
        parameters: As submitted.
        created_at: Seconds since the epoch, unique within a root.
        needs_secrets: Whether only the process that accepted the job, and holds its secrets, can start it.
    """

    owner_hash: str
    kind: str
    title: str
    parameters: Mapping[str, Any]
    created_at: float
    needs_secrets: bool


@dataclass(frozen=True)
class StateRecord:
    """`state.json`: the state of a job and its history. Replaced atomically, under the lock of the root.

    Attributes:
        state: See `Job.state`.
        message: See `Job.message`.
        history: All changes so far: `time`, `state` and `message`.
        holder: The process that accepted the job, if it holds secrets for it.
        worker: The job's supervisor process while it is running or cancelling.
        started_at: Seconds since the epoch; None while queued.
        finished_at: Seconds since the epoch; None until finished.
        outcome: See `Job.outcome`.
    """

    state: JobState
    message: str
    history: tuple[Mapping[str, str], ...] = ()
    holder: ProcessId | None = None
    worker: ProcessId | None = None
    started_at: float | None = None
    finished_at: float | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """See `Job.is_finished`."""
        return self.state in FINISHED

    def changed(
        self, state: JobState, message: str, now: float, outcome: Mapping[str, Any] | None = None
    ) -> StateRecord:
        """Return the record after a change of state at `now` seconds since the epoch."""
        history = (*self.history, {"time": iso_time(now), "state": state, "message": message})
        return replace(
            self,
            state=state,
            message=message,
            history=history,
            # The secrets have been passed to the worker or discarded.
            holder=self.holder if state == "queued" else None,
            started_at=now if state == "running" else self.started_at,
            finished_at=now if state in FINISHED else self.finished_at,
            outcome=outcome or {},
        )


def iso_time(seconds: float) -> str:
    """Format seconds since the epoch as an ISO 8601 time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def parse(kind: type[_Record], value: Json) -> _Record:
    """Parse a record from a JSON value, ignoring unknown fields.

    Raises:
        KeyError: A field is missing.
        TypeError: A value has the wrong type.
        ValueError: A value is not allowed.
    """
    record: _Record = _value(kind, value)
    return record


def _value(kind: Any, value: Json) -> Any:
    if hasattr(kind, "__dataclass_fields__"):
        return kind(**{name: _value(hint, value[name]) for name, hint in _hints(kind).items()})
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _value(parts[0], value)
    if origin is tuple:
        return tuple(_value(parts[0], each) for each in value)
    if origin is Mapping:
        return dict(value)
    if origin is Literal and value not in parts:
        raise ValueError(f"invalid value: {value!r}")
    return value if origin is Literal else kind(value)
