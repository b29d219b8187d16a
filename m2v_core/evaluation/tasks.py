"""What encoders are asked, and how their answers are scored: each task knows its texts and judges their embeddings.

Scores are percent, or 100 times a correlation. Every one has a bootstrap interval over what was asked: pairs, test
texts, queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.evaluation import statistics
from m2v_core.evaluation.statistics import Estimate
from m2v_core.native.cosines import unit_rows

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

    def judge(
        self,
        embeddings: NDArray[np.float32],
        resamples: int = statistics.RESAMPLES,
        seed: int = statistics.SEED,
    ) -> Judgement:
        """The score of one encoder; 0, with a note, where its embeddings don't define one.

        Args:
            embeddings: (n_texts, dim) float32, finite; a row for each of `texts`.
            resamples: Bootstrap samples for the interval; 0 for none.
            seed: Fixes them, and where k-means and classifiers start.

        Raises:
            MissingExtraError: A classifier or k-means is needed, and scikit-learn is not installed.
        """
        figure, notes = self._figure(embeddings, seed)
        estimate = statistics.bootstrap(figure, self.n_items, resamples, seed)
        if np.isnan(estimate.value):
            return Judgement(Estimate(0.0, 0.0, 0.0), ("It finds all pairs equally similar, so it has no order.",))
        return Judgement(estimate.times(100.0), notes)

    @abstractmethod
    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        """The score, 0 to 1 or -1 to 1, as a statistic of the items, and notes."""


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

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        rows = unit_rows(embeddings)
        cosines = (rows[self.left] * rows[self.right]).sum(axis=1)
        of = statistics.spearman if self.correlation == "spearman" else statistics.pearson
        return of(self.scores, cosines), ()  # not defined where all cosines are the same, which order nothing


@dataclass(frozen=True, eq=False)
class RankingTask(Task):
    """Queries, and which documents answer them: do these come first by cosine?

    Where documents are equally similar, the last one listed comes first, so that none gains by it.

    Source: nDCG with linear gains, as trec_eval has it, https://github.com/usnistgov/trec_eval

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
        # Equal embeddings have equal cosines but for rounding, which differs with the place in the matrix.
        cosines = np.round(cosines, 6)
        # The right answer is often written first: with a stable sort, an encoder that knows nothing would be right.
        best = offered[::-1][np.argsort(-cosines[offered[::-1]], kind="stable")[: self.depth]]
        relevant = self.relevance[query]
        discounts = 1 / np.log2(np.arange(2, self.depth + 2))
        found = sum(relevant.get(int(document), 0.0) * discounts[rank] for rank, document in enumerate(best))
        ideal = sorted(relevant.values(), reverse=True)[: self.depth]
        return float(found / (np.array(ideal) @ discounts[: len(ideal)]))


def with_distinct_names(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks, numbered where one has the name of another before it."""
    taken: set[str] = set()
    found = []
    for task in tasks:
        name, number = task.name, 2
        while name in taken:
            name, number = f"{task.name} ({number})", number + 1
        taken.add(name)
        found.append(replace(task, name=name))
    return tuple(found)
