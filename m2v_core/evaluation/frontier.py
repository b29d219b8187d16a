"""Measures the loss of quality when a model is made smaller: fewer dimensions, lower precision, fewer rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from m2v_core.evaluation.encoders import Encoder, StaticEncoder
from m2v_core.evaluation.evidence import is_above
from m2v_core.evaluation.run import TaskScore, evaluate
from m2v_core.evaluation.statistics import Estimate
from m2v_core.evaluation.tasks import Group, Task
from m2v_core.model import StaticModel
from m2v_core.progress import ProgressCallback, ProgressReporter

DIMS = (32, 64, 128, 256, None)
PRECISIONS = ("float32", "float16", "int8")
_RESAMPLES = 200  # enough for an interval, and a fraction of the total time

SpeedMeter = Callable[[Encoder], float]
"""Speed of an encoder on this machine in sentences/s: `speed.speed_meter`."""


@dataclass(frozen=True)
class FrontierRow:
    """One way to make a model smaller, and its cost.

    Attributes:
        dim: Number of leading dimensions.
        precision: `"float32"`, `"float16"` or `"int8"`.
        n_rows: Rows of the table; fewer than the vocabulary if tokens share them.
        n_bytes: Size of the table with its weights and mapping.
        average: Mean score over the tasks.
        low: Lower bound of its 95% bootstrap interval; None if there is none.
        high: Upper bound.
        groups: Mean score of each column.
        sentences_per_second: Speed on this machine, measured in the same run; None if not measured.
        is_best: Whether it is significantly better than every row of at most its size; False for the smallest row,
            which has no row to compare with.
        model: The name of the model that it was made from; empty if there is only one model.
    """

    dim: int
    precision: str
    n_rows: int
    n_bytes: int
    average: float
    groups: dict[Group, float]
    sentences_per_second: float | None = None
    is_best: bool = False
    low: float | None = None
    high: float | None = None
    model: str = ""

    @property
    def quality(self) -> Estimate:
        """`average` with its interval."""
        low, high = (float("nan") if end is None else end for end in (self.low, self.high))
        return Estimate(self.average, low, high)

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return asdict(self)


def frontier(
    models: StaticModel | Mapping[str, StaticModel],
    tasks: Sequence[Task],
    *,
    dims: Sequence[int | None] = DIMS,
    precisions: Sequence[str] = PRECISIONS,
    vocabulary_quantizations: Sequence[int | None] = (None,),
    measure_speed: SpeedMeter | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> tuple[FrontierRow, ...]:
    """Measure size, quality and speed of every combination, smallest first.

    Args:
        models: A model with one row per token and dimensions sorted by variance (as after PCA), preferably in float32;
            or several by name, such as one with additional words and one without.
        tasks: Tasks to evaluate.
        dims: Numbers of dimensions; None for all. Numbers above the model's are skipped.
        precisions: Number formats.
        vocabulary_quantizations: Numbers of rows to share by k-means; None for one row per token.
        measure_speed: Returns the speed of an encoder; None to skip it.
        progress: Receives the stage `"frontier"`, in combinations.
        cancel: Set it to stop.

    Raises:
        InputError: A precision or a number of rows is out of range, or there are no tasks.
        MissingExtraError: scikit-learn is needed and not installed.
        Cancelled: `cancel` was set.
    """
    named = models if isinstance(models, Mapping) else {"": models}
    combinations = [
        (name, model, width, n_rows)
        for name, model in named.items()
        for n_rows in dict.fromkeys(vocabulary_quantizations)
        for width in sorted({model.dim if dim is None else dim for dim in dims if dim is None or dim <= model.dim})
    ]
    reporter = ProgressReporter(progress, cancel)
    reporter.start("frontier", len(combinations) * len(precisions))
    rows: list[FrontierRow] = []
    for name, model, width, n_rows in combinations:
        smaller = model.compressed(dimensionality=width, vocabulary_quantization=n_rows)
        for precision in precisions:
            candidate = smaller.compressed(quantize_to=precision)
            encoder = StaticEncoder(candidate, "candidate")
            found = evaluate([encoder], tasks, resamples=_RESAMPLES, cancel=cancel)
            groups = {
                group: float(np.mean([score.score for score in found.scores if score.group == group]))
                for group in dict.fromkeys(score.group for score in found.scores)
            }
            average, low, high = _mean_with_interval(found.scores)
            rate = None if measure_speed is None else measure_speed(encoder)
            n_rows_left, dim = candidate.token_embeddings.shape
            rows.append(
                FrontierRow(
                    dim,
                    precision,
                    n_rows_left,
                    candidate.n_bytes,
                    average,
                    groups,
                    rate,
                    low=low,
                    high=high,
                    model=name,
                )
            )
            reporter.advance(1)
    marked = (replace(row, is_best=_is_best(row, rows)) for row in rows)
    return tuple(sorted(marked, key=lambda row: (row.n_bytes, -row.average)))


def _is_best(row: FrontierRow, rows: Sequence[FrontierRow]) -> bool:
    rivals = [other for other in rows if other is not row and other.n_bytes <= row.n_bytes]
    return bool(rivals) and all(is_above(row.quality, other.quality) for other in rivals)


def _mean_with_interval(scores: Sequence[TaskScore]) -> tuple[float, float | None, float | None]:
    """The mean of scores on independent tasks and its interval, whose half-widths add up like errors."""
    mean = float(np.mean([score.score for score in scores]))
    below = [score.score - score.low for score in scores if score.low is not None]
    above = [score.high - score.score for score in scores if score.high is not None]
    if len(below) < len(scores):
        return mean, None, None
    return mean, mean - float(np.linalg.norm(below)) / len(scores), mean + float(np.linalg.norm(above)) / len(scores)
