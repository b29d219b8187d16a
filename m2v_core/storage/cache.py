"""Caches with limits: items in memory, arrays on disk named by what they were made of, and which files must go."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from m2v_core.storage.atomic import replacing_file, saving

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_ARRAYS = 200  # of one kind; maps take at most 400 kB, groups half of that

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


class RecentlyUsed(Generic[Key, Item]):
    """The items that were used last, in memory; every thread gets the same object for the same key.

    Args:
        max_items: How many are kept.
    """

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Key) -> bool:
        with self._lock:
            return key in self._items

    def get(self, key: Key) -> Item | None:
        """An item, which counts as used; None if it is not in memory."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Key, item: Item) -> Item:
        """The item under this key: this one, unless another thread was faster."""
        with self._lock:
            item = self._items.setdefault(key, item)
            self._items.move_to_end(key)
            while len(self._items) > self._max_items:
                self._items.popitem(last=False)
        return item

    def forget(self, key: Key) -> None:
        """Drop an item."""
        with self._lock:
            self._items.pop(key, None)


def surplus(
    entries: Iterable[tuple[float, Item, int]],
    *,
    max_size: float | None = None,
    max_age_seconds: float | None = None,
    in_use_seconds: float = 0.0,
    held: int = 0,
) -> list[Item]:
    """The entries to remove, the ones unused for longest first.

    Args:
        entries: When each was used last (seconds since the epoch), what it is, and its size in bytes or in entries.
        max_size: What all may have together; None for no limit.
        max_age_seconds: An entry unused for longer is removed in any case; None for no limit.
        in_use_seconds: An entry used within so many seconds stays, even if the rest then doesn't fit.
        held: The size of what counts but is not to be removed.
    """
    by_age = sorted(entries, key=lambda entry: entry[0])
    size = held + sum(entry_size for _, _, entry_size in by_age)
    now = time.time()
    removed = []
    for used_at, item, entry_size in by_age:
        is_old = max_age_seconds is not None and now - used_at > max_age_seconds
        is_too_much = max_size is not None and size > max_size and now - used_at >= in_use_seconds
        if is_old or is_too_much:
            removed.append(item)
            size -= entry_size
    return removed


def age_seconds(path: Path) -> float:
    """Seconds since a file or folder was last changed; 0 for one that is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def content_key(kind: str, rows: NDArray[np.float32], *settings: int) -> str:
    """The name under which what was made of exactly these rows is kept; depends on their content alone.

    Args:
        kind: What was made: letters only, as it begins the name.
        rows: (n_rows, dim) float32.
        settings: Whatever else decides about it.
    """
    import numpy as np

    digest = hashlib.sha256(f"{kind} {' '.join(map(str, settings))} {rows.shape}".encode())
    digest.update(np.ascontiguousarray(rows, dtype="<f4").data)
    return f"{kind}-{digest.hexdigest()[:40]}"


def read_array(path: Path) -> NDArray[Any] | None:
    """A kept array; None if there is none, or no whole one."""
    import numpy as np

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
    import numpy as np

    with saving(f"{what} at {path}", "Make room there."):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, array)
    kind = path.name.partition("-")[0]
    with contextlib.suppress(OSError):  # another process may be doing the same
        kept = [(file.stat().st_mtime, file, 1) for file in path.parent.glob(f"{kind}-*.npy")]
        for old in surplus(kept, max_size=_MAX_ARRAYS):
            old.unlink(missing_ok=True)
