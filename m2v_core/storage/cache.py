"""Caches with limits: objects in memory, arrays on disk with names from their content, and which files to evict."""

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

_MAX_ARRAYS = 200  # per kind; maps take at most 400 kB, groups half of that

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


class RecentlyUsed(Generic[Key, Item]):
    """An in-memory LRU cache; all threads get the same object for the same key.

    Args:
        max_items: Maximum number of items.
    """

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Key) -> bool:
        with self._lock:
            return key in self._items

    def get(self, key: Key) -> Item | None:
        """Return an item and mark it as used; None if it is not cached."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Key, item: Item) -> Item:
        """Add an item unless another thread was faster, and return the cached item."""
        with self._lock:
            item = self._items.setdefault(key, item)
            self._items.move_to_end(key)
            while len(self._items) > self._max_items:
                self._items.popitem(last=False)
        return item

    def remove(self, key: Key) -> None:
        """Remove an item."""
        with self._lock:
            self._items.pop(key, None)


def select_evictions(
    entries: Iterable[tuple[float, Item, int]],
    *,
    max_size: float | None = None,
    max_age_seconds: float | None = None,
    in_use_seconds: float = 0.0,
    held: int = 0,
) -> list[Item]:
    """Return the entries to remove, least recently used first.

    Args:
        entries: Time of last use (seconds since the epoch), item, and size in bytes or entries.
        max_size: Maximum total size; None for no limit.
        max_age_seconds: Remove entries unused for longer in any case; None for no limit.
        in_use_seconds: Keep entries used within this many seconds, even above `max_size`.
        held: Size of what counts but can't be removed.
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
    """Seconds since a file or folder was last modified; 0 if it no longer exists."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # removed in the meantime
        return 0.0


def content_key(kind: str, rows: NDArray[np.float32], *settings: int) -> str:
    """Return a cache key that depends only on the content of the rows, the kind and the settings.

    Args:
        kind: Kind of result, which starts the name: letters only.
        rows: (n_rows, dim) float32.
        settings: Everything else that determines the result.
    """
    import numpy as np

    digest = hashlib.sha256(f"{kind} {' '.join(map(str, settings))} {rows.shape}".encode())
    digest.update(np.ascontiguousarray(rows, dtype="<f4").data)
    return f"{kind}-{digest.hexdigest()[:40]}"


def read_array(path: Path) -> NDArray[Any] | None:
    """Return a cached array; None if it is missing or incomplete."""
    import numpy as np

    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array


def write_array(path: Path, array: NDArray[Any], what: str) -> None:
    """Write an array to the cache atomically, and evict the oldest of its kind beyond 200.

    Args:
        path: Where to write; its name starts with the kind and a hyphen.
        array: The array.
        what: Description for the message, capitalized.

    Raises:
        SaveError: The array can't be written.
    """
    import numpy as np

    with saving(f"{what} at {path}", "Free some space there."):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, array)
    kind = path.name.partition("-")[0]
    with contextlib.suppress(OSError):  # another process may be doing the same
        kept = [(file.stat().st_mtime, file, 1) for file in path.parent.glob(f"{kind}-*.npy")]
        for old in select_evictions(kept, max_size=_MAX_ARRAYS):
            old.unlink(missing_ok=True)
