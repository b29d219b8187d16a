"""The job that measures encoders side by side, and the short measurement of a model that was just made."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from m2v_core.errors import Cancelled, M2VError
from m2v_core.progress import ProgressReporter
from m2v_core.storage.card import Measured
from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.work.access import load_teacher, open_encoder, use_hub_account

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import Encoder
    from m2v_core.model import StaticModel

logger = logging.getLogger(__name__)

_SECONDS, _ROUNDS = 3.0, 3  # of measuring: each encoder's share, and how often it has its turn
_MAX_TEACHER_BYTES = 700 * 10**6  # a larger one takes longer to load than the measurement is worth


def speed(order: WorkOrder) -> Mapping[str, Any]:
    """Measure encoders side by side.

    `models` is a list of `{"name": ..., "path": ...}`; `teacher` a name, or None; `with_peer` measures each model
    in the model2vec package too; `texts` are read instead of the sample that comes along.

    Returns:
        `SpeedComparison.to_json()`; the same is in `speed.json`.
    """
    use_hub_account(order)
    parameters = order.parameters
    reporter = ProgressReporter(order.progress, order.cancel)
    with_peer = bool(parameters.get("with_peer"))
    reporter.start("load")  # uncounted, as nobody knows beforehand how long a teacher takes
    from m2v_core.evaluation.encoders import Model2VecEncoder, StaticEncoder
    from m2v_core.evaluation.fidelity import rank_correlation
    from m2v_core.evaluation.speed import DEFAULT_ROUNDS, DEFAULT_SECONDS, SAMPLE_NAME, compare_speed, sample_texts

    encoders: list[Encoder] = []
    for model in parameters["models"]:
        encoders.append(open_encoder(order, f"static:{model['path']}", model["name"]))
        reporter.advance(0)
        if with_peer and isinstance(encoders[-1], StaticEncoder):
            encoders.append(Model2VecEncoder(model["path"], f"{model['name']} (model2vec)"))
            reporter.advance(0)
    if parameters.get("teacher"):
        encoders.append(load_teacher(order, parameters["teacher"]))
        reporter.advance(0)
    own_texts = order.texts.get("texts")
    comparison = compare_speed(
        encoders,
        own_texts or sample_texts(),
        texts_name="own texts" if own_texts else SAMPLE_NAME,
        rounds=parameters.get("rounds", DEFAULT_ROUNDS),
        seconds=parameters.get("seconds", DEFAULT_SECONDS),
        judge=rank_correlation,
        progress=order.progress,
        cancel=order.cancel,
    ).to_json()
    (order.staging / "speed.json").write_text(json.dumps(comparison, indent=1) + "\n", encoding="utf-8")
    return comparison


def measure(
    model: StaticModel, teacher: str, device: str | None, reporter: ProgressReporter
) -> tuple[Measured, dict[str, Any]] | None:
    """A short measurement for the model's card, and the same with more of it as plain values; None if it failed.

    The speed is that of a few seconds on this machine. Fidelity is measured where the teacher is small enough to be
    loaded once more: it needs no labels, only sentences that both read.
    """
    reporter.start("measure", 1)
    from m2v_core.distillation.teacher.teacher import resolve_device, trusted_folder
    from m2v_core.evaluation.encoders import StaticEncoder, TeacherEncoder, disk_bytes
    from m2v_core.evaluation.fidelity import rank_correlation
    from m2v_core.evaluation.speed import compare_speed, sample_texts

    try:
        encoders: list[Encoder] = [StaticEncoder(model, "model")]
        folder = trusted_folder(teacher, model.config.get("m2v", {}).get("teacher_revision"))
        if disk_bytes(folder) <= _MAX_TEACHER_BYTES:
            encoders.append(TeacherEncoder(folder, "teacher", resolve_device(device)))
        found = compare_speed(encoders, sample_texts(), rounds=_ROUNDS, seconds=_SECONDS, judge=rank_correlation)
    except Cancelled:
        raise
    except M2VError as error:
        logger.warning("Nothing was measured: %s", error)
        return None
    reporter.advance(1)
    own = found.encoders[0]
    n_texts = found.judged_texts
    measured = Measured(
        fidelity=own.fidelity,
        fidelity_on=f"{n_texts * (n_texts - 1) // 2:,} pairs of {n_texts} English sentences" if n_texts else None,
        sentences_per_second=own.sentences_per_second,
        hardware=f"{found.machine.n_cpus} cores, {found.machine.processor}",
    )
    return measured, {
        **vars(measured),
        "times_the_teacher": own.times(found.teacher) if found.teacher else None,
        "is_teacher_extrapolated": bool(found.teacher and found.teacher.is_extrapolated),
    }
