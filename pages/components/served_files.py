"""Files for download: what a finished job made, where the app serves it from, and for how long."""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from m2v_core.storage.atomic import saving
from m2v_core.storage.cache import surplus
from m2v_core.storage.export import write_zip
from m2v_core.studio.jobs import Job
from m2v_core.studio.space.settings import current_limits
from pages.components import data_folder, job_store
from pages.components.model_picker import model_library

_SERVED_SECONDS = 24 * 3600.0
_SECONDS_IN_USE = 600.0


def served_folder() -> Path:
    """Where files for download are put: whoever knows the address of a file in here can fetch it."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or data_folder() / "served")


def model_zip(owner: str, job: Job) -> Path:
    """The finished model as a ZIP, in a place the app serves from.

    Raises:
        NotFoundError: Not this owner's job, or not done.
        SaveError: The archive can't be written.
    """
    if job.kind == "publish":
        model_folder = model_library().folder(str(job.parameters["model_id"]), owner)
    else:
        model_folder = job_store().result_folder(job.id, owner)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", job.title).strip("-.")[:80] or "model"
    # The address is the only key to the file, so it must not follow from the job's id, which people pass on.
    zip_path = served_folder() / served_key(job.id) / f"{name}.zip"
    if not is_served(zip_path):
        remove_old_files(served_folder())
        zip_path.parent.mkdir(parents=True, exist_ok=True)
        write_zip(model_folder, zip_path)
    return zip_path


def result_file(owner: str, job: Job) -> Path:
    """The one file that a measurement made, in a place the app serves from.

    Raises:
        NotFoundError: Not this owner's job, or not done.
        SaveError: It can't be copied there.
    """
    made = next(job_store().result_folder(job.id, owner).glob("*.json"))
    served = served_folder() / served_key(job.id) / made.name
    if not is_served(served):
        remove_old_files(served_folder())
        with saving(f"{made.name} for download"):
            served.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, served)
    return served


@functools.lru_cache(maxsize=1000)
def served_key(of: str) -> str:
    """A name that nobody can guess, the same for one job or model as long as the app runs."""
    return secrets.token_hex(16)


def is_served(file: Path) -> bool:
    """Whether a file is there to be handed out; one that is stays for another day."""
    with suppress(OSError):
        os.utime(file.parent)
    return file.exists()


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
