"""UMAP in a process of its own: it takes a minute, and its compiled loops would hold up every other thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import LimitError, M2VError, MissingExtraError
from m2v_core.exploration.projection import cached_umap_map, read_map, umap_key
from m2v_core.storage.atomic import replacing_file

_MAX_WAITING = 20
_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class PendingMap:
    """A map that is asked for.

    Attributes:
        points: (n_rows, 2) float32; None until it is ready.
        seconds: Since it was asked for.
        share: How much of the layout is done, 0 to 1; None before that has begun.
        seconds_left: Until it is done, at the pace so far; None before that is known.
    """

    points: NDArray[np.float32] | None
    seconds: float
    share: float | None = None
    seconds_left: float | None = None


class MapMaker:
    """Makes UMAPs one after another in processes of their own, and keeps them in a folder.

    Args:
        folder: Where maps are kept; made when absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="map-maker")
        self._pending: dict[Path, tuple[Future[None], float]] = {}
        self._lock = threading.Lock()

    def get(self, rows: NDArray[np.float32], key: str | None = None) -> PendingMap:
        """The UMAP of these rows if it is there; asks for it if nobody has. Returns at once.

        Args:
            rows: (n_rows, dim) float32, unit rows.
            key: Their `umap_key`, for callers who ask often.

        Raises:
            MissingExtraError: umap-learn is not installed.
            LimitError: Too many maps are asked for already.
            M2VError: It was tried, and failed; the next call tries again.
        """
        path = self._folder / f"{key or umap_key(rows)}.npy"
        with self._lock:
            future, asked_at = self._pending.get(path, (None, time.monotonic()))
            if future is not None and future.done():
                del self._pending[path]
                future.result()
            points = read_map(path)
            if points is not None and len(points) == len(rows):
                return PendingMap(points, time.monotonic() - asked_at)
            if future is None or future.done():
                if find_spec("umap") is None:
                    raise MissingExtraError("umap-learn", "app")
                if len(self._pending) >= _MAX_WAITING:
                    raise LimitError(f"{_MAX_WAITING} maps wait to be made, as many as are allowed. Try again later.")
                self._pending[path] = self._pool.submit(self._make, rows, path), time.monotonic()
        return PendingMap(None, time.monotonic() - asked_at, *_read_progress(_progress_file(path)))

    def _make(self, rows: NDArray[np.float32], path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".making-") as scratch:
            np.save(Path(scratch) / "rows.npy", rows)
            progress = str(_progress_file(path))
            command = [sys.executable, "-m", "m2v_core.exploration.background", scratch, str(self._folder), progress]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_SECONDS, env=_environment())
            except subprocess.TimeoutExpired as error:
                raise M2VError(f"The UMAP took over {_TIMEOUT_SECONDS:.0f} seconds. Look at the PCA map.") from error
            except subprocess.CalledProcessError as error:
                raise M2VError(
                    "The UMAP could not be made: its process ended early, perhaps for lack of memory. "
                    "Look at the PCA map, or try again."
                ) from error
            finally:
                _progress_file(path).unlink(missing_ok=True)


def _progress_file(map_path: Path) -> Path:
    return map_path.with_suffix(".progress")


def _read_progress(file: Path) -> tuple[float | None, float | None]:
    """Share and seconds left of a layout that is being made; None for what isn't known."""
    try:
        progress = json.loads(file.read_text())
        return float(progress["share"]), progress["seconds_left"]
    except (OSError, ValueError, KeyError, TypeError):  # not begun, or just over
        return None, None


def _progress_writer(file: Path) -> Callable[[int, int], None]:
    """Writes into a file how far a layout is, twice a second at most."""
    first: list[tuple[int, float]] = []  # the pace is that since the first epoch, in which loops are compiled
    written = 0.0

    def note(done: int, total: int) -> None:
        nonlocal written
        now = time.monotonic()
        if done and not first:
            first.append((done, now))
        if now - written < 0.5:
            return
        written = now
        left = None
        if first and done > first[0][0]:
            left = (now - first[0][1]) / (done - first[0][0]) * (total - done)
        with replacing_file(file, is_synced=False) as unfinished:
            unfinished.write_text(json.dumps({"share": done / total, "seconds_left": left}))

    return note


def _environment() -> dict[str, str]:
    # The package may run from a checkout that is not installed.
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def main(scratch: str, folder: str, progress: str) -> None:
    """Make the map of the rows in `scratch`, and keep it in `folder`; in the file `progress` stands how far it is."""
    if hasattr(os, "nice"):
        os.nice(10)  # searches go first
    cached_umap_map(np.load(Path(scratch) / "rows.npy"), Path(folder), _progress_writer(Path(progress)))


if __name__ == "__main__":
    main(*sys.argv[1:])
