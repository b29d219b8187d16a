from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from m2v_core.errors import Cancelled, InputError
from m2v_core.exploration import neighbors, projection
from m2v_core.exploration.neighbors import Neighbor, found_by_both, neighbor_overlap
from m2v_core.exploration.projection import cached_clusters, cluster_rows
from m2v_core.native.cosines import unit_rows


def spaces(n_rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n_rows, 8))
    return unit_rows(rows), unit_rows(np.hstack([rows, rng.normal(size=(n_rows, 4))]))


def slow_overlap(a: np.ndarray, b: np.ndarray, k: int, row: int) -> float:
    nearest = []
    for space in (a, b):
        others = [other for other in range(len(space)) if other != row]
        nearest.append(set(sorted(others, key=lambda other: -float(space[row] @ space[other]))[:k]))
    return len(nearest[0] & nearest[1]) / k


def test_overlap_equals_the_result_of_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = spaces()
    expected = np.array([slow_overlap(a, b, 10, row) for row in range(len(a))], dtype=np.float32)
    assert 0.2 < expected.mean() < 0.95  # neither 0 nor 1
    monkeypatch.setattr(neighbors, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(neighbor_overlap(a, b), expected)
    of = np.array([3, 50, 17])
    np.testing.assert_allclose(neighbor_overlap(a, b, of=of), expected[of])


def test_a_space_agrees_with_itself_even_if_rows_are_equal() -> None:
    a, _ = spaces()
    same = np.repeat(a[:20], 3, axis=0)
    np.testing.assert_array_equal(neighbor_overlap(same, same, k=4), np.ones(60))
    np.testing.assert_array_equal(neighbor_overlap(a[:3], a[:3], k=10), np.ones(3))
    np.testing.assert_array_equal(neighbor_overlap(a[:1], a[:1]), [0])


def test_invalid_arguments_and_cancelling() -> None:
    a, b = spaces()
    with pytest.raises(InputError, match="60 rows can't be compared with 59"):
        neighbor_overlap(a, b[:59])
    with pytest.raises(InputError, match="k is 0"):
        neighbor_overlap(a, b, k=0)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        neighbor_overlap(a, b, cancel=cancel)


def test_found_by_both() -> None:
    a = [Neighbor("sea", 0.9, 4), Neighbor("lake", 0.8, 7)]
    assert found_by_both(a, [Neighbor("lake", 0.5, 7), Neighbor("tree", 0.4, 1)]) == {7}


def groups(n_rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    members = np.sort(np.minimum(rng.integers(0, 4, n_rows), 2))  # the last group is the largest
    centres = rng.normal(size=(3, 16)) * 4
    return unit_rows(centres[members] + rng.normal(size=(n_rows, 16)) * 0.3), members


def test_clusters_match_the_true_groups() -> None:
    rows, members = groups()
    labels = cluster_rows(rows, 3)
    assert labels.dtype == np.int32
    assert len({(a, b) for a, b in zip(labels.tolist(), members.tolist(), strict=True)}) == 3
    assert (np.diff(np.bincount(labels)) <= 0).all()  # largest first
    np.testing.assert_array_equal(cluster_rows(rows, 3), labels)
    np.testing.assert_array_equal(cluster_rows(rows[:1]), [0])
    assert cluster_rows(np.repeat(rows[:2], 5, axis=0)).max() == 1
    assert len(cluster_rows(rows[:0])) == 0
    with pytest.raises(InputError, match="n_clusters is 0"):
        cluster_rows(rows, 0)


def test_clusters_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = groups()
    labels = cached_clusters(rows, tmp_path)
    (kept,) = tmp_path.glob("clusters-*.npy")
    monkeypatch.setattr(projection, "cluster_rows", lambda *_: pytest.fail("the clusters were cached"))
    np.testing.assert_array_equal(cached_clusters(rows.copy(), tmp_path), labels)
    kept.write_bytes(kept.read_bytes()[:-1])
    monkeypatch.undo()
    np.testing.assert_array_equal(cached_clusters(rows, tmp_path), labels)
