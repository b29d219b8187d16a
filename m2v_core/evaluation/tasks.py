"""What encoders are asked, and how their answers are scored: each task knows its texts and judges their embeddings.

Scores are percent, or 100 times a correlation. Every one has a bootstrap interval over what was asked: pairs, test
texts, queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from m2v_core.errors import MissingExtraError
from m2v_core.evaluation import statistics
from m2v_core.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

Group = Literal["Class", "Clust", "PairClass", "Rank", "Ret", "STS", "Sum", "PEARL", "WordSim"]
"""The columns of the published tables: MTEB's kinds of tasks, then phrases and words."""

NDCG_DEPTH = 10
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Judgement:
    """A score with its interval, and what a reader of it should know.

    Attributes:
        estimate: 0 to 100, or -100 to 100 for a correlation.
        notes: Sentences about what makes the score less than it seems; mostly none.
    """

    estimate: Estimate
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task(ABC):
    """One set of a benchmark.

    Attributes:
        name: `"STS13"`.
        group: The column that it counts towards.
        texts: All texts of the set, each once; embeddings are judged in this order.
    """

    name: str
    group: Group
    texts: tuple[str, ...]

    @property
    @abstractmethod
    def metric(self) -> str:
        """What the score is, in two or three words."""

    @property
    @abstractmethod
    def n_items(self) -> int:
        """How many questions the score rests on."""

    @abstractmethod
    def judge(
        self,
        embeddings: NDArray[np.float32],
        resamples: int = statistics.RESAMPLES,
        seed: int = statistics.SEED,
    ) -> Judgement:
        """The score of one encoder.

        Args:
            embeddings: (n_texts, dim) float32, finite; a row for each of `texts`.
            resamples: Bootstrap samples for the interval; 0 for none.
            seed: Fixes them, and where k-means starts.

        Raises:
            MissingExtraError: A classifier or k-means is needed, and scikit-learn is not installed.
        """


@dataclass(frozen=True, eq=False)
class PairTask(Task):
    """Pairs that people have scored: do the cosines agree with them?

    Attributes:
        left: (n_pairs,) place of each first text in `texts`.
        right: (n_pairs,) place of each second one.
        scores: (n_pairs,) people's scores, not all the same.
        correlation: `"spearman"` judges the order, `"pearson"` the values.
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

    def judge(
        self,
        embeddings: NDArray[np.float32],
        resamples: int = statistics.RESAMPLES,
        seed: int = statistics.SEED,
    ) -> Judgement:
        """See `Task`; 0 where all cosines are the same, which order nothing."""
        rows = unit_rows(embeddings)
        cosines = (rows[self.left] * rows[self.right]).sum(axis=1)
        of = statistics.spearman if self.correlation == "spearman" else statistics.pearson
        estimate = statistics.bootstrap(of(self.scores, cosines), self.n_items, resamples, seed)
        if np.isnan(estimate.value):
            return Judgement(Estimate(0.0, 0.0, 0.0), ("It finds all pairs equally similar, so it has no order.",))
        return Judgement(estimate.times(100.0))


@dataclass(frozen=True, eq=False)
class ClassificationTask(Task):
    """Texts with labels: how well can a linear classifier tell the labels from the embeddings?

    Attributes:
        train: (n_train,) place of each training text in `texts`.
        train_labels: Their labels, of two kinds at least.
        test: (n_test,) place of each test text.
        test_labels: Their labels.
    """

    train: NDArray[np.int64]
    train_labels: tuple[str, ...]
    test: NDArray[np.int64]
    test_labels: tuple[str, ...]

    @property
    def metric(self) -> str:
        """See `Task`."""
        return "accuracy"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.test_labels)

    def judge(
        self,
        embeddings: NDArray[np.float32],
        resamples: int = statistics.RESAMPLES,
        seed: int = statistics.SEED,
    ) -> Judgement:
        """See `Task`; standardised logistic regression."""
        try:
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "eval") from error
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(embeddings[self.train], np.array(self.train_labels))
        is_right = classifier.predict(embeddings[self.test]) == np.array(self.test_labels)
        estimate = statistics.bootstrap(statistics.mean(is_right), self.n_items, resamples, seed)
        return Judgement(estimate.times(100.0), self._notes())

    def _notes(self) -> tuple[str, ...]:
        labels, counts = np.unique(np.array(self.train_labels), return_counts=True)
        once = [str(label) for label in labels[counts == 1]]
        unseen = sorted(set(self.test_labels) - set(self.train_labels))
        notes = []
        if once:
            notes.append(f"{_quoted(once)} is on one training text alone, too few to learn from.")
        if unseen:
            notes.append(f"{_quoted(unseen)} is on test texts alone, so it is never found.")
        return tuple(notes)


@dataclass(frozen=True, eq=False)
class ClusteringTask(Task):
    """Texts with labels: does k-means, which doesn't see the labels, part them in the same way?

    Attributes:
        items: (n_items,) place of each text in `texts`.
        labels: Their labels, of two kinds at least.
    """

    items: NDArray[np.int64]
    labels: tuple[str, ...]

    @property
    def metric(self) -> str:
        """See `Task`."""
        return "V-measure x 100"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.labels)

    def judge(
        self,
        embeddings: NDArray[np.float32],
        resamples: int = statistics.RESAMPLES,
        seed: int = statistics.SEED,
    ) -> Judgement:
        """See `Task`; as many clusters as there are labels, or as different embeddings if those are fewer."""
        try:
            from sklearn.cluster import KMeans
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "eval") from error
        kinds, labels, counts = np.unique(np.array(self.labels), return_inverse=True, return_counts=True)
        rows = embeddings[self.items]
        n_clusters = min(len(kinds), len(np.unique(rows, axis=0)))
        clusters = KMeans(n_clusters, n_init=4, random_state=seed).fit(rows).labels_.astype(np.int64)
        figure = statistics.v_measure(labels.astype(np.int64), clusters)
        estimate = statistics.bootstrap(figure, self.n_items, resamples, seed)
        once = [str(kind) for kind in kinds[counts == 1]]
        notes = [f"{_quoted(once)} is on one text alone, which is no cluster."] if once else []
        if n_clusters < len(kinds):
            notes.append(f"It has {n_clusters:,} different embeddings for {len(kinds):,} labels.")
        return Judgement(estimate.times(100.0), tuple(notes))


@dataclass(frozen=True, eq=False)
class RankingTask(Task):
    """Queries, and which documents answer them: do these come first by cosine?

    Attributes:
        queries: (n_queries,) place of each query in `texts`.
        documents: (n_documents,) place of each document.
        relevance: For each query the documents, by number, that answer it, and how well; one at least.
        depth: Ranks that count: 1 for accuracy, or `NDCG_DEPTH`.
        candidates: For each query the documents, by number, to choose from; None for all.
    """

    queries: NDArray[np.int64]
    documents: NDArray[np.int64]
    relevance: tuple[dict[int, float], ...]
    depth: int = NDCG_DEPTH
    candidates: tuple[NDArray[np.int64], ...] | None = None

    @property
    def metric(self) -> str:
        """See `Task`."""
        return "accuracy" if self.depth == 1 else f"nDCG@{self.depth} x 100"

    @property
    def n_items(self) -> int:
        """See `Task`."""
        return len(self.queries)

    def judge(
        self,
        embeddings: NDArray[np.float32],
        resamples: int = statistics.RESAMPLES,
        seed: int = statistics.SEED,
    ) -> Judgement:
        """See `Task`; where documents are equally similar, the last one listed comes first, so that none gains by it.

        Source: nDCG with linear gains, as trec_eval has it, https://github.com/usnistgov/trec_eval
        """
        rows = unit_rows(embeddings)
        documents = rows[self.documents]
        gains = []
        for start in range(0, self.n_items, _QUERIES_AT_ONCE):
            cosines = rows[self.queries[start : start + _QUERIES_AT_ONCE]] @ documents.T
            gains += [self._gain(start + place, row) for place, row in enumerate(cosines)]
        estimate = statistics.bootstrap(statistics.mean(np.array(gains)), self.n_items, resamples, seed)
        return Judgement(estimate.times(100.0))

    def _gain(self, query: int, cosines: NDArray[np.float32]) -> float:
        offered = np.arange(len(cosines)) if self.candidates is None else self.candidates[query]
        # Equal embeddings have equal cosines but for rounding, which differs with the place in the matrix.
        cosines = np.round(cosines, 6)
        # The right answer is often written first: with a stable sort, an encoder that knows nothing would be right.
        best = offered[::-1][np.argsort(-cosines[offered[::-1]], kind="stable")[: self.depth]]
        relevant = self.relevance[query]
        discounts = 1 / np.log2(np.arange(2, self.depth + 2))
        found = sum(relevant.get(int(document), 0.0) * discounts[rank] for rank, document in enumerate(best))
        ideal = sorted(relevant.values(), reverse=True)[: self.depth]
        return float(found / (np.array(ideal) @ discounts[: len(ideal)]))


def unit_rows(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, dim) float32, rows of length one; a zero row stays zero."""
    embeddings = np.asarray(embeddings, np.float32)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows: NDArray[np.float32] = np.divide(embeddings, norms, out=np.zeros_like(embeddings), where=norms > 0)
    return rows


def _quoted(labels: list[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:3])
    return shown if len(labels) <= 3 else f"{shown} and {len(labels) - 3:,} more: each"
