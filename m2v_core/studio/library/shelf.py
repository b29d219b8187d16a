"""One owner's models on disk: what is known of each without opening it, and the lock under which they come and go."""

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
from m2v_core.studio.jobs.records import iso_time, parsed

Source = Literal["job", "zip", "files", "folder", "hub"]

_MAX_NAME_CHARS = 96  # as on the Hub
_ID = re.compile("[0-9a-f]{32}")
_UNBORN = ".adding-"
_TRASH = ".removed-"
_SECONDS_TO_ADD = 3600.0  # whatever is younger may still be going on, in another process


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
        return parsed(cls, value)


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
        teacher=about.teacher or model.base_model_name or model.config.get("m2v", {}).get("teacher"),
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


class Shelf:
    """The models of one owner.

        <shelf>/<id>/record.json   what `ModelRecord` holds; touched whenever the model is opened
        <shelf>/<id>/model/        the model's files
        <shelf>/picked.json        the model that this owner works with

    Args:
        path: The folder; absent as long as its owner has no models.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, model_id: str) -> Path:
        """Where a model is, or would be.

        Raises:
            NotFoundError: No model could have this id.
        """
        if not is_model_id(model_id):
            raise not_found()
        return self.path / model_id

    def folders(self) -> Iterator[Path]:
        """The folder of every model, in no order."""
        return (path for path in self.path.iterdir() if is_model_id(path.name)) if self.path.is_dir() else iter(())

    def record(self, model_id: str) -> ModelRecord | None:
        """What is known of a model; None without one that can be opened.

        Raises:
            NotFoundError: No model could have this id.
        """
        return _read_record(self.folder(model_id))

    def records(self) -> list[ModelRecord]:
        """What is known of every model, the newest first."""
        records = [record for folder in self.folders() if (record := _read_record(folder)) is not None]
        return sorted(records, key=lambda record: (-record.added_at, record.id))

    def locked(self) -> AbstractContextManager[None]:
        """The lock of this shelf, against other threads and processes alike."""
        return exclusive(self.path / ".lock")

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[Path]:
        """A folder that nobody sees, with an empty folder `model` in it; gone at the end, unless `place` moved it."""
        unborn = self.path / f"{_UNBORN}{token_hex(8)}"
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            unborn.mkdir()
            (unborn / "model").mkdir()
            yield unborn
        except M2VError as error:  # where the server keeps its models is nobody's business
            error.args = tuple(str(part).replace(f"{unborn / 'model'}{os.sep}", "") for part in error.args)
            raise
        finally:
            shutil.rmtree(unborn, ignore_errors=True)

    def place(self, unborn: Path, record: ModelRecord) -> None:
        """Let a new folder appear as a model in one rename; the caller holds the lock."""
        replace_json(unborn / "record.json", record.to_json())
        unborn.rename(self.path / record.id)

    def write_record(self, record: ModelRecord) -> None:
        """Replace what is known of a model; the caller holds the lock."""
        replace_json(self.path / record.id / "record.json", record.to_json())

    def pick(self, model_id: str) -> None:
        """Note the model that this owner works with; the caller holds the lock."""
        replace_json(self.path / "picked.json", {"id": model_id})

    def picked_id(self) -> str | None:
        """The id noted last, whose model may be gone; None for none."""
        try:
            return str(read_json(self.path / "picked.json")["id"])
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def discard(self, model_id: str) -> None:
        """Make a model disappear at once; the caller holds the lock, and empties the trash later."""
        folder = self.path / model_id
        with contextlib.suppress(FileNotFoundError):
            folder.rename(folder.with_name(f"{_TRASH}{folder.name}-{token_hex(4)}"))

    def empty_trash(self) -> None:
        """Remove what was discarded, and what a crash has left of models being added."""
        for path in self.path.glob(f"{_TRASH}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.path.glob(f"{_UNBORN}*"):
            if age_seconds(path) > _SECONDS_TO_ADD:
                shutil.rmtree(path, ignore_errors=True)


def is_model_id(text: str) -> bool:
    """Whether a model could have this id."""
    return _ID.fullmatch(text) is not None


def not_found() -> NotFoundError:
    """What is said of every model that isn't there, or another owner's."""
    return NotFoundError("No such model among yours. It may have been deleted: look into your library.")


def _read_record(folder: Path) -> ModelRecord | None:
    """The record, made anew where it is damaged; None without a model that can be opened."""
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
    """A record of what the model itself still tells: not its name, and of its recipe the name alone."""
    try:
        model = StaticModel.from_pretrained(str(folder / "model"))
        about = ModelRecord(folder.name, f"Recovered {folder.name[:6]}", None, source="folder")
        about = replace(about, added_at=(folder / "model").stat().st_mtime)
        record = described(about, model, folder / "model")
        replace_json(folder / "record.json", record.to_json())
    except (M2VError, OSError):
        return None
    return record
