"""Tasks and their scores: each task has texts, and scores the embeddings of these texts.

Scores are percentages, or 100 times a correlation, with a bootstrap interval over the items of the task: pairs, test
texts or queries.
"""

from __future__ import annotations

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import NeedsExtra
from m2v_core.evaluation import statistics
from m2v_core.evaluation.statistics import Estimate
from m2v_core.native.cosines import unit_rows

Group = Literal["Class", "Clust", "PairClass", "Rank", "Ret", "STS", "Sum", "PEARL", "WordSim", "Bitext"]
"""The columns of the published tables: MTEB's kinds of tasks, phrases and words; and translations."""

NDCG_DEPTH = 10
_QUERIES_AT_ONCE = 256
MIN_PAIRS_PER_LABEL = 10
"""Minimum number of pairs of phrases per label, so that training, validation and test set have some."""
_LEARNED = 0.85
_CHECKED = 0.15 / _LEARNED  # share of the training pairs
_HIDDEN = 256


@dataclass(frozen=True)
class Task(ABC):
    """One task of a benchmark.

    Attributes:
        name: `"STS13"`.
        group: Its column in the tables.
        texts: All distinct texts of the task; the order of the embeddings.
    """

    name: str
    group: Group
    texts: tuple[str, ...]

    @property
    @abstractmethod
    def metric(self) -> str:
        """Name of the metric, in two or three words."""

    @property
    @abstractmethod
    def n_items(self) -> int:
        """Number of items of the score."""

    def judge(
        self,
        embeddings: NDArray[np.float32],
        resamples: int = statistics.RESAMPLES,
        seed: int = statistics.SEED,
    ) -> tuple[Estimate, tuple[str, ...]]:
        """Compute an encoder's score, 0 to 100 or -100 to 100 for a correlation; 0 if it is undefined.

        Also returns sentences about what limits the meaning of the score, usually none.

        Args:
            embeddings: (n_texts, dim) float32, finite; one row for each of `texts`.
            resamples: Bootstrap samples for the interval; 0 for none.
            seed: Random seed of the samples, k-means and classifiers.

        Raises:
            MissingExtraError: A classifier or k-means is needed, and scikit-learn is not installed.
        """
        figure, notes = self._figure(embeddings, seed)
        estimate = statistics.bootstrap(figure, self.n_items, resamples, seed)
        if np.isnan(estimate.value):
            return Estimate(0.0, 0.0, 0.0), ("All pairs are equally similar for it, so they can't be ranked.",)
        return estimate.times(100.0), notes

    @abstractmethod
    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        """The score, 0 to 1 or -1 to 1, as a statistic of the items, and notes."""


@dataclass(frozen=True, eq=False)
class PairTask(Task):
    """Pairs with human scores: the correlation of cosines and scores.

    Attributes:
        left: (n_pairs,) index of each first text in `texts`.
        right: (n_pairs,) index of each second text.
        scores: (n_pairs,) human scores, not all the same.
        correlation: `"spearman"` compares the order, `"pearson"` the values.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    scores: NDArray[np.float64]
    correlation: Literal["spearman", "pearson"] = "spearman"

    @property
    def metric(self) -> str:
        """See `Task`."""
        return f"{self.correlation.title()} x 100"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.scores)

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        cosines = pair_cosines(embeddings, self.left, self.right)
        of = statistics.spearman if self.correlation == "spearman" else statistics.pearson
        return of(self.scores, cosines), ()  # undefined if all cosines are equal


@dataclass(frozen=True, eq=False)
class RankingTask(Task):
    """Queries and the documents that answer them: whether these rank first by cosine.

    Of equally similar documents, the last one in the list ranks first, so that no encoder benefits from ties.

    Source: nDCG with linear gains, as in trec_eval, https://github.com/usnistgov/trec_eval, and its mean average
    precision.

    Attributes:
        queries: (n_queries,) index of each query in `texts`.
        documents: (n_documents,) index of each document.
        relevance: For each query, the relevance of each document that answers it, by document index; at least one.
        depth: Number of ranks that count: 1 for accuracy, or `NDCG_DEPTH`; None for mean average precision over all.
        candidates: For each query, the indices of the documents to rank; None for all.
    """

    queries: NDArray[np.int64]
    documents: NDArray[np.int64]
    relevance: tuple[dict[int, float], ...]
    depth: int | None = NDCG_DEPTH
    candidates: tuple[NDArray[np.int64], ...] | None = None

    @property
    def metric(self) -> str:
        """See `Task`."""
        if self.depth is None:
            return "MAP x 100"
        return "accuracy" if self.depth == 1 else f"nDCG@{self.depth} x 100"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.queries)

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        rows = unit_rows(embeddings)
        documents = rows[self.documents]
        gains = []
        for start in range(0, self.n_items, _QUERIES_AT_ONCE):
            cosines = rows[self.queries[start : start + _QUERIES_AT_ONCE]] @ documents.T
            gains += [self._gain(start + place, row) for place, row in enumerate(cosines)]
        return statistics.mean(np.array(gains)), ()

    def _gain(self, query: int, cosines: NDArray[np.float32]) -> float:
        offered = np.arange(len(cosines)) if self.candidates is None else self.candidates[query]
        # Equal embeddings have equal cosines except for rounding, which depends on the position in the matrix.
        cosines = np.round(cosines, 6)
        # The right answer is often listed first: with a stable sort, an encoder with constant output would be right.
        best = offered[::-1][np.argsort(-cosines[offered[::-1]], kind="stable")[: self.depth]]
        relevant = self.relevance[query]
        if self.depth is None:
            hits = np.flatnonzero([int(document) in relevant for document in best])
            return float(np.sum(np.arange(1, len(hits) + 1) / (hits + 1)) / len(relevant))
        discounts = 1 / np.log2(np.arange(2, self.depth + 2))
        found = sum(relevant.get(int(document), 0.0) * discounts[rank] for rank, document in enumerate(best))
        ideal = sorted(relevant.values(), reverse=True)[: self.depth]
        return float(found / (np.array(ideal) @ discounts[: len(ideal)]))


@dataclass(frozen=True, eq=False)
class PairClassificationTask(Task):
    """Pairs that match or don't: whether the former have higher cosines.

    Attributes:
        left: (n_pairs,) index of each first text in `texts`.
        right: (n_pairs,) index of each second text.
        is_positive: (n_pairs,) bool, with both values.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    is_positive: NDArray[np.bool_]

    metric = "average precision x 100"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.is_positive)

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        cosines = pair_cosines(embeddings, self.left, self.right)
        return statistics.average_precision(self.is_positive, np.round(cosines, 6)), ()


@dataclass(frozen=True, eq=False)
class SummarizationTask(Task):
    """Summaries with human scores, several per text: whether the cosine to a good summary ranks them correctly.

    Source: Spearman's correlation of scores and highest cosines, by text, as in SummEval of MTEB,
    https://aclanthology.org/2023.eacl-main.148/

    Attributes:
        summaries: (n_summaries,) index of each summary in `texts`.
        scores: (n_summaries,) human scores.
        references: For each summary, the (n,) indices of the good summaries to compare it with.
        groups: For each text, the (n,) indices of its summaries; their scores are not all the same.
    """

    summaries: NDArray[np.int64]
    scores: NDArray[np.float64]
    references: tuple[NDArray[np.int64], ...]
    groups: tuple[NDArray[np.int64], ...]

    metric = "Spearman x 100"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.groups)

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        rows = unit_rows(embeddings)
        cosines = np.array(
            [
                (rows[references] @ rows[summary]).max()
                for summary, references in zip(self.summaries, self.references, strict=True)
            ]
        )
        found = [
            statistics.spearman(self.scores[group], cosines[group])(np.ones(len(group), np.int64))
            for group in self.groups
        ]
        return statistics.mean(np.nan_to_num(found)), ()  # equal cosines have no rank correlation


def with_distinct_names(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks with numbers added to duplicate names."""
    taken: set[str] = set()
    found = []
    for task in tasks:
        name, number = task.name, 2
        while name in taken:
            name, number = f"{task.name} ({number})", number + 1
        taken.add(name)
        found.append(replace(task, name=name))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class ClassificationTask(Task):
    """Texts with labels: the accuracy of logistic regression on standardized embeddings.

    Attributes:
        train: (n_train,) index of each training text in `texts`.
        train_labels: Their labels, at least two different ones.
        test: (n_test,) index of each test text.
        test_labels: Their labels.
    """

    train: NDArray[np.int64]
    train_labels: tuple[str, ...]
    test: NDArray[np.int64]
    test_labels: tuple[str, ...]

    metric = "accuracy"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.test_labels)

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        scaler = _scikit_learn("preprocessing").StandardScaler().fit(embeddings[self.train])
        classifier = _scikit_learn("linear_model").LogisticRegression(max_iter=1000)
        classifier.fit(scaler.transform(embeddings[self.train]), np.array(self.train_labels))
        is_right = classifier.predict(scaler.transform(embeddings[self.test])) == np.array(self.test_labels)
        return statistics.mean(is_right), self._notes()

    def _notes(self) -> tuple[str, ...]:
        labels, counts = np.unique(np.array(self.train_labels), return_counts=True)
        once = [str(label) for label in labels[counts == 1]]
        unseen = sorted(set(self.test_labels) - set(self.train_labels))
        notes = []
        if once:
            notes.append(f"{_quoted(once)} has only one training text, too few for training.")
        if unseen:
            notes.append(f"{_quoted(unseen)} only has test texts, so it is never predicted.")
        return tuple(notes)


@dataclass(frozen=True, eq=False)
class ClusteringTask(Task):
    """Texts with labels: whether k-means, without the labels, groups them in the same way.

    The number of clusters is that of the labels, or of the distinct embeddings if those are fewer.

    Attributes:
        items: (n_items,) index of each text in `texts`.
        labels: Their labels, at least two different ones.
    """

    items: NDArray[np.int64]
    labels: tuple[str, ...]

    metric = "V-measure x 100"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.labels)

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        k_means = _scikit_learn("cluster").KMeans
        kinds, labels, counts = np.unique(np.array(self.labels), return_inverse=True, return_counts=True)
        rows = embeddings[self.items]
        n_clusters = min(len(kinds), len(np.unique(rows, axis=0)))
        clusters = k_means(n_clusters, n_init=4, random_state=seed).fit(rows).labels_.astype(np.int64)
        once = [str(kind) for kind in kinds[counts == 1]]
        notes = [f"{_quoted(once)} has only one text, which is not a cluster."] if once else []
        if n_clusters < len(kinds):
            notes.append(f"There are only {n_clusters:,} distinct embeddings for {len(kinds):,} labels.")
        return statistics.v_measure(labels.astype(np.int64), clusters), tuple(notes)


@dataclass(frozen=True, eq=False)
class ParaphraseTask(Task):
    """Pairs of phrases: whether a small network can recognize paraphrases from the two concatenated embeddings.

    70% of the pairs, drawn by the seed, are for training, the next 15% for early stopping, the last 15% for testing,
    stratified by label. The network has 256 hidden units with ReLU and is trained by Adam with a learning rate of 1e-4
    and a batch size of 200, until five epochs bring no better accuracy, for at most 100 epochs.

    Source: `ProbingModel` and `eval_ppdb` of https://github.com/tigerchen52/PEARL/blob/main/evaluation/eval.py, for its
    sets PPDB and PPDB filtered; scikit-learn keeps the network of the best epoch, while that script keeps that of the
    last one.

    Attributes:
        left: (n_pairs,) index of each first phrase in `texts`.
        right: (n_pairs,) index of each second phrase.
        is_paraphrase: (n_pairs,) bool; at least `MIN_PAIRS_PER_LABEL` of each.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    is_paraphrase: NDArray[np.bool_]

    metric = "accuracy"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self._split(0)[1])

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        rows = np.concatenate([embeddings[self.left], embeddings[self.right]], axis=1)  # (n_pairs, 2 * dim)
        learned, test = self._split(seed)
        network = _scikit_learn("neural_network").MLPClassifier(
            hidden_layer_sizes=(_HIDDEN,),
            learning_rate_init=1e-4,
            alpha=0.0,
            batch_size=min(200, int((1 - _CHECKED) * len(learned))),
            max_iter=100,
            early_stopping=True,
            validation_fraction=_CHECKED,
            n_iter_no_change=4,  # scikit-learn stops after one more
            tol=1e-9,  # any improvement counts
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
            network.fit(rows[learned], self.is_paraphrase[learned])
        return statistics.mean(network.predict(rows[test]) == self.is_paraphrase[test]), ()

    def _split(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the training pairs, including those for early stopping, and of the test pairs."""
        generator = np.random.default_rng(seed)
        parts = []
        for kind in (True, False):
            its = generator.permutation(np.flatnonzero(self.is_paraphrase == kind))
            parts.append(np.split(its, [int(np.ceil(_LEARNED * len(its)))]))
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def pair_cosines(
    embeddings: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(n_pairs,) cosine similarity of each pair of texts.

    Args:
        embeddings: (n_texts, dim) float32.
        left: (n_pairs,) position of each pair's first text.
        right: (n_pairs,) position of the second one.
    """
    rows = unit_rows(embeddings)
    cosines: NDArray[np.float32] = (rows[left] * rows[right]).sum(axis=1)
    return cosines


def _scikit_learn(module: str) -> Any:
    with NeedsExtra("scikit-learn", "eval"):
        return importlib.import_module(f"sklearn.{module}")


def _quoted(labels: list[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:3])
    return shown if len(labels) <= 3 else f"{shown} and {len(labels) - 3:,} more: each"
