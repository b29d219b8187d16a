"""Search in more rows than are searched exactly."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from m2v_core.errors import InputError, MissingExtraError
from m2v_core.exploration.neighbors import VectorNeighbors
from m2v_core.exploration.rows import MAX_EXACT_ROWS, RowIndex, top_k
from m2v_core.native.cosines import unit_rows


def topics(n_rows: int, dim: int = 64, n_topics: int = 100) -> np.ndarray:
    """Unit rows scattered around some directions, as embeddings are, (n_rows, dim) float32."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n_topics, dim))
    return unit_rows(centres[rng.integers(0, n_topics, n_rows)] + rng.normal(size=(n_rows, dim)) * 0.5)


def test_a_million_rows_are_searched_exactly() -> None:
    assert MAX_EXACT_ROWS == 1_000_000
    rows = topics(300)
    index = RowIndex(rows, max_exact_rows=300)
    for found, exact in zip(index.search(rows[:5], 7), top_k(rows[:5], rows, 7), strict=True):
        np.testing.assert_array_equal(found, exact)


def test_above_the_threshold_nearly_all_true_neighbors_are_found() -> None:
    pytest.importorskip("usearch")
    # Ten thousand rows, because an index of a million takes minutes to build.
    rows = topics(10_000)
    queries = rows[::100]
    found, similarities = RowIndex(rows, max_exact_rows=9_999).search(queries, 10)
    exact, _ = top_k(queries, rows, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    assert recall >= 0.95
    assert found.shape == similarities.shape == (100, 10) and (np.diff(similarities) <= 0).all()
    true = np.take_along_axis(queries @ rows.T, found, axis=1)
    np.testing.assert_allclose(similarities, true, atol=2e-3)  # half precision
    single, _ = RowIndex(rows, max_exact_rows=0).search(queries[:1], 3)
    assert single.shape == (1, 3) and single[0, 0] == exact[0, 0]


def test_the_index_rejects_what_exact_search_rejects() -> None:
    index = RowIndex(topics(20), max_exact_rows=0)
    with pytest.raises(InputError, match="k is 0"):
        index.search(topics(1), 0)
    with pytest.raises(InputError, match="have the same width"):
        index.search(np.ones((1, 3), dtype=np.float32), 1)


def test_without_usearch_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'm2v-studio\[search\]'"):
        RowIndex(topics(20), max_exact_rows=10).search(topics(1), 1)


def test_search_in_given_vectors() -> None:
    rows = unit_rows(np.array([[1, 0], [1, 0.1], [0, 0], [1, 1]], dtype=np.float32))
    index = VectorNeighbors(["sea", "Sea", "gone", "tree"], rows, np.array([5, 6, 7, 8]))
    found = index.search(np.array([3.0, 0.0], dtype=np.float32), 4)
    assert [(one.text, one.rank) for one in found] == [("sea", 5), ("Sea", 6), ("tree", 8)]
    assert [one.text for one in index.search(rows[0], 1, without=[" SEA "])] == ["tree"]
    assert len(index.search(-rows[0], 4)) == 3  # a row of zeros is never returned
    assert index.search(rows[2], 3) == []
