"""Topics of a vocabulary: clusters of similar words in two levels, each named by its distinctive content words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.exploration.projection import N_CLUSTERS, cached_clusters, cluster_rows
from m2v_core.native.cosines import unit_rows
from m2v_core.storage.cache import content_key, read_array, write_array

WORDS_PER_TOPIC = 400  # topics of a large vocabulary have about this many words
MAX_TOPICS_PER_CLUSTER = 12
# Mid-tones, which are readable on both white and near-black.
CLUSTER_COLORS = (
    "#24978a",
    "#c98a1b",
    "#4f7fc9",
    "#c2571a",
    "#8d62b5",
    "#6f9e2f",
    "#c75a8a",
    "#7d8a86",
    "#2fa3cf",
    "#96704e",
)
_MIN_TOPIC_WORDS = 12  # smaller clusters are not split
_VERSION = 1  # increment it when the same rows would produce different topics
_FREQUENT_SHARE = 0.35  # names use the most frequent words of a topic: rare ones are obscure even if central
_MIN_LETTERS = 3  # a vocabulary begins with punctuation and single letters, which are not useful as names
_SAME_STEM = 4  # words that share this many first letters are not repeated in a name, such as "song" and "songs"

# Function words of English and of other European languages, except those that are content words in English.
_STOP_WORDS = """
about above after again against all almost along already also although always among and another any anyone
anything are around back because been before began behind being below between both but came can cannot could did
does doing done down during each either else enough even ever every everyone everything few first for from get
gets getting give given gives goes going gone got had has have having her here hers herself him himself his how
however into its itself just keep kept last least less like make makes making many may maybe might mine more most
much must my myself neither never next nobody none nor not nothing now off often once one ones only onto other
others our ours out over own perhaps put quite rather really same see seem seemed seems several she should since
some someone something sometimes soon still such take taken takes than that the their theirs them themselves then
there these they this those though through thus together too took toward towards two under until upon used using
very via was well went were what whatever when where whether which while who whole whom whose why will with within
without would yet you your yours yourself became become called including known later three don doesn
didn isn aren wasn weren won couldn wouldn shouldn hadn hasn haven aber als am auch auf aus bei bin bis das dass
dem den der des doch durch ein eine einem einen einer eines für hatte ich ihr ihre ist kann mehr mich mit nach
nicht noch nur oder ohne seine sich sie sind über und uns unter vom von vor waren wenn wie wir wird zum zur aux
avec ces cette dans elle est été être fait ils les leur lui mais même nous ont par pas pour qui que sans ses sont
tous tout très une vous como donde ella ellos esta este está fue más muy nos pero por porque ser sus también una
uno che dei della delle gli hanno nel nella non per più questa questo sono até com ele entre foi isso mas não nas
pela pelo quando são sua também uma aan dat een het hij maar met naar niet ook voor wat worden zijn made
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, eq=False)
class Topics:
    """The topics of a vocabulary.

    Attributes:
        clusters: Cluster of each word, (n_words,) int32, 0 for the largest.
        cluster_names: Name of each cluster.
        labels: Topic of each word, (n_words,) int32; each topic is a part of one cluster.
        names: Name of each topic.
        cohesion: Length of each topic's mean unit row, (n_topics,) float32, 0 to 1; 1 if all its rows are equal.
    """

    clusters: NDArray[np.int32]
    cluster_names: list[str]
    labels: NDArray[np.int32]
    names: list[str]
    cohesion: NDArray[np.float32]


def find_topics(rows: NDArray[np.float32], texts: Sequence[str], ranks: NDArray[np.int64], folder: Path) -> Topics:
    """Cluster the words in two levels and name both; the labels are cached in `folder`.

    Args:
        rows: (n_words, dim) float32, unit rows.
        texts: The words.
        ranks: (n_words,) int64.
        folder: Folder of the cached clusters.

    Raises:
        SaveError: The labels can't be written to `folder`.
    """
    clusters = cached_clusters(rows, folder)
    path = folder / f"{content_key('topics', rows, _VERSION, N_CLUSTERS, WORDS_PER_TOPIC)}.npy"
    labels = read_array(path)
    if labels is None or labels.shape != (len(rows),) or labels.dtype != np.int32:
        labels = split_clusters(rows, clusters)
        write_array(path, labels, "The topics of words")
    names = name_topics(rows, labels, texts, ranks)
    cohesion = np.linalg.norm(_means(rows, labels), axis=1).astype(np.float32)
    cluster_names = [_joined_name(names, cohesion, labels[clusters == cluster]) for cluster in _numbers(clusters)]
    return Topics(clusters, cluster_names, labels, [", ".join(name[:2]) for name in names], cohesion)


def split_clusters(rows: NDArray[np.float32], clusters: NDArray[np.int32]) -> NDArray[np.int32]:
    """Split each cluster into topics of about `WORDS_PER_TOPIC` words: (n_words,) int32, numbered by cluster."""
    labels = np.zeros(len(rows), dtype=np.int32)
    n_topics = 0
    for cluster in _numbers(clusters):
        members = np.flatnonzero(clusters == cluster)
        # Small vocabularies have smaller topics, so that their maps have labels too.
        n_parts = max(round(len(members) / WORDS_PER_TOPIC), min(3, len(members) // _MIN_TOPIC_WORDS), 1)
        labels[members] = n_topics + cluster_rows(rows[members], min(n_parts, MAX_TOPICS_PER_CLUSTER))
        n_topics = int(labels[members].max()) + 1
    return labels


def name_topics(
    rows: NDArray[np.float32],
    labels: NDArray[np.int32],
    texts: Sequence[str],
    ranks: NDArray[np.int64],
    n_words: int = 3,
) -> list[list[str]]:
    """Up to `n_words` frequent content words of each topic, nearest first to its difference from the overall mean.

    Args:
        rows: (n_texts, dim) float32, unit rows.
        labels: (n_texts,) int32, from 0.
        texts: The words.
        ranks: (n_texts,) int64.
        n_words: Maximum number of words in a name.
    """
    if not len(rows):
        return []
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    directions = unit_rows(_means(rows, labels) - mean)
    by_rank = np.argsort(ranks, kind="stable")
    content = np.array([is_content_word(text) for text in texts])
    return [
        _name(rows, mean, direction, by_rank[labels[by_rank] == topic], content, texts, n_words)
        for topic, direction in enumerate(directions)
    ]


def _name(
    rows: NDArray[np.float32],
    mean: NDArray[np.float32],
    direction: NDArray[np.float32],
    members: NDArray[np.int64],
    content: NDArray[np.bool_],
    texts: Sequence[str],
    n_words: int,
) -> list[str]:
    candidates = members[content[members]]
    if not len(candidates):
        candidates = members
    candidates = candidates[: max(20, int(len(candidates) * _FREQUENT_SHARE))]
    nearness = unit_rows(rows[candidates] - mean) @ direction
    name: list[str] = []
    for place in np.argsort(-nearness, kind="stable"):
        text = texts[candidates[place]]
        stem = text.casefold()[:_SAME_STEM]
        if not any(other.casefold().startswith(stem) for other in name):
            name.append(text)
        if len(name) == n_words:
            break
    return name


def is_content_word(text: str) -> bool:
    """Whether a word is useful as a label: letters only, long enough for its script, and not a stop word."""
    # Words may have two letters in scripts such as Chinese or Japanese.
    n_letters = _MIN_LETTERS if text.isascii() else 2
    return text.isalpha() and len(text) >= n_letters and text.casefold() not in STOP_WORDS


def label_order(texts: Sequence[str], ranks: NDArray[np.int64]) -> NDArray[np.int32]:
    """Indices of the words in the order in which they are labeled, (n_texts,) int32: content words first, by rank."""
    is_other = np.array([not is_content_word(text) for text in texts], dtype=bool)
    return np.lexsort((ranks, is_other)).astype(np.int32)


def _joined_name(names: Sequence[Sequence[str]], cohesion: NDArray[np.float32], labels: NDArray[np.int32]) -> str:
    """Name a cluster by the first words of its most cohesive topics: "food, music, sports"."""
    topics = sorted(set(labels.tolist()), key=lambda topic: -cohesion[topic])
    words = [names[topic][place] for place in range(3) for topic in topics if place < len(names[topic])]
    return ", ".join(words[:3])


def _means(rows: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Mean row of each label, (n_labels, dim) float32."""
    return np.stack([rows[labels == label].mean(axis=0, dtype=np.float64) for label in _numbers(labels)]).astype(
        np.float32
    )


def _numbers(labels: NDArray[np.int32]) -> range:
    return range(int(labels.max(initial=-1)) + 1)
