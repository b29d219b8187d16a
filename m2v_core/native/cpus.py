"""How many processors there are to use."""

from __future__ import annotations

import os


def n_usable_cpus() -> int:
    """Processors that this process may run on, 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
