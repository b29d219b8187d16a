"""One owner's models on disk: their records, and the lock for adding and removing them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.model import StaticModel
from m2v_core.storage.atomic import exclusive
from m2v_core.storage.cache import age_seconds
from m2v_core.studio.jobs.folder import read_json, replace_json
from m2v_core.studio.jobs.records import iso_time, parse

Source = Literal["job", "zip", "files", "folder", "hub"]

_MAX_NAME_CHARS = 96  # as on the Hub
_ID = re.compile("[0-9a-f]{32}")
_STAGING = ".adding-"
_TRASH = ".removed-"
_MAX_ADD_SECONDS = 3600.0  # another process may still be filling newer folders


@dataclass(frozen=True)
class Refusal:
    """A finished distillation that could not be added to the library.

    Attributes:
        id: Id of its job.
        name: Name that its model would have.
        reason: Why it could not be added, and what to do.
        is_for_room: Whether it will be added once there is enough space.
    """

    id: str
    name: str
    reason: str
    is_for_room: bool


@dataclass(frozen=True)
class ModelRecord:
    """Metadata of a model, stored next to it.

    Attributes:
        id: Unguessable id, used on disk and in URLs; for a distilled model, the id of its job.
        name: Name chosen by the owner, unique among the owner's models.
        teacher: Its teacher; None if unknown.
        recipe: Parameters of its distillation; for other models, only the name of the recipe, if known.
        source: Where it came from: `"job"`, `"zip"`, `"files"`, `"folder"` or `"hub"`.
        origin: The repository or file it came from; empty for a distilled model.
        dim: Width of its embeddings.
        n_rows: Number of rows in its table.
        n_tokens: Number of entries in its vocabulary, which may share rows.
        dtype: Number format of its table.
        n_bytes: Size of its files.
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
        """Return the JSON value that `from_json` reads."""
        return {**asdict(self), "added": iso_time(self.added_at)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelRecord:
        """Return the record; KeyError, TypeError or ValueError if the value is damaged."""
        return parse(cls, value)


@dataclass(frozen=True)
class Contents:
    """What the library contains for an owner.

    Attributes:
        models: The owner's models, newest first.
        picked: The selected model: by default the newest one, or else the demo model; None if there are no models.
        refused: Finished distillations that can't be added, oldest first; each call tries to add them again.
        demo: The demo model; None if there is none.
        is_demo_pending: Whether the demo model is still being distilled.
    """

    models: list[ModelRecord]
    picked: ModelRecord | None
    refused: list[Refusal]
    demo: ModelRecord | None = None
    is_demo_pending: bool = False

    @property
    def offered(self) -> list[ModelRecord]:
        """All models that the owner can use: their own, then the demo model."""
        return self.models if self.demo is None else [*self.models, self.demo]


def validate_name(name: str) -> str:
    """Return the name with whitespace collapsed.

    Raises:
        InputError: It is empty, too long, or contains invisible characters.
    """
    name = " ".join(name.split())
    if not name:
        raise InputError("The name is empty. Enter a name.")
    if len(name) > _MAX_NAME_CHARS:
        raise InputError(f"The name has {len(name)} characters; the maximum is {_MAX_NAME_CHARS}. Shorten it.")
    if not name.isprintable():
        raise InputError(f"The name {name!r} contains invisible characters. Retype it.")
    return name


def sanitize_name(name: str) -> str:
    """Return the name without invisible characters; "model" if nothing remains."""
    seen = "".join(character for character in " ".join(name.split()) if character.isprintable())
    return seen[:_MAX_NAME_CHARS].strip() or "model"


def unique_name(name: str, taken: Collection[str]) -> str:
    """Return the name, or the first of "name (2)", "name (3)" and so on that is not taken."""
    number = 1
    free = name
    while free in taken:
        number += 1
        ending = f" ({number})"
        free = name[: _MAX_NAME_CHARS - len(ending)] + ending
    return free


def described(about: ModelRecord, model: StaticModel, path: Path) -> ModelRecord:
    """Return the record with the facts of the model and its files."""
    return replace(
        about,
        teacher=about.teacher or model.base_model_name or model.config.get("m2v", {}).get("teacher"),
        recipe={**about.recipe, **_recorded_recipe(model)},
        dim=model.dim,
        n_rows=len(model.token_embeddings),
        n_tokens=len(model.tokens),
        dtype=str(model.token_embeddings.dtype),
        n_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    )


def _recorded_recipe(model: StaticModel) -> dict[str, str]:
    settings = model.config.get("m2v")
    recipe = settings.get("recipe") if isinstance(settings, Mapping) else None
    return {"recipe": sanitize_name(recipe)} if isinstance(recipe, str) and recipe.strip() else {}


class Shelf:
    """The models of one owner.

        <shelf>/<id>/record.json   the `ModelRecord`; touched whenever the model is opened
        <shelf>/<id>/model/        the model's files
        <shelf>/picked.json        the selected model

    Args:
        path: The folder; does not exist until a model is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, model_id: str) -> Path:
        """Return the folder of a model, which may not exist.

        Raises:
            NotFoundError: The id is malformed.
        """
        if not is_model_id(model_id):
            raise not_found()
        return self.path / model_id

    def folders(self) -> Iterator[Path]:
        """Return the folders of all models, in no particular order."""
        return (path for path in self.path.iterdir() if is_model_id(path.name)) if self.path.is_dir() else iter(())

    def record(self, model_id: str) -> ModelRecord | None:
        """Return the record of a model; None if it is missing or can't be opened.

        Raises:
            NotFoundError: The id is malformed.
        """
        return _read_record(self.folder(model_id))

    def records(self) -> list[ModelRecord]:
        """Return the records of all models, newest first."""
        records = [record for folder in self.folders() if (record := _read_record(folder)) is not None]
        return sorted(records, key=lambda record: (-record.added_at, record.id))

    def locked(self) -> AbstractContextManager[None]:
        """Return the lock of this shelf, which excludes other threads and processes."""
        return exclusive(self.path / ".lock")

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[Path]:
        """Yield a hidden folder with an empty subfolder `model`; it is removed on exit unless `place` moved it."""
        staging = self.path / f"{_STAGING}{token_hex(8)}"
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            staging.mkdir()
            (staging / "model").mkdir()
            yield staging
        except M2VError as error:  # don't reveal server paths
            error.args = tuple(str(part).replace(f"{staging / 'model'}{os.sep}", "") for part in error.args)
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def place(self, staging: Path, record: ModelRecord) -> None:
        """Move a new folder into the shelf with a single rename; the caller holds the lock."""
        replace_json(staging / "record.json", record.to_json())
        staging.rename(self.path / record.id)

    def write_record(self, record: ModelRecord) -> None:
        """Replace the record of a model; the caller holds the lock."""
        replace_json(self.path / record.id / "record.json", record.to_json())

    def pick(self, model_id: str) -> None:
        """Save which model is selected; the caller holds the lock."""
        replace_json(self.path / "picked.json", {"id": model_id})

    def picked_id(self) -> str | None:
        """Return the id of the selected model, which may have been deleted; None if there is none."""
        try:
            return str(read_json(self.path / "picked.json")["id"])
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def discard(self, model_id: str) -> None:
        """Remove a model with a single rename; the caller holds the lock, and empties the trash later."""
        folder = self.path / model_id
        with contextlib.suppress(FileNotFoundError):
            folder.rename(folder.with_name(f"{_TRASH}{folder.name}-{token_hex(4)}"))

    def empty_trash(self) -> None:
        """Delete removed models, and incomplete ones left over from crashes."""
        for path in self.path.glob(f"{_TRASH}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.path.glob(f"{_STAGING}*"):
            if age_seconds(path) > _MAX_ADD_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def is_model_id(text: str) -> bool:
    """Return whether an id is well-formed."""
    return _ID.fullmatch(text) is not None


def not_found() -> NotFoundError:
    """Return the error for a model that does not exist or has another owner."""
    return NotFoundError("Model not found. It may have been deleted: see your library.")


def _read_record(folder: Path) -> ModelRecord | None:
    """Return the record, restored if it is damaged; None if there is no model, or it can't be opened."""
    try:
        record = ModelRecord.from_json(read_json(folder / "record.json"))
        if record.id == folder.name:
            return record
    except FileNotFoundError:
        if not (folder / "model").is_dir():
            return None
    except (OSError, KeyError, TypeError, ValueError):
        pass
    return _recovered(folder)


def _recovered(folder: Path) -> ModelRecord | None:
    """Return a record from the model's own files, which contain neither its name nor the parameters of its recipe."""
    try:
        model = StaticModel.from_pretrained(str(folder / "model"))
        about = ModelRecord(folder.name, f"Recovered {folder.name[:6]}", None, source="folder")
        about = replace(about, added_at=(folder / "model").stat().st_mtime)
        record = described(about, model, folder / "model")
        replace_json(folder / "record.json", record.to_json())
    except (M2VError, OSError):
        return None
    return record
