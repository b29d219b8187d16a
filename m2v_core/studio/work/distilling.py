"""The job that distills a teacher and, optionally, measures and publishes the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2v_core.distillation.settings import SETTING_NAMES, DistillRequest
from m2v_core.distillation.timing import RunClock, Timings
from m2v_core.distillation.vocabulary import by_falling_count, split_counts
from m2v_core.errors import SaveError
from m2v_core.progress import ProgressReporter
from m2v_core.studio.jobs.kinds import AFTERWARDS, WorkOrder
from m2v_core.studio.work.access import check_teacher, use_hub_account
from m2v_core.studio.work.measuring import measure
from m2v_core.studio.work.publishing import push_model

if TYPE_CHECKING:
    from m2v_core.model import StaticModel

_PROBES = ["A sentence for checking a saved model.", "Another one with different words.", "42"]


def default_name(teacher: str, dim: object = None, words_file: str | None = None) -> str:
    """The default name of a model, such as "minilm-l6-medical-256".

    Args:
        teacher: A Hub name or a folder; a leading "all-" and a trailing version are omitted.
        dim: The number of dimensions; omitted unless it is an integer.
        words_file: Path of the vocabulary file, if there is one.
    """
    last = re.split(r"[/\\]", teacher.strip().rstrip("/\\"))[-1].lower()
    parts = [_slug(re.sub(r"^all[-_]|[-_]v[\d.]+$", "", last))[:48]]
    if words_file is not None:
        parts.append(_slug(Path(words_file).stem.lower())[:32])
    if isinstance(dim, int):
        parts.append(str(dim))
    return _slug("-".join(parts)) or "model"


def _slug(text: str) -> str:
    """Replace characters that are not allowed in a name with hyphens."""
    return re.sub(r"[^a-z0-9._]+|\.{2,}", "-", text).strip("-._")


def check(parameters: Mapping[str, Any], texts: Mapping[str, Sequence[str]]) -> None:
    """Validate the settings of `distill`.

    Raises:
        InputError: A setting is out of range, conflicts with the texts, or the name of the model is invalid.
    """
    if "name" in parameters:
        from m2v_core.hub.push import check_repo_id  # lazy: use_hub_account must run before importing huggingface_hub

        check_repo_id(str(parameters["name"]))
    settings = {name: parameters[name] for name in SETTING_NAMES if name in parameters}
    DistillRequest(**settings, vocabulary=_vocabulary(parameters, texts), corpus=texts.get("corpus"))


def _vocabulary(
    parameters: Mapping[str, Any], texts: Mapping[str, Sequence[str]]
) -> str | Sequence[str] | Mapping[str, float] | None:
    """Return the vocabulary in the form that `distill` accepts: automatic, or words with or without counts."""
    lines = texts.get("vocabulary")
    if lines is None:
        vocabulary: str | None = parameters.get("vocabulary")
        return vocabulary
    words, counts, _ = split_counts(lines)
    return words if counts is None else by_falling_count(words, counts)


def distill(order: WorkOrder) -> Mapping[str, Any]:
    """Distill a teacher and save the model; optionally measure and publish it.

    The text `vocabulary` contains words or lines of `word<TAB>count`; the parameter `vocabulary` is an automatic one,
    such as `"auto:en"`. In addition to the parameters of `distill`, the job has `name`, `license` and `measure` for the
    model card, and `publish`, a mapping of `DESTINATION`, with the secret `publish_token`. Once the model is saved, the
    job counts as done even if a later step fails.

    Returns:
        `dim`, `n_tokens` and `n_bytes` on disk of the model; `measured` and `published` if requested.
    """
    use_hub_account(order)
    extra = {name: order.parameters[name] for name in AFTERWARDS if name in order.parameters}
    parameters = {name: value for name, value in order.parameters.items() if name not in {*extra, "vocabulary"}}
    lines = order.texts
    texts: dict[str, Any] = {"vocabulary": _vocabulary(order.parameters, lines), "corpus": lines.get("corpus")}
    clock = _clock(order, {**parameters, **texts}, extra)
    order = replace(order, progress=clock)
    reporter = ProgressReporter(clock, order.cancel)
    reporter.start("start")  # the imports below take seconds
    revision = check_teacher(order, order.parameters["model_name"])
    from m2v_core.distillation.pipeline import distill as distill_teacher

    model = distill_teacher(
        **parameters,
        **texts,
        cache_folder=None if "hf_token" in order.secrets else order.shared_cache,
        progress=order.progress,
        cancel=order.cancel,
        revision=revision,
    )
    name, license = extra.get("name") or default_name(parameters["model_name"], model.dim), extra.get("license")
    reporter.start("save", 1)
    model.save_pretrained(order.staging, name, license=license)
    reporter.advance(1)
    if not extra.get("publish"):  # publishing includes its own check
        reporter.start("check")
        _check_saved(model, order.staging)
    n_bytes = sum(file.stat().st_size for file in order.staging.iterdir())
    outcome: dict[str, Any] = {"dim": model.dim, "n_tokens": len(model.tokens), "n_bytes": n_bytes}
    if not extra:
        clock.finish()
        return outcome
    order.commit(outcome)
    if extra.get("measure"):
        measured, outcome["measured"] = measure(model, parameters["model_name"], parameters.get("device"), reporter)
        model.save_pretrained(order.staging, name, license=license, measured=measured)
        order.commit(outcome)
    if extra.get("publish"):
        outcome["published"] = push_model(order, order.staging, extra["publish"])
    clock.finish()
    return outcome


def _clock(order: WorkOrder, parameters: Mapping[str, Any], extra: Mapping[str, Any]) -> RunClock:
    """Build the progress callback that adds the remaining time. Timings of private teachers are not stored."""
    measure = ["measure"] if extra.get("measure") else []
    publish = ["check", "connect", "upload", "verify"]
    stages = ["save", *measure, *publish] if extra.get("publish") else ["save", "check", *measure]
    token = order.secrets.get("hf_token")

    def defaults() -> Mapping[str, float]:
        from m2v_core.distillation.preflight import run_seconds

        return run_seconds(parameters["model_name"], parameters, token=token, stages=stages)

    return RunClock(order.progress, Timings(None if token else order.shared_cache), parameters["model_name"], defaults)


def _check_saved(model: StaticModel, folder: Path) -> None:
    """Load the saved model and compare its embeddings.

    Raises:
        SaveError: The embeddings changed.
    """
    import numpy as np

    from m2v_core.model import StaticModel

    opened = StaticModel.from_pretrained(folder)
    if opened.tokens != model.tokens or not np.allclose(opened.encode(_PROBES), model.encode(_PROBES), atol=1e-6):
        raise SaveError("The model's embeddings changed after saving. Check the disk, and try again.")
