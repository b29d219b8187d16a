"""The process that runs one job: `python -m m2v_core.studio.jobs.worker`, started by its supervisor.

It reads its orders from standard input, so that secrets are not in files, arguments or environment variables. A second
line, or the end of the input, stops the job. With `--spare` it imports the distillation modules before reading.
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
    """Run the job and write the report; never returns."""
    faulthandler.enable()
    _configure_process()  # before starting threads, which inherit the priority
    if is_spare:
        for module in PRELOADED:
            importlib.import_module(module)
    orders = json.loads(sys.stdin.readline() or "null")
    if orders is None:  # the supervisor is dead, or the spare worker is not needed
        os._exit(1)
    folder = JobFolder(Path(orders["folder"]))
    memory_cap.cap(orders["memory_bytes"])
    cancel = threading.Event()
    threading.Thread(target=_listen, args=(cancel,), daemon=True).start()
    report = _report(folder, orders, cancel)
    if report["state"] != "done":  # before the report, as staging may fill the disk
        shutil.rmtree(folder.staging, ignore_errors=True)
    folder.write_report(report)
    sys.stdout.flush()
    sys.stderr.flush()
    # The result is written, and a normal exit with torch takes up to a second.
    os._exit(0)


def _report(folder: JobFolder, orders: Mapping[str, Any], cancel: threading.Event) -> dict[str, Any]:
    spec = folder.read_spec()
    if spec is None:
        return {"state": "failed", "message": "The record of this job is damaged. Start it again."}
    committed: dict[str, Any] | None = None

    def commit(outcome: Mapping[str, Any]) -> None:
        """Write a provisional report, which is used if this process is killed."""
        nonlocal committed
        committed = dict(outcome)
        folder.write_report({"state": "done", "message": "Stopped before it was complete.", "outcome": committed})

    def ended(state: str, message: str) -> dict[str, Any]:
        if committed is None:
            return {"state": state, "message": message}
        return {"state": "done", "message": message, "outcome": committed}

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
                commit=commit,
            )
        )
        json.dumps(outcome)  # fail the job if its outcome is not JSON
    except Cancelled as error:
        return ended("cancelled", "Cancelled." if committed is None else str(error))
    except Exception as error:
        # Library errors are reported to users as a message; the traceback goes to the log.
        traceback.print_exc()
        return ended("failed", _error_message(error, folder, orders["memory_bytes"]))
    return {"state": "done", "message": "Done.", "outcome": outcome}


def _error_message(error: Exception, folder: JobFolder, memory_bytes: int | None) -> str:
    if memory_cap.is_out_of_memory(error):
        return memory_cap.message(memory_bytes)
    if isinstance(error, M2VError):
        # Don't reveal server paths.
        return str(error).replace(str(folder.path), "the job's folder")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The server's disk is full. Ask the administrator to free up space, then start the job again."
    if memory_cap.is_nearly_reached():
        return memory_cap.message(memory_bytes)
    return f"An unexpected error occurred. The details are in the log of job {folder.id}."


def _configure_process() -> None:
    """Lower the priority, disable core dumps, and on Linux exit when the supervisor does."""
    if sys.platform == "win32":
        return
    os.umask(0o077)
    os.nice(5)  # searches in the app have priority
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would contain secrets
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(cancel: threading.Event) -> None:
    """Cancel the job when the supervisor requests it; exit if the supervisor is dead."""
    line = sys.stdin.readline()
    cancel.set()
    if not line:
        time.sleep(2.0)
        os._exit(1)


if __name__ == "__main__":
    main(is_spare=sys.argv[1:] == ["--spare"])
