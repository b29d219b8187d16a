"""The library: the models that people keep, a folder each, found again by their owners alone.

    library = Library("~/m2v/models", jobs=store)
    record = library.add_from_zip("model.zip", owner="ada")
    model = library.load(record.id, owner="ada")

A finished distillation enters by itself, under the id of its job, and stays when the job is cleaned away.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from m2v_core.errors import InputError, LimitError, M2VError, NotFoundError, SaveError
from m2v_core.jobs import JobStore
from m2v_core.jobs.folder import read_json, replace_json
from m2v_core.jobs.kinds import AFTERWARDS
from m2v_core.jobs.processes import exclusive
from m2v_core.jobs.records import iso_time
from m2v_core.jobs.store import hash_owner
from m2v_core.model import StaticModel
from m2v_core.persistence import hub, intake

Source = Literal["job", "zip", "files", "folder", "hub"]

_ID = re.compile("[0-9a-f]{32}")
_MAX_NAME_CHARS = 80
_UNBORN = ".adding-"
_TRASH = ".removed-"
_SECONDS_TO_ADD = 3600.0  # whatever is younger may still be going on, in another process


@dataclass(frozen=True)
class ModelRecord:
    """What is known of a model without opening it.

    Attributes:
        id: Its name on disk and in addresses, unguessable; a distilled model has its job's.
        name: What its owner calls it; no two of an owner's models are called the same.
        teacher: What it was distilled from; None where the model doesn't say.
        recipe: The choices of its distillation, as the job's parameters; empty for a model from elsewhere.
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


class Library:
    """The models under one folder.

        <root>/<hash of the owner>/<id>/record.json   what `ModelRecord` holds
        <root>/<hash of the owner>/<id>/model/        the model's files
        <root>/<hash of the owner>/picked.json        the model that this owner works with

    Any number of libraries, threads and processes may share a folder. Every call names the owner; another
    owner's model is the same as none: `NotFoundError`.

    Args:
        root: Made when absent, readable by this user alone.
        jobs: Its finished distillations enter the library of their owners; None for none.
        max_models_per_owner: How many models one owner may keep.
        max_model_bytes: How large one model may be, unpacked.
        max_bytes: How large all models of all owners may be together; None for no limit.
        keep_seconds: Models that nobody has opened for longer are removed; None to keep them.
        max_loaded: How many models stay in memory, the ones used last.

    Raises:
        SaveError: `root` can't be made.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        jobs: JobStore | None = None,
        max_models_per_owner: int = 200,
        max_model_bytes: int = 4 * 10**9,
        max_bytes: int | None = None,
        keep_seconds: float | None = None,
        max_loaded: int = 4,
    ) -> None:
        self._root = Path(root).expanduser().absolute()
        self._jobs = jobs
        self._max_models_per_owner = max_models_per_owner
        self._max_model_bytes = max_model_bytes
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[Path, StaticModel] = OrderedDict()
        self._loaded_lock = threading.Lock()
        with _saving("The library's folder"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def list_models(self, owner: str) -> list[ModelRecord]:
        """This owner's models, the newest first; distillations that have finished meanwhile among them."""
        self._adopt_all(owner)
        return self._records(self._shelf(owner))

    def get(self, model_id: str, owner: str) -> ModelRecord:
        """What is known of a model; the id of a finished distillation will do.

        Raises:
            NotFoundError: No such model, or not this owner's.
        """
        folder = self._folder(model_id, owner)
        record = _read_record(folder)
        if record is None and _ID.fullmatch(model_id):
            self._adopt(model_id, owner)
            record = _read_record(folder)
        if record is None:
            raise _not_found()
        return record

    def folder(self, model_id: str, owner: str) -> Path:
        """The saved model's folder; read it, don't write to it.

        Raises:
            NotFoundError: No such model, or not this owner's.
        """
        self.get(model_id, owner)
        return self._folder(model_id, owner) / "model"

    def load(self, model_id: str, owner: str) -> StaticModel:
        """The model, from memory if it was used lately; the same object for the same model.

        Raises:
            NotFoundError: No such model, or not this owner's.
            ModelFormatError: Its files are damaged.
        """
        path = self.folder(model_id, owner)
        with self._loaded_lock:
            model = self._loaded.get(path)
            if model is not None:
                self._loaded.move_to_end(path)
                return model
        with contextlib.suppress(
            OSError
        ):  # when it was used last; a disk that can't be written keeps nobody from reading
            (path.parent / "record.json").touch()
        return self._remember(path, StaticModel.from_pretrained(str(path)))

    def add_from_job(self, job_id: str, owner: str) -> ModelRecord:
        """The model that a finished distillation made; added once, however often it is asked for.

        Raises:
            NotFoundError: No such job, not this owner's, not done, or no distillation.
            LimitError: The library is full.
            SaveError: The model can't be written.
        """
        if self._jobs is None or not _ID.fullmatch(job_id):
            raise _not_found()
        job = self._jobs.get(job_id, owner)
        folder = self._jobs.result_folder(job_id, owner)
        if job.kind != "distill":
            raise NotFoundError(f"This job made no model: its kind is {job.kind!r}.")
        if (record := _read_record(self._folder(job_id, owner))) is not None:
            return record
        parameters = {name: value for name, value in job.parameters.items() if name not in AFTERWARDS}
        about = ModelRecord(
            job_id, _usable_name(job.title), str(parameters.pop("model_name", "")) or None, parameters, "job"
        )
        about = replace(about, added_at=job.finished_at or time.time())
        return self._add(owner, about, lambda target: intake.take_folder(folder, target, self._max_model_bytes))

    def add_from_folder(self, folder: str | Path, owner: str, name: str | None = None) -> ModelRecord:
        """A copy of the model in a folder of this machine, which must be trusted: links are followed.

        Raises:
            NotFoundError: No such folder.
            ModelFormatError: It holds no static model, or a damaged one.
            InputError: The name can't be used.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        folder = Path(folder).expanduser()
        about = self._about("folder", name, folder.absolute().name, folder.name)
        return self._add(owner, about, lambda target: intake.take_folder(folder, target, self._max_model_bytes))

    def add_from_files(self, files: Mapping[str, Path], owner: str, name: str | None = None) -> ModelRecord:
        """A copy of the model that loose files make up.

        Args:
            files: Each file by its path inside the model's folder: `{"config.json": ..., ...}`.
            owner: Who will find it.
            name: What to call it; chosen when None.

        Raises:
            ModelFormatError: They are no static model, or a damaged one.
            InputError: The name can't be used.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        about = self._about("files", name, "model", "")
        return self._add(owner, about, lambda target: intake.take_files(files, target, self._max_model_bytes))

    def add_from_zip(self, zip_path: str | Path, owner: str, name: str | None = None) -> ModelRecord:
        """The model in a ZIP archive, from whomever it may come; see `intake.take_zip` for what is refused.

        Raises:
            NotFoundError: No such file.
            ModelFormatError: It holds no static model, or a damaged one.
            InputError: No ZIP archive, or a malicious one; or the name can't be used.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        zip_path = Path(zip_path)
        about = self._about("zip", name, zip_path.stem, zip_path.name)
        return self._add(owner, about, lambda target: intake.take_zip(zip_path, target, self._max_model_bytes))

    def add_from_hub(self, repo_id: str, owner: str, name: str | None = None) -> ModelRecord:
        """The model in a repository of the Hub, as it is there now.

        Raises:
            NotFoundError: No such repository.
            HubError: The Hub can't be reached, or it refused.
            ModelFormatError: The repository holds no static model.
            InputError: The name can't be used.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        about = self._about("hub", name, repo_id.rpartition("/")[2], repo_id)

        def fill(target: Path) -> None:
            hub.check_model_bytes(repo_id, self._max_model_bytes)
            intake.take_folder(hub.download_model(repo_id), target, self._max_model_bytes)

        return self._add(owner, about, fill)

    def rename(self, model_id: str, name: str, owner: str) -> ModelRecord:
        """The record under its new name.

        Raises:
            NotFoundError: No such model, or not this owner's.
            InputError: The name is empty, too long, or another model's.
            SaveError: The record can't be written.
        """
        name = checked_name(name)
        self.get(model_id, owner)
        shelf = self._shelf(owner)
        with _saving("The new name"), exclusive(shelf / ".lock"):
            record = self.get(model_id, owner)
            if any(other.name == name and other.id != model_id for other in self._records(shelf)):
                raise InputError(f"Another model is called {name!r} already. Choose another name.")
            record = replace(record, name=name)
            replace_json(shelf / model_id / "record.json", record.to_json())
        return record

    def delete(self, model_id: str, owner: str) -> None:
        """Remove a model for good, with the job that made it.

        Raises:
            NotFoundError: No such model, or not this owner's.
            SaveError: It can't be removed.
        """
        self.get(model_id, owner)
        shelf = self._shelf(owner)
        with _saving("The library"), exclusive(shelf / ".lock"):
            # The job goes first: one that is there would bring the model back.
            if self._jobs is not None:
                with contextlib.suppress(NotFoundError):
                    self._jobs.delete(model_id, owner)
            self._discard(shelf / model_id)
        _empty_trash(shelf)

    def pick(self, model_id: str, owner: str) -> ModelRecord:
        """Make a model the one that this owner works with.

        Raises:
            NotFoundError: No such model, or not this owner's.
            SaveError: The choice can't be written.
        """
        record = self.get(model_id, owner)
        shelf = self._shelf(owner)
        with _saving("The choice"), exclusive(shelf / ".lock"):
            replace_json(shelf / "picked.json", {"id": model_id})
        return record

    def picked(self, owner: str) -> ModelRecord | None:
        """The model that this owner works with: the one picked last, else the newest; None without any."""
        records = self.list_models(owner)
        try:
            picked_id = read_json(self._shelf(owner) / "picked.json")["id"]
        except (OSError, KeyError, TypeError, ValueError):
            picked_id = None
        return next((record for record in records if record.id == picked_id), records[0] if records else None)

    def clean(self) -> list[str]:
        """The ids of the models removed: those that nobody has opened for `keep_seconds`."""
        removed: list[str] = []
        keep_seconds = float("inf") if self._keep_seconds is None else self._keep_seconds
        for shelf in self._shelves():
            for folder in _model_folders(shelf):
                if _age_seconds(folder / "record.json") > keep_seconds:
                    with contextlib.suppress(OSError), exclusive(shelf / ".lock"):
                        self._discard(folder)
                        removed.append(folder.name)
            _empty_trash(shelf)
        return removed

    def _about(self, source: Source, name: str | None, fallback: str, origin: str) -> ModelRecord:
        chosen = checked_name(name) if name and name.strip() else _usable_name(fallback)
        return ModelRecord(token_hex(16), chosen, None, {}, source, origin, added_at=time.time())

    def _add(self, owner: str, about: ModelRecord, fill: Callable[[Path], None]) -> ModelRecord:
        """Fill a folder nobody sees, open the model in it, and let it appear in one rename."""
        shelf = self._shelf(owner)
        self.clean()
        unborn = shelf / f"{_UNBORN}{token_hex(8)}"
        with _saving("The model"):
            try:
                shelf.mkdir(mode=0o700, exist_ok=True)
                unborn.mkdir()
                (unborn / "model").mkdir()
                self._check_limits(shelf, 0)  # before the work, and again below, when nobody can come between
                fill(unborn / "model")
                model = StaticModel.from_pretrained(str(unborn / "model"))
                record = _described(about, model, unborn / "model")
                with exclusive(shelf / ".lock"):
                    if (earlier := _read_record(shelf / record.id)) is not None:
                        return earlier
                    self._check_limits(shelf, record.n_bytes)
                    record = replace(record, name=self._free_name(shelf, record.name))
                    replace_json(unborn / "record.json", record.to_json())
                    unborn.rename(shelf / record.id)
            finally:
                shutil.rmtree(unborn, ignore_errors=True)
        self._remember(shelf / record.id / "model", model)
        return record

    def _adopt_all(self, owner: str) -> None:
        """Take in the distillations that have finished since someone last looked."""
        if self._jobs is None:
            return
        shelf = self._shelf(owner)
        for job in reversed(self._jobs.list_jobs(owner)):
            if job.state == "done" and job.kind == "distill" and _read_record(shelf / job.id) is None:
                # A library that is full, or a result gone meanwhile, must not keep the others from being seen.
                with contextlib.suppress(M2VError):
                    self.add_from_job(job.id, owner)

    def _adopt(self, job_id: str, owner: str) -> None:
        with contextlib.suppress(NotFoundError):
            self.add_from_job(job_id, owner)

    def _check_limits(self, shelf: Path, n_bytes: int) -> None:
        n_own = len(self._records(shelf))
        if n_own >= self._max_models_per_owner:
            raise LimitError(
                f"Your library holds {n_own} models, and {self._max_models_per_owner} are allowed "
                "(max_models_per_owner). Delete one first."
            )
        if self._max_bytes is None:
            return
        n_held = sum(record.n_bytes for other in self._shelves() for record in self._records(other))
        if n_held + n_bytes > self._max_bytes:
            raise LimitError(
                f"All libraries here together may hold {self._max_bytes:,} bytes (max_bytes), and they are full. "
                "Download the models you don't need here, and delete them."
            )

    def _free_name(self, shelf: Path, name: str) -> str:
        taken = {record.name for record in self._records(shelf)}
        number = 1
        free = name
        while free in taken:
            number += 1
            ending = f" ({number})"
            free = name[: _MAX_NAME_CHARS - len(ending)] + ending
        return free

    def _shelf(self, owner: str) -> Path:
        return self._root / hash_owner(owner)

    def _shelves(self) -> list[Path]:
        return [path for path in self._root.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _folder(self, model_id: str, owner: str) -> Path:
        if not _ID.fullmatch(model_id):
            raise _not_found()
        return self._shelf(owner) / model_id

    def _records(self, shelf: Path) -> list[ModelRecord]:
        records = [record for folder in _model_folders(shelf) if (record := _read_record(folder)) is not None]
        return sorted(records, key=lambda record: (-record.added_at, record.id))

    def _remember(self, path: Path, model: StaticModel) -> StaticModel:
        with self._loaded_lock:
            model = self._loaded.setdefault(path, model)
            self._loaded.move_to_end(path)
            while len(self._loaded) > self._max_loaded:
                self._loaded.popitem(last=False)
        return model

    def _discard(self, folder: Path) -> None:
        """Make a model disappear at once; the caller holds the shelf's lock, and empties the trash later."""
        with contextlib.suppress(FileNotFoundError):
            folder.rename(folder.with_name(f"{_TRASH}{folder.name}-{token_hex(4)}"))
        with self._loaded_lock:
            self._loaded.pop(folder / "model", None)


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


def _usable_name(name: str) -> str:
    seen = "".join(character for character in " ".join(name.split()) if character.isprintable())
    return seen[:_MAX_NAME_CHARS].strip() or "model"


def _described(about: ModelRecord, model: StaticModel, path: Path) -> ModelRecord:
    """The record with what the model and its files say of themselves."""
    return replace(
        about,
        teacher=about.teacher or model.base_model_name,
        dim=model.dim,
        n_rows=len(model.token_embeddings),
        n_tokens=len(model.tokens),
        dtype=str(model.token_embeddings.dtype),
        n_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    )


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
    """A record of what the model itself still tells: not its name and not its recipe."""
    try:
        model = StaticModel.from_pretrained(str(folder / "model"))
        about = ModelRecord(folder.name, f"Recovered {folder.name[:6]}", None, source="folder")
        about = replace(about, added_at=(folder / "model").stat().st_mtime)
        record = _described(about, model, folder / "model")
        replace_json(folder / "record.json", record.to_json())
    except (M2VError, OSError):
        return None
    return record


def _model_folders(shelf: Path) -> Iterator[Path]:
    return (path for path in shelf.iterdir() if _ID.fullmatch(path.name)) if shelf.is_dir() else iter(())


def _empty_trash(shelf: Path) -> None:
    """Remove what was discarded, and what a crash has left of models being added."""
    for path in shelf.glob(f"{_TRASH}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in shelf.glob(f"{_UNBORN}*"):
        if _age_seconds(path) > _SECONDS_TO_ADD:
            shutil.rmtree(path, ignore_errors=True)


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _not_found() -> NotFoundError:
    return NotFoundError("No such model among yours. It may have been deleted: look into your library.")


@contextlib.contextmanager
def _saving(what: str) -> Iterator[None]:
    """Turn a failed write into a SaveError that says what could not be written."""
    try:
        yield
    except M2VError:
        raise
    except OSError as error:
        raise SaveError(
            f"{what} can't be written: {error.strerror or error}. Free some space and try again."
        ) from error
