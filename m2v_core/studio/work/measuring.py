"""The job that compares the speed of encoders, and the short measurement of a new model."""

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

_SECONDS, _ROUNDS = 3.0, 3  # speed measurement, per encoder
_FIDELITY_SECONDS = 90.0  # fidelity is skipped if the teacher needs longer
_SEED = 20
_STEP_TEXTS = 64  # between checks for cancellation
_MAX_TEACHER_BYTES = 700 * 10**6  # larger teachers take too long to load


def speed(order: WorkOrder) -> Mapping[str, Any]:
    """Compare the speed of encoders.

    `models` is a list of `{"name": ..., "path": ...}`; `teacher` is a name or None; `with_peer` also measures each
    model with the model2vec package; `texts` replace the bundled sample.

    Returns:
        `SpeedComparison.to_json()`; the same is written to `speed.json`.
    """
    use_hub_account(order)
    parameters = order.parameters
    reporter = ProgressReporter(order.progress, order.cancel)
    with_peer = bool(parameters.get("with_peer"))
    reporter.start("load")  # without a total, as the time to load a teacher is unknown
    from m2v_core.evaluation.encoders import Model2VecEncoder, StaticEncoder
    from m2v_core.evaluation.fidelity import rank_correlation
    from m2v_core.evaluation.speed import DEFAULT_ROUNDS, DEFAULT_SECONDS, SAMPLE_NAME, compare_speed, sample_texts

    encoders: list[Encoder] = []
    for model in parameters["models"]:
        encoders.append(open_encoder(order, f"static:{model['path']}", model["name"]))
        reporter.advance(0)
        if with_peer and isinstance(encoders[-1], StaticEncoder):
            encoders.append(Model2VecEncoder(model["path"], _peer_name(model["name"])))
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


def speed_encoders(parameters: Mapping[str, Any]) -> list[str]:
    """Names of the encoders that a `speed` job with these parameters measures, the teacher last."""
    names = []
    for model in parameters.get("models", ()):
        names += [model["name"], _peer_name(model["name"])] if parameters.get("with_peer") else [model["name"]]
    return [*names, parameters["teacher"]] if parameters.get("teacher") else names


def _peer_name(name: str) -> str:
    return f"{name} (model2vec)"


def measure(
    model: StaticModel, teacher: str, device: str | None, reporter: ProgressReporter
) -> tuple[Measured, dict[str, Any]]:
    """Measure a new model briefly; return the values for its card, and all values as JSON; empty on failure.

    The speed is measured for a few seconds on this machine. Fidelity is measured if the teacher is small enough to load
    again, and fast enough to encode the number of sentences that `evidence` requires.
    """
    reporter.start("measure", 1)
    from m2v_core.distillation.teacher.teacher import resolve_device, trusted_folder
    from m2v_core.evaluation.encoders import StaticEncoder, TeacherEncoder, disk_bytes
    from m2v_core.evaluation.speed import compare_speed, sample_texts

    try:
        encoders: list[Encoder] = [StaticEncoder(model, "model")]
        folder = trusted_folder(teacher, model.config.get("m2v", {}).get("teacher_revision"))
        teacher_bytes = disk_bytes(folder)
        if teacher_bytes <= _MAX_TEACHER_BYTES:
            encoders.append(TeacherEncoder(folder, "teacher", resolve_device(device)))
        found = compare_speed(encoders, sample_texts(), rounds=_ROUNDS, seconds=_SECONDS)
        fidelity = _fidelity(encoders, found, reporter)
    except Cancelled:
        raise
    except M2VError as error:
        logger.warning("The measurement failed: %s", error)
        return Measured(), {**vars(Measured()), "n_fidelity_texts": 0}
    reporter.advance(1)
    speed_of_model, times = found.encoders[0], found.times_the_teacher(found.encoders[0])
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
        "n_fidelity_texts": fidelity.n_texts if fidelity else 0,
        "times_the_teacher": times,
        "teacher_sentences_per_second": found.teacher.sentences_per_second if found.teacher and times else None,
        "teacher_bytes": teacher_bytes,
        "is_teacher_extrapolated": bool(found.teacher and found.teacher.is_extrapolated),
    }


def _fidelity(encoders: Sequence[Encoder], speeds: SpeedComparison, reporter: ProgressReporter) -> Fidelity | None:
    """Fidelity of the first encoder to the teacher; None if the teacher is missing or too slow."""
    from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS
    from m2v_core.evaluation.fidelity import compare_embeddings
    from m2v_core.evaluation.run import embeddings_in_blocks
    from m2v_core.evaluation.speed import sample_texts

    teacher = speeds.teacher
    if teacher is None or MIN_FIDELITY_TEXTS / teacher.sentences_per_second > _FIDELITY_SECONDS:
        return None
    texts = random.Random(_SEED).sample(sample_texts(), MIN_FIDELITY_TEXTS)
    static, judge = (
        embeddings_in_blocks(one, texts, one.facts.name, lambda *_: reporter.advance(0), _STEP_TEXTS)
        for one in encoders
    )
    return compare_embeddings(judge, static)
