"""What is known of a model without opening it, and what it may be called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from m2v_core.errors import InputError
from m2v_core.model import StaticModel
from m2v_core.studio.jobs.records import iso_time

Source = Literal["job", "zip", "files", "folder", "hub"]

_MAX_NAME_CHARS = 80


@dataclass(frozen=True)
class Refusal:
    """A finished distillation that is not in the library.

    Attributes:
        id: Its job.
        name: What its model would be called.
        reason: Why it could not be taken in, and what to do.
        is_for_room: Whether it will be taken in once there is room.
    """

    id: str
    name: str
    reason: str
    is_for_room: bool


@dataclass(frozen=True)
class ModelRecord:
    """What is known of a model without opening it.

    Attributes:
        id: Its name on disk and in addresses, unguessable; a distilled model has its job's.
        name: What its owner calls it; no two of an owner's models are called the same.
        teacher: What it was distilled from; None where the model doesn't say.
        recipe: The choices of its distillation, as the job's parameters; of a model from elsewhere the name of its
            recipe alone, where its configuration tells it.
        source: How it came: `"job"`, `"zip"`, `"files"`, `"folder"` or `"hub"`.
        origin: The repository or the file it came from; empty for a distilled model.
        dim: Width of its embeddings.
        n_rows: Rows of its table.
        n_tokens: Entries of its vocabulary, which may share rows.
        dtype: Number format of its table.
        n_bytes: Bytes of its files.
        added_at: Seconds since the epoch.
    """

    id: str
    name: str
    teacher: str | None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    source: Source = "job"
    origin: str = ""
    dim: int = 0
    n_rows: int = 0
    n_tokens: int = 0
    dtype: str = "float32"
    n_bytes: int = 0
    added_at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The plain value that `from_json` reads."""
        return {**asdict(self), "added": iso_time(self.added_at)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelRecord:
        """The record; KeyError, TypeError or ValueError if it was tampered with."""
        source: Source = value["source"]
        if source not in ("job", "zip", "files", "folder", "hub"):
            raise ValueError(f"no such source: {source!r}")
        return cls(
            id=str(value["id"]),
            name=str(value["name"]),
            teacher=None if value["teacher"] is None else str(value["teacher"]),
            recipe=dict(value["recipe"]),
            source=source,
            origin=str(value["origin"]),
            dim=int(value["dim"]),
            n_rows=int(value["n_rows"]),
            n_tokens=int(value["n_tokens"]),
            dtype=str(value["dtype"]),
            n_bytes=int(value["n_bytes"]),
            added_at=float(value["added_at"]),
        )


@dataclass(frozen=True)
class Contents:
    """What an owner has in the library.

    Attributes:
        models: The newest first.
        picked: The one to work with: the one picked last, else the newest; None without any.
        refused: Finished distillations that can't be taken in, the oldest first; each call tries them again.
    """

    models: list[ModelRecord]
    picked: ModelRecord | None
    refused: list[Refusal]


def checked_name(name: str) -> str:
    """The name without surrounding and doubled space.

    Raises:
        InputError: It is empty, too long, or holds characters that can't be seen.
    """
    name = " ".join(name.split())
    if not name:
        raise InputError("The name is empty. Type one.")
    if len(name) > _MAX_NAME_CHARS:
        raise InputError(f"The name has {len(name)} characters, and {_MAX_NAME_CHARS} are allowed. Shorten it.")
    if not name.isprintable():
        raise InputError(f"The name {name!r} holds characters that can't be seen. Type it anew.")
    return name


def usable_name(name: str) -> str:
    """The name with what can't be used left out; "model" where nothing remains."""
    seen = "".join(character for character in " ".join(name.split()) if character.isprintable())
    return seen[:_MAX_NAME_CHARS].strip() or "model"


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or the first of "name (2)", "name (3)" and so on that is not taken."""
    number = 1
    free = name
    while free in taken:
        number += 1
        ending = f" ({number})"
        free = name[: _MAX_NAME_CHARS - len(ending)] + ending
    return free


def described(about: ModelRecord, model: StaticModel, path: Path) -> ModelRecord:
    """The record with what the model and its files say of themselves."""
    return replace(
        about,
        teacher=about.teacher or model.base_model_name,
        recipe={**about.recipe, **_noted_recipe(model)},
        dim=model.dim,
        n_rows=len(model.token_embeddings),
        n_tokens=len(model.tokens),
        dtype=str(model.token_embeddings.dtype),
        n_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    )


def _noted_recipe(model: StaticModel) -> dict[str, str]:
    settings = model.config.get("m2v")
    recipe = settings.get("recipe") if isinstance(settings, Mapping) else None
    return {"recipe": usable_name(recipe)} if isinstance(recipe, str) and recipe.strip() else {}
