"""Heads fitted by scikit-learn: logistic regression on embeddings, and on tokens if there are enough texts.

An embedding represents the topic of a text, but not its exact words. Therefore each row of the table also gets a score
for each label, fitted together with the head in one convex problem. The scores are then stored in the table as extra
columns, so that `encode` sums them and the head reads them: the classifier is still a table and one affine layer, which
every reader of such classifiers supports.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.classification.head import Head, Layer
from m2v_core.classification.labels import Labels
from m2v_core.classification.report import scored
from m2v_core.errors import NeedsExtra
from m2v_core.model import StaticModel
from m2v_core.native.cosines import row_lengths
from m2v_core.progress import ProgressReporter

ClassWeight = Literal["auto", "balanced"] | None

# From strong to weak regularization. On standardized unit vectors of 256 dimensions, the best value for a few thousand
# texts is near 1e-3.
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
_UNCHECKED_STRENGTH = 1e-2  # used if no text could be held out
_MAX_STEPS = 2_000

TOKEN_STRENGTHS = (1e-3, 3e-3, 1e-2, 0.1)
# Relative scale of token features and embeddings: of 1.5, 2.5 and 4, the best by cross-validation on the training texts
# of AGNews and SST2. Scaling each token by the length of its row was half a point better than scaling all alike.
TOKEN_SHARE = 2.5
MIN_TEXTS = 100
"""Minimum number of training texts; with fewer, each word is too rare."""
MAX_WORK = 200_000
"""Maximum of texts times labels; larger fits take too long for a default."""
_COLUMN_SHARE = 0.01  # length of the new columns, as a share of the embedding's; changes the length by 0.005%
_MAX_TOKEN_STEPS = 500
_HALF_RANGE = 65_504.0  # maximum of float16


@dataclass(frozen=True)
class FittedHead:
    """A head on the embedding and, if it has scores, on the sum of its tokens' scores.

    Attributes:
        head: Expects (n, dim), or (n, dim + n_scores).
        scores: (n_rows, n_scores) float32: score of each row of the table for each label, or for the second of two
            labels; None for a head on embeddings only.
    """

    head: Head
    scores: NDArray[np.float32] | None = None

    def inputs(self, embeddings: NDArray[np.float32], counts: Any) -> NDArray[np.float32]:
        """The head's inputs from embeddings and `row_counts`, (n, dim) or (n, dim + n_scores) float32."""
        if self.scores is None:
            return embeddings
        sums: NDArray[np.float32] = (counts @ self.scores).astype(np.float32)
        return np.concatenate([embeddings, sums], axis=1)

    def merge_into(self, model: StaticModel, inputs: NDArray[np.float32]) -> tuple[StaticModel, Head]:
        """Return the model with the scores as columns of its table, and the head for it.

        In the model's precision, or float16 for int8, which has too few bits for both. The model and the inputs must
        be those that the head was fitted to.
        """
        squares = np.square(inputs.astype(np.float64)).sum(axis=0)
        scale = _COLUMN_SHARE * np.sqrt(squares[: model.dim].sum() / max(squares[model.dim :].sum(), 1e-30))
        assert self.scores is not None
        layer = self.head.layers[0]
        weight = layer.weight.copy()
        weight[:, model.dim :] /= scale
        parts = [in_dtype_of(model, part) for part in (model.token_embeddings, self.scores * scale)]
        longer = model.with_table(np.concatenate(parts, axis=1), model.weights, model.token_mapping)
        return longer, Head((Layer(weight, layer.bias),), self.head.classes, self.head.is_multi_label)


@dataclass(frozen=True)
class Choice:
    """A regularization strength and its result.

    Attributes:
        strength: scikit-learn's `C`, the inverse of the regularization.
        fitted: The head fitted with it on the training texts.
        score: Macro F1 on held-out texts, and their negative log loss; higher is better.
    """

    strength: float
    fitted: FittedHead
    score: tuple[float, float] = (0.0, float("-inf"))


def in_dtype_of(model: StaticModel, table: NDArray[Any]) -> NDArray[Any]:
    """Convert a table of any shape to a model's precision, or float16 for int8."""
    dtype = np.float16 if model.token_embeddings.dtype == np.int8 else model.token_embeddings.dtype
    if dtype == np.float16 and table.dtype.itemsize > 2:
        table = np.clip(table, -_HALF_RANGE, _HALF_RANGE)
    return table.astype(dtype)


def can_read_tokens(n_texts: int, n_labels: int) -> bool:
    """Whether training on tokens is promising and fast enough."""
    return n_texts >= MIN_TEXTS and n_texts * n_labels <= MAX_WORK


def row_counts(model: StaticModel, texts: list[str]) -> Any:
    """The weight of each row of the table in each text's embedding, (n_texts, n_rows) float32 CSR matrix.

    Its product with the table is the result of `encode`.
    """
    with NeedsExtra("scikit-learn", "train"):
        from scipy import sparse
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


def fitted_head(
    model: StaticModel,
    embeddings: NDArray[np.float32],
    counts: Any,
    labels: Labels,
    strength: float,
    balanced: bool,
) -> FittedHead:
    """Fit logistic regression on standardized embeddings and, with `counts`, on tokens scaled by their row's length.

    If texts have several labels, fits one regression per label. The standardization is folded into the weights, so that
    readers need no support for it; with two labels, each gets half of scikit-learn's single logit.

    Args:
        model: The model of the rows.
        embeddings: (n_texts, dim) of the training texts.
        counts: Their `row_counts`; None for a head on embeddings only.
        labels: Their labels.
        strength: scikit-learn's `C`.
        balanced: Whether each label has the same weight.

    Raises:
        MissingExtraError: scikit-learn isn't installed.
    """
    with NeedsExtra("scikit-learn", "train"):
        from scipy import sparse
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits
    scaler = StandardScaler().fit(embeddings)
    features: Any = scaler.transform(embeddings)
    dim = embeddings.shape[1]
    if counts is not None:
        used = np.unique(counts.indices)
        lengths = row_lengths(model.token_embeddings[used].astype(np.float32))
        tokens = counts[:, used] @ sparse.diags(lengths)
        mean_square = tokens.multiply(tokens).sum() / len(embeddings)
        share = TOKEN_SHARE * np.sqrt(dim / max(mean_square, 1e-30))
        features = sparse.hstack([sparse.csr_matrix(features), tokens * share]).tocsr()
    regression = LogisticRegression(
        C=strength,
        class_weight="balanced" if balanced else None,
        max_iter=_MAX_STEPS if counts is None else _MAX_TOKEN_STEPS,
    )
    targets = labels.members.T if labels.is_multi_label else [labels.members.argmax(axis=1)]
    # Sparse products run on one thread, and the vectors between them are too short for several threads.
    with warnings.catch_warnings(), threadpool_limits(None if counts is None else 1):
        if counts is not None:
            warnings.filterwarnings("ignore", "lbfgs failed to converge")  # close enough
        parts = [(each.coef_, each.intercept_) for each in (regression.fit(features, target) for target in targets)]
    weight, bias = (np.concatenate(part) for part in zip(*parts, strict=True))  # (n_logits, n_features), (n_logits,)
    of_dims, of_scores = weight[:, :dim] / scaler.scale_, np.eye(len(weight), 0 if counts is None else None)
    bias = bias - of_dims @ scaler.mean_
    scores = None
    if counts is not None:
        scores = np.zeros((counts.shape[1], len(weight)), np.float32)
        scores[used] = (weight[:, dim:] * (lengths * share)).T
    if len(weight) < len(labels.classes):
        of_dims, of_scores = (np.concatenate([-part, part]) / 2 for part in (of_dims, of_scores))
        bias = np.concatenate([-bias, bias]) / 2
    layer = Layer(np.concatenate([of_dims, of_scores], axis=1).astype(np.float32), bias.astype(np.float32))
    return FittedHead(Head((layer,), labels.classes, labels.is_multi_label), scores)


def chosen_strength(
    strengths: Sequence[float],
    model: StaticModel,
    embeddings: NDArray[np.float32],
    counts: Any,
    labels: Labels,
    outside: NDArray[np.float32],
    outside_counts: Any,
    outside_members: NDArray[np.bool_],
    balanced: bool,
    reporter: ProgressReporter,
) -> Choice:
    """Choose the strength with the best macro F1 on held-out texts; of equal ones, the lowest log loss.

    Log loss alone prefers heads that overfit: 85.5% instead of 86.0% on AGNews.

    Args:
        strengths: Candidates.
        model: As in `fitted_head`.
        embeddings: As in `fitted_head`.
        counts: As in `fitted_head`.
        labels: As in `fitted_head`.
        outside: (n, dim) embeddings of held-out texts; may be empty.
        outside_counts: Their `row_counts`; None like `counts`.
        outside_members: (n, n_labels) bool: which of those has which label.
        balanced: Whether each label has the same weight.
        reporter: Advances with each strength.
    """
    if not len(outside):
        fitted = fitted_head(model, embeddings, counts, labels, _UNCHECKED_STRENGTH, balanced)
        return Choice(_UNCHECKED_STRENGTH, fitted)
    found: list[Choice] = []
    for strength in strengths:
        fitted = fitted_head(model, embeddings, counts, labels, strength, balanced)
        head, inputs = fitted.head, fitted.inputs(outside, outside_counts)
        macro_f1 = scored(head.classes.tolist(), outside_members, head.predicted(inputs)).macro_f1
        score = macro_f1, -log_loss(head, inputs, outside_members, balanced)
        found.append(Choice(strength, fitted, score))
        reporter.advance(1)
    return max(found, key=lambda choice: choice.score)


def log_loss(head: Head, embeddings: NDArray[np.float32], members: NDArray[np.bool_], balanced: bool) -> float:
    """Mean of -log of the probabilities of the true labels; if balanced, the mean of the labels' means.

    Args:
        head: The head.
        embeddings: (n, dim), one or more.
        members: (n, n_labels) bool: which text has which label.
        balanced: Whether each label has the same weight.
    """
    shares = np.clip(head.probabilities(embeddings).astype(np.float64), 1e-15, 1 - 1e-7)
    if not head.is_multi_label:
        losses = -np.log(shares[members])
        truth = members.argmax(axis=1)
        return _mean_of_means(losses, truth) if balanced else float(losses.mean())
    losses = -np.log(np.where(members, shares, 1 - shares))
    if not balanced:
        return float(losses.mean())
    columns = range(members.shape[1])
    return float(np.mean([_mean_of_means(losses[:, column], members[:, column]) for column in columns]))


def _mean_of_means(values: NDArray[np.float64], groups: NDArray[Any]) -> float:
    return float(np.mean([values[groups == group].mean() for group in np.unique(groups)]))
