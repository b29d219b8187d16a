"""Estimates of the duration of a distillation, before and during the run.

A run is a sequence of stages. `default_seconds` estimates the duration of each from the amount of work. `Timings`
corrects these estimates using earlier runs on this machine, of the same teacher or else of any teacher. `RunClock`
processes the events of a run: it extrapolates the remaining time of the current stage from its rate, and corrects the
estimates of later stages using the durations of completed stages.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from m2v_core.distillation.calibration.descent import n_descent_steps
from m2v_core.progress import Progress, ProgressCallback
from m2v_core.storage.atomic import replacing_file

logger = logging.getLogger(__name__)

READING = ("pooling", "encode", "bags", "dictionary", "corpus")
"""The stages with forward passes of the teacher."""
PREPARING = ("bags", "dictionary", "corpus", "prepare")
"""The stages that are skipped if the input of the calibration is cached."""

# Measured with all-MiniLM-L6-v2 on two cores of a Xeon server without bfloat16; texts are longer than entries.
_FLOPS_PER_SECOND = {"entries": 1.6e11, "texts": 2.6e11}
_SECONDS_PER_TOKEN = 1e-5  # in addition to the matrix products; it dominates for small teachers
_FIXED_SECONDS = {
    "start": 0.5,
    "load": 4.0,
    "modules": 1.0,
    "finish": 0.05,
    "save": 0.05,
    "check": 0.05,
    "measure": 25.0,
}
_FIXED_SECONDS |= {"connect": 2.0, "upload": 10.0, "verify": 5.0}
_POOLING_SECONDS = 1.0
_FILE = "timings.json"
_MAX_TEACHERS = 500
_MAX_FACTOR = 100.0  # a larger ratio of duration to estimate means that the stage was interrupted
_NOISE_SECONDS = 0.5  # smaller differences are noise
_SECONDS_TO_TRUST = 3.0  # of estimated work after which observed and earlier rates have equal weight
_SHARE_TO_TRUST = 0.1  # of a stage; once it is complete, only the stage's own rate is used


@dataclass(frozen=True)
class Amounts:
    """The amounts of work in a run.

    Attributes:
        n_compute_parameters: Parameters of the teacher without its token embeddings.
        tokens: Number of tokens that the teacher processes, by stage.
        n_rows: Rows of the table.
        dim: Width of the table during calibration.
        n_texts: Number of texts that it is fitted to.
        has_text: Whether some of them are real texts, not bags.
    """

    n_compute_parameters: int
    tokens: Mapping[str, int]
    n_rows: int
    dim: int
    n_texts: int
    has_text: bool


def default_seconds(amounts: Amounts) -> dict[str, float]:
    """Estimate the seconds of each stage, in the order of a run, on two cores without bfloat16."""
    per_token = {
        kind: _SECONDS_PER_TOKEN + 2 * amounts.n_compute_parameters / flops for kind, flops in _FLOPS_PER_SECOND.items()
    }
    texts = {stage: n_tokens for stage, n_tokens in amounts.tokens.items() if n_tokens and stage != "encode"}
    reading = {stage: per_token["texts"] * n_tokens for stage, n_tokens in texts.items()}
    entries = amounts.n_rows * amounts.dim
    reduce = 0.1 + 2e-11 * entries * amounts.dim
    seconds = {
        "start": _FIXED_SECONDS["start"],
        "load": _FIXED_SECONDS["load"],
        "encode": per_token["entries"] * amounts.tokens["encode"],
        "reduce": reduce,
        **reading,
    }
    if reading:
        seconds[next(iter(reading))] += _FIXED_SECONDS["modules"]
    if amounts.n_texts:
        seconds["prepare"] = reduce + 2.5e-5 * amounts.n_texts + 7e-7 * sum(texts.values())
        seconds["calibrate"] = 0.1 + 1.5e-7 * amounts.dim * amounts.n_texts
    if amounts.has_text:
        seconds["descend"] = n_descent_steps(amounts.n_texts) * (0.012 + 2.5e-9 * entries)
    return seconds | {"finish": _FIXED_SECONDS["finish"]}


def fixed_seconds(*stages: str) -> dict[str, float]:
    """Return the estimated seconds of stages after distillation: `save`, `check`, `measure`, and those of an upload."""
    return {stage: _FIXED_SECONDS[stage] for stage in stages}


class Timings:
    """The durations of stages on this machine, as multiples of `default_seconds`, stored in a file.

    Args:
        folder: Folder of the file, created on the first write; None to store nothing.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self._file = None if folder is None else Path(folder) / _FILE

    def predict(self, teacher: str, defaults: Mapping[str, float]) -> dict[str, float]:
        """Return the seconds of each stage from earlier runs of this teacher, else of any teacher, else the defaults.

        Args:
            teacher: Name as passed to `distill`.
            defaults: From `default_seconds`.
        """
        stored = self._read()
        own = stored.get(teacher, {})
        factors = stored.get("", {}) | own
        if reading := [factor for stage, factor in own.items() if stage in READING]:
            # Assume this teacher's mean speed for stages that it has not run yet.
            factors |= dict.fromkeys(READING, math.prod(reading) ** (1 / len(reading))) | own
        predicted: dict[str, float] = {}
        for stage, seconds in defaults.items():
            if stage == "encode" and "pooling" in own:  # earlier runs of this teacher had this stage
                predicted["pooling"] = own["pooling"] * _POOLING_SECONDS
            predicted[stage] = seconds * factors.get(stage, 1.0)
        return predicted

    def learn(self, teacher: str, defaults: Mapping[str, float], observed: Mapping[str, float]) -> None:
        """Store the durations of a run's stages. Failed writes are logged and otherwise ignored.

        Args:
            teacher: Name as passed to `distill`.
            defaults: From `default_seconds`, for this run.
            observed: Seconds of the completed stages.
        """
        if self._file is None or not defaults:
            return
        stored = self._read()
        defaults = {"pooling": _POOLING_SECONDS, **defaults}
        for name in ("", teacher):
            factors = stored.pop(name, {})  # reinserted below, so that the most recently used teacher is last
            for stage in observed.keys() & defaults.keys():
                factor = (observed[stage] + _NOISE_SECONDS) / (defaults[stage] + _NOISE_SECONDS)
                factor = min(factor, _MAX_FACTOR)
                # Average old and new, so that one run on a busy machine does not skew the estimates.
                factors[stage] = round(math.sqrt(factors.get(stage, factor) * factor), 4)
            stored[name] = factors
        while len(stored) > _MAX_TEACHERS:
            stored.pop(next(name for name in stored if name))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(self._file) as new:
                new.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            logger.warning("The timings could not be written to %s: %s", self._file, error)

    def _read(self) -> dict[str, dict[str, float]]:
        """Return the factors by teacher and stage; an empty name stands for any teacher."""
        if self._file is None:
            return {}
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            return {
                str(teacher): {str(stage): float(factor) for stage, factor in factors.items() if factor > 0}
                for teacher, factors in stored.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning("%s is damaged (%s) and will be replaced after the next run.", self._file, error)
            return {}


class RunClock:
    """A progress callback that adds the remaining time of the whole run to each event.

    Args:
        callback: Receives the events.
        timings: Timings of earlier runs; updated with those of this run.
        teacher: Name as passed to `distill`.
        defaults: Returns the seconds of each stage in the order of the run, from `default_seconds`; empty if unknown.
            Called only if the teacher is loaded, because a run with cached outputs takes seconds.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self,
        callback: ProgressCallback,
        timings: Timings,
        teacher: str,
        defaults: Callable[[], Mapping[str, float]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._callback = callback
        self._timings = timings
        self._teacher = teacher
        self._find_defaults = defaults
        self._clock = clock
        self._defaults: Mapping[str, float] | None = None
        self._expected: Mapping[str, float] = {}
        self._started = self._began = clock()
        self._stage = ""
        self._is_complete = True
        self._share = 0.0
        self._seconds: dict[str, float] = {}  # of completed stages

    def __call__(self, event: Progress) -> None:
        """Forward the event with the remaining time and the completed share of the run."""
        if self._defaults is None and (event.stage in READING or (event.stage == "load" and event.total)):
            self._defaults = self._find_defaults()
            self._expected = self._timings.predict(self._teacher, self._defaults)
        now = self._clock()
        if event.stage != self._stage:
            self._end_stage(now)
            self._stage, self._began = event.stage, now
        self._is_complete = not event.total or event.done >= event.total
        left = self._seconds_left(event, now)
        if left is not None:
            elapsed = now - self._started
            self._share = max(self._share, elapsed / max(elapsed + left, 1e-9))
        self._callback(replace(event, left_seconds=left, share=self._share))

    def finish(self) -> None:
        """Store the durations of the stages of the completed run."""
        self._end_stage(self._clock())
        self._timings.learn(self._teacher, self._defaults or {}, self._seconds)

    def _end_stage(self, now: float) -> None:
        if self._stage and self._is_complete:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._began

    def _seconds_left(self, event: Progress, now: float) -> float | None:
        if not self._expected:
            return None
        elapsed, stages = now - self._began, list(self._expected)
        observed = dict(self._seconds)
        rest = max(self._expected.get(event.stage, 0.0) * self._factor(event.stage, observed) - elapsed, 0.0)
        if event.eta_seconds is not None and elapsed > 0:
            whole = elapsed + event.eta_seconds
            trust = min(1.0, elapsed / whole / _SHARE_TO_TRUST)
            rest = trust * event.eta_seconds + (1 - trust) * rest
            observed[event.stage] = elapsed + rest
        known = [stages.index(stage) for stage in (*self._seconds, event.stage) if stage in self._expected]
        later = stages[max(known, default=-1) + 1 :]
        return rest + sum(self._expected[stage] * self._factor(stage, observed) for stage in later)

    def _factor(self, stage: str, observed: Mapping[str, float]) -> float:
        """Ratio of a stage's duration to its estimate, from similar stages of this run, or else from all."""
        measured = [name for name in observed if name in self._expected and name not in _FIXED_SECONDS]

        def factor(names: list[str], before: float) -> float:
            took = sum(observed[name] for name in names)
            estimated = sum(self._expected[name] for name in names)
            return (took + _SECONDS_TO_TRUST * before) / (estimated + _SECONDS_TO_TRUST)

        if stage in _FIXED_SECONDS:
            return 1.0
        similar = [name for name in measured if (name in READING) == (stage in READING)]
        return factor(similar, factor(measured, 1.0))
