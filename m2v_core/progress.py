"""Progress events, and the object that creates them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from m2v_core.errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """The progress of a task.

    Attributes:
        stage: The current stage: `"load"`, `"encode"`, `"reduce"`, `"save"`, ...
        done: Units finished in this stage, 0 to `total`.
        total: Units in this stage, or an estimate that later events may correct; 0 if unknown.
        rate: Units per second since the stage began; 0.0 if unknown.
        eta_seconds: Seconds until the stage ends, from this rate or a better estimate; None if unknown.
        left_seconds: Seconds until the whole run ends; None if unknown.
        share: Estimated share of the run that is done, 0 to 1; it never decreases.
        counters: Texts encoded so far and the seconds they took, by encoder, while speeds are compared.
    """

    stage: str
    done: int
    total: int
    rate: float
    eta_seconds: float | None
    left_seconds: float | None = None
    share: float = 0.0
    counters: Mapping[str, Sequence[float]] = field(default_factory=dict)


ProgressCallback = Callable[[Progress], None]


class ProgressReporter:
    """Creates `Progress` events from calls of `start` and `advance`, and cancels the work on request.

    Work is cancelled in either of two ways: the callback raises (its exception propagates unchanged), or `cancel` is
    set (raises `Cancelled`). Both happen on every call, so between any two batches.

    Args:
        callback: Receives every event, on the thread that does the work; None to report nothing.
        cancel: Set it from any thread to stop the work.
    """

    def __init__(self, callback: ProgressCallback | None = None, cancel: threading.Event | None = None) -> None:
        self._callback = callback
        self._cancel = cancel
        self._stage = ""
        self._done = 0
        self._done_before = 0
        self._total = 0
        self._started = 0.0

    def start(self, stage: str, total: int = 0, done: int = 0) -> None:
        """Begin a stage of `total` units (0 if unknown), of which an earlier run finished `done`."""
        self._stage, self._done, self._total = stage, done, total
        self._done_before = done
        self._started = time.perf_counter()
        self._emit()

    def advance(
        self,
        units: int,
        total: int | None = None,
        eta_seconds: float | None = None,
        counters: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Add `units` to the finished units.

        Args:
            units: Units of this stage.
            total: New estimate of the total; None to keep it.
            eta_seconds: Seconds until the stage ends, for units that differ too much for a rate; None to use the rate.
            counters: See `Progress.counters`.

        Raises:
            Cancelled: `cancel` was set.
        """
        self._done += units
        if total is not None:
            self._total = total
        self._emit(eta_seconds, counters)

    def _emit(self, eta_seconds: float | None = None, counters: Mapping[str, Sequence[float]] | None = None) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled(f"Cancelled during stage {self._stage!r}; nothing was written.")
        if self._callback is None:
            return
        elapsed_seconds = time.perf_counter() - self._started
        n_new = self._done - self._done_before
        rate = n_new / elapsed_seconds if n_new and elapsed_seconds > 0 else 0.0
        if eta_seconds is None and rate and self._total:
            eta_seconds = (self._total - self._done) / rate
        self._callback(Progress(self._stage, self._done, self._total, rate, eta_seconds, counters=dict(counters or {})))
