"""Maps: the rows of a model in two dimensions by PCA (fast) or UMAP, and clusters of similar rows.

Maps give an overview. Distances on a map differ from those in the model: use `neighbors` to find similar rows. Clusters
are found by k-means over full vectors.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, NeedsExtra
from m2v_core.exploration.rows import top_k
from m2v_core.storage.cache import content_key, read_array, write_array

MAX_POINTS = 50_000  # more are slow to render in a browser, and indistinguishable
UMAP_NEIGHBORS = 15  # umap-learn's default
_SEED = 0
_VERSION = 1  # increment it when the same rows would produce a different map
_INITIAL_SPREAD = 10.0  # umap-learn scales its initial layouts to this
N_CLUSTERS = 10  # the number of colors that are easy to tell apart
_CLUSTER_SAMPLE = 6_000  # rows that the centers are fitted to
_CLUSTER_ROUNDS = 20
_CLUSTER_VERSION = 2  # increment it when the same rows would produce different clusters


def sample_rows(n_rows: int, max_points: int = MAX_POINTS) -> NDArray[np.int64]:
    """Indices of the rows on a map: all rows, or a reproducible random sample of `max_points`.

    Returns:
        Row indices, ascending, (min(n_rows, max_points),) int64.

    Raises:
        InputError: `max_points` is below 1.
    """
    if max_points < 1:
        raise InputError(f"max_points is {max_points}; a map needs at least 1 point.")
    if n_rows <= max_points:
        return np.arange(n_rows, dtype=np.int64)
    drawn = np.random.default_rng(_SEED).choice(n_rows, max_points, replace=False)
    return np.sort(drawn.astype(np.int64))


def pca_map(rows: NDArray[np.float32], n_axes: int = 2) -> NDArray[np.float32]:
    """Project the rows onto their leading principal components.

    Args:
        rows: (n_rows, dim) float32.
        n_axes: Number of components.

    Returns:
        (n_rows, n_axes) float32, centered on 0; a column of zeros for a missing component. The sign of each component
        is such that its largest score is positive.
    """
    points = np.zeros((len(rows), n_axes), dtype=np.float32)
    if len(rows) < 2:
        return points
    centered = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, components = np.linalg.eigh((centered.T @ centered).astype(np.float64))  # smallest first
    leading = components[:, ::-1][:, :n_axes].astype(np.float32)
    points[:, : leading.shape[1]] = centered @ leading
    peaks = points[np.abs(points).argmax(axis=0), np.arange(n_axes)]
    points *= np.where(peaks < 0, -1, 1).astype(np.float32)
    return points


def umap_map(rows: NDArray[np.float32], on_epoch: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
    """Lay out similar rows close together: UMAP with cosine distances, reproducible on one machine.

    It starts from the PCA map and from exact neighbors, so only the order of its steps is random, with a fixed seed.

    Args:
        rows: (n_rows, dim) float32, unit rows.
        on_epoch: Called with the number of finished epochs and the total, several times per second.

    Returns:
        (n_rows, 2) float32. The PCA map if there are too few rows for UMAP.

    Raises:
        MissingExtraError: umap-learn is not installed.

    Source: https://arxiv.org/abs/1802.03426
    """
    if len(rows) <= UMAP_NEIGHBORS + 1:
        return pca_map(rows)
    with NeedsExtra("umap-learn", "app"):
        from umap import UMAP

    neighbors, similarities = top_k(rows, rows, UMAP_NEIGHBORS)
    start = pca_map(rows)
    start *= _INITIAL_SPREAD / max(float(np.abs(start).max()), 1e-9)
    # Otherwise equal rows would start, and stay, at the same point.
    start += np.random.default_rng(_SEED).normal(scale=1e-4, size=start.shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings that a seed implies one thread, and that new rows can't be added
        layout = UMAP(
            n_neighbors=UMAP_NEIGHBORS,
            metric="cosine",
            init=start,
            random_state=_SEED,
            # umap-learn reports progress only through a progress bar, which is written to this object.
            tqdm_kwds={"disable": on_epoch is None, "file": _BarFile(on_epoch), "bar_format": "{n_fmt}/{total_fmt}"},
            precomputed_knn=(neighbors.astype(np.int32), (1 - similarities).clip(min=0), None),
        )
        points: NDArray[np.float32] = layout.fit_transform(rows).astype(np.float32)
    return points


class _BarFile(io.StringIO):
    """A file that receives a progress bar as "3/200", and passes the numbers to `on_epoch`."""

    def __init__(self, on_epoch: Callable[[int, int], None] | None) -> None:
        super().__init__()
        self._on_epoch = on_epoch

    def write(self, text: str) -> int:
        if self._on_epoch is not None and (numbers := re.search(r"(\d+)/(\d+)", text)):
            self._on_epoch(int(numbers[1]), int(numbers[2]))
        return len(text)


def umap_key(rows: NDArray[np.float32]) -> str:
    """The cache key of the UMAP of exactly these rows; depends only on their content."""
    return content_key("umap", rows, _VERSION, UMAP_NEIGHBORS, _SEED)


def read_map(path: Path) -> NDArray[np.float32] | None:
    """A cached map, (n_rows, 2) float32; None if it is missing or incomplete."""
    points = read_array(path)
    if points is None or points.ndim != 2 or points.shape[1] != 2 or points.dtype != np.float32:
        return None
    return points if np.isfinite(points).all() else None


def cached_umap_map(
    rows: NDArray[np.float32], folder: Path, on_epoch: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Like `umap_map`, but return a map cached in `folder` if there is one.

    Raises:
        MissingExtraError: umap-learn is not installed.
        SaveError: The map can't be written to `folder`.
    """
    path = folder / f"{umap_key(rows)}.npy"
    points = read_map(path)
    if points is None or len(points) != len(rows):
        points = umap_map(rows, on_epoch)
        write_array(path, points, "The map")
    return points


def cluster_rows(rows: NDArray[np.float32], n_clusters: int = N_CLUSTERS) -> NDArray[np.int32]:
    """Assign each row to a cluster by k-means, reproducibly: (n_rows,) int32, 0 for the largest cluster.

    If there are many rows, the centers are fitted to a random sample.

    Args:
        rows: (n_rows, dim) float32, unit rows.
        n_clusters: Number of clusters; limited to the number of distinct rows.

    Raises:
        InputError: `n_clusters` is below 1.
    """
    if n_clusters < 1:
        raise InputError(f"n_clusters is {n_clusters}; it must be at least 1.")
    n_clusters = min(n_clusters, len(np.unique(rows, axis=0)) if len(rows) < 1000 else n_clusters)
    if n_clusters < 2:
        return np.zeros(len(rows), dtype=np.int32)
    labels = _nearest_centers(rows, _cluster_centers(rows[sample_rows(len(rows), _CLUSTER_SAMPLE)], n_clusters))
    counts = np.bincount(labels, minlength=n_clusters)
    by_size = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    place = np.empty(n_clusters, dtype=np.int32)
    place[by_size] = np.arange(len(by_size), dtype=np.int32)
    groups: NDArray[np.int32] = place[labels]
    return groups


def _cluster_centers(rows: NDArray[np.float32], n_clusters: int) -> NDArray[np.float32]:
    """Centers by k-means, (n_clusters, dim) float32, initialized by k-means++.

    Source: https://theory.stanford.edu/~sergei/papers/kMeansPP-soda.pdf
    """
    rng = np.random.default_rng(_SEED)
    centers = rows[[rng.integers(len(rows))]]
    distances = np.full(len(rows), np.inf)
    while len(centers) < n_clusters:
        distances = np.minimum(distances, np.square(rows - centers[-1]).sum(axis=1, dtype=np.float64))
        centers = np.vstack([centers, rows[rng.choice(len(rows), p=distances / distances.sum())]])
    labels = _nearest_centers(rows, centers)
    for _ in range(_CLUSTER_ROUNDS):
        for label in np.unique(labels):  # an empty cluster keeps its center
            centers[label] = rows[labels == label].mean(axis=0)
        last, labels = labels, _nearest_centers(rows, centers)
        if np.array_equal(last, labels):
            break
    return centers


def _nearest_centers(rows: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = np.argmax(rows @ centers.T - np.square(centers).sum(axis=1) / 2, axis=1)
    return nearest


def cached_clusters(rows: NDArray[np.float32], folder: Path, n_clusters: int = N_CLUSTERS) -> NDArray[np.int32]:
    """Like `cluster_rows`, but return clusters cached in `folder` if there are any.

    Raises:
        SaveError: The clusters can't be written to `folder`.
    """
    path = folder / f"{content_key('clusters', rows, _CLUSTER_VERSION, n_clusters, _SEED)}.npy"
    labels = read_array(path)
    if labels is None or labels.shape != (len(rows),) or labels.dtype != np.int32:
        labels = cluster_rows(rows, n_clusters)
        write_array(path, labels, "The clusters of words")
    return labels
