"""The demo model, which every owner can load and nobody can change."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from m2v_core._version import __version__
from m2v_core.errors import M2VError, SaveError
from m2v_core.model import StaticModel
from m2v_core.storage.atomic import exclusive
from m2v_core.studio.jobs.folder import JobFolder
from m2v_core.studio.jobs.records import SpecRecord
from m2v_core.studio.library.shelf import ModelRecord, Shelf, described
from m2v_core.studio.processes import worker_environment

NAME = "Demo"
_SETTINGS = {"recipe": "fast", "pca_dims": 256}
_TARGET = "m2v_core.studio.work.demo:distill_demo"
_MAX_SECONDS = 1800.0
_IDLE_POLL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class DemoModel:
    """A small model of one teacher, distilled once per release in the background.

        <root>/<teacher, settings and version>/   a `Shelf` that contains only this model
        <root>/.making/                           the folder of its worker, with the layout of a job folder
        <root>/.lock                              held by the process that distills the model

    Any number of app processes can share `root`: one distills the model while the others wait.

    Args:
        root: Folder of the demo model; created when the model is distilled.
        teacher: Hub name or folder of the teacher.

    Attributes:
        id: Id of the model; the same in all processes of this release.
        is_pending: Whether `make_in_background` has not finished yet.
    """

    def __init__(self, root: Path, teacher: str) -> None:
        slug = re.sub(r"[^a-z0-9.]+", "-", Path(teacher).name.lower())
        key = f"{slug}-{_SETTINGS['recipe']}-{_SETTINGS['pca_dims']}-v{__version__}"
        self.id = hashlib.sha256(key.encode()).hexdigest()[:32]
        self.is_pending = False
        self._root = root
        self._teacher = teacher
        self._shelf = Shelf(root / key)
        self._record: ModelRecord | None = None

    def record(self) -> ModelRecord | None:
        """Return the record of the model; None until the model is distilled."""
        if self._record is None:
            self._record = self._shelf.record(self.id)
        return self._record

    def folder(self) -> Path:
        """Return the folder that contains `record.json` and `model/`."""
        return self._shelf.folder(self.id)

    def make_in_background(self, is_idle: Callable[[], bool], delay_seconds: float = 5.0) -> threading.Thread | None:
        """Distill the model in a worker process with the lowest priority, started by a daemon thread.

        The worker exits when this process does. If it fails, the reason is logged, and there is no demo model.

        Args:
            is_idle: Returns whether no job is queued or running; the worker starts only then.
            delay_seconds: Seconds to wait first.

        Returns:
            The thread; None if the model exists.
        """
        if self.record() is not None:
            return None
        self.is_pending = True
        thread = threading.Thread(target=self._make_when_idle, args=(is_idle, delay_seconds), daemon=True)
        thread.start()
        return thread

    def place(self, folder: Path) -> None:
        """Move a saved model to `root` with a single rename, and delete the demo models of other releases.

        Raises:
            ModelFormatError: `folder` is not a static model.
            SaveError: The model can't be written.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In memory, because Windows can't rename a folder that contains a memory-mapped file.
        model = StaticModel.from_pretrained(str(folder), load_in_memory=True)
        about = ModelRecord(self.id, NAME, self._teacher, _SETTINGS, added_at=time.time())
        with self._shelf.new_folder() as staging:
            (staging / "model").rmdir()
            folder.rename(staging / "model")
            self._shelf.discard(self.id)  # may exist but be damaged
            self._shelf.place(staging, described(about, model, staging / "model"))
        self._shelf.empty_trash()
        for other in self._root.iterdir():
            if other.is_dir() and other not in (self._shelf.path, folder.parent):
                shutil.rmtree(other, ignore_errors=True)

    def _make_when_idle(self, is_idle: Callable[[], bool], delay_seconds: float) -> None:
        try:
            time.sleep(delay_seconds)
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with exclusive(self._root / ".lock"):
                while self.record() is None and not is_idle():
                    time.sleep(_IDLE_POLL_SECONDS)
                if self.record() is None:  # another process may have distilled it
                    self._make()
        except (M2VError, OSError, subprocess.SubprocessError) as error:
            logger.warning("The demo model could not be distilled: %s", error)
        finally:
            self.is_pending = False

    def _make(self) -> None:
        making = JobFolder(self._root / ".making")
        shutil.rmtree(making.path, ignore_errors=True)  # left over from a killed process
        making.path.mkdir(mode=0o700)
        try:
            parameters = {"model_name": self._teacher, **_SETTINGS}
            making.write_spec(SpecRecord("", "distill", NAME, parameters, time.time(), needs_secrets=False))
            _run_worker(making)
            report = making.read_report() or {"state": "failed", "message": making.read_log(1000)}
            if report["state"] != "done":
                raise SaveError(report["message"])
            self.place(making.staging)
        finally:
            shutil.rmtree(making.path, ignore_errors=True)


def _run_worker(making: JobFolder) -> None:
    """Run a worker to completion without a supervisor, so that it exits as soon as this process closes its input.

    Raises:
        SubprocessError: The worker exceeds the time limit.
    """
    orders: dict[str, Any] = {
        "folder": str(making.path),
        "target": _TARGET,
        "secrets": {},
        "memory_bytes": None,
        "teacher_parameters": None,
    }
    with making.log_file.open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "m2v_core.studio.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # In offline mode, the bundled copy of the teacher is loaded.
            env=worker_environment() | {"HF_HUB_OFFLINE": "1"},
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
    assert worker.stdin is not None
    try:
        worker.stdin.write(json.dumps(orders) + "\n")
        worker.stdin.flush()
        worker.wait(_MAX_SECONDS)
    finally:
        worker.kill()
        worker.wait()
        worker.stdin.close()
