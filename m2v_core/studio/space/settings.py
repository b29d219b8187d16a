"""Validated settings from `spaces.yaml`."""

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
"""Folder of `app.py`, `pages` and `spaces.yaml`: the checkout, or a folder in the installed package."""
SETTINGS_FILE = APP_FOLDER / "spaces.yaml"

# Source: https://huggingface.co/docs/hub/spaces-config-reference
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_MAX_DESCRIPTION = 60  # characters; the Hub's limit


@dataclass(frozen=True)
class Limits:
    """Limits of an installation; None means no limit.

    Attributes:
        running_jobs: Number of jobs that run at the same time.
        waiting_jobs: Number of queued jobs of all users.
        jobs_per_person: Number of unfinished jobs per user.
        job_seconds: Run time of a job, excluding its time in the queue.
        job_memory_bytes: Memory of a job.
        jobs_bytes: Disk space of finished jobs; the oldest are deleted first.
        jobs_kept_days: Days after which finished jobs are deleted.
        vocabulary_words: Number of words of a vocabulary.
        corpus_characters: Number of characters of a corpus.
        teacher_parameters: Number of parameters of a teacher.
        teacher_words: Number of words that a teacher encodes for a comparison.
        teacher_documents: Number of documents that a teacher encodes for a comparison.
        upload_bytes: Size of an uploaded file.
        models_per_person: Number of models in a user's library.
        model_bytes: Size of a model in the library.
        library_bytes: Size of all models of all users.
        models_kept_days: Days without use after which a model is deleted.
        served_bytes: Disk space of uploads and downloads; the oldest are deleted first.
        hub_cache_bytes: Disk space of the Hub cache; the least recently used teachers are deleted first.
        documents: Number of searchable texts.
        documents_kept_days: Days after which these texts are deleted.
        speed_models: Number of models in a speed comparison.
        speed_texts: Number of texts in a speed comparison.
        evaluation_models: Number of models in an evaluation.
        evaluation_texts: Number of texts in an evaluation, separately for fidelity and for the test data.
        api_texts: Number of texts in an API request.
        text_characters: Number of characters of a text in an API request.
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
    """The contents of `spaces.yaml`.

    Attributes:
        title: Title of the Space.
        emoji: Emoji of the Space.
        color_from: Start of the card's color gradient, one of `COLORS`.
        color_to: End of the gradient, one of `COLORS`.
        short_description: At most 60 characters.
        license: SPDX id of the code's license.
        tags: Tags on the Hub.
        sdk: SDK of the Space.
        sdk_version: Version of the SDK.
        python_version: For example "3.11".
        app_file: Script to run.
        hardware: Suggested hardware for duplicated Spaces.
        extras: Extras of pyproject.toml to install.
        oauth_scopes: Permissions requested on sign-in.
        preloaded_models: Repositories to download during the build, each followed by a space and its files.
        space: Limits of a public Space.
        laptop: Limits of a local installation.
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
    """Limits of this installation: of a public Space, or of a local installation.

    Raises:
        NotFoundError: `spaces.yaml` is missing.
        InputError: `spaces.yaml` is invalid.
    """
    settings = _own_settings()
    return settings.space if "SPACE_ID" in os.environ else settings.laptop


@functools.cache
def _own_settings() -> SpaceSettings:
    return load_settings()


def load_settings(path: Path = SETTINGS_FILE) -> SpaceSettings:
    """Load and validate the settings in a file.

    Raises:
        NotFoundError: The file does not exist.
        InputError: The file is not YAML, or a name or value in it is invalid.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} does not exist. It is part of the app; restore it, or reinstall the package."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    whole = _mapping(loaded, path.name)
    limits = _mapping(whole.pop("limits", None), f"{path.name}: limits")
    _check_names(limits, {"space", "laptop"}, f"{path.name}: limits")
    read = {name: Limits(**_values(Limits, limit, f"{path.name}: limits: {name}")) for name, limit in limits.items()}
    values = _values(SpaceSettings, whole, path.name)
    for name in ("color_from", "color_to"):
        if values[name] not in COLORS:
            raise InputError(f"{path.name}: {name} is {values[name]!r}; use one of {', '.join(COLORS)}.")
    if len(values["short_description"]) > _MAX_DESCRIPTION:
        raise InputError(
            f"{path.name}: short_description has {len(values['short_description'])} characters; the limit is "
            f"{_MAX_DESCRIPTION}. Shorten it."
        )
    return SpaceSettings(**values | read)


def _values(cls: type, value: object, where: str) -> dict[str, Any]:
    """Validate the value of each field of a class except limits, which are validated separately."""
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
            raise InputError(f"{where}: {name} is {value!r}; it must be a list of strings.")
        return tuple(_value("str", item, where, name) for item in value)
    if not isinstance(value, str) or not value.strip() or len(value.splitlines()) > 1:
        raise InputError(f"{where}: {name} is {value!r}; it must be a single-line string. Put numbers in quotes.")
    return value


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a mapping, not {value!r}.")
    return dict(value)


def _check_names(values: Mapping[str, Any], names: set[str], where: str) -> None:
    if missing := sorted(names - values.keys()):
        raise InputError(f"{where} lacks {', '.join(missing)}. Add the missing names.")
    if unknown := sorted(map(str, values.keys() - names)):
        raise InputError(
            f"{where} has unknown names: {', '.join(unknown)}. Remove them; the valid names are {sorted(names)}."
        )
