"""Maps: the rows of a model in two dimensions, by PCA at once or by UMAP, and groups of rows that lie together.

A map is for looking around. Distances on it are not those of the model: ask `neighbors` for what is near. Groups are
found by k-means over full vectors.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, NeedsExtra
from m2v_core.exploration.rows import top_k
from m2v_core.storage.cache import content_key, read_array, write_array

MAX_POINTS = 50_000  # more are slow in a browser, and no eye tells them apart
UMAP_NEIGHBORS = 15  # umap-learn's own default
_SEED = 0
_VERSION = 1  # to be raised whenever the same rows would give another map or other groups
_INITIAL_SPREAD = 10.0  # umap-learn scales its own starts to this
N_CLUSTERS = 10  # as many colours as eyes tell apart
_MIN_LETTERS = 3  # a vocabulary begins with punctuation and single letters, which name nothing


def sample_rows(n_rows: int, max_points: int = MAX_POINTS) -> NDArray[np.int64]:
    """Which rows a map shows: all of them, or an even draw of `max_points`, the same each time.

    Returns:
        Row numbers, rising, (min(n_rows, max_points),) int64.

    Raises:
        InputError: `max_points` is below 1.
    """
    if max_points < 1:
        raise InputError(f"max_points is {max_points}; a map needs at least 1 point.")
    if n_rows <= max_points:
        return np.arange(n_rows, dtype=np.int64)
    drawn = np.random.default_rng(_SEED).choice(n_rows, max_points, replace=False)
    return np.sort(drawn.astype(np.int64))


def pca_map(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows on their two leading principal components.

    Args:
        rows: (n_rows, dim) float32.

    Returns:
        (n_rows, 2) float32, centred on 0; a column of zeros where there is no such component. Each component's
        sign is such that its largest score is positive.
    """
    points = np.zeros((len(rows), 2), dtype=np.float32)
    if len(rows) < 2:
        return points
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, components = np.linalg.eigh((centred.T @ centred).astype(np.float64))  # smallest first
    leading = components[:, ::-1][:, :2].astype(np.float32)
    points[:, : leading.shape[1]] = centred @ leading
    peaks = points[np.abs(points).argmax(axis=0), [0, 1]]
    points *= np.where(peaks < 0, -1, 1).astype(np.float32)
    return points


def umap_map(rows: NDArray[np.float32], on_epoch: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
    """The rows laid out so that near ones stay together: UMAP by cosine, the same each time on one machine.

    It starts from the PCA map and from exact neighbours, so that nothing in it is drawn by lot but the order
    of its steps, and that is seeded.

    Args:
        rows: (n_rows, dim) float32, unit rows.
        on_epoch: Called with the number of epochs done, and of all, several times a second while they go on.

    Returns:
        (n_rows, 2) float32. The PCA map if there are too few rows to have neighbours.

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
    # Equal rows would start, and so stay, on one spot.
    start += np.random.default_rng(_SEED).normal(scale=1e-4, size=start.shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and that new rows can't be added
        layout = UMAP(
            n_neighbors=UMAP_NEIGHBORS,
            metric="cosine",
            init=start,
            random_state=_SEED,
            # Its progress bar is written to whoever wants to know; umap-learn offers no other way to follow it.
            tqdm_kwds={"disable": on_epoch is None, "file": _Bar(on_epoch), "bar_format": "{n_fmt}/{total_fmt}"},
            precomputed_knn=(neighbors.astype(np.int32), (1 - similarities).clip(min=0), None),
        )
        points: NDArray[np.float32] = layout.fit_transform(rows).astype(np.float32)
    return points


class _Bar(io.StringIO):
    """A file to which a progress bar is written as "3/200"; `on_epoch` gets the numbers."""

    def __init__(self, on_epoch: Callable[[int, int], None] | None) -> None:
        super().__init__()
        self._on_epoch = on_epoch

    def write(self, text: str) -> int:
        if self._on_epoch is not None and (numbers := re.search(r"(\d+)/(\d+)", text)):
            self._on_epoch(int(numbers[1]), int(numbers[2]))
        return len(text)


def umap_key(rows: NDArray[np.float32]) -> str:
    """The name under which the UMAP of exactly these rows is kept; depends on their content alone."""
    return content_key("umap", rows, _VERSION, UMAP_NEIGHBORS, _SEED)


def read_map(path: Path) -> NDArray[np.float32] | None:
    """A cached map, (n_rows, 2) float32; None if there is none, or no whole one."""
    points = read_array(path)
    if points is None or points.ndim != 2 or points.shape[1] != 2 or points.dtype != np.float32:
        return None
    return points if np.isfinite(points).all() else None


def cached_umap_map(
    rows: NDArray[np.float32], folder: Path, on_epoch: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """As `umap_map`, at once where the map of these rows is in `folder` already.

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
    """The group of each row, the same each time: (n_rows,) int32, 0 for the largest group.

    Args:
        rows: (n_rows, dim) float32, unit rows.
        n_clusters: How many groups; as many as there are different rows if these are fewer.

    Raises:
        InputError: `n_clusters` is below 1.
        MissingExtraError: scikit-learn is not installed.
    """
    if n_clusters < 1:
        raise InputError(f"n_clusters is {n_clusters}; ask for at least 1 group.")
    n_clusters = min(n_clusters, len(np.unique(rows, axis=0)) if len(rows) < 1000 else n_clusters)
    if n_clusters < 2:
        return np.zeros(len(rows), dtype=np.int32)
    with NeedsExtra("scikit-learn", "app"):
        from sklearn.cluster import KMeans
    labels = KMeans(n_clusters, n_init=1, max_iter=50, random_state=_SEED).fit_predict(rows)
    by_size = np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable")
    place = np.empty(n_clusters, dtype=np.int32)
    place[by_size] = np.arange(n_clusters, dtype=np.int32)
    groups: NDArray[np.int32] = place[labels]
    return groups


def cluster_names(
    labels: NDArray[np.int32], texts: Sequence[str], ranks: NDArray[np.int64], n_words: int = 3
) -> list[str]:
    """What each group is called: its most frequent words, "king, queen, throne".

    Args:
        labels: (n_texts,) int32, from 0.
        texts: The words.
        ranks: (n_texts,) int64.
        n_words: How many words make a name.
    """
    names: list[list[str]] = [[] for _ in range(int(labels.max(initial=-1)) + 1)]
    spare: list[list[str]] = [[] for _ in names]
    for place in np.argsort(ranks, kind="stable"):
        text, label = texts[place], labels[place]
        is_word = text.isalpha() and len(text) >= _MIN_LETTERS
        group = names[label] if is_word or _is_wordless_script(text) else spare[label]
        if len(group) < n_words:
            group.append(text)
    return [", ".join((own + rest)[:n_words]) for own, rest in zip(names, spare, strict=True)]


def _is_wordless_script(text: str) -> bool:
    """Whether a word of this script may be one or two letters long, as in Chinese or Japanese."""
    return text.isalpha() and len(text) > 1 and not text.isascii()


def cached_clusters(rows: NDArray[np.float32], folder: Path, n_clusters: int = N_CLUSTERS) -> NDArray[np.int32]:
    """As `cluster_rows`, at once where the groups of these rows are in `folder` already.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        SaveError: The groups can't be written to `folder`.
    """
    path = folder / f"{content_key('clusters', rows, _VERSION, n_clusters, _SEED)}.npy"
    labels = read_array(path)
    if labels is None or labels.shape != (len(rows),) or labels.dtype != np.int32:
        labels = cluster_rows(rows, n_clusters)
        write_array(path, labels, "The groups of words")
    return labels
