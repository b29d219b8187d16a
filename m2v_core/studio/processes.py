"""Processes that are told apart for good, and the environment they get."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from m2v_core.native.cpus import TEACHER_ENVIRONMENT

# What a worker may know of the app's environment: where things are, never who we are. HF_TOKEN is missing on
# purpose.
_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|LANG|LANGUAGE|LC_\w+|XDG_CACHE_HOME"
    r"|PYTHONPATH|VIRTUAL_ENV|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH"
    r"|HF_HOME|HF_HUB_CACHE|HUGGINGFACE_HUB_CACHE|HF_XET_CACHE|HF_ENDPOINT|HF_HUB_OFFLINE|TRANSFORMERS_OFFLINE"
    r"|HF_HUB_DISABLE_\w+|HF_HUB_DOWNLOAD_TIMEOUT|HF_HUB_ETAG_TIMEOUT"
    r"|HF_TOKEN_PATH|TORCH_HOME|NUMBA_CACHE_DIR|CUDA_VISIBLE_DEVICES|CUDA_HOME"
    r"|TOKENIZERS_PARALLELISM|OMP_NUM_THREADS|MKL_NUM_THREADS|OPENBLAS_NUM_THREADS|NUMBA_NUM_THREADS"
    r"|(?i:(?:http|https|all|no)_proxy)|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
)


@dataclass(frozen=True)
class ProcessId:
    """A process that no later one can be mistaken for.

    Attributes:
        pid: The number, which the system uses again.
        started: When it started, in whatever form the system tells.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this number now; None when there is none, or only its zombie."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def own(cls) -> ProcessId:
        """This very process."""
        own = cls.of(os.getpid())
        # A system that won't tell the start time of this process won't tell that of another either.
        return own if own is not None else cls(os.getpid(), "")

    @property
    def is_alive(self) -> bool:
        """Whether this process, and not a later one of the same number, is running."""
        return _started(self.pid) == self.started


def _started(pid: int) -> str | None:
    if not sys.platform.startswith("linux"):
        answer = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            # The same words for the same time, whatever the settings of the app that asks.
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        )
        status, _, started = answer.stdout.strip().partition(" ")
        return None if not started or status.startswith("Z") else started.strip()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold anything; the state is the third, and
    # the start, in clock ticks since boot, the 22nd. Source: proc_pid_stat(5).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{fields[19]}@{_boot_id()}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def worker_environment() -> dict[str, str]:
    """The few variables a worker needs; it finds this very copy of the package first."""
    environment = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    package_root = str(Path(__file__).resolve().parents[2])
    inherited = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, inherited]))
    environment["PYTHONSAFEPATH"] = "1"  # nothing is imported from wherever the app was started
    environment["PYTHONUNBUFFERED"] = "1"  # what a killed worker printed last is in its log
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # they would fill the log
    return environment | TEACHER_ENVIRONMENT
