"""How many processors there are to use, and the environment of our own processes that run a teacher."""

from __future__ import annotations

import os

TEACHER_ENVIRONMENT = {
    # Threads that spin for long while they wait slow down whatever else runs on the same cores.
    "GOMP_SPINCOUNT": "20000",
    # Memory that one layer frees serves the next, where glibc would return it and fetch zeroed pages anew.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
}
"""To be set before such a process starts; never in the process of a user of the library."""

_most_cpus: int | None = None


def n_usable_cpus() -> int:
    """Processors that this process may use, 1 or more."""
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return n_cpus if _most_cpus is None else min(n_cpus, _most_cpus)


def limit_cpus(most: int) -> None:
    """Let this process, a worker of several on one machine, use no more threads than that.

    Tokenizers and pyarrow read the environment once, when they start their threads.
    """
    global _most_cpus
    if most < n_usable_cpus():
        _most_cpus = most
        os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(most)
