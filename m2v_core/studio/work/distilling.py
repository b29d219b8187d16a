"""The job that distills a teacher, and measures and publishes the model if asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2v_core.distillation.settings import SETTING_NAMES, DistillRequest
from m2v_core.errors import SaveError
from m2v_core.progress import ProgressReporter
from m2v_core.studio.jobs.kinds import AFTERWARDS, WorkOrder
from m2v_core.studio.work.access import check_teacher, use_hub_account
from m2v_core.studio.work.measuring import measure
from m2v_core.studio.work.publishing import put_on_hub

if TYPE_CHECKING:
    from m2v_core.model import StaticModel

_PROBES = ["A sentence to try a saved model with.", "And one more, of other words.", "42"]


def default_name(teacher: str, dim: object = None, words_file: str | None = None) -> str:
    """What a model is called unless somebody names it: "minilm-l6-medical-256".

    Args:
        teacher: A Hub name or a folder; a leading "all-" and the version at its end say nothing and are left out.
        dim: The dimensions, as asked for or as they will be; left out unless it is a whole number.
        words_file: Path of the file of its vocabulary, if that came from one.
    """
    last = re.split(r"[/\\]", teacher.strip().rstrip("/\\"))[-1].lower()
    parts = [_slug(re.sub(r"^all[-_]|[-_]v[\d.]+$", "", last))[:48]]
    if words_file is not None:
        parts.append(_slug(Path(words_file).stem.lower())[:32])
    if isinstance(dim, int):
        parts.append(str(dim))
    return _slug("-".join(parts)) or "model"


def _slug(text: str) -> str:
    """The text with all that a name can't hold as hyphens."""
    return re.sub(r"[^a-z0-9._]+|\.{2,}", "-", text).strip("-._")


def check(parameters: Mapping[str, Any], texts: Mapping[str, Sequence[str]]) -> None:
    """Refuse settings that `distill` would refuse.

    Raises:
        InputError: One is out of its range, the texts can't be used with them, or the name can't be a model's.
    """
    if "name" in parameters:
        from m2v_core.hub.push import check_repo_id  # the worker sets up its account before huggingface_hub is imported

        check_repo_id(str(parameters["name"]))
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
    name, license = extra.get("name") or default_name(parameters["model_name"], model.dim), extra.get("license")
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
    if extra.get("measure"):
        measured, outcome["measured"] = measure(model, parameters["model_name"], parameters.get("device"), reporter)
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
