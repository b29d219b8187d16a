"""The kinds of work a job can do, what a job must be like to be taken in, and what its function receives in the worker.

To add a kind: write a function in `studio/work`, add a line to `KINDS`.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2v_core.distillation.settings import SETTING_NAMES
from m2v_core.errors import InputError, LimitError
from m2v_core.progress import ProgressCallback
from m2v_core.studio.jobs.records import JobSpec
from m2v_core.studio.jobs.redaction import Redactor


@dataclass(frozen=True)
class Kind:
    """One kind of work.

    Attributes:
        target: The function that does it, as `"module:function"`; see `Work`. A name, so that the app need
            not import what only workers use.
        parameters: The names it takes; None to take any.
        texts: The long lists of text it takes.
        check: A function of parameters and texts, named likewise, that raises InputError for those that the work would
            refuse; called before a job is queued.
    """

    target: str
    parameters: frozenset[str] | None = None
    texts: frozenset[str] = frozenset()
    check: str | None = None


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


Work = Callable[[WorkOrder], Mapping[str, Any]]
"""Does the work, fills `staging`, and returns what is worth knowing of the result, as plain JSON values."""


def load_function(target: str) -> Callable[..., Any]:
    """The function behind `"module:function"`."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


AFTERWARDS = frozenset({"name", "license", "measure", "publish"})
"""Parameters of a distillation that say what becomes of the model."""

DESTINATION = frozenset({"repo_id", "private", "revision", "create_pr", "overwrite"})
"""Parameters that say where on the Hub a model goes, as in `m2v_core.hub.push.push_folder`."""


PRELOADED = ("m2v_core.distillation.pipeline", "m2v_core.distillation.calibration.fit")
"""What a spare worker imports before it has a job."""

KINDS: Mapping[str, Kind] = {
    "distill": Kind(
        target="m2v_core.studio.work.distilling:distill",
        parameters=frozenset({"model_name", "device", "trust_remote_code", *SETTING_NAMES}) | AFTERWARDS,
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
        parameters=frozenset({"model", "model_id", "model_name", "license"}) | DESTINATION,
        texts=frozenset({"card"}),
    ),
    "teacher_words": Kind(
        target="m2v_core.studio.work.teacher_side:read_words",
        parameters=frozenset({"model", "model_id", "teacher", "device"}),
    ),
    "teacher_documents": Kind(
        target="m2v_core.studio.work.teacher_side:read_documents",
        parameters=frozenset({"teacher", "key", "device"}),
        texts=frozenset({"documents"}),
    ),
}


def check_spec(
    spec: JobSpec, secrets: Mapping[str, str], kinds: Mapping[str, Kind], max_lines: Mapping[str, int | None]
) -> None:
    """Refuse what could not be started, or must not be written down.

    Raises:
        InputError: An unknown kind, parameter or text; a value that is not JSON, or that the work would refuse; a
            secret among them.
        LimitError: A text has more lines than `max_lines` allows.
    """
    kind = kinds.get(spec.kind)
    if kind is None:
        raise InputError(f"No kind of job is called {spec.kind!r}; there are {_names(kinds)}.")
    if kind.parameters is not None:
        _check_names("parameter", spec.kind, spec.parameters, kind.parameters)
    _check_names("text", spec.kind, spec.texts, kind.texts)
    for name, lines in spec.texts.items():
        if isinstance(lines, str) or not all(isinstance(line, str) for line in lines):
            raise InputError(f"The text {name!r} must be a list of strings.")
        allowed = max_lines.get(name)
        if allowed is not None and len(lines) > allowed:
            raise LimitError(f"The {name} has {len(lines):,} entries, and {allowed:,} are allowed here. Shorten it.")
    parameters = dict(spec.parameters)
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"The parameters of a job must be plain JSON values: {error}.") from error
    texts = [list(lines) for lines in spec.texts.values()]
    if Redactor(secrets.values()).has_secret([spec.title, parameters, texts]):
        raise InputError(
            "A parameter, text or title holds an access token, which must not be stored. "
            "Take it out, and pass it as a secret."
        )
    if kind.check is not None:
        load_function(kind.check)(parameters, spec.texts)


def _check_names(what: str, kind: str, given: Collection[str], known: Collection[str]) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise InputError(f"A {kind!r} job has no {what} {_names(unknown)}; it has {_names(known)}.")


def _names(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
