"""The job that measures encoders side by side, and the short measurement of a model that was just made."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from m2v_core.errors import Cancelled, M2VError
from m2v_core.progress import ProgressReporter
from m2v_core.storage.card import Measured
from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.work.access import load_teacher, open_encoder, use_hub_account

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import Encoder
    from m2v_core.evaluation.fidelity import Fidelity
    from m2v_core.evaluation.speed import SpeedComparison
    from m2v_core.model import StaticModel

logger = logging.getLogger(__name__)

_SECONDS, _ROUNDS = 3.0, 3  # of measuring speed: each encoder's share, and how often it has its turn
_FIDELITY_SECONDS = 90.0  # the longest that a teacher may take to read for fidelity, which is not measured otherwise
_SEED = 20
_TEXTS_A_STEP = 64  # between two looks at whether to stop
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
) -> tuple[Measured, dict[str, Any]]:
    """A short measurement for the model's card, and the same with more of it as plain values; empty if it failed.

    The speed is that of a few seconds on this machine. Fidelity is measured where the teacher is small enough to be
    loaded once more, and fast enough to read as many sentences as `evidence` asks for.
    """
    reporter.start("measure", 1)
    from m2v_core.distillation.teacher.teacher import resolve_device, trusted_folder
    from m2v_core.evaluation.encoders import StaticEncoder, TeacherEncoder, disk_bytes
    from m2v_core.evaluation.speed import compare_speed, sample_texts

    try:
        encoders: list[Encoder] = [StaticEncoder(model, "model")]
        folder = trusted_folder(teacher, model.config.get("m2v", {}).get("teacher_revision"))
        if disk_bytes(folder) <= _MAX_TEACHER_BYTES:
            encoders.append(TeacherEncoder(folder, "teacher", resolve_device(device)))
        found = compare_speed(encoders, sample_texts(), rounds=_ROUNDS, seconds=_SECONDS)
        fidelity = _fidelity(encoders, found, reporter)
    except Cancelled:
        raise
    except M2VError as error:
        logger.warning("Nothing was measured: %s", error)
        return Measured(), {**vars(Measured()), "fidelity_texts": 0}
    reporter.advance(1)
    speed_of_model = found.encoders[0]
    measured = Measured(
        sentences_per_second=speed_of_model.sentences_per_second,
        hardware=f"{found.machine.n_cpus} cores, {found.machine.processor}",
    )
    if fidelity is not None:
        measured = replace(
            measured,
            fidelity=fidelity.correlation.value,
            fidelity_interval=(fidelity.correlation.low, fidelity.correlation.high),
            fidelity_on=f"{fidelity.n_pairs:,} pairs of {fidelity.n_texts} English sentences",
        )
    return measured, {
        **vars(measured),
        "fidelity_texts": fidelity.n_texts if fidelity else 0,
        "times_the_teacher": found.times_the_teacher(speed_of_model),
        "is_teacher_extrapolated": bool(found.teacher and found.teacher.is_extrapolated),
    }


def _fidelity(encoders: Sequence[Encoder], speeds: SpeedComparison, reporter: ProgressReporter) -> Fidelity | None:
    """What the first encoder keeps of the teacher's view; None where the teacher is missing or too slow."""
    from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS
    from m2v_core.evaluation.fidelity import compare_embeddings
    from m2v_core.evaluation.run import embeddings_in_blocks
    from m2v_core.evaluation.speed import sample_texts

    teacher = speeds.teacher
    if teacher is None or MIN_FIDELITY_TEXTS / teacher.sentences_per_second > _FIDELITY_SECONDS:
        return None
    texts = random.Random(_SEED).sample(sample_texts(), MIN_FIDELITY_TEXTS)
    static, judge = (
        embeddings_in_blocks(one, texts, one.facts.name, lambda *_: reporter.advance(0), _TEXTS_A_STEP)
        for one in encoders
    )
    return compare_embeddings(judge, static)
