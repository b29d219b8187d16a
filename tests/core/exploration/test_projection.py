from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
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
    """Unit rows around a few directions, and which one each belongs to."""
    rng = np.random.default_rng(0)
    members = np.arange(n_rows) % n_clusters
    centres = rng.normal(size=(n_clusters, dim)) * 3
    return unit_rows(centres[members] + rng.normal(size=(n_rows, dim)) * 0.3), members


def test_pca_is_what_the_singular_vectors_give() -> None:
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
    # Even: each tenth holds about a tenth.
    assert np.histogram(drawn, 10, (0, 60_000))[0] == pytest.approx(5000, rel=0.05)
    with pytest.raises(InputError, match="max_points is 0"):
        sample_rows(3, 0)


def test_the_key_is_of_the_content() -> None:
    rows, _ = clusters(40)
    assert umap_key(rows.copy()) == umap_key(rows)
    changed = rows.copy()
    changed[7, 3] += 1e-6
    assert len({umap_key(rows), umap_key(rows[:39]), umap_key(changed)}) == 3


def test_what_is_no_map_is_not_read(tmp_path: Path) -> None:
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


def test_the_cache_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_umap_in_the_background_keeps_clusters_together_and_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("umap")
    rows, members = clusters(300)
    maker = MapMaker(tmp_path)
    first = maker.get(rows)
    assert first.points is None
    deadline = time.monotonic() + 240
    seen = []
    while (made := maker.get(rows)).points is None and time.monotonic() < deadline:
        seen.append((made.share, made.seconds_left))
        time.sleep(0.05)
    # First nothing is known, then the share grows.
    shares = [share for share, _ in seen if share is not None]
    assert seen[0] == (None, None) and shares == sorted(shares) and all(0 <= share <= 1 for share in shares)
    assert made.points is not None and made.points.shape == (300, 2)
    distances = np.linalg.norm(made.points[:, None] - made.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (members[distances.argmin(axis=1)] == members).mean() > 0.99
    # Another app finds it at once, and it is what this very process would make.
    again = MapMaker(tmp_path).get(rows)
    np.testing.assert_array_equal(again.points, made.points)
    np.testing.assert_array_equal(cached_umap_map(rows, tmp_path), made.points)
    epochs: list[tuple[int, int]] = []
    np.testing.assert_array_equal(umap_map(rows, lambda done, total: epochs.append((done, total))), made.points)
    assert epochs[0][0] == 0 and epochs == sorted(epochs) and epochs[-1][0] <= epochs[-1][1] > 100
    while len(list(tmp_path.iterdir())) > 1 and time.monotonic() < deadline:  # until its process has ended
        time.sleep(0.05)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def test_a_map_that_fails_says_so_and_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = clusters(40)
    maker = MapMaker(tmp_path)
    monkeypatch.setattr(background.sys, "executable", "/bin/false")
    assert maker.get(rows).points is None
    deadline = time.monotonic() + 120
    with pytest.raises(M2VError, match="its process ended early"):
        while time.monotonic() < deadline:
            maker.get(rows)
            time.sleep(0.05)
    assert maker.get(rows).points is None  # asked for once more
