"""Adding, loading, selecting and deleting an owner's models; every call takes the owner."""

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
from m2v_core.studio.library.demo import DemoModel
from m2v_core.studio.library.shelf import (
    Contents,
    ModelRecord,
    Refusal,
    Shelf,
    Source,
    described,
    is_model_id,
    not_found,
    sanitize_name,
    unique_name,
    validate_name,
)

# Windows can't rename or delete a folder that contains a memory-mapped file.
_LOAD_IN_MEMORY = os.name == "nt"


class Library:
    """The models of all owners, stored in one folder.

        <root>/<hash of the owner>/   the `Shelf` of this owner

    Any number of libraries, threads and processes can share a folder. For another owner's model, every call raises
    `NotFoundError`, as if the model did not exist.

    Args:
        root: Folder of the models, created if missing and readable only by this user.
        jobs: Job store whose finished distillations are added to their owners' libraries; None for no jobs.
        demo: A model that every owner can load and select, but not change; it does not count toward any limit.
        max_models_per_owner: Maximum number of models of one owner.
        max_model_bytes: Maximum size of one model, unpacked.
        max_bytes: Maximum size of all models of all owners; None for no limit.
        keep_seconds: Delete models that were not opened for this long; None to keep them.
        max_loaded: Maximum number of models in memory.

    Attributes:
        demo: As passed.

    Raises:
        SaveError: `root` can't be created.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        jobs: JobStore | None = None,
        demo: DemoModel | None = None,
        max_models_per_owner: int = 200,
        max_model_bytes: int = 4 * 10**9,
        max_bytes: int | None = None,
        keep_seconds: float | None = None,
        max_loaded: int = 4,
    ) -> None:
        self._root = Path(root).expanduser().absolute()
        self._jobs = jobs
        self.demo = demo
        self._max_models_per_owner = max_models_per_owner
        self._max_model_bytes = max_model_bytes
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._loaded: RecentlyUsed[Path, StaticModel] = RecentlyUsed(max_loaded)
        with saving("The library's folder"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def contents(self, owner: str) -> Contents:
        """Return an owner's models, after trying to add newly finished distillations."""
        refused = self._add_finished_jobs(owner)
        shelf = self._shelf(owner)
        models, picked_id = shelf.records(), shelf.picked_id()
        demo = self.demo.record() if self.demo is not None else None
        is_pending = self.demo is not None and self.demo.is_pending
        contents = Contents(models, None, refused, demo, is_pending)
        offered = contents.offered
        picked = next((record for record in offered if record.id == picked_id), offered[0] if offered else None)
        return replace(contents, picked=picked)

    def list_models(self, owner: str) -> list[ModelRecord]:
        """Return this owner's models, as in `contents`."""
        return self.contents(owner).models

    def get(self, model_id: str, owner: str) -> ModelRecord:
        """Return the record of a model; its id may also be that of a finished distillation job.

        Raises:
            NotFoundError: The model does not exist, or has another owner.
        """
        record = self._demo_record(model_id) or self._shelf(owner).record(model_id)
        if record is None:
            with contextlib.suppress(NotFoundError):
                record = self.add_from_job(model_id, owner)
        if record is None:
            raise not_found()
        return record

    def get_own(self, model_id: str, owner: str) -> ModelRecord:
        """Return the record of a model that its owner may change or publish.

        Raises:
            NotFoundError: The model does not exist, or has another owner.
            InputError: It is the demo model.
        """
        if self._demo_record(model_id) is not None:
            raise InputError(
                "The demo model is shared by all users, so it can't be renamed, deleted or published. "
                "Distill your own model from the same teacher on Home."
            )
        return self.get(model_id, owner)

    def folder(self, model_id: str, owner: str) -> Path:
        """Return the saved model's folder; don't write to it.

        Raises:
            NotFoundError: The model does not exist, or has another owner.
        """
        self.get(model_id, owner)
        folder = self._shelf(owner).folder(model_id)
        if self.demo is not None and self._demo_record(model_id) is not None:
            folder = self.demo.folder()
        return folder / "model"

    def load(self, model_id: str, owner: str) -> StaticModel:
        """Load a model, or return the cached object if it was used recently.

        Raises:
            NotFoundError: The model does not exist, or has another owner.
            ModelFormatError: Its files are damaged.
        """
        path = self.folder(model_id, owner)
        if (model := self._loaded.get(path)) is not None:
            return model
        # Record the time of use; loading must also work on a read-only disk.
        with contextlib.suppress(OSError):
            (path.parent / "record.json").touch()
        return self._loaded.put(path, StaticModel.from_pretrained(str(path), load_in_memory=_LOAD_IN_MEMORY))

    def add_from_job(self, job_id: str, owner: str) -> ModelRecord:
        """Add the model of a finished distillation, unless it was already added, and return its record.

        Raises:
            NotFoundError: The job does not exist, has another owner, is not done, or is not a distillation.
            LimitError: The library is full.
            SaveError: The model can't be written.
        """
        if self._jobs is None or not is_model_id(job_id):
            raise not_found()
        job = self._jobs.get(job_id, owner)
        folder = self._jobs.result_folder(job_id, owner)
        if job.kind != "distill":
            raise NotFoundError(f"This job produced no model, because its kind is {job.kind!r}.")
        if (record := self._shelf(owner).record(job_id)) is not None:
            return record
        parameters = {name: value for name, value in job.parameters.items() if name not in AFTERWARDS}
        about = ModelRecord(
            job_id, sanitize_name(job.title), str(parameters.pop("model_name", "")) or None, parameters, "job"
        )
        about = replace(about, added_at=job.finished_at or time.time())
        return self._add(owner, about, lambda target: intake.copy_model_folder(folder, target, self._max_model_bytes))

    def add_from_folder(self, folder: str | Path, owner: str, name: str | None = None) -> ModelRecord:
        """Add a copy of the model in a local folder, which must be trusted because symbolic links are followed.

        Raises:
            NotFoundError: The folder does not exist.
            ModelFormatError: It contains no static model, or a damaged one.
            InputError: The name is invalid.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        folder = Path(folder).expanduser()
        about = self._about("folder", name, folder.absolute().name, folder.name)
        return self._add(owner, about, lambda target: intake.copy_model_folder(folder, target, self._max_model_bytes))

    def add_from_files(self, files: Mapping[str, Path], owner: str, name: str | None = None) -> ModelRecord:
        """Add a copy of a model that is passed as separate files.

        Args:
            files: Maps each path in the model's folder to a file: `{"config.json": ..., ...}`.
            owner: Owner of the model.
            name: Name of the model; None for the default.

        Raises:
            ModelFormatError: The files are not a static model, or are damaged.
            InputError: The name is invalid.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        about = self._about("files", name, "model", "")
        return self._add(owner, about, lambda target: intake.copy_model_files(files, target, self._max_model_bytes))

    def add_from_zip(self, zip_path: str | Path, owner: str, name: str | None = None) -> ModelRecord:
        """Add the model in an untrusted ZIP archive; see `intake.unpack_model` for what is rejected.

        Raises:
            NotFoundError: The file does not exist.
            ModelFormatError: It contains no static model, or a damaged one.
            InputError: The file is not a ZIP archive or is malicious, or the name is invalid.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        zip_path = Path(zip_path)
        about = self._about("zip", name, zip_path.stem, zip_path.name)
        return self._add(owner, about, lambda target: intake.unpack_model(zip_path, target, self._max_model_bytes))

    def add_from_hub(self, repo_id: str, owner: str, name: str | None = None) -> ModelRecord:
        """Add the current version of the model in a Hub repository.

        Raises:
            NotFoundError: The repository does not exist.
            HubError: The Hub can't be reached, or denies access.
            ModelFormatError: The repository contains no static model.
            InputError: The name is invalid.
            LimitError: The model is too large, or the library is full.
            SaveError: The model can't be written.
        """
        about = self._about("hub", name, repo_id.rpartition("/")[2], repo_id)

        def fill(target: Path) -> None:
            download.check_model_bytes(repo_id, self._max_model_bytes)
            intake.copy_model_folder(download.download_model(repo_id), target, self._max_model_bytes)

        return self._add(owner, about, fill)

    def rename(self, model_id: str, name: str, owner: str) -> ModelRecord:
        """Rename a model and return its new record.

        Raises:
            NotFoundError: The model does not exist, or has another owner.
            InputError: The name is empty, too long, or in use; or it is the demo model.
            SaveError: The record can't be written.
        """
        name = validate_name(name)
        self.get_own(model_id, owner)
        shelf = self._shelf(owner)
        with saving("The new name"), shelf.locked():
            record = self.get(model_id, owner)
            if any(other.name == name and other.id != model_id for other in shelf.records()):
                raise InputError(f"Another model is named {name!r}. Choose a different name.")
            record = replace(record, name=name)
            shelf.write_record(record)
        return record

    def delete(self, model_id: str, owner: str) -> None:
        """Delete a model and the job that created it.

        Raises:
            NotFoundError: The model does not exist, or has another owner.
            InputError: It is the demo model.
            SaveError: It can't be removed.
        """
        self.get_own(model_id, owner)
        shelf = self._shelf(owner)
        with saving("The library"), shelf.locked():
            # Delete the job first; otherwise its model would be added again.
            if self._jobs is not None:
                with contextlib.suppress(NotFoundError):
                    self._jobs.delete(model_id, owner)
            self._discard(shelf, model_id)
        shelf.empty_trash()

    def pick(self, model_id: str, owner: str) -> ModelRecord:
        """Select a model for this owner, on all pages.

        Raises:
            NotFoundError: The model does not exist, or has another owner.
            SaveError: The selection can't be written.
        """
        record = self.get(model_id, owner)
        shelf = self._shelf(owner)
        if self._demo_record(model_id) is not None and not shelf.records():
            return record  # already selected, until the user adds a first model
        with saving("The selection"), shelf.locked():
            shelf.pick(model_id)
        return record

    def picked(self, owner: str) -> ModelRecord | None:
        """Return the selected model, as in `contents`."""
        return self.contents(owner).picked

    def clean(self) -> list[str]:
        """Delete the models that were not opened for `keep_seconds`, and return their ids."""
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
        chosen = validate_name(name) if name and name.strip() else sanitize_name(fallback)
        return ModelRecord(token_hex(16), chosen, None, {}, source, origin, added_at=time.time())

    def _add(self, owner: str, about: ModelRecord, fill: Callable[[Path], None]) -> ModelRecord:
        """Fill a hidden folder, open the model in it, and move it to the shelf with a single rename."""
        shelf = self._shelf(owner)
        self.clean()
        with saving("The model"), shelf.new_folder() as staging:
            self._check_limits(shelf, 0)  # fail early; checked again below, under the lock
            fill(staging / "model")
            model = StaticModel.from_pretrained(str(staging / "model"), load_in_memory=_LOAD_IN_MEMORY)
            record = described(about, model, staging / "model")
            with shelf.locked():
                if (earlier := shelf.record(record.id)) is not None:
                    return earlier
                self._check_limits(shelf, record.n_bytes)
                record = replace(record, name=unique_name(record.name, {other.name for other in shelf.records()}))
                shelf.place(staging, record)
                if self._demo_record(shelf.picked_id() or "") is not None:
                    shelf.pick(record.id)
        self._loaded.put(shelf.folder(record.id) / "model", model)
        return record

    def _add_finished_jobs(self, owner: str) -> list[Refusal]:
        """Add newly finished distillations; return those that can't be added, oldest first."""
        refused: list[Refusal] = []
        if self._jobs is None:
            return refused
        shelf = self._shelf(owner)
        for job in reversed(self._jobs.list_jobs(owner)):
            if job.state == "done" and job.kind == "distill" and shelf.record(job.id) is None:
                try:
                    self.add_from_job(job.id, owner)
                except NotFoundError:  # deleted in the meantime
                    continue
                except M2VError as error:  # continue with the others
                    refused.append(Refusal(job.id, sanitize_name(job.title), str(error), isinstance(error, LimitError)))
        return refused

    def _check_limits(self, shelf: Shelf, n_bytes: int) -> None:
        n_own = len(shelf.records())
        if n_own >= self._max_models_per_owner:
            raise LimitError(
                f"Your library contains {n_own} models; the limit here is {self._max_models_per_owner} "
                "(max_models_per_owner). Delete one first."
            )
        if self._max_bytes is None:
            return
        n_held = sum(record.n_bytes for other in self._shelves() for record in other.records())
        if n_held + n_bytes > self._max_bytes:
            raise LimitError(
                f"The libraries of all users are full: together they can hold {self._max_bytes:,} bytes (max_bytes). "
                "Download the models that you don't need here, then delete them."
            )

    def _demo_record(self, model_id: str) -> ModelRecord | None:
        return self.demo.record() if self.demo is not None and model_id == self.demo.id else None

    def _shelf(self, owner: str) -> Shelf:
        return Shelf(self._root / hash_owner(owner))

    def _shelves(self) -> list[Shelf]:
        return [Shelf(path) for path in self._root.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _discard(self, shelf: Shelf, model_id: str) -> None:
        """Remove a model with a single rename; the caller holds the shelf's lock, and empties the trash later."""
        shelf.discard(model_id)
        self._loaded.remove(shelf.folder(model_id) / "model")
