"""The process that does one job: `python -m m2v_core.studio.jobs.worker`, started by its keeper.

It reads its orders from standard input, so that secrets pass through no file, argument or environment
variable. A second line there, or the end of it, asks it to stop. With `--spare` it has imported what distilling
takes when the orders come.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2v_core.errors import Cancelled, M2VError
from m2v_core.studio import memory_cap
from m2v_core.studio.jobs.folder import JobFolder
from m2v_core.studio.jobs.kinds import PRELOADED, WorkOrder, load_function
from m2v_core.studio.jobs.progress_log import ProgressWriter

if sys.platform != "win32":
    import resource

_PR_SET_PDEATHSIG = 1


def main(is_spare: bool) -> None:
    """Do the job and report; never returns."""
    faulthandler.enable()
    _live_modestly()  # before there are threads, which would not
    if is_spare:
        for module in PRELOADED:
            importlib.import_module(module)
    orders = json.loads(sys.stdin.readline() or "null")
    if orders is None:  # the keeper is gone, or there was nothing to do
        os._exit(1)
    folder = JobFolder(Path(orders["folder"]))
    memory_cap.cap(orders["memory_bytes"])
    cancel = threading.Event()
    threading.Thread(target=_listen, args=(cancel,), daemon=True).start()
    report = _report(folder, orders, cancel)
    if report["state"] != "done":  # first, as it may be what fills the disk
        shutil.rmtree(folder.staging, ignore_errors=True)
    folder.write_report(report)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not a plain return: the result is written, and leaving torch's way takes up to a second.
    os._exit(0)


def _report(folder: JobFolder, orders: Mapping[str, Any], cancel: threading.Event) -> dict[str, Any]:
    spec = folder.read_spec()
    if spec is None:
        return {"state": "failed", "message": "The record of this job is damaged. Start it again."}
    kept: list[Mapping[str, Any]] = []

    def keep(outcome: Mapping[str, Any]) -> None:
        """Write the end of the job down beforehand: should this process be killed, that is what counts."""
        kept[:] = [dict(outcome)]
        folder.write_report({"state": "done", "message": "Stopped before it was complete.", "outcome": kept[0]})

    def ended(state: str, message: str) -> dict[str, Any]:
        return (
            {"state": "done", "message": message, "outcome": kept[0]} if kept else {"state": state, "message": message}
        )

    try:
        folder.staging.mkdir()
        outcome = load_function(orders["target"])(
            WorkOrder(
                parameters=spec.parameters,
                texts=folder.read_texts(),
                secrets=orders["secrets"],
                staging=folder.staging,
                private_cache=folder.private_cache,
                shared_cache=folder.shared_cache,
                progress=ProgressWriter(folder.progress_file),
                cancel=cancel,
                teacher_parameters=orders["teacher_parameters"],
                keep=keep,
            )
        )
        json.dumps(outcome)  # what can't be written down is this job's failure, not the keeper's
    except Cancelled as error:
        return ended("cancelled", str(error) if kept else "Cancelled.")
    except Exception as error:
        # The one place where any error will do: whatever a library raises ends as a sentence for people, and
        # with all its detail in the log.
        traceback.print_exc()
        return ended("failed", _sentence(error, folder, orders["memory_bytes"]))
    return {"state": "done", "message": "Done.", "outcome": outcome}


def _sentence(error: Exception, folder: JobFolder, memory_bytes: int | None) -> str:
    if memory_cap.is_shortage(error):
        return memory_cap.message(memory_bytes)
    if isinstance(error, M2VError):
        # Where the server keeps its jobs is nobody's business.
        return str(error).replace(str(folder.path), "the job's folder")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Make room, or ask whoever runs this installation to, and start the job again."
    if memory_cap.is_nearly_met():
        return memory_cap.message(memory_bytes)
    return f"Something went wrong that was not foreseen. The details are in the log of job {folder.id}."


def _live_modestly() -> None:
    """Stay behind the app in line for the processor, and die with the keeper."""
    if sys.platform == "win32":
        return
    os.umask(0o077)
    os.nice(5)  # searches in the app go first; alone on the machine it costs nothing
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the secrets
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(cancel: threading.Event) -> None:
    """Ask the work to stop when the keeper says so; end the process when the keeper is gone."""
    line = sys.stdin.readline()
    cancel.set()
    if not line:
        time.sleep(2.0)
        os._exit(1)


if __name__ == "__main__":
    main(is_spare=sys.argv[1:] == ["--spare"])
