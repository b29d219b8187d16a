"""What a job must be like to be taken in."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from m2v_core.errors import InputError, LimitError
from m2v_core.studio.jobs.orders import Kind, load_function
from m2v_core.studio.jobs.records import JobSpec
from m2v_core.studio.jobs.redaction import Redactor


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
