"""The kinds of work a job can do. To add one: write a function, add a line to `KINDS`."""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2v_core.distillation.settings import SETTING_NAMES, DistillRequest
from m2v_core.errors import SaveError, TeacherError
from m2v_core.progress import ProgressCallback, ProgressReporter

if TYPE_CHECKING:
    from m2v_core.model import StaticModel


@dataclass(frozen=True)
class Kind:
    """One kind of work.

    Attributes:
        target: The function that does it, as `"module:function"`; see `Work`. A name, so that the app need
            not import what only workers use.
        parameters: The names it takes; None to take any.
        texts: The long lists of text it takes.
        check: Raises InputError for parameters and texts that the work would refuse; called before a job is queued.
    """

    target: str
    parameters: frozenset[str] | None = None
    texts: frozenset[str] = frozenset()
    check: Callable[[Mapping[str, Any], Mapping[str, Sequence[str]]], None] | None = None


@dataclass(frozen=True)
class WorkOrder:
    """What the function behind a kind receives, in the worker.

    Attributes:
        parameters: As submitted.
        texts: As submitted.
        secrets: As submitted; they must not be written anywhere.
        keep: Called with what the work would return once `staging` holds a result worth keeping: whatever happens
            after that, cancelling included, the job is done, with this outcome and why it went no further.
        staging: An empty folder for the result; it becomes the result when the function returns.
        private_cache: Where to keep downloads made with a secret; gone when the job ends.
        shared_cache: Where to keep what may serve any other job; never for what a secret gave access to.
        progress: Receives progress.
        cancel: Set when the work should stop; then raise `Cancelled`.
        teacher_parameters: Size of the teacher that it may load; None for no limit. See `check_teacher`.
    """

    parameters: Mapping[str, Any]
    texts: Mapping[str, list[str]]
    secrets: Mapping[str, str]
    staging: Path
    private_cache: Path
    shared_cache: Path
    progress: ProgressCallback
    cancel: threading.Event
    teacher_parameters: int | None = None
    keep: Callable[[Mapping[str, Any]], None] = lambda outcome: None


_PROBES = ["A sentence to try a saved model with.", "And one more, of other words.", "42"]

Work = Callable[[WorkOrder], Mapping[str, Any]]
"""Does the work, fills `staging`, and returns what is worth knowing of the result, as plain JSON values."""


AFTERWARDS = frozenset({"name", "license", "measure", "publish"})
"""Parameters of a distillation that say what becomes of the model."""

DESTINATION = frozenset({"repo_id", "private", "revision", "create_pr", "overwrite"})
"""Parameters that say where on the Hub a model goes, as in `hub_push.push_folder`."""


def load_work(target: str) -> Work:
    """The function behind `"module:function"`."""
    module, _, name = target.partition(":")
    work: Work = getattr(importlib.import_module(module), name)
    return work


def check_distillation(parameters: Mapping[str, Any], texts: Mapping[str, Sequence[str]]) -> None:
    """Refuse settings that `distill` would refuse.

    Raises:
        InputError: One is out of its range, or the texts can't be used with them.
    """
    settings = {name: parameters[name] for name in SETTING_NAMES if name in parameters}
    DistillRequest(**settings, vocabulary=texts.get("vocabulary"), corpus=texts.get("corpus"))


def distill(order: WorkOrder) -> Mapping[str, Any]:
    """Distil a teacher and save the model; then, if asked, measure and publish it.

    Beside the parameters of `distill` it takes `name`, `license` and `measure` for the model's card, and `publish`, a
    mapping of `DESTINATION`, for which the secret `publish_token` signs in. Once the model is saved it is kept,
    however the rest ends.

    Returns:
        `dim`, `n_tokens` and `n_bytes` on disk of the model; `measured` and `published` where they were asked for.
    """
    use_hub_account(order)
    reporter = ProgressReporter(order.progress, order.cancel)
    reporter.start("start")  # before the import below, which takes seconds
    revision = check_teacher(order, order.parameters["model_name"])
    from m2v_core.distillation.pipeline import distill as distill_teacher

    extra = {name: order.parameters[name] for name in AFTERWARDS if name in order.parameters}
    parameters = {name: value for name, value in order.parameters.items() if name not in extra}
    model = distill_teacher(
        **parameters,
        vocabulary=order.texts.get("vocabulary"),
        corpus=order.texts.get("corpus"),
        cache_folder=None if "hf_token" in order.secrets else order.shared_cache,
        progress=order.progress,
        cancel=order.cancel,
        revision=revision,
    )
    name, license = extra.get("name"), extra.get("license")
    reporter.start("save", 1)
    model.save_pretrained(order.staging, name, license=license)
    reporter.advance(1)
    if not extra.get("publish"):  # which opens it as others will
        reporter.start("check")
        _check_saved(model, order.staging)
    n_bytes = sum(file.stat().st_size for file in order.staging.iterdir())
    outcome: dict[str, Any] = {"dim": model.dim, "n_tokens": len(model.tokens), "n_bytes": n_bytes}
    if not extra:
        return outcome
    order.keep(outcome)
    from m2v_core.jobs.publishing import measure, put_on_hub

    if extra.get("measure"):
        found = measure(model, parameters["model_name"], parameters.get("device"), reporter)
        if found is not None:
            measured, outcome["measured"] = found
            model.save_pretrained(order.staging, name, license=license, measured=measured)
            order.keep(outcome)
    if extra.get("publish"):
        outcome["published"] = put_on_hub(order, order.staging, extra["publish"])
    return outcome


def _check_saved(model: StaticModel, folder: Path) -> None:
    """Open what was saved, and have it encode.

    Raises:
        SaveError: It gives something else than the model did before.
    """
    import numpy as np

    from m2v_core.model import StaticModel

    opened = StaticModel.from_pretrained(folder)
    if opened.tokens != model.tokens or not np.allclose(opened.encode(_PROBES), model.encode(_PROBES), atol=1e-6):
        raise SaveError(
            "The saved model does not give what it gave before it was saved. Check the disk, and try again."
        )


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
    from m2v_core.evaluation.encoders import Encoder, Model2VecEncoder, StaticEncoder, TeacherEncoder
    from m2v_core.evaluation.fidelity import rank_correlation
    from m2v_core.speed import DEFAULT_ROUNDS, DEFAULT_SECONDS, SAMPLE_NAME, compare_speed, sample_texts

    encoders: list[Encoder] = []
    for model in parameters["models"]:
        encoders.append(StaticEncoder.load(model["path"], model["name"]))
        reporter.advance(0)
        if with_peer:
            encoders.append(Model2VecEncoder(model["path"], f"{model['name']} (model2vec)"))
            reporter.advance(0)
    if parameters.get("teacher"):
        from m2v_core.distillation.teacher import resolve_device, trusted_folder

        teacher = parameters["teacher"]
        folder = trusted_folder(teacher, check_teacher(order, teacher))
        encoders.append(TeacherEncoder(folder, teacher, resolve_device(parameters.get("device"))))
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


def use_hub_account(order: WorkOrder) -> None:
    """Let huggingface_hub act for the job's owner in this process, if they gave their `hf_token`.

    Downloads then go to the job's own cache: in the shared one, what one may read would be another's cache
    hit. Must come before huggingface_hub is imported, which reads its settings once.
    """
    hf_token = order.secrets.get("hf_token")
    if hf_token is None:
        return
    # Set in here, so it is no part of the environment that other processes can look up.
    os.environ["HF_TOKEN"] = hf_token
    os.environ.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)
    os.environ["HF_HUB_CACHE"] = str(order.private_cache / "hub")
    os.environ["HF_XET_CACHE"] = str(order.private_cache / "xet")


def check_teacher(order: WorkOrder, teacher: str) -> str | None:
    """Refuse a teacher larger than allowed, before anything of its weights is fetched.

    Returns:
        The commit that was looked at, which is the one to load; None where there is no limit, or no commit.

    Raises:
        TeacherError: It is larger, or can't be distilled anyway; the message says why.
        HubError: Nobody can be asked how large it is.
        NotFoundError: There is no such teacher.
    """
    if order.teacher_parameters is None:
        return None
    from m2v_core.distillation.preflight import look_up

    facts = look_up(teacher, token=order.secrets.get("hf_token"), max_parameters=order.teacher_parameters)
    if facts.problems:
        raise TeacherError(facts.problems[0])
    return facts.commit


KINDS: Mapping[str, Kind] = {
    "distill": Kind(
        target="m2v_core.jobs.kinds:distill",
        parameters=frozenset({"model_name", "device", "trust_remote_code", *SETTING_NAMES}) | AFTERWARDS,
        texts=frozenset({"vocabulary", "corpus"}),
        check=check_distillation,
    ),
    "speed": Kind(
        target="m2v_core.jobs.kinds:speed",
        parameters=frozenset({"models", "teacher", "with_peer", "device", "rounds", "seconds"}),
        texts=frozenset({"texts"}),
    ),
    "evaluate": Kind(
        target="m2v_core.jobs.evaluating:evaluate",
        parameters=frozenset(
            {"models", "peers", "teacher", "scores_teacher", "with_fidelity", "with_tasks", "with_frontier"}
            | {"shared_rows", "device"}
        ),
        texts=frozenset({"texts", "sets", "archives"}),
    ),
    "publish": Kind(
        target="m2v_core.jobs.publishing:publish",
        parameters=frozenset({"model", "model_id", "model_name", "license"}) | DESTINATION,
        texts=frozenset({"card"}),
    ),
    "teacher_words": Kind(
        target="m2v_core.jobs.teacher_side:read_words",
        parameters=frozenset({"model", "model_id", "teacher", "device"}),
    ),
    "teacher_documents": Kind(
        target="m2v_core.jobs.teacher_side:read_documents",
        parameters=frozenset({"teacher", "key", "device"}),
        texts=frozenset({"documents"}),
    ),
}
