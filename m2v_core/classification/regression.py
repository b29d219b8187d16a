"""The heads that scikit-learn fits: logistic regression on embeddings, and on the tokens too where texts are enough.

An embedding says what a text is about, and blurs which words it has. So each row of the table also gets a score for
each label, learned with the head in one convex fit. Afterwards the scores stand in the table as a few more columns, so
that `encode` adds them up, and the head reads them: the classifier stays a table and one affine layer, as every reader
of such classifiers knows it.
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

# From hardly any trust in the data to hardly any doubt. On unit vectors of 256 dimensions, standardised, sets of a few
# thousand texts end up near 1e-3.
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
_UNCHECKED_STRENGTH = 1e-2  # where no text could be held out
_MAX_STEPS = 2_000

TOKEN_STRENGTHS = (1e-3, 3e-3, 1e-2, 0.1)
# How much the tokens weigh against the embedding: of 1.5, 2.5 and 4 the best by cross-validation on the training texts
# of AGNews and SST2, where counting each token by the length of its row beat counting all alike by half a point.
TOKEN_SHARE = 2.5
FEWEST_TEXTS = 100
"""Texts to learn from; fewer have each word too seldom."""
MOST_WORK = 200_000
"""Texts times labels; a fit of more takes too long for a default."""
_COLUMN_SHARE = 0.01  # of an embedding's length that the new columns have; changes it by 0.005 %
_MAX_TOKEN_STEPS = 500
_HALF_RANGE = 65_504.0  # of float16


@dataclass(frozen=True)
class FittedHead:
    """A head that reads the embedding and, if it has scores, the sum of its tokens' scores after it.

    Attributes:
        head: Reads (n, dim), or (n, dim + n_scores).
        scores: (n_rows, n_scores) float32: of each row of the table for each label, or of the second of two; None for
            a head on embeddings alone.
    """

    head: Head
    scores: NDArray[np.float32] | None = None

    def inputs(self, embeddings: NDArray[np.float32], counts: Any) -> NDArray[np.float32]:
        """(n, dim) or (n, dim + n_scores) float32: what the head reads, from embeddings and `row_counts`."""
        if self.scores is None:
            return embeddings
        sums: NDArray[np.float32] = (counts @ self.scores).astype(np.float32)
        return np.concatenate([embeddings, sums], axis=1)

    def built_in(self, model: StaticModel, inputs: NDArray[np.float32]) -> tuple[StaticModel, Head]:
        """The model with the scores as columns of its table, and the head for it.

        In the model's own precision, float16 where that was int8: few bits can't hold both. The model and the inputs
        are those that the head was fitted to.
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
    """A head's one setting, and what came of it.

    Attributes:
        strength: scikit-learn's `C`, the inverse of the regularisation.
        fitted: Fitted with it, on the texts to learn from alone.
        standing: Macro F1 on the texts held out, and less their log loss: the higher, the better.
    """

    strength: float
    fitted: FittedHead
    standing: tuple[float, float] = (0.0, float("-inf"))


def in_dtype_of(model: StaticModel, table: NDArray[Any]) -> NDArray[Any]:
    """A table, of any shape, in a model's own precision, float16 where that is int8."""
    dtype = np.float16 if model.token_embeddings.dtype == np.int8 else model.token_embeddings.dtype
    if dtype == np.float16 and table.dtype.itemsize > 2:
        table = np.clip(table, -_HALF_RANGE, _HALF_RANGE)
    return table.astype(dtype)


def can_read_tokens(n_texts: int, n_labels: int) -> bool:
    """Whether tokens are worth a try and don't take too long."""
    return n_texts >= FEWEST_TEXTS and n_texts * n_labels <= MOST_WORK


def row_counts(model: StaticModel, texts: list[str]) -> Any:
    """(n_texts, n_rows) float32 CSR matrix: how much of each row of the table is in a text's embedding.

    Times the table it is what `encode` returns.
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
    """Logistic regression on standardised embeddings and, with `counts`, on tokens, each by the length of its row.

    One regression for each label where texts have several. The standardisation is folded into the weights, so that
    readers need not know of it; where there are two labels, each gets half of the one logit that scikit-learn has.

    Args:
        model: Whose rows they are.
        embeddings: (n_texts, dim) of the texts to learn from.
        counts: Theirs, by `row_counts`; None for a head on embeddings alone.
        labels: Theirs.
        strength: scikit-learn's `C`.
        balanced: Whether each label counts alike.

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
    # Sparse products run on one thread, and the vectors between them are too short for several.
    with warnings.catch_warnings(), threadpool_limits(None if counts is None else 1):
        if counts is not None:
            warnings.filterwarnings("ignore", "lbfgs failed to converge")  # near enough
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
    """The strength with the best macro F1 on texts held out; of equal ones, the least log loss.

    Log loss alone prefers heads that follow the texts too closely: 85.5 against 86.0 % on AGNews.

    Args:
        strengths: Which to try.
        model: As in `fitted_head`, like those that follow.
        embeddings: See there.
        counts: See there.
        labels: See there.
        outside: (n, dim) embeddings of texts held out, perhaps none.
        outside_counts: Theirs, by `row_counts`; None like `counts`.
        outside_members: (n, n_labels) bool: which of those has which label.
        balanced: Whether each label counts alike.
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
        standing = macro_f1, -log_loss(head, inputs, outside_members, balanced)
        found.append(Choice(strength, fitted, standing))
        reporter.advance(1)
    return max(found, key=lambda choice: choice.standing)


def log_loss(head: Head, embeddings: NDArray[np.float32], members: NDArray[np.bool_], balanced: bool) -> float:
    """Mean of -log of the probability that the head gives to the truth; where balanced, the mean of the labels' means.

    Args:
        head: The head.
        embeddings: (n, dim), one or more.
        members: (n, n_labels) bool: which text has which label.
        balanced: Whether each label counts alike.
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
