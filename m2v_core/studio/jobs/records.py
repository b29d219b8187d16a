"""What a job is, to those who ask for it and on disk."""

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
    """What to do.

    Attributes:
        kind: The name of the work, `"distill"`; see `m2v_core.studio.jobs.kinds`.
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
        memory_bytes: Private memory of the worker; None for no cap. Held on Linux alone.
        wall_seconds: Seconds from its start to its end; time in the queue does not count.
        teacher_parameters: Size of the teacher that it may load; None for no limit.
    """

    memory_bytes: int | None = 6 * 2**30
    wall_seconds: float = 3600.0
    teacher_parameters: int | None = None


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


@dataclass(frozen=True)
class SpecRecord:
    """`spec.json`: what was asked for, by whom and when. Never changes.

    Attributes:
        owner_hash: SHA-256 of the owner, in hex: whoever reads the folder can't take the owner's place.
        kind: As submitted.
        title: As submitted.
        parameters: As submitted.
        created_at: Seconds since the epoch, no two alike in one root.
        needs_secrets: Whether only the process that took it in, and holds its secrets, can start it.
    """

    owner_hash: str
    kind: str
    title: str
    parameters: Mapping[str, Any]
    created_at: float
    needs_secrets: bool


@dataclass(frozen=True)
class StateRecord:
    """`state.json`: where a job stands, and how it came there. Replaced whole, under the lock of the root.

    Attributes:
        state: See `Job.state`.
        message: See `Job.message`.
        history: Every change so far: `time`, `state` and `message`.
        holder: The process that took the job in, if it holds secrets for it.
        worker: The process that answers for the job while it is running or cancelling.
        started_at: Seconds since the epoch; None until it has left the queue.
        finished_at: Seconds since the epoch; None until it has ended.
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

    def moved(self, state: JobState, message: str, now: float, outcome: Mapping[str, Any] | None = None) -> StateRecord:
        """This record after one more change of state, at `now` seconds since the epoch."""
        history = (*self.history, {"time": iso_time(now), "state": state, "message": message})
        return replace(
            self,
            state=state,
            message=message,
            history=history,
            # Its secrets have gone to the worker, or have been forgotten.
            holder=self.holder if state == "queued" else None,
            started_at=now if state == "running" else self.started_at,
            finished_at=now if state in FINISHED else self.finished_at,
            outcome=outcome or {},
        )


def iso_time(seconds: float) -> str:
    """Seconds since the epoch as people read them, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def parsed(kind: type[_Record], value: Json) -> _Record:
    """A record from a JSON value; what the record has no field for is left out.

    Raises:
        KeyError: A field is missing.
        TypeError: A value is of another kind than is declared for its field.
        ValueError: A value is none of those allowed.
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
        raise ValueError(f"no such value: {value!r}")
    return value if origin is Literal else kind(value)
