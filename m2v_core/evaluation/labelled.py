"""Tasks that a classifier or k-means is needed for, so scikit-learn: texts with labels, and pairs with labels."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import NeedsExtra
from m2v_core.evaluation import statistics
from m2v_core.evaluation.tasks import Task

LEAST_OF_A_KIND = 10
"""Pairs of phrases of each kind, that teaching, checking and testing have some."""
_LEARNED = 0.85
_CHECKED = 0.15 / _LEARNED  # of those
_HIDDEN = 256


@dataclass(frozen=True, eq=False)
class ClassificationTask(Task):
    """Texts with labels: how well can standardised logistic regression tell the labels from the embeddings?

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
            notes.append(f"{_quoted(once)} is on one training text alone, too few to learn from.")
        if unseen:
            notes.append(f"{_quoted(unseen)} is on test texts alone, so it is never found.")
        return tuple(notes)


@dataclass(frozen=True, eq=False)
class ClusteringTask(Task):
    """Texts with labels: does k-means, which doesn't see the labels, part them in the same way?

    As many clusters as there are labels, or as different embeddings if those are fewer.

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

    def _figure(self, embeddings: NDArray[np.float32], seed: int) -> tuple[statistics.Statistic, tuple[str, ...]]:
        k_means = _scikit_learn("cluster").KMeans
        kinds, labels, counts = np.unique(np.array(self.labels), return_inverse=True, return_counts=True)
        rows = embeddings[self.items]
        n_clusters = min(len(kinds), len(np.unique(rows, axis=0)))
        clusters = k_means(n_clusters, n_init=4, random_state=seed).fit(rows).labels_.astype(np.int64)
        once = [str(kind) for kind in kinds[counts == 1]]
        notes = [f"{_quoted(once)} is on one text alone, which is no cluster."] if once else []
        if n_clusters < len(kinds):
            notes.append(f"It has {n_clusters:,} different embeddings for {len(kinds):,} labels.")
        return statistics.v_measure(labels.astype(np.int64), clusters), tuple(notes)


@dataclass(frozen=True, eq=False)
class ParaphraseTask(Task):
    """Pairs of phrases: can a small network tell paraphrases from the two embeddings, one after the other?

    70 % of the pairs, drawn by the seed, teach it, the next 15 % say when to end, the last 15 % are the test. It has
    256 hidden units with ReLU and learns by Adam with steps of 1e-4 on 200 pairs at a time, until five epochs have
    brought no better accuracy, for 100 at most. Of both kinds of pairs each part has its share.

    Source: `ProbingModel` and `eval_ppdb` of https://github.com/tigerchen52/PEARL/blob/main/evaluation/eval.py, for its
    sets PPDB and PPDB filtered; scikit-learn keeps the network of the best epoch, where that script goes on with the
    last one.

    Attributes:
        left: (n_pairs,) place of each first phrase in `texts`.
        right: (n_pairs,) place of each second one.
        is_paraphrase: (n_pairs,) bool; `LEAST_OF_A_KIND` at least of each.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    is_paraphrase: NDArray[np.bool_]

    @property
    def metric(self) -> str:
        """See `Task`."""
        return "accuracy"

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
            n_iter_no_change=4,  # it stops after one more
            tol=1e-9,  # only what is better counts
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
            network.fit(rows[learned], self.is_paraphrase[learned])
        return statistics.mean(network.predict(rows[test]) == self.is_paraphrase[test]), ()

    def _split(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the pairs to learn from, those to check on among them, and of those for the test."""
        generator = np.random.default_rng(seed)
        parts = []
        for kind in (True, False):
            its = generator.permutation(np.flatnonzero(self.is_paraphrase == kind))
            parts.append(np.split(its, [int(np.ceil(_LEARNED * len(its)))]))
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _scikit_learn(module: str) -> Any:
    with NeedsExtra("scikit-learn", "eval"):
        return importlib.import_module(f"sklearn.{module}")


def _quoted(labels: list[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:3])
    return shown if len(labels) <= 3 else f"{shown} and {len(labels) - 3:,} more: each"
