"""Kinds of jobs, validation of submitted jobs, and the input of a job's function in the worker.

To add a kind, write a function in `studio/work` and add an entry to `KINDS`.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2v_core.distillation.settings import DEFAULTS, SETTING_NAMES
from m2v_core.errors import InputError, LimitError
from m2v_core.progress import ProgressCallback
from m2v_core.studio.jobs.records import JobSpec
from m2v_core.studio.jobs.redaction import Redactor


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    Attributes:
        target: Name of the function that runs the job, `"module:function"`, so that the app does not import modules
            that only workers need; see `Work`.
        parameters: Names of its parameters; None for any.
        texts: Names of its long lists of texts.
        check: Name of a function of parameters and texts that raises InputError for invalid ones; called before the
            job is queued.
    """

    target: str
    parameters: frozenset[str] | None = None
    texts: frozenset[str] = frozenset()
    check: str | None = None


@dataclass(frozen=True)
class WorkOrder:
    """The input of a job's function in the worker.

    Attributes:
        parameters: As submitted.
        texts: As submitted.
        secrets: As submitted; must not be written to disk.
        commit: Call it with the outcome once `staging` contains a valid result. From then on the job counts as done
            with this outcome, even if it is cancelled or fails; the message then gives the reason.
        staging: An empty folder for the result, which is published when the function returns.
        private_cache: Cache for downloads made with a secret; deleted when the job ends.
        shared_cache: Cache shared between jobs; must not contain anything that a secret gave access to.
        progress: Receives progress.
        cancel: Set when the job should stop; then raise `Cancelled`.
        teacher_parameters: Maximum number of parameters of a teacher; None for no limit. See `check_teacher`.
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
    commit: Callable[[Mapping[str, Any]], None] = lambda outcome: None


Work = Callable[[WorkOrder], Mapping[str, Any]]
"""Runs a job, fills `staging`, and returns facts about the result as JSON values."""


def load_function(target: str) -> Callable[..., Any]:
    """Import a function by its name, `"module:function"`."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


AFTERWARDS = frozenset({"name", "license", "measure", "publish"})
"""Parameters of a distillation job for the steps after the distillation."""

DESTINATION = frozenset({"repo_id", "private", "revision", "create_pr", "overwrite"})
"""Parameters of the destination on the Hub, as in `m2v_core.hub.push.push_folder`."""

PRELOADED = ("m2v_core.distillation.pipeline", "m2v_core.distillation.calibration.fit")
"""Modules that a spare worker imports in advance."""

KINDS: Mapping[str, Kind] = {
    "distill": Kind(
        target="m2v_core.studio.work.distilling:distill",
        parameters=frozenset({"model_name", "device", "trust_remote_code", "vocabulary", *SETTING_NAMES}) | AFTERWARDS,
        texts=frozenset({"vocabulary", "corpus"}),
        check="m2v_core.studio.work.distilling:check",
    ),
    "speed": Kind(
        target="m2v_core.studio.work.measuring:speed",
        parameters=frozenset({"models", "teacher", "with_peer", "device", "rounds", "seconds"}),
        texts=frozenset({"texts"}),
    ),
    "evaluate": Kind(
        target="m2v_core.studio.work.evaluating:evaluate",
        parameters=frozenset(
            {"models", "peers", "teacher", "scores_teacher", "with_fidelity", "with_tasks", "with_frontier"}
            | {"shared_rows", "device"}
        ),
        texts=frozenset({"texts", "sets", "archives"}),
    ),
    "publish": Kind(
        target="m2v_core.studio.work.publishing:publish",
        parameters=frozenset({"model", "model_id", "model_name", "license", "maps"}) | DESTINATION,
        texts=frozenset({"card"}),
    ),
    "teacher_words": Kind(
        target="m2v_core.studio.work.teacher_side:embed_words",
        parameters=frozenset({"model", "model_id", "teacher", "device"}),
    ),
    "teacher_documents": Kind(
        target="m2v_core.studio.work.teacher_side:embed_documents",
        parameters=frozenset({"teacher", "key", "device"}),
        texts=frozenset({"documents"}),
    ),
}


def check_spec(
    spec: JobSpec, secrets: Mapping[str, str], kinds: Mapping[str, Kind], max_lines: Mapping[str, int | None]
) -> None:
    """Validate a job before it is queued.

    Raises:
        InputError: A kind, parameter or text is unknown, a value is invalid or not JSON, or contains a secret.
        LimitError: A text, or an automatic vocabulary, exceeds `max_lines`.
    """
    kind = kinds.get(spec.kind)
    if kind is None:
        raise InputError(f"Unknown kind of job {spec.kind!r}; use one of {_names(kinds)}.")
    if kind.parameters is not None:
        _check_names("parameter", spec.kind, spec.parameters, kind.parameters)
    _check_names("text", spec.kind, spec.texts, kind.texts)
    for name, lines in spec.texts.items():
        if isinstance(lines, str) or not all(isinstance(line, str) for line in lines):
            raise InputError(f"The text {name!r} must be a list of strings.")
        allowed = max_lines.get(name)
        if allowed is not None and len(lines) > allowed:
            raise LimitError(f"The {name} has {len(lines):,} entries; the limit here is {allowed:,}. Shorten it.")
    parameters = dict(spec.parameters)
    allowed = max_lines.get("vocabulary")
    if allowed is not None and "vocabulary" in parameters:
        size = parameters.get("vocabulary_size", DEFAULTS.vocabulary_size)
        if not isinstance(size, int) or size > allowed:
            raise LimitError(
                f"vocabulary_size is {size!r}; the limit here is {allowed:,} words. Use a whole number up to "
                "this limit."
            )
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"The parameters of a job must be JSON values: {error}.") from error
    texts = [list(lines) for lines in spec.texts.values()]
    if Redactor(secrets.values()).has_secret([spec.title, parameters, texts]):
        raise InputError(
            "A parameter, text or title contains an access token, which must not be stored. "
            "Remove it, and pass it as a secret."
        )
    if kind.check is not None:
        load_function(kind.check)(parameters, spec.texts)


def _check_names(what: str, kind: str, given: Collection[str], known: Collection[str]) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise InputError(f"A {kind!r} job has no {what} {_names(unknown)}; use {_names(known)}.")


def _names(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
