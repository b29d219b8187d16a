"""The memory limit of a worker, and detection of errors caused by it."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource

_NEARLY_REACHED = 0.9
# Messages of failed allocations, excluding "CUDA out of memory", which this limit does not cause.
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|unable to allocate|bad_alloc|can't start new thread"
    r"|thread creation failed|failed to map segment|MemoryError",
    re.IGNORECASE,
)


def cap(memory_bytes: int | None) -> None:
    """Limit the private memory of this process on Linux; other systems have no limit.

    Sets RLIMIT_DATA: private writable memory, used or not. Importing torch and transformers takes 0.5 GiB of it,
    distilling all-MiniLM-L6-v2 0.85 GiB. RLIMIT_AS would also count address space that torch reserves or maps from
    files, which is twice as large; RLIMIT_RSS has no effect. Other systems accept RLIMIT_DATA and ignore it.

    Source: getrlimit(2).
    """
    if sys.platform.startswith("linux") and memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one of its causes, is a failed allocation."""
    link: BaseException | None = error
    # A library that can't be loaded because memory is full raises ImportError, so check the causes too.
    while link is not None:
        is_enomem = isinstance(link, OSError) and link.errno == errno.ENOMEM
        if isinstance(link, MemoryError) or is_enomem or reports_out_of_memory(str(link)):
            return True
        link = link.__cause__ or link.__context__
    return False


def is_nearly_reached() -> bool:
    """Whether this process uses 90% of its limit, so that unrelated errors may be caused by a lack of memory."""
    if not sys.platform.startswith("linux"):
        return False
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    status = Path("/proc/self/status").read_text("ascii")
    used = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return limit != resource.RLIM_INFINITY and used is not None and int(used[1]) * 1024 >= _NEARLY_REACHED * limit


def reports_out_of_memory(text: str) -> bool:
    """Whether a message or the end of a log reports a failed allocation."""
    return _OUT_OF_MEMORY.search(text) is not None


def message(memory_bytes: int | None) -> str:
    """The error message for a job that ran out of memory."""
    limit = "is available" if memory_bytes is None else f"the limit of {memory_bytes / 2**30:.3g} GiB for a job"
    return f"The job needed more memory than {limit}. Choose a smaller teacher or vocabulary."
