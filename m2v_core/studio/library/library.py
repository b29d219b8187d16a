"""What an owner can do with their models; every call names the owner."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from m2v_core.errors import InputError, LimitError, M2VError, NotFoundError
from m2v_core.hub import download
from m2v_core.model import StaticModel
from m2v_core.storage import intake
from m2v_core.storage.atomic import saving
from m2v_core.storage.cache import RecentlyUsed, age_seconds
from m2v_core.studio.jobs import JobStore
from m2v_core.studio.jobs.kinds import AFTERWARDS
from m2v_core.studio.jobs.store import hash_owner
from m2v_core.studio.library.shelf import (
    Contents,
    ModelRecord,
    Refusal,
    Shelf,
    Source,
    checked_name,
    described,
    free_name,
    is_model_id,
    not_found,
    usable_name,
)

# Windows doesn't rename or delete a folder while a model maps a file in it.
_LOAD_IN_MEMORY = os.name == "nt"


class Library:
    """The models under one folder.

        <root>/<hash of the owner>/   the `Shelf` of this owner

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
        self._loaded: RecentlyUsed[Path, StaticModel] = RecentlyUsed(max_loaded)
        with saving("The library's folder"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def contents(self, owner: str) -> Contents:
        """All that an owner has here; distillations that have finished meanwhile are taken in first, or refused."""
        refused = self._adopt_all(owner)
        shelf = self._shelf(owner)
        models, picked_id = shelf.records(), shelf.picked_id()
        picked = next((record for record in models if record.id == picked_id), models[0] if models else None)
        return Contents(models, picked, refused)

    def list_models(self, owner: str) -> list[ModelRecord]:
        """This owner's models, as in `contents`."""
        return self.contents(owner).models

    def get(self, model_id: str, owner: str) -> ModelRecord:
        """What is known of a model; the id of a finished distillation will do.

        Raises:
            NotFoundError: No such model, or not this owner's.
        """
        shelf = self._shelf(owner)
        record = shelf.record(model_id)
        if record is None:
            with contextlib.suppress(NotFoundError):
                record = self.add_from_job(model_id, owner)
        if record is None:
            raise not_found()
        return record

    def folder(self, model_id: str, owner: str) -> Path:
        """The saved model's folder; read it, don't write to it.

        Raises:
            NotFoundError: No such model, or not this owner's.
        """
        self.get(model_id, owner)
        return self._shelf(owner).folder(model_id) / "model"

    def load(self, model_id: str, owner: str) -> StaticModel:
        """The model, from memory if it was used lately; the same object for the same model.

        Raises:
            NotFoundError: No such model, or not this owner's.
            ModelFormatError: Its files are damaged.
        """
        path = self.folder(model_id, owner)
        if (model := self._loaded.get(path)) is not None:
            return model
        # When it was used last; a disk that can't be written keeps nobody from reading.
        with contextlib.suppress(OSError):
            (path.parent / "record.json").touch()
        return self._loaded.put(path, StaticModel.from_pretrained(str(path), load_in_memory=_LOAD_IN_MEMORY))

    def add_from_job(self, job_id: str, owner: str) -> ModelRecord:
        """The model that a finished distillation made; added once, however often it is asked for.

        Raises:
            NotFoundError: No such job, not this owner's, not done, or no distillation.
            LimitError: The library is full.
            SaveError: The model can't be written.
        """
        if self._jobs is None or not is_model_id(job_id):
            raise not_found()
        job = self._jobs.get(job_id, owner)
        folder = self._jobs.result_folder(job_id, owner)
        if job.kind != "distill":
            raise NotFoundError(f"This job made no model: its kind is {job.kind!r}.")
        if (record := self._shelf(owner).record(job_id)) is not None:
            return record
        parameters = {name: value for name, value in job.parameters.items() if name not in AFTERWARDS}
        about = ModelRecord(
            job_id, usable_name(job.title), str(parameters.pop("model_name", "")) or None, parameters, "job"
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
            download.check_model_bytes(repo_id, self._max_model_bytes)
            intake.take_folder(download.download_model(repo_id), target, self._max_model_bytes)

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
        with saving("The new name"), shelf.locked():
            record = self.get(model_id, owner)
            if any(other.name == name and other.id != model_id for other in shelf.records()):
                raise InputError(f"Another model is called {name!r} already. Choose another name.")
            record = replace(record, name=name)
            shelf.write_record(record)
        return record

    def delete(self, model_id: str, owner: str) -> None:
        """Remove a model for good, with the job that made it.

        Raises:
            NotFoundError: No such model, or not this owner's.
            SaveError: It can't be removed.
        """
        self.get(model_id, owner)
        shelf = self._shelf(owner)
        with saving("The library"), shelf.locked():
            # The job goes first: one that is there would bring the model back.
            if self._jobs is not None:
                with contextlib.suppress(NotFoundError):
                    self._jobs.delete(model_id, owner)
            self._discard(shelf, model_id)
        shelf.empty_trash()

    def pick(self, model_id: str, owner: str) -> ModelRecord:
        """Make a model the one that this owner works with.

        Raises:
            NotFoundError: No such model, or not this owner's.
            SaveError: The choice can't be written.
        """
        record = self.get(model_id, owner)
        shelf = self._shelf(owner)
        with saving("The choice"), shelf.locked():
            shelf.pick(model_id)
        return record

    def picked(self, owner: str) -> ModelRecord | None:
        """The model that this owner works with, as in `contents`."""
        return self.contents(owner).picked

    def clean(self) -> list[str]:
        """The ids of the models removed: those that nobody has opened for `keep_seconds`."""
        removed: list[str] = []
        keep_seconds = float("inf") if self._keep_seconds is None else self._keep_seconds
        for shelf in self._shelves():
            for folder in shelf.folders():
                if age_seconds(folder / "record.json") > keep_seconds:
                    with contextlib.suppress(OSError), shelf.locked():
                        self._discard(shelf, folder.name)
                        removed.append(folder.name)
            shelf.empty_trash()
        return removed

    def _about(self, source: Source, name: str | None, fallback: str, origin: str) -> ModelRecord:
        chosen = checked_name(name) if name and name.strip() else usable_name(fallback)
        return ModelRecord(token_hex(16), chosen, None, {}, source, origin, added_at=time.time())

    def _add(self, owner: str, about: ModelRecord, fill: Callable[[Path], None]) -> ModelRecord:
        """Fill a folder nobody sees, open the model in it, and let it appear in one rename."""
        shelf = self._shelf(owner)
        self.clean()
        with saving("The model"), shelf.new_folder() as unborn:
            self._check_limits(shelf, 0)  # before the work, and again below, when nobody can come between
            fill(unborn / "model")
            model = StaticModel.from_pretrained(str(unborn / "model"), load_in_memory=_LOAD_IN_MEMORY)
            record = described(about, model, unborn / "model")
            with shelf.locked():
                if (earlier := shelf.record(record.id)) is not None:
                    return earlier
                self._check_limits(shelf, record.n_bytes)
                record = replace(record, name=free_name(record.name, {other.name for other in shelf.records()}))
                shelf.place(unborn, record)
        self._loaded.put(shelf.folder(record.id) / "model", model)
        return record

    def _adopt_all(self, owner: str) -> list[Refusal]:
        """Take in the distillations that have finished since someone last looked; those that can't be, oldest first."""
        refused: list[Refusal] = []
        if self._jobs is None:
            return refused
        shelf = self._shelf(owner)
        for job in reversed(self._jobs.list_jobs(owner)):
            if job.state == "done" and job.kind == "distill" and shelf.record(job.id) is None:
                try:
                    self.add_from_job(job.id, owner)
                except NotFoundError:  # gone meanwhile
                    continue
                except M2VError as error:  # must not keep the others from being seen
                    refused.append(Refusal(job.id, usable_name(job.title), str(error), isinstance(error, LimitError)))
        return refused

    def _check_limits(self, shelf: Shelf, n_bytes: int) -> None:
        n_own = len(shelf.records())
        if n_own >= self._max_models_per_owner:
            raise LimitError(
                f"Your library holds {n_own} models, and {self._max_models_per_owner} are allowed "
                "(max_models_per_owner). Delete one first."
            )
        if self._max_bytes is None:
            return
        n_held = sum(record.n_bytes for other in self._shelves() for record in other.records())
        if n_held + n_bytes > self._max_bytes:
            raise LimitError(
                f"All libraries here together may hold {self._max_bytes:,} bytes (max_bytes), and they are full. "
                "Download the models you don't need here, and delete them."
            )

    def _shelf(self, owner: str) -> Shelf:
        return Shelf(self._root / hash_owner(owner))

    def _shelves(self) -> list[Shelf]:
        return [Shelf(path) for path in self._root.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _discard(self, shelf: Shelf, model_id: str) -> None:
        """Make a model disappear at once; the caller holds the shelf's lock, and empties the trash later."""
        shelf.discard(model_id)
        self._loaded.forget(shelf.folder(model_id) / "model")
