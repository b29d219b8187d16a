"""How well a static model matches its teacher's similarities, without any labels.

Fidelity is Spearman's rank correlation between the two models' cosine similarities over pairs of texts. Most random
pairs are unrelated, and their order is noise. So the pairs are stratified over the teacher's ranking: each text is
paired with its nearest neighbors, with texts at ranks drawn log-uniformly, and with random texts.

Source: `python benchmarks/fidelity.py` compares this choice, and random pairs, with scores on human judgments.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError
from m2v_core.evaluation import statistics
from m2v_core.evaluation.encoders import Encoder
from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS, has_enough_texts
from m2v_core.evaluation.run import checked_embeddings, embeddings_in_blocks, text_warning
from m2v_core.evaluation.statistics import Estimate
from m2v_core.evaluation.tasks import PairTask, pair_cosines
from m2v_core.native.cosines import unit_rows
from m2v_core.progress import ProgressCallback, ProgressReporter

N_TEXTS = 2_000
N_NEIGHBORS = 10

_TEXTS_AT_ONCE = 256
_PAIRS_PER_STRATUM = 5
"""Pairs of each text in each of the three strata: nearest neighbors, log-uniform ranks, random texts."""


@dataclass(frozen=True)
class Fidelity:
    """The agreement of a static model with its teacher on some texts.

    Attributes:
        correlation: Spearman's rank correlation between the two encoders' similarities over stratified pairs of
            texts, with its interval; -1 to 1, and 0 if either encoder gives all pairs the same similarity.
        overlap: Share of a text's nearest neighbors on which both encoders agree, with its interval; 0 to 1.
        n_neighbours: Number of neighbors compared for each text.
        n_texts: Number of distinct texts.
        n_pairs: Number of pairs of them whose similarities were ranked.
        text_warning: Why the static model's embeddings of these texts may be of low quality; None if there is no
            reason.
    """

    correlation: Estimate
    overlap: Estimate
    n_neighbours: int
    n_texts: int
    n_pairs: int
    text_warning: str | None = None

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        return (
            f"Matches the teacher's similarity ranking: {with_interval(self.correlation)}. "
            f"Shares {_percent(self.overlap)} of each text's {self.n_neighbours} nearest neighbors."
        )

    @property
    def warning(self) -> str | None:
        """Why the result is unreliable; None if it is reliable."""
        return self.text_warning

    def to_json(self) -> dict[str, Any]:
        """All values as plain JSON values."""
        return asdict(self) | {"verdict": self.verdict, "warning": self.warning}


def measure_fidelity(
    teacher: Encoder,
    encoders: Sequence[Encoder],
    texts: Sequence[str],
    *,
    resamples: int = statistics.RESAMPLES,
    seed: int = statistics.SEED,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Fidelity, ...]:
    """Measure how well each encoder agrees with a teacher on some texts, which the teacher encodes once.

    Args:
        teacher: The reference encoder.
        encoders: The encoders to compare.
        texts: Any texts without labels, at least `MIN_FIDELITY_TEXTS` distinct ones; at most `N_TEXTS` of them are
            used.
        resamples: Bootstrap samples for the intervals; 0 for none.
        seed: Random seed of the intervals and of the texts and pairs drawn.
        progress: Receives the stage `"encode"`, in texts of all encoders including the teacher.
        cancel: Set it to stop within a few hundred texts.

    Raises:
        InputError: Too few distinct texts, or an encoder that returns no finite (n_texts, dim) array.
        Cancelled: `cancel` was set.
    """
    chosen = _drawn_texts(texts, seed)
    reporter = ProgressReporter(progress, cancel)
    reporter.start("encode", (1 + len(encoders)) * len(chosen))

    def advance(n_before: int, n_after: int) -> None:
        reporter.advance(n_after - n_before)

    views = [
        embeddings_in_blocks(encoder, chosen, encoder.facts.name, advance, _TEXTS_AT_ONCE)
        for encoder in (teacher, *encoders)
    ]
    found = (compare_embeddings(views[0], view, resamples=resamples, seed=seed) for view in views[1:])
    return tuple(
        replace(one, text_warning=text_warning(encoder, chosen)) for one, encoder in zip(found, encoders, strict=True)
    )


def compare_embeddings(
    teacher: NDArray[np.float32],
    static: NDArray[np.float32],
    *,
    n_neighbours: int = N_NEIGHBORS,
    resamples: int = statistics.RESAMPLES,
    seed: int = statistics.SEED,
) -> Fidelity:
    """Fidelity computed from existing embeddings.

    Pairs share texts, so they are not independent. The bootstrap therefore resamples texts, and weights each pair by
    the product of its texts' counts.

    Args:
        teacher: (n_texts, teacher_dim) float32, embeddings of at least three distinct texts.
        static: (n_texts, dim) float32, embeddings of the same texts.
        n_neighbours: Nearest neighbors of each text to compare; at most n_texts - 2.
        resamples: Bootstrap samples for the intervals; 0 for none.
        seed: Random seed of the pairs and the bootstrap samples.
    """
    n_texts = len(teacher)
    first, second = _stratified_pairs(unit_rows(teacher), seed)
    n_neighbours = min(n_neighbours, n_texts - 2)
    of_pairs = statistics.spearman(*(pair_cosines(view, first, second) for view in (teacher, static)))
    correlation = statistics.bootstrap(
        lambda counts: of_pairs(counts[first] * counts[second]), n_texts, resamples, seed
    )
    if np.isnan(correlation.value):
        correlation = Estimate(0.0, 0.0, 0.0)
    neighbors = [_neighbors(unit_rows(view))[:, :n_neighbours].tolist() for view in (teacher, static)]
    shared = [len(set(one) & set(other)) for one, other in zip(*neighbors, strict=True)]
    overlap = statistics.bootstrap(statistics.mean(np.array(shared) / n_neighbours), n_texts, resamples, seed)
    return Fidelity(correlation, overlap, n_neighbours, n_texts, len(first))


def teacher_task(teacher: Encoder, texts: Sequence[str], *, seed: int = statistics.SEED) -> PairTask:
    """Fidelity as a task: pairs of unlabeled texts with the teacher's similarities as scores.

    An encoder's score on it is 100 times the correlation that `measure_fidelity` returns for the same texts and seed.

    Raises:
        InputError: See `measure_fidelity`.
    """
    chosen = _drawn_texts(texts, seed)
    embeddings = checked_embeddings(teacher.encode(chosen), chosen, teacher.facts.name)
    first, second = _stratified_pairs(unit_rows(embeddings), seed)
    scores = pair_cosines(embeddings, first, second).astype(np.float64)
    return PairTask("fidelity", "STS", tuple(chosen), first, second, scores)


def _drawn_texts(texts: Sequence[str], seed: int) -> list[str]:
    texts = well_formed(checked_texts(texts))
    chosen = list(dict.fromkeys(text for text in texts if text.strip()))
    if not has_enough_texts(len(chosen)):
        raise InputError(
            f"Fidelity needs at least {MIN_FIDELITY_TEXTS} different texts, but there are only "
            f"{len(chosen):,}. Pass more texts."
        )
    if len(chosen) > N_TEXTS:
        drawn = np.random.default_rng(seed).choice(len(chosen), N_TEXTS, replace=False)
        chosen = [chosen[place] for place in sorted(drawn)]
    return chosen


def _stratified_pairs(rows: NDArray[np.float32], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n_pairs,) indices of the first and the second text of each pair; each pair occurs once.

    Args:
        rows: (n_texts, teacher_dim) float32, the teacher's unit embeddings, which define the ranks.
        seed: Random seed of the ranks.
    """
    n_others = len(rows) - 1
    generator = np.random.default_rng(seed)
    shape = (len(rows), _PAIRS_PER_STRATUM)
    nearest = np.broadcast_to(np.arange(_PAIRS_PER_STRATUM), shape)
    log_uniform = np.exp(generator.uniform(0, np.log(n_others), shape)).astype(np.int64)
    random = generator.integers(n_others, size=shape)
    ranks = np.minimum(np.concatenate([nearest, log_uniform, random], axis=1), n_others - 1)
    others = np.take_along_axis(_neighbors(rows), ranks, axis=1)
    texts = np.broadcast_to(np.arange(len(rows))[:, None], others.shape)
    pairs = np.unique(np.stack([np.minimum(texts, others), np.maximum(texts, others)], axis=-1).reshape(-1, 2), axis=0)
    return pairs[:, 0], pairs[:, 1]


def rank_correlation(teacher: NDArray[np.float32], student: NDArray[np.float32]) -> float:
    """Fidelity without an interval: Spearman's rank correlation of similarities over stratified pairs.

    Args:
        teacher: (n_texts, teacher_dim) float32, embeddings of at least three texts.
        student: (n_texts, dim) float32, embeddings of the same texts by another encoder.

    Returns:
        -1 to 1; 1 if both rank all pairs alike, 0 if either gives all pairs the same similarity.
    """
    return compare_embeddings(teacher, student, n_neighbours=1, resamples=0).correlation.value


def _neighbors(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n_texts, n_texts - 1) the other texts of each by descending cosine; ties keep the order of the texts.

    Args:
        rows: (n_texts, dim) float32, of unit length.
    """
    found = []
    for start in range(0, len(rows), _TEXTS_AT_ONCE):
        cosines = rows[start : start + _TEXTS_AT_ONCE] @ rows.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        found.append(np.argsort(-cosines, axis=1, kind="stable")[:, :-1])
    return np.concatenate(found)


def with_interval(correlation: Estimate) -> str:
    """A correlation with its interval: "0.87 (95% interval 0.85 to 0.89)"."""
    if np.isnan(correlation.low):
        return f"{correlation.value:.2f}"
    return f"{correlation.value:.2f} (95% interval {correlation.low:.2f} to {correlation.high:.2f})"


def _percent(estimate: Estimate) -> str:
    share = f"{max(estimate.value, 0.0):.0%}"
    if np.isnan(estimate.low):
        return share
    low, high = (100 * max(end, 0.0) for end in (estimate.low, estimate.high))
    return f"{share} (95% interval {low:.0f}% to {high:.0f}%)"
