"""What a job is, to those who ask for it and on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from m2v_core.progress import Progress
from m2v_core.studio.processes import ProcessId

Json = Any
"""A plain JSON value: None, bool, int, float, str, list or dict of these."""

JobState = Literal["queued", "running", "cancelling", "done", "failed", "cancelled"]
ACTIVE: frozenset[JobState] = frozenset({"running", "cancelling"})
FINISHED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})


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

    def to_json(self) -> dict[str, Any]:
        """The plain value that `from_json` reads."""
        return {
            "owner_hash": self.owner_hash,
            "kind": self.kind,
            "title": self.title,
            "parameters": dict(self.parameters),
            "created_at": self.created_at,
            "created": iso_time(self.created_at),
            "needs_secrets": self.needs_secrets,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SpecRecord:
        """The record; KeyError, TypeError or ValueError if it was tampered with."""
        return cls(
            owner_hash=str(value["owner_hash"]),
            kind=str(value["kind"]),
            title=str(value["title"]),
            parameters=dict(value["parameters"]),
            created_at=float(value["created_at"]),
            needs_secrets=bool(value["needs_secrets"]),
        )


@dataclass(frozen=True)
class StateRecord:
    """`state.json`: where a job stands, and how it came there. Replaced whole, under the lock of the root.

    Attributes:
        state: See `Job.state`.
        message: See `Job.message`.
        history: Every change so far: time, state and message.
        holder: The process that took the job in, if it holds secrets for it.
        worker: The process that answers for the job while it is running or cancelling.
        started_at: Seconds since the epoch; None until it has left the queue.
        finished_at: Seconds since the epoch; None until it has ended.
        outcome: See `Job.outcome`.
    """

    state: JobState
    message: str
    history: tuple[tuple[str, str, str], ...] = ()
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
        history = (*self.history, (iso_time(now), state, message))
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

    def run_by(self, worker: ProcessId, now: float) -> StateRecord:
        """This record once `worker` answers for the job."""
        return replace(self.moved("running", "Running.", now), worker=worker)

    def to_json(self) -> dict[str, Any]:
        """The plain value that `from_json` reads."""
        return {
            "state": self.state,
            "message": self.message,
            "history": [{"time": time, "state": state, "message": text} for time, state, text in self.history],
            "holder": _process_to_json(self.holder),
            "worker": _process_to_json(self.worker),
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "outcome": dict(self.outcome),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StateRecord:
        """The record; KeyError, TypeError or ValueError if it was tampered with."""
        state: JobState = value["state"]
        if state != "queued" and state not in ACTIVE | FINISHED:
            raise ValueError(f"no such state: {state!r}")
        return cls(
            state=state,
            message=str(value["message"]),
            history=tuple((row["time"], row["state"], row["message"]) for row in value["history"]),
            holder=_process_from_json(value["holder"]),
            worker=_process_from_json(value["worker"]),
            started_at=_optional_float(value["started_at"]),
            finished_at=_optional_float(value["finished_at"]),
            outcome=dict(value["outcome"]),
        )


def iso_time(seconds: float) -> str:
    """Seconds since the epoch as people read them, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _optional_float(value: Json) -> float | None:
    return None if value is None else float(value)


def _process_to_json(process: ProcessId | None) -> dict[str, Any] | None:
    return None if process is None else {"pid": process.pid, "started": process.started}


def _process_from_json(value: Mapping[str, Any] | None) -> ProcessId | None:
    return None if value is None else ProcessId(int(value["pid"]), str(value["started"]))
