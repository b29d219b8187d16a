"""Groups of words that lie together, by k-means over full vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, NeedsExtra
from m2v_core.storage.cache import content_key, read_array, write_array

N_CLUSTERS = 10  # as many colours as eyes tell apart
_SEED = 0
_VERSION = 1  # to be raised whenever the same rows would give other groups
_MIN_LETTERS = 3  # a vocabulary begins with punctuation and single letters, which name nothing


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
