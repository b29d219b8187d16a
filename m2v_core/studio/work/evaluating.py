"""The job that evaluates models: fidelity without labels, scores on test data, and the size-quality frontier."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import Cancelled, InputError
from m2v_core.progress import Progress, ProgressReporter
from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.work.access import load_teacher, open_encoder, use_hub_account

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import Encoder
    from m2v_core.evaluation.tasks import Task

OWN_TEXTS = "own texts"
_STEP_TEXTS = 64  # between checks for cancellation


def evaluate(order: WorkOrder) -> Mapping[str, Any]:
    """Compare models.

    `models` is a list of `{"name": ..., "path": ...}`, the main model first; `peers` are specs for `open_encoder`, such
    as `"tfidf"`; `teacher` is a name or None. `with_fidelity` measures the fidelity of each encoder to the teacher on
    `texts`, by default a sample. `with_tasks` scores all encoders on `sets` (lines of `OwnSet.to_lines`) and `archives`
    (one line of `TaskArchive.to_line` each); `scores_teacher` includes the teacher. `with_frontier` compresses the
    first model in all supported ways, scores each version on these tasks, or else by fidelity, and measures its speed;
    `shared_rows` also tries this number of shared rows.

    Returns:
        `teacher`; `fidelity` by encoder name, and `texts_name`; `evaluation` from `Evaluation.to_json`; `frontier`, a
        list of rows, and `dtype`, the number format of the first model; each None if not requested; `encoders`, from
        `EncoderFacts.to_json`; `machine` and `date`. The same is written to `evaluation.json`.
    """
    use_hub_account(order)
    parameters = order.parameters
    reporter = ProgressReporter(order.progress, order.cancel)
    reporter.start("load")  # without a total, as the time to load a teacher is unknown
    from m2v_core.evaluation import encoders as opening
    from m2v_core.evaluation.fidelity import measure_fidelity, teacher_task
    from m2v_core.evaluation.own_data import OwnSet
    from m2v_core.evaluation.packed import TaskArchive
    from m2v_core.evaluation.run import evaluate as evaluate_on
    from m2v_core.evaluation.speed import SAMPLE_NAME, sample_texts, this_machine
    from m2v_core.evaluation.tasks import with_distinct_names

    tasks: Sequence[Task] = []
    if parameters.get("with_tasks"):
        own_sets = OwnSet.from_lines(order.texts.get("sets", []))
        archives = [TaskArchive.from_line(line) for line in order.texts.get("archives", [])]
        tasks = with_distinct_names(
            [*(own.task() for own in own_sets), *(task for archive in archives for task in archive.tasks())]
        )
    own_texts = order.texts.get("texts")
    texts = own_texts or sample_texts()
    needs_teacher = parameters.get("with_fidelity") or (parameters.get("with_frontier") and not tasks)
    if needs_teacher and not parameters.get("teacher"):
        raise InputError("Fidelity requires a teacher. Choose one, or add test data.")
    encoders: list[Encoder] = []
    for model in parameters["models"]:
        encoders.append(open_encoder(order, f"static:{model['path']}", model["name"]))
        reporter.advance(0)
    teacher: _CachingEncoder | None = None
    for spec in parameters.get("peers", []):
        encoders.append(_rename(opening.open_encoder(spec, teacher_folder=_no_teacher), encoders))
        reporter.advance(0)
    if needs_teacher or (tasks and parameters.get("teacher") and parameters.get("scores_teacher")):
        teacher = _CachingEncoder(load_teacher(order, parameters["teacher"]), order.cancel)
        reporter.advance(0)

    outcome: dict[str, Any] = {
        "teacher": parameters.get("teacher"),
        "texts_name": OWN_TEXTS if own_texts else SAMPLE_NAME,
        "fidelity": None,
        "evaluation": None,
        "frontier": None,
        "dtype": None,
        "encoders": [one.facts.to_json() for one in [*encoders, *([teacher] if teacher else [])]],
        "machine": asdict(this_machine()),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    if parameters.get("with_fidelity") and teacher is not None:
        found = measure_fidelity(
            teacher, encoders, texts, progress=_as_stage("fidelity", order.progress), cancel=order.cancel
        )
        outcome["fidelity"] = {encoder.facts.name: one.to_json() for encoder, one in zip(encoders, found, strict=True)}
    if tasks:
        if teacher is not None and parameters.get("scores_teacher"):
            encoders.append(_rename(teacher, encoders))
        progress = _as_stage("tasks", order.progress)
        outcome["evaluation"] = evaluate_on(encoders, tasks, progress=progress, cancel=order.cancel).to_json()
    if parameters.get("with_frontier"):
        if not tasks and teacher is not None:
            tasks = [teacher_task(teacher, texts)]
        outcome["frontier"], outcome["dtype"] = _frontier(order, tasks)
    (order.staging / "evaluation.json").write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    return outcome


def _frontier(order: WorkOrder, tasks: Sequence[Task]) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of the frontier, and the number format of the model."""
    from m2v_core.evaluation.frontier import frontier
    from m2v_core.evaluation.speed import speed_meter
    from m2v_core.model import StaticModel

    model = StaticModel.from_pretrained(order.parameters["models"][0]["path"])
    shared = order.parameters.get("shared_rows")
    # A model with shared rows can't be quantized again.
    can_share = model.token_mapping is None and shared and shared < len(model.token_embeddings)
    rows = frontier(
        model,
        tasks,
        vocabulary_quantizations=[None, shared] if can_share else [None],
        measure_speed=speed_meter([text for task in tasks for text in task.texts]),
        progress=order.progress,
        cancel=order.cancel,
    )
    return [row.to_json() for row in rows], str(model.token_embeddings.dtype)


class _CachingEncoder:
    """A teacher with a cache of embeddings that is shared by fidelity, tasks and frontier."""

    def __init__(self, encoder: Encoder, cancel: threading.Event) -> None:
        self._encoder = encoder
        self._cancel = cancel
        self._rows: dict[str, NDArray[np.float32]] = {}
        self.facts = encoder.facts

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`.

        Raises:
            Cancelled: The job was cancelled.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        for start in range(0, len(new), _STEP_TEXTS):
            if self._cancel.is_set():
                raise Cancelled("Cancelled while the teacher was encoding; nothing was written.")
            step = new[start : start + _STEP_TEXTS]
            self._rows.update(zip(step, self._encoder.encode(step), strict=True))
        return np.stack([self._rows[text] for text in texts])


def _no_teacher(name: str) -> Any:
    raise InputError(f"{name!r} is not a peer; pass it as the teacher.")


def _rename(encoder: Any, others: Sequence[Encoder]) -> Any:
    """Give the encoder a name that is unique among the others."""
    taken = {other.facts.name for other in others}
    name, number = encoder.facts.name, 2
    while encoder.facts.name in taken:
        encoder.facts = replace(encoder.facts, name=f"{name} ({number})")
        number += 1
    return encoder


def _as_stage(stage: str, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return a callback that replaces the name of the stage."""
    return lambda event: progress(replace(event, stage=stage))
