"""Fitting the table of token embeddings to the teacher's sentence embeddings.

A static sentence embedding is linear in the table: with A the sparse matrix of token counts over sentence length,
`(n_sentences, n_rows)`, the embeddings before normalization are A E. The closed form is a ridge regression towards
the distilled table E0,

    minimise over D   sum_i || s_i^-1 (A (E0 + D))_i - t_i ||^2 + lambda ||D||_F^2 ,   s_i = || (A E0)_i ||

with t_i the teacher's embedding of sentence i, centred, turned into the space of the table, of unit length. Where there
is real text, a descent follows that minimises what matters in the end, cosines: those between a sentence and the
teacher's vector for it, and those between all pairs of sentences in a batch, against the teacher's own. What comes out
is the mean of the two tables: their errors differ, and it is better at sentences and at words than either.

`closed_form` and `descent` hold these two; here it is decided what they get, and whether what comes out is used.

Source: the turn is the orthogonal Procrustes solution (Schoenemann, 1966); averaging tables on one path: Wortsman et
al., "Model soups", 2022; the strongest lambda within a standard error of the best: Breiman et al., "Classification and
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

from m2v_core.distillation.calibration.closed_form import COLUMN_UNITS, Start, Turned, fit_closed_form
from m2v_core.distillation.calibration.descent import descend, n_descent_steps
from m2v_core.native.cosines import row_lengths, unit_rows
from m2v_core.progress import ProgressReporter

logger = logging.getLogger(__name__)

FEWEST_SENTENCES = 1000  # with fewer there is nothing to learn for most rows
_LAMBDAS = (1.0, 0.3)  # a weaker one fits bags better and makes a worse model; the start is chosen by the last
_TO_CHOOSE = 10_000  # sentences, at least, that start and lambda are chosen on
_COLUMNS_TO_CHOOSE = 64
_ROUGHLY = 0.05  # tolerance of the fits to choose by
_HELD_OUT = 0.05
_MOST_HELD_OUT = 2000
_MOST_TOKENS = 512
_TEXTS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Sentences:
    """Sentences as the static model reads them, and as the teacher does.

    Attributes:
        counts: `(n_sentences, n_rows)` sparse float32, each row's counts over the sentence's length.
        targets: `(n_sentences, embedding_dim) float32`, the teacher's embeddings.
    """

    counts: Any
    targets: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str], unk_token_id: int | None, n_rows: int) -> Any:
    """`(n_texts, n_rows)` sparse float32: how often each known token occurs, over the number of them.

    Args:
        tokenizer: The static model's.
        texts: Any number.
        unk_token_id: The token that counts for nothing.
        n_rows: Tokens of the vocabulary.
    """
    ids: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        for encoding in tokenizer.encode_batch_fast(texts[start : start + _TEXTS_AT_ONCE], add_special_tokens=False):
            of_text = np.array(encoding.ids[:_MOST_TOKENS], dtype=np.int32)
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
    """What calibrating gave.

    Attributes:
        token_embeddings: `(n_rows, dim) float32`, the table to use.
        before: Mean cosine, on sentences held out, of static and teacher similarities before.
        after: The same afterwards; None if the table stayed as it was.
        problem: Why the table stayed as it was, in a sentence; None if it did not.
    """

    token_embeddings: npt.NDArray[np.float32]
    before: float | None = None
    after: float | None = None
    problem: str | None = None


def calibrate(
    starts: Sequence[Start],
    sentences: Sentences,
    has_text: bool,
    reporter: ProgressReporter,
) -> Calibration:
    """The table that comes closest to the teacher on these sentences.

    Args:
        starts: `(n_rows, dim)` each: the distilled table, weighted, and others to start from if they lead to a better
            one.
        sentences: What `usable_sentences` gives; the first are held out.
        has_text: Whether some of them are real: then the closed form is followed by the descent, and the mean of both
            is taken.
        reporter: Gets the stage `"calibrate"`, in steps; the work can be cancelled between them.

    Returns:
        The calibrated table; or the first that came in, with the problem, where there is too little to learn from, or
        where what was learned does not hold for sentences that were held out.

    Raises:
        Cancelled: the caller asked to stop.
    """
    distilled, dim, n_usable = starts[0], starts[0].dim, len(sentences)
    if n_usable < FEWEST_SENTENCES:
        return Calibration(
            distilled.columns(slice(None)),
            problem=f"only {n_usable:,} sentences have known tokens and an embedding of their own; "
            f"{FEWEST_SENTENCES:,} are the least that is of use",
        )
    n_held_out = min(_MOST_HELD_OUT, int(_HELD_OUT * n_usable))
    judge = _Judge(sentences.counts[:n_held_out], sentences.targets[:n_held_out])
    before = float(judge.agreements(distilled.embeddings(judge.counts)).mean())
    counts, targets = sentences.counts[n_held_out:], sentences.targets[n_held_out:]

    n_steps = n_descent_steps(len(targets)) if has_text else 0
    n_tried = len(starts) + len(_LAMBDAS) - 1
    reporter.start("calibrate", COLUMN_UNITS * (n_tried * min(dim, _COLUMNS_TO_CHOOSE) + dim) + dim * n_steps)
    few = slice(None, None, max(1, len(targets) // _TO_CHOOSE))
    elected, strength = _elect(starts, counts[few], targets[few], judge, reporter)
    start, turn = _aligned(starts[elected], counts[few], targets[few])
    wanted = Turned.by(targets, turn)
    fitted = fit_closed_form(start, counts, wanted, strength, reporter)
    if n_steps:
        descended = descend(fitted, counts, wanted.whole(), targets, n_steps, reporter)
        fitted = fitted / _mean_length(fitted) + descended / _mean_length(descended)
    after = float(judge.agreements(judge.counts @ fitted).mean())
    logger.info("Agreement with the teacher on held-out sentences: %.4f before, %.4f after.", before, after)
    if not after > before:  # NaN too
        return Calibration(
            distilled.columns(slice(None)),
            before,
            problem=f"on sentences held out the calibrated table agrees less with the teacher ({after:.3f}) than the "
            f"distilled one ({before:.3f})",
        )
    return Calibration(fitted, before, after)


def _elect(
    starts: Sequence[Start],
    counts: Any,
    targets: npt.NDArray[np.float32],
    judge: _Judge,
    reporter: ProgressReporter,
) -> tuple[int, float]:
    """Which table to start from and the lambda that agree best, as far as the leading columns say."""
    leading = [_aligned(start.leading(_COLUMNS_TO_CHOOSE), counts, targets) for start in starts]

    def agreements(which: int, strength: float) -> npt.NDArray[np.float64]:
        start, turn = leading[which]
        fitted = fit_closed_form(start, counts, Turned.by(targets, turn), strength, reporter, _ROUGHLY)
        return judge.agreements(judge.counts @ fitted)

    of_starts = [agreements(which, _LAMBDAS[-1]) for which in range(len(starts))]
    elected = _first_of_the_best(of_starts)
    of_lambdas = [
        of_starts[elected] if strength == _LAMBDAS[-1] else agreements(elected, strength) for strength in _LAMBDAS
    ]
    return elected, _LAMBDAS[_first_of_the_best(of_lambdas)]


def _first_of_the_best(agreements: Sequence[npt.NDArray[np.float64]]) -> int:
    """A later one only where it is better than those before it beyond chance."""
    best, limit = 0, -np.inf
    for which, found in enumerate(agreements):
        if found.mean() > limit:
            best, limit = which, found.mean() + found.std(ddof=1) / np.sqrt(len(found))
    return best


def usable_sentences(kinds: Sequence[Sentences], n_rows: int) -> Sentences:
    """The sentences to learn from: those that have known tokens, with unit targets about the mean of their kind.

    They come in an order of chance, so that the first of them stand for all.

    Args:
        kinds: Bags and real sentences. Each kind is centred by itself: a bag is no sentence, and the difference is
            nothing to learn.
        n_rows: Tokens of the vocabulary.
    """
    usable = [_usable(kind) for kind in kinds]
    if not usable:
        return Sentences(sparse.csr_matrix((0, n_rows), dtype=np.float32), np.empty((0, 1), np.float32))
    counts = sparse.vstack([kind.counts for kind in usable]).tocsr()
    targets = np.concatenate([kind.targets for kind in usable])
    order = np.random.default_rng(0).permutation(len(targets))
    return Sentences(counts[order], targets[order])


def _usable(sentences: Sentences) -> Sentences:
    vectors = unit_rows(sentences.targets)
    vectors -= vectors.mean(axis=0)
    # What lies at the mean has no direction, as has everything where the teacher says the same of every text.
    kept = (np.diff(sentences.counts.indptr) > 0) & (row_lengths(vectors) > 1e-3)
    return Sentences(sentences.counts[kept], unit_rows(vectors[kept]))


def _aligned(start: Start, counts: Any, targets: npt.NDArray[np.float32]) -> tuple[Start, npt.NDArray[np.float32]]:
    """The table on the scale of the targets, and what turns these to lie closest to what it gives now.

    That is `(embedding_dim, dim) float32`, which cuts them too. The teacher's embeddings need not live in the space of
    the hidden states that were distilled: dense layers may follow. Its similarities are all that counts, and these
    don't change when it is turned.
    """
    embeddings = start.embeddings(counts)
    start = start.scaled(1 / _mean_length(embeddings))
    overlap = targets.T @ unit_rows(embeddings, out=embeddings)  # (embedding_dim, dim)
    left, _, right = np.linalg.svd(overlap.astype(np.float64), full_matrices=False)
    return start, (left @ right).astype(np.float32)


def _mean_length(vectors: npt.NDArray[np.float32]) -> np.float32:
    return np.float32(max(float(row_lengths(vectors).mean()), 1e-12))


class _Judge:
    """How far a table agrees with the teacher on sentences that it has not seen, in ten parts."""

    def __init__(self, counts: Any, targets: npt.NDArray[np.float32]) -> None:
        self.counts = counts
        self._parts = np.array_split(np.arange(len(targets)), 10)
        self._expected = [_standardised(_cosines(targets[part])) for part in self._parts]

    def agreements(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """`(10,)`, Pearson's correlation of static and teacher cosines over all pairs of each part.

        Args:
            embeddings: What the table makes of `counts`, `(n_sentences, dim) float32`.
        """
        units = unit_rows(embeddings)
        return np.array(
            [
                np.mean(_standardised(_cosines(units[part])) * expected)
                for part, expected in zip(self._parts, self._expected, strict=True)
            ]
        )


def _cosines(units: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Those of all pairs of rows of unit length."""
    cosines: npt.NDArray[np.float32] = (units @ units.T)[np.triu_indices(len(units), 1)]
    return cosines


def _standardised(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide = values.astype(np.float64)
    return np.asarray((wide - wide.mean()) / max(wide.std(), 1e-12))
