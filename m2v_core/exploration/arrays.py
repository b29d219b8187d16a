"""Arrays kept on disk under a name that follows from what they were made of."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.storage.atomic import replacing_file, saving
from m2v_core.storage.cache import surplus

_MAX_CACHED = 200  # of one kind; maps take at most 400 kB, groups half of that


def content_key(kind: str, rows: NDArray[np.float32], *settings: int) -> str:
    """The name under which what was made of exactly these rows is kept; depends on their content alone.

    Args:
        kind: What was made: letters only, as it begins the name.
        rows: (n_rows, dim) float32.
        settings: Whatever else decides about it.
    """
    digest = hashlib.sha256(f"{kind} {' '.join(map(str, settings))} {rows.shape}".encode())
    digest.update(np.ascontiguousarray(rows, dtype="<f4").data)
    return f"{kind}-{digest.hexdigest()[:40]}"


def read_array(path: Path) -> NDArray[Any] | None:
    """A kept array; None if there is none, or no whole one."""
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array


def write_array(path: Path, array: NDArray[Any], what: str) -> None:
    """Keep an array: all of it or nothing. The oldest of its kind go once there are over 200.

    Args:
        path: Where to; its name begins with the kind and a hyphen.
        array: What to keep.
        what: What people call it, with a capital.

    Raises:
        SaveError: It can't be written.
    """
    with saving(f"{what} at {path}", "Make room there."):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, array)
    kind = path.name.partition("-")[0]
    with contextlib.suppress(OSError):  # another process may be doing the same
        kept = [(file.stat().st_mtime, file, 1) for file in path.parent.glob(f"{kind}-*.npy")]
        for old in surplus(kept, max_size=_MAX_CACHED):
            old.unlink(missing_ok=True)
