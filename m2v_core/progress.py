"""Progress events, and the one object that makes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from m2v_core.errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """How far a piece of work has come.

    Attributes:
        stage: What is being done: `"load"`, `"encode"`, `"reduce"`, `"save"`, ...
        done: Units finished in this stage, 0 to `total`.
        total: Units in this stage, or an estimate that each event may correct; 0 while unknown.
        rate: Units per second since the stage began; 0.0 while unknown.
        eta_seconds: Seconds until the stage ends, at this rate or as the work itself knows better; None while unknown.
    """

    stage: str
    done: int
    total: int
    rate: float
    eta_seconds: float | None


ProgressCallback = Callable[[Progress], None]


class ProgressReporter:
    """Turns `start` and `advance` into `Progress` events, and stops the work when asked.

    Work is cancelled in either of two ways: the callback raises (its exception passes through untouched), or
    `cancel` is set (raises `Cancelled`). Both are looked at on every call, so between any two batches.

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
        """Begin a stage of `total` units (0: unknown), of which an earlier run has done some."""
        self._stage, self._done, self._total = stage, done, total
        self._done_before = done
        self._started = time.perf_counter()
        self._emit()

    def advance(self, units: int, total: int | None = None, eta_seconds: float | None = None) -> None:
        """Count `units` more as done.

        Args:
            units: Of this stage.
            total: The stage's, if there is a new estimate of it.
            eta_seconds: Until its end, where units take so different times that their rate would mislead.

        Raises:
            Cancelled: `cancel` was set.
        """
        self._done += units
        if total is not None:
            self._total = total
        self._emit(eta_seconds)

    def _emit(self, eta_seconds: float | None = None) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled(f"Cancelled during stage {self._stage!r}; nothing was written.")
        if self._callback is None:
            return
        elapsed_seconds = time.perf_counter() - self._started
        n_new = self._done - self._done_before
        rate = n_new / elapsed_seconds if n_new and elapsed_seconds > 0 else 0.0
        if eta_seconds is None and rate and self._total:
            eta_seconds = (self._total - self._done) / rate
        self._callback(Progress(self._stage, self._done, self._total, rate, eta_seconds))
