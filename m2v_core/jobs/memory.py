"""The memory cap of a worker, and telling when it was met."""

from __future__ import annotations

import errno
import re
import sys

if sys.platform != "win32":
    import resource

# What libraries say when an allocation fails; not a GPU's "CUDA out of memory", which no cap of ours caused.
_SHORTAGE = re.compile(
    r"can't allocate memory|cannot allocate memory|unable to allocate|bad_alloc|can't start new thread"
    r"|thread creation failed|MemoryError",
    re.IGNORECASE,
)


def cap(memory_bytes: int | None) -> None:
    """Let this process have no more private memory than that, on Linux; elsewhere nothing happens.

    The cap is RLIMIT_DATA: private writable memory, used or not. Importing torch and transformers takes half
    a GiB of it, distilling all-MiniLM-L6-v2 about one. RLIMIT_AS would also count what torch merely reserves
    or maps from files, twice as much and more; RLIMIT_RSS does nothing. Other systems take the number and
    ignore it.

    Source: getrlimit(2).
    """
    if sys.platform.startswith("linux") and memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def is_shortage(error: Exception | str) -> bool:
    """Whether an error, or the end of a log, tells of an allocation that failed."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return _SHORTAGE.search(str(error)) is not None


def message(memory_bytes: int | None) -> str:
    """The sentence for a job that ran out of memory."""
    limit = (
        "there is" if memory_bytes is None else f"the {memory_bytes / 2**30:.3g} GiB that a job may use here"
    )
    return f"The job needed more memory than {limit}. A smaller teacher or vocabulary needs less."
