"""Files for download: what jobs and models made, where the app serves it from, and for how long."""

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
from m2v_core.storage.cache import surplus
from m2v_core.storage.card import retitled
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
_SECONDS_BETWEEN_LOOKS = 300.0


def served_folder() -> Path:
    """Where files for download are put: whoever knows the address of a file in here can fetch it."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or data_folder() / "served")


def serve(name: str, make: Callable[[Path], object], key: str | None = None) -> Path:
    """A file in a place the app serves from; one that is there already stays for another day.

    Its address is the only key to it, so that must not follow from an id, which people pass on.

    Args:
        name: What it is called.
        make: Writes it to a path.
        key: What it is made of, such as the id of a job: it is made once, as long as the app runs. None for anew.

    Raises:
        SaveError: Its folder can't be made.
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
    """A name that nobody can guess, the same for one job or model as long as the app runs."""
    return secrets.token_hex(16)


def model_zip(owner: str, job: Job) -> Path:
    """The finished model as a ZIP.

    Raises:
        NotFoundError: Not this owner's job, or not done.
        SaveError: The archive can't be written.
    """
    if job.kind == "publish":
        model_folder = model_library().folder(str(job.parameters["model_id"]), owner)
    else:
        model_folder = job_store().result_folder(job.id, owner)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", job.title).strip("-.")[:80] or "model"
    return serve(f"{name}.zip", lambda path: write_zip(model_folder, path), job.id)


def result_file(owner: str, job: Job) -> Path:
    """The one file that a measurement made.

    Raises:
        NotFoundError: Not this owner's job, or not done.
        SaveError: It can't be copied there.
    """
    made = next(job_store().result_folder(job.id, owner).glob("*.json"))

    def copy(path: Path) -> None:
        with saving(f"{made.name} for download"):
            shutil.copyfile(made, path)

    return serve(made.name, copy, job.id)


def archive_of(owner: str, model_id: str, format: ExportFormat | None = None) -> Path:
    """A model of the library as a ZIP.

    Args:
        format: What `StaticModel.export` writes; None for the model's own files.

    Raises:
        NotFoundError: Not this owner's model.
        InputError: The model doesn't fit into this format.
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
    """Delete a model for good, with its archive and the job that made it; returns its name.

    Raises:
        NotFoundError: Not this owner's model.
        SaveError: It can't be removed.
    """
    name = model_library().get(model_id, owner).name
    model_library().delete(model_id, owner)
    shutil.rmtree(served_folder() / _served_key(model_id), ignore_errors=True)
    return name


def file_name(record: ModelRecord) -> str:
    """What the model's files are called: its name, without what some file systems refuse."""
    safe = "".join(character if character.isalnum() or character in "._-" else "-" for character in record.name)
    return re.sub("-{2,}", "-", safe).strip("-.") or "model"


def _renamed_card(folder: Path, name: str) -> str | None:
    """The card of a model made here under the name that it has now; None without one."""
    with suppress(OSError, UnicodeDecodeError):
        return retitled((folder / CARD).read_text(encoding="utf-8"), name, None)
    return None


def remove_old_files(folder: Path, age_seconds: float = _SERVED_SECONDS) -> None:
    """Remove what nobody was given for over a day: uploads, and archives that can be made again.

    Then the oldest of the rest until it fits on the disk, but nothing of the last minutes, which may be in use.
    """
    dated = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # somebody else may have removed it
            if path.is_dir():
                dated.append((path.stat().st_mtime, path, sum(file.stat().st_size for file in path.rglob("*"))))
    limit = current_limits().served_bytes
    for path in surplus(dated, max_size=limit, max_age_seconds=age_seconds, in_use_seconds=_SECONDS_IN_USE):
        shutil.rmtree(path, ignore_errors=True)


def tidy_up() -> None:
    """Keep what is served, and on a Space the Hub's cache, within their limits; never raises."""
    try:
        remove_old_files(served_folder())
        most_bytes = current_limits().hub_cache_bytes
        if most_bytes is not None:
            trim_hub_cache(most_bytes)
    except Exception:  # the last frame of ours: another time it may work
        logger.exception("Nothing could be tidied up.")


def keep_tidy() -> None:
    """Tidy up now and then, in a thread that ends with the app."""

    def go_on() -> None:
        while True:
            tidy_up()
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    threading.Thread(target=go_on, name="m2v-tidy", daemon=True).start()
