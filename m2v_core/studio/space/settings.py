"""`spaces.yaml` as checked values."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from m2v_core.errors import InputError, NotFoundError

_CHECKOUT, _INSTALLED = Path(__file__).parents[3], Path(__file__).parents[2] / "_app"
APP_FOLDER = _CHECKOUT if all((_CHECKOUT / name).is_file() for name in ("app.py", "spaces.yaml")) else _INSTALLED
"""Where `app.py`, `pages` and `spaces.yaml` are: the checkout, or a folder in the installed package."""
SETTINGS_FILE = APP_FOLDER / "spaces.yaml"

# Source: https://huggingface.co/docs/hub/spaces-config-reference
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_MAX_DESCRIPTION = 60  # characters; the Hub refuses more


@dataclass(frozen=True)
class Limits:
    """What one installation allows; None is no limit.

    Attributes:
        running_jobs: Jobs that run at once.
        waiting_jobs: Jobs that may wait, all people together.
        jobs_per_person: Unfinished jobs of one person.
        job_seconds: Wall clock of one job, without its time in the queue.
        job_memory_bytes: Memory of one job.
        jobs_bytes: Disk for finished jobs; the oldest go first.
        jobs_kept_days: How long finished jobs stay.
        vocabulary_words: Words of one distillation.
        corpus_characters: Characters of the sentences that one is fitted to.
        teacher_parameters: Size of a teacher.
        teacher_words: Words of a model that a teacher reads, to be shown beside it.
        teacher_documents: Documents that a teacher reads, to be shown beside the model.
        upload_bytes: One uploaded file.
        models_per_person: Models in one library.
        model_bytes: One model in it.
        library_bytes: All models of all people.
        models_kept_days: How long a model stays that nobody opens.
        served_bytes: Disk for uploads and downloads; the oldest go first.
        hub_cache_bytes: Disk for what comes from the Hub; the teachers not used for longest go first.
        documents: Texts that can be searched at once.
        documents_kept_days: How long they stay.
        speed_models: Models in one measurement.
        speed_texts: Texts in one measurement.
        evaluation_models: Models in one evaluation.
        evaluation_texts: Texts in one evaluation, those for fidelity and the test data each.
        api_texts: Texts in one request of the API.
        text_characters: One of these.
    """

    running_jobs: int
    waiting_jobs: int
    jobs_per_person: int
    job_seconds: int
    job_memory_bytes: int | None
    jobs_bytes: int | None
    jobs_kept_days: int | None
    vocabulary_words: int | None
    corpus_characters: int | None
    teacher_parameters: int | None
    teacher_words: int
    teacher_documents: int
    upload_bytes: int | None
    models_per_person: int
    model_bytes: int
    library_bytes: int | None
    models_kept_days: int | None
    served_bytes: int | None
    hub_cache_bytes: int | None
    documents: int
    documents_kept_days: int
    speed_models: int
    speed_texts: int
    evaluation_models: int
    evaluation_texts: int
    api_texts: int
    text_characters: int


@dataclass(frozen=True)
class SpaceSettings:
    """All of `spaces.yaml`.

    Attributes:
        title: What the Space is called.
        emoji: Its sign.
        color_from: One of `COLORS`; the card fades from it ...
        color_to: ... to this one.
        short_description: Up to 60 characters.
        license: SPDX id of the code.
        tags: For the Hub's search.
        sdk: What runs it.
        sdk_version: And in which version.
        python_version: For example "3.11".
        app_file: What is started.
        hardware: What is suggested to those who copy it.
        extras: Extras of pyproject.toml to install.
        oauth_scopes: What people are asked to allow when they sign in.
        preloaded_models: Repositories to fetch while it is built, each with its files after a space.
        space: What strangers may do.
        laptop: What may be done on one's own machine.
    """

    title: str
    emoji: str
    color_from: str
    color_to: str
    short_description: str
    license: str
    tags: tuple[str, ...]
    sdk: str
    sdk_version: str
    python_version: str
    app_file: str
    hardware: str
    extras: tuple[str, ...]
    oauth_scopes: tuple[str, ...]
    preloaded_models: tuple[str, ...]
    space: Limits
    laptop: Limits


def current_limits() -> Limits:
    """What this installation allows: as a Space it is for strangers, anywhere else for oneself.

    Raises:
        NotFoundError: There is no `spaces.yaml`.
        InputError: It holds something else than it should.
    """
    settings = _own_settings()
    return settings.space if "SPACE_ID" in os.environ else settings.laptop


@functools.cache
def _own_settings() -> SpaceSettings:
    return load_settings()


def load_settings(path: Path = SETTINGS_FILE) -> SpaceSettings:
    """The settings in a file.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is no YAML, or a name or value in it is wrong; the message says which.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"There is no {path}. It is part of the app; restore it, or install the package again."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} can't be read as YAML: {' '.join(str(error).split())}") from error
    whole = _mapping(loaded, path.name)
    limits = _mapping(whole.pop("limits", None), f"{path.name}: limits")
    _check_names(limits, {"space", "laptop"}, f"{path.name}: limits")
    read = {name: Limits(**_values(Limits, limit, f"{path.name}: limits: {name}")) for name, limit in limits.items()}
    values = _values(SpaceSettings, whole, path.name)
    for name in ("color_from", "color_to"):
        if values[name] not in COLORS:
            raise InputError(f"{path.name}: {name} is {values[name]!r}; the Hub knows {', '.join(COLORS)}.")
    if len(values["short_description"]) > _MAX_DESCRIPTION:
        raise InputError(
            f"{path.name}: short_description has {len(values['short_description'])} characters, and the Hub takes "
            f"{_MAX_DESCRIPTION}. Shorten it."
        )
    return SpaceSettings(**values | read)


def _values(cls: type, value: object, where: str) -> dict[str, Any]:
    """The value of each field of a class, but for limits, which are read by themselves."""
    values = _mapping(value, where)
    kinds = {field.name: str(field.type) for field in fields(cls) if field.type != "Limits"}
    _check_names(values, set(kinds), where)
    return {name: _value(kind, values[name], where, name) for name, kind in kinds.items()}


def _value(kind: str, value: object, where: str, name: str) -> object:
    if kind.startswith("int"):
        or_none = ", or null for no limit" if kind == "int | None" else ""
        if not (value is None and or_none) and (type(value) is not int or value < 1):
            raise InputError(f"{where}: {name} is {value!r}; it must be a whole number, 1 or more{or_none}.")
        return value
    if kind != "str":
        if not isinstance(value, list):
            raise InputError(f"{where}: {name} is {value!r}; it must be a list of texts.")
        return tuple(_value("str", item, where, name) for item in value)
    if not isinstance(value, str) or not value.strip() or len(value.splitlines()) > 1:
        raise InputError(
            f"{where}: {name} is {value!r}; it must be a line of text. Put it in quotes if it is a number."
        )
    return value


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must hold names with values, not {value!r}.")
    return dict(value)


def _check_names(values: Mapping[str, Any], names: set[str], where: str) -> None:
    if missing := sorted(names - values.keys()):
        raise InputError(f"{where} lacks {', '.join(missing)}. Add what is missing.")
    if unknown := sorted(map(str, values.keys() - names)):
        raise InputError(
            f"{where} holds {', '.join(unknown)}, which nothing reads. Take it out; there are {sorted(names)}."
        )
