"""How much of the teacher's ranking a static model keeps, without any labels."""

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
from m2v_core.evaluation.tasks import PairTask
from m2v_core.native.cosines import unit_rows
from m2v_core.progress import ProgressCallback, ProgressReporter

N_PAIRS = 10_000
N_TEXTS = 2_000
N_NEIGHBOURS = 10

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Fidelity:
    """How far a static model agrees with its teacher on some texts.

    Attributes:
        correlation: Spearman's rank correlation of the two encoders' similarities of pairs of texts, with its
            interval; -1 to 1, and 0 where either finds all pairs alike.
        overlap: Share of a text's nearest neighbours that both encoders name, with its interval; 0 to 1.
        n_neighbours: How many neighbours of each text were compared.
        n_texts: Different texts that were read.
        n_pairs: Pairs of them whose similarities were ranked.
        text_warning: Why the static model's embeddings of these texts mean little; None where they don't.
    """

    correlation: Estimate
    overlap: Estimate
    n_neighbours: int
    n_texts: int
    n_pairs: int
    text_warning: str | None = None

    @property
    def verdict(self) -> str:
        """The finding in one sentence."""
        return (
            f"Keeps {_percent(self.correlation)} of the teacher's ranking of {self.n_pairs:,} pairs of texts, and "
            f"{_percent(self.overlap)} of each text's {self.n_neighbours} nearest neighbours."
        )

    @property
    def warning(self) -> str | None:
        """Why the figure can't be relied on; None where it can."""
        return self.text_warning

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
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
    """What each encoder keeps of a teacher's view of one's own texts, which the teacher reads once.

    Args:
        teacher: The encoder to agree with.
        encoders: The encoders to judge.
        texts: Any texts without labels, at least `MIN_FIDELITY_TEXTS` different ones; at most `N_TEXTS` of them are
            read.
        resamples: Bootstrap samples for the intervals; 0 for none.
        seed: Fixes them, and which texts and pairs are drawn.
        progress: Receives the stage `"encode"`, in texts of all encoders, the teacher among them.
        cancel: Set it to stop within some hundred texts.

    Raises:
        InputError: Too few different texts, or an encoder that returns no finite (n_texts, dim) array.
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
    n_pairs: int = N_PAIRS,
    n_neighbours: int = N_NEIGHBOURS,
    resamples: int = statistics.RESAMPLES,
    seed: int = statistics.SEED,
) -> Fidelity:
    """The same of embeddings that exist already.

    The pairs share texts, so they are not independent. The bootstrap therefore draws texts, and a pair counts as often
    as both its texts together.

    Args:
        teacher: (n_texts, teacher_dim) float32, embeddings of three different texts or more.
        static: (n_texts, dim) float32, embeddings of the same texts.
        n_pairs: Pairs to draw, without repetition; all there are when there are fewer.
        n_neighbours: Neighbours of each text to compare; at most all others but one.
        resamples: Bootstrap samples for the intervals; 0 for none.
        seed: Fixes what is drawn.
    """
    n_texts = len(teacher)
    first, second = _drawn_pairs(n_texts, n_pairs, seed)
    n_neighbours = min(n_neighbours, n_texts - 2)
    cosines, neighbours = [], []
    for embeddings in (teacher, static):
        rows = unit_rows(embeddings)
        cosines.append((rows[first] * rows[second]).sum(axis=1))
        neighbours.append(_neighbours(rows, n_neighbours))
    of_pairs = statistics.spearman(*cosines)
    correlation = statistics.bootstrap(
        lambda counts: of_pairs(counts[first] * counts[second]), n_texts, resamples, seed
    )
    if np.isnan(correlation.value):
        correlation = Estimate(0.0, 0.0, 0.0)
    shared = [len(set(one) & set(other)) for one, other in zip(*(found.tolist() for found in neighbours), strict=True)]
    overlap = statistics.bootstrap(statistics.mean(np.array(shared) / n_neighbours), n_texts, resamples, seed)
    return Fidelity(correlation, overlap, n_neighbours, n_texts, len(first))


def teacher_task(teacher: Encoder, texts: Sequence[str], *, seed: int = statistics.SEED) -> PairTask:
    """Fidelity as a task: pairs of one's own texts, scored by how similar the teacher finds them.

    An encoder's score on it is 100 times the correlation that `measure_fidelity` finds with the same texts and seed.

    Raises:
        InputError: As `measure_fidelity`.
    """
    chosen = _drawn_texts(texts, seed)
    rows = unit_rows(checked_embeddings(teacher.encode(chosen), chosen, teacher.facts.name))
    first, second = _drawn_pairs(len(chosen), N_PAIRS, seed)
    scores = (rows[first] * rows[second]).sum(axis=1).astype(np.float64)
    return PairTask("fidelity", "STS", tuple(chosen), first, second, scores)


def _drawn_texts(texts: Sequence[str], seed: int) -> list[str]:
    texts = well_formed(checked_texts(texts))
    chosen = list(dict.fromkeys(text for text in texts if text.strip()))
    if not has_enough_texts(len(chosen)):
        raise InputError(
            f"Fidelity is not measured on fewer than {MIN_FIDELITY_TEXTS} different texts, and there are "
            f"{len(chosen):,}. Give more texts."
        )
    if len(chosen) > N_TEXTS:
        drawn = np.random.default_rng(seed).choice(len(chosen), N_TEXTS, replace=False)
        chosen = [chosen[place] for place in sorted(drawn)]
    return chosen


def _drawn_pairs(n_texts: int, n_pairs: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n_drawn,) places of each pair's first text, and of its second."""
    first, second = np.triu_indices(n_texts, k=1)
    if len(first) > n_pairs:
        drawn = np.random.default_rng(seed).choice(len(first), n_pairs, replace=False)
        first, second = first[drawn], second[drawn]
    return first, second


def rank_correlation(teacher: NDArray[np.float32], student: NDArray[np.float32]) -> float:
    """Spearman's rank correlation between the two encoders' similarities of all pairs of texts.

    Args:
        teacher: (n_texts, teacher_dim) float32, embeddings of at least three texts.
        student: (n_texts, dim) float32, embeddings of the same texts by another encoder.

    Returns:
        -1 to 1; 1 where both put all pairs in the same order. 0 where either finds all pairs alike.
    """
    n_pairs = len(teacher) * (len(teacher) - 1) // 2
    return compare_embeddings(teacher, student, n_pairs=n_pairs, n_neighbours=1, resamples=0).correlation.value


def _neighbours(rows: NDArray[np.float32], n_neighbours: int) -> NDArray[np.int64]:
    """(n_texts, n_neighbours) the texts most similar to each, itself left out; of equals the first."""
    found = []
    for start in range(0, len(rows), _TEXTS_AT_ONCE):
        cosines = rows[start : start + _TEXTS_AT_ONCE] @ rows.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        found.append(np.argsort(-cosines, axis=1, kind="stable")[:, :n_neighbours])
    return np.concatenate(found)


def _percent(estimate: Estimate) -> str:
    share = f"{max(estimate.value, 0.0):.0%}".replace("%", " %")
    if np.isnan(estimate.low):
        return share
    low, high = (100 * max(end, 0.0) for end in (estimate.low, estimate.high))
    return f"{share} (95 % interval {low:.0f} to {high:.0f} %)"
