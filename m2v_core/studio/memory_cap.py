"""The memory cap of a worker, and telling when it was met."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource

_NEARLY = 0.9
# What libraries say when an allocation fails; not a GPU's "CUDA out of memory", which no cap of ours caused.
_SHORTAGE = re.compile(
    r"can't allocate memory|cannot allocate memory|unable to allocate|bad_alloc|can't start new thread"
    r"|thread creation failed|failed to map segment|MemoryError",
    re.IGNORECASE,
)


def cap(memory_bytes: int | None) -> None:
    """Let this process have no more private memory than that, on Linux; elsewhere nothing happens.

    The cap is RLIMIT_DATA: private writable memory, used or not. Importing torch and transformers takes half
    a GiB of it, distilling all-MiniLM-L6-v2 0.85 GiB. RLIMIT_AS would also count what torch merely reserves
    or maps from files, twice as much; RLIMIT_RSS does nothing. Other systems take the number and ignore it.

    Source: getrlimit(2).
    """
    if sys.platform.startswith("linux") and memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def is_shortage(error: BaseException) -> bool:
    """Whether an error, or one that led to it, tells of an allocation that failed."""
    link: BaseException | None = error
    # Along the chain, since a library that can't be loaded for lack of memory looks like one not installed.
    while link is not None:
        is_enomem = isinstance(link, OSError) and link.errno == errno.ENOMEM
        if isinstance(link, MemoryError) or is_enomem or tells_of_shortage(str(link)):
            return True
        link = link.__cause__ or link.__context__
    return False


def is_nearly_met() -> bool:
    """Whether this process uses nine tenths of its cap: libraries that find no memory then raise errors of any kind."""
    if not sys.platform.startswith("linux"):
        return False
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    status = Path("/proc/self/status").read_text("ascii")
    used = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return limit != resource.RLIM_INFINITY and used is not None and int(used[1]) * 1024 >= _NEARLY * limit


def tells_of_shortage(text: str) -> bool:
    """Whether a message, or the end of a log, tells of an allocation that failed."""
    return _SHORTAGE.search(text) is not None


def message(memory_bytes: int | None) -> str:
    """The sentence for a job that ran out of memory."""
    limit = "there is" if memory_bytes is None else f"the {memory_bytes / 2**30:.3g} GiB that a job may use here"
    return f"The job needed more memory than {limit}. A smaller teacher or vocabulary needs less."
