"""The job that says how good models are: fidelity without labels, scores on one's own data, the frontier of sizes."""

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
_TEXTS_A_STEP = 64  # between two looks at whether to stop


def evaluate(order: WorkOrder) -> Mapping[str, Any]:
    """Measure models side by side.

    `models` is a list of `{"name": ..., "path": ...}`, the first of them the one that matters; `peers` are encoders as
    `open_encoder` takes them, such as `"tfidf"`; `teacher` is a name, or None. With `with_fidelity`, `texts` tell how
    much of the teacher's ranking each of them keeps: those given, or else a sample. With `with_tasks`, all are scored
    on `sets`, lines of `OwnSet.to_lines`, and `archives`, a line of `TaskArchive.to_line` each, and with
    `scores_teacher` the teacher too. With `with_frontier`, the first model is made smaller in every way, and judged by
    these tasks, or else by its fidelity, and its speed is measured; `shared_rows` tries that many rows for all tokens
    too.

    Returns:
        `teacher`; `fidelity` by encoder's name, and `texts_name`; `evaluation`, as `Evaluation.to_json`; `frontier`, a
        list of rows, and `dtype`, the number format of the first model; each None where it was not asked for;
        `encoders`, all of them by `EncoderFacts.to_json`; `machine` and `date`. The same is in `evaluation.json`.
    """
    use_hub_account(order)
    parameters = order.parameters
    reporter = ProgressReporter(order.progress, order.cancel)
    reporter.start("load")  # uncounted, as nobody knows beforehand how long a teacher takes
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
        raise InputError("Fidelity is agreement with a teacher, and none is chosen. Choose one, or give test data.")
    encoders: list[Encoder] = []
    for model in parameters["models"]:
        encoders.append(open_encoder(order, f"static:{model['path']}", model["name"]))
        reporter.advance(0)
    teacher: _Remembering | None = None
    for spec in parameters.get("peers", []):
        encoders.append(_renamed(opening.open_encoder(spec, teacher_folder=_no_teacher), encoders))
        reporter.advance(0)
    if needs_teacher or (tasks and parameters.get("teacher") and parameters.get("scores_teacher")):
        teacher = _Remembering(load_teacher(order, parameters["teacher"]), order.cancel)
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
            encoders.append(_renamed(teacher, encoders))
        progress = _as_stage("tasks", order.progress)
        outcome["evaluation"] = evaluate_on(encoders, tasks, progress=progress, cancel=order.cancel).to_json()
    if parameters.get("with_frontier"):
        if not tasks and teacher is not None:
            tasks = [teacher_task(teacher, texts)]
        outcome["frontier"], outcome["dtype"] = _frontier(order, tasks)
    (order.staging / "evaluation.json").write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    return outcome


def _frontier(order: WorkOrder, tasks: Sequence[Task]) -> tuple[list[dict[str, Any]], str]:
    """The rows, and the number format that the model is kept in."""
    from m2v_core.evaluation.frontier import frontier
    from m2v_core.evaluation.speed import speed_meter
    from m2v_core.model import StaticModel

    model = StaticModel.from_pretrained(order.parameters["models"][0]["path"])
    shared = order.parameters.get("shared_rows")
    # Rows that are shared already can't be shared anew.
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


class _Remembering:
    """A teacher that reads each text once, though fidelity, tasks and frontier all ask for it."""

    def __init__(self, encoder: Encoder, cancel: threading.Event) -> None:
        self._encoder = encoder
        self._cancel = cancel
        self._rows: dict[str, NDArray[np.float32]] = {}
        self.facts = encoder.facts

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`.

        Raises:
            Cancelled: The job was cancelled; a teacher takes long for what others read at once.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        for start in range(0, len(new), _TEXTS_A_STEP):
            if self._cancel.is_set():
                raise Cancelled("Cancelled while the teacher read; nothing was written.")
            step = new[start : start + _TEXTS_A_STEP]
            self._rows.update(zip(step, self._encoder.encode(step), strict=True))
        return np.stack([self._rows[text] for text in texts])


def _no_teacher(name: str) -> Any:
    raise InputError(f"{name!r} is no peer; give a teacher as the teacher.")


def _renamed(encoder: Any, others: Sequence[Encoder]) -> Any:
    """The encoder under a name that none of the others has: people call their models what they like."""
    taken = {other.facts.name for other in others}
    name, number = encoder.facts.name, 2
    while encoder.facts.name in taken:
        encoder.facts = replace(encoder.facts, name=f"{name} ({number})")
        number += 1
    return encoder


def _as_stage(stage: str, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """The callback, for work that calls its stage otherwise."""
    return lambda event: progress(replace(event, stage=stage))
