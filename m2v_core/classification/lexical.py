"""The default head where there are texts enough: logistic regression on embeddings and on the tokens themselves.

An embedding says what a text is about, and blurs which words it has. So each row of the table also gets a score for
each label, learned with the head in one convex fit by scikit-learn. Afterwards the scores stand in the
table as a few more columns, so that `encode` adds them up, and the head reads them: the classifier stays a table and
one affine layer, as every reader of such classifiers knows it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.classification.frozen import Standing, regressed, scikit_learn, standing_of
from m2v_core.classification.head import Head, Layer
from m2v_core.classification.labels import Labels
from m2v_core.errors import NeedsExtra
from m2v_core.model import StaticModel
from m2v_core.native.cosines import row_lengths
from m2v_core.progress import ProgressReporter

TOKEN_STRENGTHS = (1e-3, 3e-3, 1e-2, 0.1)
# How much the tokens weigh against the embedding: of 1.5, 2.5 and 4 the best by cross-validation on the training texts
# of AGNews and SST2, where counting each token by the length of its row beat counting all alike by half a point.
TOKEN_SHARE = 2.5
FEWEST_TEXTS = 100
"""Texts to learn from; fewer have each word too seldom."""
MOST_WORK = 200_000
"""Texts times labels; a fit of more takes too long for a default."""
_COLUMN_SHARE = 0.01  # of an embedding's length that the new columns have; changes it by 0.005 %
_MAX_STEPS = 500
_HALF_RANGE = 65_504.0  # of float16


@dataclass(frozen=True)
class Lexical:
    """A head that reads, after the embedding, the sum of its tokens' scores.

    Attributes:
        head: Reads (n, dim + n_scores).
        scores: (n_rows, n_scores) float32: of each row of the table for each label, or of the second of two.
    """

    head: Head
    scores: NDArray[np.float32]

    def inputs(self, embeddings: NDArray[np.float32], counts: Any) -> NDArray[np.float32]:
        """(n, dim + n_scores) float32: what the head reads, from embeddings and `row_counts`."""
        sums: NDArray[np.float32] = (counts @ self.scores).astype(np.float32)
        return np.concatenate([embeddings, sums], axis=1)

    def built_in(self, model: StaticModel, inputs: NDArray[np.float32]) -> tuple[StaticModel, Head]:
        """The model with the scores as columns of its table, and the head for it.

        In the model's own precision, float16 where that was int8: few bits can't hold both.

        Args:
            model: As it was when the head was fitted.
            inputs: What the head read then.
        """
        squares = np.square(inputs.astype(np.float64)).sum(axis=0)
        scale = _COLUMN_SHARE * np.sqrt(squares[: model.dim].sum() / max(squares[model.dim :].sum(), 1e-30))
        dtype = np.float16 if model.token_embeddings.dtype == np.int8 else model.token_embeddings.dtype
        columns = np.clip(self.scores * scale, -_HALF_RANGE, _HALF_RANGE)
        layer = self.head.layers[0]
        weight = layer.weight.copy()
        weight[:, model.dim :] /= scale
        table = np.concatenate([model.token_embeddings.astype(dtype), columns.astype(dtype)], axis=1)
        longer = model.with_table(table, model.weights, model.token_mapping)
        return longer, Head((Layer(weight, layer.bias),), self.head.classes, self.head.is_multi_label)


@dataclass(frozen=True)
class LexicalChoice:
    """What came of the strengths that were tried.

    Attributes:
        strength: scikit-learn's `C` of the best.
        lexical: Fitted with it, on the texts to learn from alone.
        standing: How it did on the texts held out.
    """

    strength: float
    lexical: Lexical
    standing: Standing


def can_read_tokens(n_texts: int, n_labels: int) -> bool:
    """Whether tokens are worth a try and don't take too long."""
    return n_texts >= FEWEST_TEXTS and n_texts * n_labels <= MOST_WORK


def row_counts(model: StaticModel, texts: list[str]) -> Any:
    """(n_texts, n_rows) float32 CSR matrix: how much of each row of the table is in a text's embedding.

    Times the table it is what `encode` returns.
    """
    sparse = _sparse()
    ids = [np.array(of_text, dtype=np.int64) for of_text in model.tokenize(texts, model.max_length)]
    tokens = np.concatenate([*ids, np.empty(0, np.int64)])
    lengths = np.array([len(of_text) for of_text in ids], dtype=np.int64)
    rows = tokens if model.token_mapping is None else np.asarray(model.token_mapping, np.int64)[tokens]
    amounts = np.ones(len(tokens), np.float32) if model.weights is None else model.weights[tokens].astype(np.float32)
    shape = (len(texts), len(model.token_embeddings))
    counts = sparse.csr_matrix((amounts, rows, np.concatenate([[0], lengths.cumsum()])), shape=shape)
    counts.sum_duplicates()
    if model.normalize:
        used = np.unique(rows)
        sums = counts[:, used] @ model.token_embeddings[used].astype(np.float32)
        divisors = row_lengths(sums)
    else:
        divisors = lengths.astype(np.float32)
    return sparse.diags(1 / np.where(divisors > 0, divisors, 1)).astype(np.float32) @ counts


def fitted_lexical(
    model: StaticModel,
    embeddings: NDArray[np.float32],
    counts: Any,
    labels: Labels,
    strength: float,
    balanced: bool,
) -> Lexical:
    """Logistic regression on standardised embeddings and on tokens, each counted by the length of its row.

    Args:
        model: Whose rows they are.
        embeddings: (n_texts, dim) of the texts to learn from.
        counts: Theirs, by `row_counts`.
        labels: Theirs.
        strength: scikit-learn's `C`.
        balanced: Whether each label counts alike.

    Raises:
        MissingExtraError: scikit-learn isn't installed.
    """
    sparse, (linear_model, preprocessing) = _sparse(), scikit_learn()
    scaler = preprocessing.StandardScaler().fit(embeddings)
    used = np.unique(counts.indices)
    lengths = row_lengths(model.token_embeddings[used].astype(np.float32))
    tokens = counts[:, used] @ sparse.diags(lengths)
    mean_square = tokens.multiply(tokens).sum() / len(embeddings)
    share = TOKEN_SHARE * np.sqrt(embeddings.shape[1] / max(mean_square, 1e-30))
    features = sparse.hstack([sparse.csr_matrix(scaler.transform(embeddings)), tokens * share]).tocsr()
    regression = linear_model.LogisticRegression(
        C=strength, class_weight="balanced" if balanced else None, max_iter=_MAX_STEPS
    )
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    # Sparse products run on one thread, and the vectors between them are too short for several.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.filterwarnings("ignore", "lbfgs failed to converge")  # near enough
        weight, bias = regressed(regression, features, labels)
    dim = embeddings.shape[1]
    of_dims, of_tokens = weight[:, :dim] / scaler.scale_, weight[:, dim:] * (lengths * share)
    bias = bias - of_dims @ scaler.mean_
    scores = np.zeros((counts.shape[1], len(weight)), np.float32)
    scores[used] = of_tokens.T
    of_scores = np.eye(len(weight))
    if len(weight) < len(labels.classes):  # scikit-learn has one logit for two labels; each gets half of it
        of_dims, of_scores = (np.concatenate([-part, part]) / 2 for part in (of_dims, of_scores))
        bias = np.concatenate([-bias, bias]) / 2
    layer = Layer(np.concatenate([of_dims, of_scores], axis=1).astype(np.float32), bias.astype(np.float32))
    return Lexical(Head((layer,), labels.classes, labels.is_multi_label), scores)


def chosen_lexical(
    model: StaticModel,
    embeddings: NDArray[np.float32],
    counts: Any,
    labels: Labels,
    outside: NDArray[np.float32],
    outside_counts: Any,
    outside_members: NDArray[np.bool_],
    balanced: bool,
    reporter: ProgressReporter,
) -> LexicalChoice:
    """The strength, among `TOKEN_STRENGTHS`, that stands best on texts held out, as `chosen_strength` finds it.

    Args:
        model: As in `fitted_lexical`, like those that follow.
        embeddings: See there.
        counts: See there.
        labels: See there.
        outside: (n, dim) embeddings of texts held out, one or more.
        outside_counts: Theirs, by `row_counts`.
        outside_members: (n, n_labels) bool: which of those has which label.
        balanced: Whether each label counts alike.
        reporter: Advances with each strength.
    """
    found: list[LexicalChoice] = []
    for strength in TOKEN_STRENGTHS:
        lexical = fitted_lexical(model, embeddings, counts, labels, strength, balanced)
        inputs = lexical.inputs(outside, outside_counts)
        found.append(LexicalChoice(strength, lexical, standing_of(lexical.head, inputs, outside_members, balanced)))
        reporter.advance(1)
    return max(found, key=lambda choice: choice.standing)


def _sparse() -> Any:
    with NeedsExtra("scikit-learn", "train"):
        from scipy import sparse
    return sparse
