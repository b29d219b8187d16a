"""Runs UMAP in a separate process: it takes a minute, and its compiled loops would block all other threads."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import LimitError, M2VError, MissingExtraError
from m2v_core.exploration.projection import cached_umap_map, read_map, umap_key
from m2v_core.storage.atomic import replacing_file

_MAX_WAITING = 20
_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class PendingMap:
    """State of a requested map.

    Attributes:
        points: (n_rows, 2) float32; None until the map is ready.
        seconds: Seconds since the request.
        share: Completed share of the layout, 0 to 1; None before the layout starts.
        seconds_left: Estimated seconds until the layout is finished; None if unknown.
    """

    points: NDArray[np.float32] | None
    seconds: float
    share: float | None = None
    seconds_left: float | None = None


class MapMaker:
    """Computes UMAPs in separate processes and caches them in a folder.

    Maps that users wait for are computed one at a time; maps prepared in advance are computed one at a time as well, in
    another process.

    Args:
        folder: Folder of the cached maps; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="map-maker")
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="map-preparer")
        self._pending: dict[Path, tuple[Future[None], float]] = {}
        self._prepared: set[Path] = set()  # pending maps that no user waits for
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._pace = folder / "umap-pace.json"

    def get(self, rows: NDArray[np.float32], key: str | None = None, is_prepared: bool = False) -> PendingMap:
        """Return the state of the UMAP of these rows, and start computing it if needed; does not block.

        Args:
            rows: (n_rows, dim) float32, unit rows.
            key: Their `umap_key`, for callers that poll.
            is_prepared: Whether the map is computed in advance. Maps that users wait for are not queued behind these.

        Raises:
            MissingExtraError: umap-learn is not installed.
            LimitError: The queue is full.
            M2VError: Computing the map failed; the next call tries again.
        """
        key = key or umap_key(rows)
        path = self._path(key)
        with self._lock:
            self._drop_finished(path)
            future, asked_at = self._pending.get(path, (None, time.monotonic()))
            # Once a user waits for a prepared map, it leaves the queue of prepared maps.
            if future is not None and not is_prepared and path in self._prepared:
                self._prepared.remove(path)
                if future.cancel():
                    del self._pending[path]
                    future = None
            if future is not None and future.done():
                del self._pending[path]
                future.result()
            points = self.cached(key, len(rows))
            if points is not None:
                return PendingMap(points, time.monotonic() - asked_at)
            if future is None or future.done():
                if find_spec("umap") is None:
                    raise MissingExtraError("umap-learn", "app")
                if len(self._pending) >= _MAX_WAITING:
                    raise LimitError(f"The map queue is full ({_MAX_WAITING} maps). Try again later.")
                pool = self._preparing if is_prepared else self._pool
                self._pending[path] = pool.submit(self._make, rows, path), time.monotonic()
                if is_prepared:
                    self._prepared.add(path)
        seconds = time.monotonic() - asked_at
        share, left = _read_progress(_progress_file(path))
        if left is None and len(self._pending) == 1:
            left = self._seconds_left(len(rows), seconds)
        return PendingMap(None, seconds, share, left)

    def _drop_finished(self, kept: Path) -> None:
        """Drop finished maps other than `kept`, so that they no longer count as waiting."""
        for path in [path for path, (future, _) in self._pending.items() if path != kept and future.done()]:
            del self._pending[path]
        self._prepared &= self._pending.keys()

    def cached(self, key: str, n_rows: int) -> NDArray[np.float32] | None:
        """Return a UMAP that has been computed, (n_rows, 2) float32; None if it has not been.

        Args:
            key: `umap_key` of the rows.
            n_rows: Their number.
        """
        points = read_map(self._path(key))
        return points if points is not None and len(points) == n_rows else None

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _seconds_left(self, n_rows: int, seconds: float) -> float | None:
        """Estimate from the last map made here; None if its size differs too much, or once the estimate is exceeded."""
        try:
            last = json.loads(self._pace.read_text())
            n_last, left = last["n_rows"], last["seconds"] / last["n_rows"] * n_rows - seconds
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # Startup dominates the time of a small map, and umap-learn runs fewer epochs on a large one.
        return left if left > 0 and n_last / 2 <= n_rows <= 2 * n_last else None

    def _make(self, rows: NDArray[np.float32], path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".making-") as scratch:
            np.save(Path(scratch) / "rows.npy", rows)
            progress, started = str(_progress_file(path)), time.monotonic()
            command = [sys.executable, "-m", "m2v_core.exploration.background", scratch, str(self._folder), progress]
            try:
                self._run(command)
            finally:
                _progress_file(path).unlink(missing_ok=True)
            with contextlib.suppress(OSError), replacing_file(self._pace, is_synced=False) as unfinished:
                unfinished.write_text(json.dumps({"n_rows": len(rows), "seconds": time.monotonic() - started}))

    def _run(self, command: Sequence[str]) -> None:
        quiet = subprocess.DEVNULL
        # The process exits at the end of its input, which is when this process ends.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, env=_environment()
        ) as process:
            self._processes.add(process)
            try:
                code = process.wait(_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise M2VError(f"The UMAP took over {_TIMEOUT_SECONDS:.0f} seconds. Use the PCA map.") from error
            finally:
                self._processes.discard(process)
        if code:
            raise M2VError(
                "The UMAP could not be computed: its process ended early, possibly because it ran out of memory. "
                "Use the PCA map, or try again."
            )

    def close(self) -> None:
        """Stop computing maps; otherwise this process can't exit before they are finished."""
        for pool in (self._pool, self._preparing):
            pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            process.kill()


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _progress_file(map_path: Path) -> Path:
    return map_path.with_suffix(".progress")


def _read_progress(file: Path) -> tuple[float | None, float | None]:
    """Share and seconds left of a layout in progress; None for unknown values."""
    try:
        progress = json.loads(file.read_text())
        return float(progress["share"]), progress["seconds_left"]
    except (OSError, ValueError, KeyError, TypeError):  # not started, or just finished
        return None, None


def _progress_writer(file: Path) -> Callable[[int, int], None]:
    """Return a function that writes the progress of a layout to a file, at most twice per second."""
    first: list[tuple[int, float]] = []  # the rate excludes the first epoch, which compiles the loops
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
    # The package may be imported from a checkout that is not installed.
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _cache_compiled_code() -> None:
    """Let numba cache the compiled code of umap-learn on disk for later processes.

    umap-learn compiles most of its functions again in every process, which takes longer than a small map. Call this
    before importing umap. Functions that numba can't cache are compiled as before.
    """
    import numba

    def njit(*args: Any, **options: Any) -> Any:
        return plain_njit(*args, **(options | {"cache": True}))

    plain_njit = numba.njit
    numba.njit = njit


def main(scratch: str, folder: str, progress: str) -> None:
    """Compute the map of the rows in `scratch` and cache it in `folder`; write the progress to the file `progress`."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # searches have priority over maps, jobs don't
    _cache_compiled_code()
    cached_umap_map(np.load(Path(scratch) / "rows.npy"), Path(folder), _progress_writer(Path(progress)))


if __name__ == "__main__":
    main(*sys.argv[1:])
