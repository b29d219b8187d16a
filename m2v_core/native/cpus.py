"""The number of usable processors, and environment variables for processes that run a teacher."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TEACHER_ENVIRONMENT = {
    # Waiting threads that spin for a long time slow down other work on the same cores.
    "GOMP_SPINCOUNT": "20000",
    # Reuse memory freed by one layer for the next: glibc would return it to the system and fetch zeroed pages.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
}
"""Set before such a process starts; never in a process of the library's users."""

_max_cpus: int | None = None


@dataclass(frozen=True)
class CpuTimes:
    """A reading of the processors that this process may use, in seconds since different origins.

    Attributes:
        at: Time of the reading.
        used: CPU time of all programs and of a hypervisor, over all these processors.
        own: CPU time of this process.
        n_cpus: Number of these processors.
    """

    at: float
    used: float
    own: float
    n_cpus: int

    def other_load(self, since: CpuTimes) -> float:
        """Mean share of the processors that other programs used since an earlier reading, 0 to 1."""
        others = (self.used - since.used) - (self.own - since.own)
        return min(1.0, max(0.0, others / ((self.at - since.at) * self.n_cpus)))


def read_cpu_times() -> CpuTimes | None:
    """Read the CPU times now; None where the system does not report them, which only Linux does.

    Source: https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat
    """
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    used = 0
    for name, *ticks in (line.split() for line in lines if line.startswith("cpu")):
        if name in names:
            user, nice, system, _idle, _io_wait, interrupts, soft_interrupts, stolen = map(int, ticks[:8])
            used += user + nice + system + interrupts + soft_interrupts + stolen
    return CpuTimes(time.perf_counter(), used / os.sysconf("SC_CLK_TCK"), time.process_time(), len(names))


def n_usable_cpus() -> int:
    """Return the number of processors that this process may use, 1 or more."""
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return n_cpus if _max_cpus is None else min(n_cpus, _max_cpus)


def limit_cpus(max_cpus: int) -> None:
    """Limit the threads of this process, one of several workers on a machine, to `max_cpus`.

    Tokenizers and pyarrow read the environment variables only once, when they start their threads.
    """
    global _max_cpus
    if max_cpus < n_usable_cpus():
        _max_cpus = max_cpus
        os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(max_cpus)
