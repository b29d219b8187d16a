from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from m2v_core.errors import InputError, M2VError, MissingExtraError
from m2v_core.exploration import background
from m2v_core.exploration.background import MapMaker
from m2v_core.exploration.projection import (
    cached_umap_map,
    pca_map,
    read_map,
    sample_rows,
    umap_key,
    umap_map,
)
from m2v_core.native.cosines import unit_rows
from m2v_core.storage import cache
from m2v_core.storage.cache import write_array


def clusters(n_rows: int, n_clusters: int = 3, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around a few directions, and the direction of each row."""
    rng = np.random.default_rng(0)
    members = np.arange(n_rows) % n_clusters
    centres = rng.normal(size=(n_clusters, dim)) * 3
    return unit_rows(centres[members] + rng.normal(size=(n_rows, dim)) * 0.3), members


def test_pca_equals_the_singular_vectors() -> None:
    rows, _ = clusters(300)
    points = pca_map(rows)
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    slow = centred @ directions[:2].T
    slow *= np.sign(slow[np.abs(slow).argmax(axis=0), [0, 1]])
    np.testing.assert_allclose(points, slow, atol=1e-4)
    assert (points[np.abs(points).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (2, 4), (5, 1), (5, 2)])
def test_pca_of_few_rows_or_columns(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    points = pca_map(rows)
    assert points.shape == (shape[0], 2) and points.dtype == np.float32
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(pca_map(np.ones((4, 3), dtype=np.float32)), np.zeros((4, 2)))


def test_sample() -> None:
    np.testing.assert_array_equal(sample_rows(5), np.arange(5))
    np.testing.assert_array_equal(sample_rows(5, 5), np.arange(5))
    drawn = sample_rows(60_000)
    assert len(drawn) == 50_000 and (np.diff(drawn) > 0).all() and drawn[-1] < 60_000
    np.testing.assert_array_equal(drawn, sample_rows(60_000))
    # Even: each tenth contains about a tenth of the sample.
    assert np.histogram(drawn, 10, (0, 60_000))[0] == pytest.approx(5000, rel=0.05)
    with pytest.raises(InputError, match="max_points is 0"):
        sample_rows(3, 0)


def test_the_key_depends_on_the_content() -> None:
    rows, _ = clusters(40)
    assert umap_key(rows.copy()) == umap_key(rows)
    changed = rows.copy()
    changed[7, 3] += 1e-6
    assert len({umap_key(rows), umap_key(rows[:39]), umap_key(changed)}) == 3


def test_invalid_cached_maps_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "umap-a.npy"
    assert read_map(path) is None
    write_array(path, np.ones((3, 2), dtype=np.float32), "The map")
    np.testing.assert_array_equal(read_map(path), np.ones((3, 2)))
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], whole[:-1]):
        path.write_bytes(damaged)
        assert read_map(path) is None
    for other in (np.ones((3, 3), np.float32), np.full((3, 2), np.nan, np.float32), np.array([{}], dtype=object)):
        np.save(path, other, allow_pickle=True)
        assert read_map(path) is None


def test_the_cache_does_not_grow_without_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MAX_ARRAYS", 2)
    for number in range(4):
        write_array(tmp_path / f"umap-{number}.npy", np.zeros((1, 2), dtype=np.float32), "The map")
        time.sleep(0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["umap-2.npy", "umap-3.npy"]


def test_without_umap_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows, _ = clusters(40)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'm2v-studio\[app\]'"):
        umap_map(rows)
    monkeypatch.setattr(background, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="umap-learn is not installed"):
        MapMaker(tmp_path).get(rows)
    np.testing.assert_array_equal(umap_map(rows[:16]), pca_map(rows[:16]))


def test_umap_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, m2v_core.exploration.background; print({'umap', 'numba', 'sklearn'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "set()"


def test_a_map_somebody_waits_for_does_not_wait_for_prepared_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started, may_end = [], threading.Event()

    def make(maker: MapMaker, rows: np.ndarray, path: Path) -> None:
        started.append(path.stem)
        assert may_end.wait(60)
        write_array(path, np.zeros((len(rows), 2), dtype=np.float32), "The map")

    monkeypatch.setattr(MapMaker, "_make", make)
    maker = MapMaker(tmp_path)
    rows, _ = clusters(40)
    for key in ("a", "b", "c"):
        maker.get(rows, key, is_prepared=True)
    maker.get(rows, "c")  # now somebody waits
    deadline = time.monotonic() + 60
    while len(started) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(started) == ["a", "c"]
    may_end.set()
    while any(maker.get(rows, key).points is None for key in "abc") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(started) == ["a", "b", "c"]


@pytest.mark.parametrize("end", ["maker.close()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_map_in_progress_ends_with_its_app(tmp_path: Path, end: str) -> None:
    pytest.importorskip("umap")
    code = f"""
import os, pathlib, signal, time
import numpy as np
from m2v_core.exploration.background import MapMaker
maker = MapMaker(pathlib.Path({str(tmp_path)!r}))
maker.get(np.random.default_rng(0).normal(size=(30_000, 64)).astype(np.float32), "big")
while not maker._processes:
    time.sleep(0.01)
print(next(iter(maker._processes)).pid, flush=True)
{end}
"""
    app = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert app.returncode == (0 if "close" in end else -signal.SIGKILL)
    deadline = time.monotonic() + 60
    while psutil.pid_exists(int(app.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(app.stdout))
    assert not (tmp_path / "big.npy").exists()


def test_compiled_code_is_stored_for_the_next_map() -> None:
    pytest.importorskip("umap")
    code = (
        "from m2v_core.exploration.background import _cache_compiled_code; _cache_compiled_code(); "
        "from umap import distances, layouts, umap_; "
        "print({type(function._cache).__name__ for function in "
        "(layouts.rdist, umap_.smooth_knn_dist, distances.euclidean)})"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "{'FunctionCache'}"


def test_umap_in_the_background_keeps_clusters_together_and_is_cached(tmp_path: Path) -> None:
    pytest.importorskip("umap")
    rows, members = clusters(300)
    maker = MapMaker(tmp_path)
    first = maker.get(rows)
    assert first.points is None
    deadline = time.monotonic() + 600  # the first map on a machine compiles umap-learn
    seen = []
    while (made := maker.get(rows)).points is None and time.monotonic() < deadline:
        seen.append((made.share, made.seconds_left))
        time.sleep(0.05)
    # The share is unknown at first, and then grows.
    shares = [share for share, _ in seen if share is not None]
    assert seen[0] == (None, None) and shares == sorted(shares) and all(0 <= share <= 1 for share in shares)
    assert made.points is not None and made.points.shape == (300, 2)
    distances = np.linalg.norm(made.points[:, None] - made.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (members[distances.argmin(axis=1)] == members).mean() > 0.99
    # Another app finds the cached map immediately, and it equals the map computed in this process.
    again = MapMaker(tmp_path).get(rows)
    np.testing.assert_array_equal(again.points, made.points)
    np.testing.assert_array_equal(cached_umap_map(rows, tmp_path), made.points)
    epochs: list[tuple[int, int]] = []
    np.testing.assert_array_equal(umap_map(rows, lambda done, total: epochs.append((done, total))), made.points)
    assert epochs[0][0] == 0 and epochs == sorted(epochs) and epochs[-1][0] <= epochs[-1][1] > 100

    def left() -> list[str]:
        return sorted(path.suffix for path in tmp_path.iterdir())

    while left() != [".json", ".npy"] and time.monotonic() < deadline:  # until its process has ended
        time.sleep(0.05)
    assert left() == [".json", ".npy"]
    # A map of about that size is estimated by it from the start, another one not.
    for n_rows, is_known in ((250, True), (40, False)):
        assert (MapMaker(tmp_path).get(clusters(n_rows)[0]).seconds_left is not None) == is_known


def test_a_failed_map_raises_an_error_and_can_be_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = clusters(40)
    maker = MapMaker(tmp_path)
    monkeypatch.setattr(background.sys, "executable", "/bin/false")
    assert maker.get(rows).points is None
    deadline = time.monotonic() + 120
    with pytest.raises(M2VError, match="its process ended early"):
        while time.monotonic() < deadline:
            maker.get(rows)
            time.sleep(0.05)
    assert maker.get(rows).points is None  # requested again
