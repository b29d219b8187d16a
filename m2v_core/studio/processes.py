"""Unique process identities, and the environment of workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from m2v_core.native.cpus import TEACHER_ENVIRONMENT

# Environment variables that workers inherit: paths and settings, but no credentials such as HF_TOKEN.
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
    """A process identity that stays unique when the system reuses the process id.

    Attributes:
        pid: The process id.
        started: The start time, in a system-specific format.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The running process with this id; None if there is none, or if it is a zombie."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def own(cls) -> ProcessId:
        """The current process."""
        own = cls.of(os.getpid())
        # A system that does not report this process's start time does not report any.
        return own if own is not None else cls(os.getpid(), "")

    @property
    def is_alive(self) -> bool:
        """Whether this process, rather than a later one with the same id, is running."""
        return _started(self.pid) == self.started


def _started(pid: int) -> str | None:
    if not sys.platform.startswith("linux"):
        answer = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            # The same output for the same time, independent of the app's locale.
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        )
        status, _, started = answer.stdout.strip().partition(" ")
        return None if not started or status.startswith("Z") else started.strip()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses, which may contain any character; the third is the state,
    # and the 22nd the start time in clock ticks since boot. Source: proc_pid_stat(5).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{fields[19]}@{_boot_id()}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def worker_environment() -> dict[str, str]:
    """The environment of a worker, in which this copy of the package is imported."""
    environment = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    package_root = str(Path(__file__).resolve().parents[2])
    inherited = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, inherited]))
    environment["PYTHONSAFEPATH"] = "1"  # don't import from the working directory
    environment["PYTHONUNBUFFERED"] = "1"  # keep the last output of a killed worker
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # keep them out of the log
    return environment | TEACHER_ENVIRONMENT
