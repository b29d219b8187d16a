"""Files for download: creation, location and expiration."""

from __future__ import annotations

import functools
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from m2v_core.hub.cache import trim_hub_cache
from m2v_core.storage.atomic import saving
from m2v_core.storage.cache import select_evictions
from m2v_core.storage.card import rename_card
from m2v_core.storage.export import ExportFormat, write_zip
from m2v_core.storage.formats import CARD
from m2v_core.studio.jobs import Job
from m2v_core.studio.library import ModelRecord
from m2v_core.studio.space.settings import current_limits
from pages.components import data_folder, job_store
from pages.components.model_picker import model_library

logger = logging.getLogger(__name__)

_SERVED_SECONDS = 24 * 3600.0
_SECONDS_IN_USE = 600.0
_CLEANUP_SECONDS = 300.0


def served_folder() -> Path:
    """Folder of files for download. Anyone who has the URL of a file can download it."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or data_folder() / "served")


def serve(name: str, make: Callable[[Path], object], key: str | None = None) -> Path:
    """Return a file for download, creating it if necessary; an existing file is kept for another day.

    The URL is the only access control, so it must not be derivable from ids, which users may share.

    Args:
        name: Name of the file.
        make: Writes the file to a path.
        key: The source of the file, such as the id of a job; the file is then created once per run of the app. None
            always creates a new file.

    Raises:
        SaveError: Its folder can't be created.
    """
    file = served_folder() / (secrets.token_hex(16) if key is None else _served_key(key)) / name
    with suppress(OSError):
        os.utime(file.parent)
    if not file.exists():
        remove_old_files(served_folder())
        with saving(f"{name} for download"):
            file.parent.mkdir(parents=True, exist_ok=True)
        make(file)
    return file


@functools.lru_cache(maxsize=1000)
def _served_key(of: str) -> str:
    """An unguessable folder name, constant for a job or model while the app runs."""
    return secrets.token_hex(16)


def model_zip(owner: str, job: Job) -> Path:
    """Return the finished model as a ZIP.

    Raises:
        NotFoundError: The job has another owner, or is not done.
        SaveError: The archive can't be written.
    """
    if job.kind == "publish":
        model_folder = model_library().folder(str(job.parameters["model_id"]), owner)
    else:
        model_folder = job_store().result_folder(job.id, owner)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", job.title).strip("-.")[:80] or "model"
    return serve(f"{name}.zip", lambda path: write_zip(model_folder, path), job.id)


def result_file(owner: str, job: Job) -> Path:
    """Return the result file of a measurement.

    Raises:
        NotFoundError: The job has another owner, or is not done.
        SaveError: The file can't be copied.
    """
    result = next(job_store().result_folder(job.id, owner).glob("*.json"))

    def copy(path: Path) -> None:
        with saving(f"{result.name} for download"):
            shutil.copyfile(result, path)

    return serve(result.name, copy, job.id)


def archive_of(owner: str, model_id: str, format: ExportFormat | None = None) -> Path:
    """Return a model of the library as a ZIP.

    Args:
        format: Format of `StaticModel.export`; None for the model's files.

    Raises:
        NotFoundError: The model has another owner.
        InputError: The model can't be exported to this format.
        MissingExtraError: `"onnx"` without the package onnx.
        SaveError: The archive can't be written.
    """
    record = model_library().get(model_id, owner)

    def make(path: Path) -> None:
        if format is None:
            folder = model_library().folder(model_id, owner)
            write_zip(folder, path, card=_renamed_card(folder, path.stem) if record.source == "job" else None)
            return
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            exported = Path(work) / path.stem
            exported.mkdir()
            target = exported / "vectors.txt" if format == "word2vec" else exported
            model_library().load(model_id, owner).export(target, format)
            write_zip(exported, path)

    return serve(f"{file_name(record)}{f'-{format}' if format else ''}.zip", make, model_id)


def delete_model(owner: str, model_id: str) -> str:
    """Permanently delete a model with its archives and job, and return its name.

    Raises:
        NotFoundError: The model has another owner.
        SaveError: The model can't be deleted.
    """
    name = model_library().get(model_id, owner).name
    model_library().delete(model_id, owner)
    shutil.rmtree(served_folder() / _served_key(model_id), ignore_errors=True)
    return name


def file_name(record: ModelRecord) -> str:
    """The model's name without characters that are invalid in some file systems."""
    safe = "".join(character if character.isalnum() or character in "._-" else "-" for character in record.name)
    return re.sub("-{2,}", "-", safe).strip("-.") or "model"


def _renamed_card(folder: Path, name: str) -> str | None:
    """The card of a distilled model with its current name; None if it has no card."""
    with suppress(OSError, UnicodeDecodeError):
        return rename_card((folder / CARD).read_text(encoding="utf-8"), name, None)
    return None


def remove_old_files(folder: Path, age_seconds: float = _SERVED_SECONDS) -> None:
    """Remove uploads and archives that were not used for a day, then the oldest until the rest fits the limit.

    Files of the last ten minutes are kept, as they may be in use.
    """
    dated = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # another process may have removed it
            if path.is_dir():
                dated.append((path.stat().st_mtime, path, sum(file.stat().st_size for file in path.rglob("*"))))
    limit = current_limits().served_bytes
    for path in select_evictions(dated, max_size=limit, max_age_seconds=age_seconds, in_use_seconds=_SECONDS_IN_USE):
        shutil.rmtree(path, ignore_errors=True)


def clean_up() -> None:
    """Enforce the limits of served files and, on a Space, the Hub cache; never raises."""
    try:
        remove_old_files(served_folder())
        max_bytes = current_limits().hub_cache_bytes
        if max_bytes is not None:
            trim_hub_cache(max_bytes)
    except Exception:  # the thread must continue
        logger.exception("The cleanup failed.")


def start_cleanup() -> None:
    """Run `clean_up` periodically in a daemon thread."""

    def run() -> None:
        while True:
            clean_up()
            time.sleep(_CLEANUP_SECONDS)

    threading.Thread(target=run, name="m2v-cleanup", daemon=True).start()
