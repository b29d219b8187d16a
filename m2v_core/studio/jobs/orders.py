"""What a kind of job is, and what the function behind it receives in the worker."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2v_core.progress import ProgressCallback


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
