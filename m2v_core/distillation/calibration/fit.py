"""Fit of the embedding table to the teacher's sentence embeddings.

A static sentence embedding is linear in the table: with A the sparse matrix of token counts over sentence length,
`(n_sentences, n_rows)`, the embeddings before normalization are A E. The closed form is a ridge regression towards
the distilled table E0,

    minimize over D   sum_i || s_i^-1 (A (E0 + D))_i - t_i ||^2 + lambda ||D||_F^2 ,   s_i = || (A E0)_i ||

where t_i is the teacher's embedding of sentence i, centered, rotated into the space of the table, and normalized. With
real text, gradient descent then minimizes two losses: the cosine distance between a sentence and its target, and the
squared difference between the cosines of all pairs of sentences in a batch and the teacher's cosines. The result is the
mean of both tables: their errors differ, and the mean is better on sentences and words than either table.

`closed_form` and `descent` implement these two steps; this module chooses their inputs and validates the result.

Source: the rotation is the orthogonal Procrustes solution (Schoenemann, 1966); averaging tables: Wortsman et al.,
"Model soups", 2022; the largest lambda within one standard error of the best: Breiman et al., "Classification and
Regression Trees", 1984.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
from tokenizers import Tokenizer

from m2v_core.distillation.calibration.closed_form import InitialTable, RotatedTargets, fit_closed_form
from m2v_core.distillation.calibration.descent import descend, n_descent_steps
from m2v_core.native.cosines import row_lengths, unit_rows
from m2v_core.progress import ProgressReporter

logger = logging.getLogger(__name__)

MIN_SENTENCES = 1000  # with fewer, most rows occur too rarely
_LAMBDAS = (1.0, 0.3)  # smaller values fit bags better but worsen the model; the last selects the initial table
_SELECTION_SENTENCES = 10_000  # minimum number of sentences for selecting the initial table and lambda
_SELECTION_COLUMNS = 64
_SELECTION_TOLERANCE = 0.05
_HELD_OUT = 0.05
_MAX_HELD_OUT = 2000
_MAX_TOKENS = 512
_BATCH_TEXTS = 20_000


@dataclass(frozen=True)
class Sentences:
    """Sentences as token counts, with the teacher's embeddings.

    Attributes:
        counts: Token counts divided by the sentence's length, `(n_sentences, n_rows)` sparse float32.
        targets: The teacher's embeddings, `(n_sentences, embedding_dim) float32`.
    """

    counts: Any
    targets: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str], unk_token_id: int | None, n_rows: int) -> Any:
    """Count the known tokens of each text, divided by their number: `(n_texts, n_rows)` sparse float32.

    Args:
        tokenizer: The static model's tokenizer.
        texts: The texts.
        unk_token_id: The unknown token, which is ignored.
        n_rows: Number of tokens of the vocabulary.
    """
    ids: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _BATCH_TEXTS):
        for encoding in tokenizer.encode_batch_fast(texts[start : start + _BATCH_TEXTS], add_special_tokens=False):
            of_text = np.array(encoding.ids[:_MAX_TOKENS], dtype=np.int32)
            if unk_token_id is not None:
                of_text = of_text[of_text != unk_token_id]
            ids.append(of_text)
            lengths.append(len(of_text))
    n_tokens = np.array(lengths)
    shares = np.repeat(1.0 / np.maximum(n_tokens, 1), n_tokens).astype(np.float32)
    columns = np.concatenate(ids) if ids else np.empty(0, np.int32)
    starts = np.concatenate([[0], np.cumsum(n_tokens)])
    counts = sparse.csr_matrix((shares, columns, starts), shape=(len(texts), n_rows))
    counts.sum_duplicates()
    return counts


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration.

    Attributes:
        token_embeddings: The table to use, `(n_rows, dim) float32`.
        before: Mean correlation of static and teacher similarities on held-out sentences before calibration.
        after: The same after calibration; None if the table is unchanged.
        problem: Why the table is unchanged; None if it was calibrated.
    """

    token_embeddings: npt.NDArray[np.float32]
    before: float | None = None
    after: float | None = None
    problem: str | None = None


def calibrate(
    starts: Sequence[InitialTable],
    sentences: Sentences,
    has_text: bool,
    reporter: ProgressReporter,
) -> Calibration:
    """Fit the table to the teacher's embeddings of these sentences.

    Args:
        starts: Initial tables, `(n_rows, dim)` each: the weighted distilled table, and alternatives.
        sentences: Result of `prepare_sentences`; the first are held out.
        has_text: Whether some of them are real text; if so, gradient descent also runs, and both tables are averaged.
        reporter: Reports the stages `"calibrate"`, in columns times sentences, and `"descend"`, in steps; cancellable
            between them.

    Returns:
        The calibrated table; or the first initial table and the problem, if there are too few sentences or the
        calibrated table is no better on the held-out sentences.

    Raises:
        Cancelled: the run was cancelled.
    """
    distilled, dim, n_usable = starts[0], starts[0].dim, len(sentences)
    if n_usable < MIN_SENTENCES:
        return Calibration(
            distilled.columns(slice(None)),
            problem=f"only {n_usable:,} sentences have known tokens and a distinct embedding; "
            f"at least {MIN_SENTENCES:,} are needed",
        )
    n_held_out = min(_MAX_HELD_OUT, int(_HELD_OUT * n_usable))
    held_out = _HeldOut(sentences.counts[:n_held_out], sentences.targets[:n_held_out])
    before = float(held_out.agreements(distilled.embeddings(held_out.counts)).mean())
    counts, targets = sentences.counts[n_held_out:], sentences.targets[n_held_out:]

    n_steps = n_descent_steps(len(targets)) if has_text else 0
    n_fits = len(starts) + len(_LAMBDAS) - 1
    few = slice(None, None, max(1, len(targets) // _SELECTION_SENTENCES))
    n_few = len(targets[few])
    reporter.start("calibrate", n_fits * min(dim, _SELECTION_COLUMNS) * n_few + dim * len(targets))
    chosen, strength = _select_start(starts, counts[few], targets[few], held_out, reporter)
    start, rotation = _align(starts[chosen], counts[few], targets[few])
    wanted = RotatedTargets.from_rotation(targets, rotation)
    fitted = fit_closed_form(start, counts, wanted, strength, reporter)
    if n_steps:
        descended = descend(fitted, counts, wanted.to_array(), targets, n_steps, reporter)
        fitted = fitted / _mean_length(fitted) + descended / _mean_length(descended)
    after = float(held_out.agreements(held_out.counts @ fitted).mean())
    logger.info("Agreement with the teacher on held-out sentences: %.4f before, %.4f after.", before, after)
    if not after > before:  # NaN too
        return Calibration(
            distilled.columns(slice(None)),
            before,
            problem=f"on held-out sentences the calibrated table agrees less with the teacher ({after:.3f}) than the "
            f"distilled table ({before:.3f})",
        )
    return Calibration(fitted, before, after)


def _select_start(
    starts: Sequence[InitialTable],
    counts: Any,
    targets: npt.NDArray[np.float32],
    held_out: _HeldOut,
    reporter: ProgressReporter,
) -> tuple[int, float]:
    """Select the initial table and lambda with the best agreement, using only the leading columns."""
    leading = [_align(start.leading(_SELECTION_COLUMNS), counts, targets) for start in starts]

    def agreements(which: int, strength: float) -> npt.NDArray[np.float64]:
        start, rotation = leading[which]
        wanted = RotatedTargets.from_rotation(targets, rotation)
        fitted = fit_closed_form(start, counts, wanted, strength, reporter, _SELECTION_TOLERANCE)
        return held_out.agreements(held_out.counts @ fitted)

    of_starts = [agreements(which, _LAMBDAS[-1]) for which in range(len(starts))]
    chosen = _select_best(of_starts)
    of_lambdas = [
        of_starts[chosen] if strength == _LAMBDAS[-1] else agreements(chosen, strength) for strength in _LAMBDAS
    ]
    return chosen, _LAMBDAS[_select_best(of_lambdas)]


def _select_best(agreements: Sequence[npt.NDArray[np.float64]]) -> int:
    """Return the index of the best, preferring earlier ones within one standard error."""
    best, limit = 0, -np.inf
    for which, found in enumerate(agreements):
        if found.mean() > limit:
            best, limit = which, found.mean() + found.std(ddof=1) / np.sqrt(len(found))
    return best


def prepare_sentences(kinds: Sequence[Sentences], n_rows: int) -> Sentences:
    """Center and normalize the targets of each kind, drop sentences without known tokens, and shuffle.

    Args:
        kinds: Bags and real sentences. Each kind is centered separately, so that the difference between their means is
            not fitted.
        n_rows: Number of tokens of the vocabulary.
    """
    centered = [_center(kind) for kind in kinds]
    if not centered:
        return Sentences(sparse.csr_matrix((0, n_rows), dtype=np.float32), np.empty((0, 1), np.float32))
    counts = sparse.vstack([kind.counts for kind in centered]).tocsr()
    targets = np.concatenate([kind.targets for kind in centered])
    order = np.random.default_rng(0).permutation(len(targets))
    return Sentences(counts[order], targets[order])


def _center(sentences: Sentences) -> Sentences:
    vectors = unit_rows(sentences.targets)
    vectors -= vectors.mean(axis=0)
    # Vectors at the mean have no direction. If a teacher maps all texts to one vector, all are dropped.
    kept = (np.diff(sentences.counts.indptr) > 0) & (row_lengths(vectors) > 1e-3)
    return Sentences(sentences.counts[kept], unit_rows(vectors[kept]))


def _align(
    start: InitialTable, counts: Any, targets: npt.NDArray[np.float32]
) -> tuple[InitialTable, npt.NDArray[np.float32]]:
    """Scale the table to the targets, and return the rotation of the targets that best fits its embeddings.

    The rotation, `(embedding_dim, dim) float32`, also truncates. It is needed because the teacher's embeddings may not
    be in the space of the distilled hidden states (dense layers may follow); rotations preserve similarities.
    """
    embeddings = start.embeddings(counts)
    start = start.scaled(1 / _mean_length(embeddings))
    overlap = targets.T @ unit_rows(embeddings, out=embeddings)  # (embedding_dim, dim)
    left, _, right = np.linalg.svd(overlap.astype(np.float64), full_matrices=False)
    return start, (left @ right).astype(np.float32)


def _mean_length(vectors: npt.NDArray[np.float32]) -> np.float32:
    return np.float32(max(float(row_lengths(vectors).mean()), 1e-12))


class _HeldOut:
    """Measures the agreement of tables with the teacher on held-out sentences, in ten parts."""

    def __init__(self, counts: Any, targets: npt.NDArray[np.float32]) -> None:
        self.counts = counts
        self._parts = np.array_split(np.arange(len(targets)), 10)
        self._expected = [_standardize(_cosines(targets[part])) for part in self._parts]

    def agreements(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the Pearson correlation of static and teacher cosines over all pairs of each part, `(10,)`.

        Args:
            embeddings: Embeddings of `counts` with the table, `(n_sentences, dim) float32`.
        """
        units = unit_rows(embeddings)
        return np.array(
            [
                np.mean(_standardize(_cosines(units[part])) * expected)
                for part, expected in zip(self._parts, self._expected, strict=True)
            ]
        )


def _cosines(units: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cosines of all pairs of unit rows."""
    cosines: npt.NDArray[np.float32] = (units @ units.T)[np.triu_indices(len(units), 1)]
    return cosines


def _standardize(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide = values.astype(np.float64)
    return np.asarray((wide - wide.mean()) / max(wide.std(), 1e-12))
