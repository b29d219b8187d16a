"""Text classification, trained with torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from m2v_core.classification.labels import Label, label_lists, membership
from m2v_core.compat.model2vec.inference import evaluate_single_or_multi_label
from m2v_core.compat.model2vec.inference.mlp import Activation
from m2v_core.compat.model2vec.train.base import BaseFinetuneable
from m2v_core.compat.model2vec.train.dataset import as_list, read_columns
from m2v_core.compat.model2vec.train.utils import DEFAULT_RANDOM_SEED
from m2v_core.errors import InputError


class FocalLoss(nn.Module):
    """Cross-entropy with a lower weight for confident predictions; for one label per text.

    Args:
        gamma: Strength of the effect; 0 for cross-entropy.
        weight: (n_labels,) factor of each label; None if all are 1.
    """

    def __init__(self, gamma: float = 0.0, weight: torch.Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.weight = weight

    def forward(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute the mean loss of logits (n, n_labels), given the indices of the true labels (n,)."""
        losses = nn.functional.cross_entropy(logits, y, reduction="none")
        factors = _doubt(losses) ** self.gamma
        if self.weight is None:
            return (factors * losses).mean()
        weights = self.weight.to(y.device)[y]
        return (factors * losses * weights).sum() / weights.sum()


class BinaryFocalLoss(nn.Module):
    """Like `FocalLoss`, for any number of labels per text.

    Args:
        gamma: Strength of the effect; 0 for binary cross-entropy.
        pos_weight: (n_labels,) factor of the texts with each label; None if all are 1.
    """

    def __init__(self, gamma: float = 0.0, pos_weight: torch.Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.pos_weight = pos_weight

    def forward(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute the mean loss of logits (n, n_labels), given zeros and ones of the same shape."""
        weight = None if self.pos_weight is None else self.pos_weight.to(y.device)
        losses = binary_cross_entropy_with_logits(logits, y, pos_weight=weight, reduction="none")
        plain = binary_cross_entropy_with_logits(logits, y, reduction="none")
        return (_doubt(plain) ** self.gamma * losses).mean()


def _doubt(losses: torch.Tensor) -> torch.Tensor:
    """Return 1 - p for -log p; above 0, so that the gradient of a power is finite."""
    return (-torch.expm1(-losses)).clamp(min=torch.finfo(losses.dtype).tiny)


class StaticModelForClassification(BaseFinetuneable):
    """A static model with a classification head; the arguments are those of `BaseFinetuneable`.

    Attributes:
        classes_: The labels, ascending; `"0"`, `"1"`, ... before `fit`.
        multilabel: Whether a text can have any number of labels instead of exactly one.
    """

    _always_has_head = True

    def __init__(self, *, n_layers: int = 1, hidden_dim: int = 512, out_dim: int = 2, **arguments: Any) -> None:
        self.classes_: list[Any] = [str(number) for number in range(out_dim)]
        self.multilabel = False
        super().__init__(n_layers=n_layers, hidden_dim=hidden_dim, out_dim=out_dim, **arguments)

    @property
    def classes(self) -> NDArray[Any]:
        """The labels, (n_labels,)."""
        return np.array(self.classes_)

    def predict(
        self, X: list[str], show_progress_bar: bool = False, batch_size: int = 1024, threshold: float = 0.5
    ) -> NDArray[Any]:
        """Predict the label or labels of each text; see `StaticModelPipeline.predict`."""
        probabilities = self.predict_proba(X, show_progress_bar, batch_size)
        if not self.multilabel:
            labels: NDArray[Any] = self.classes[probabilities.argmax(axis=1)]
            return labels
        found = np.empty(len(probabilities), dtype=object)
        for number, row in enumerate(probabilities):
            found[number] = self.classes[row > threshold]
        return found

    def predict_proba(
        self, X: list[str], show_progress_bar: bool = False, batch_size: int = 1024
    ) -> NDArray[np.float32]:
        """Return the probability of each label, (n_texts, n_labels)."""
        logits = torch.from_numpy(self.encode(X, batch_size, show_progress_bar))
        probabilities: NDArray[np.float32] = (logits.sigmoid() if self.multilabel else logits.softmax(dim=1)).numpy()
        return probabilities

    def evaluate(
        self, X: list[str], y: Sequence[Any], batch_size: int = 1024, threshold: float = 0.5
    ) -> dict[str, Any]:
        """Compare predictions with true labels; see `evaluate_single_or_multi_label`."""
        return evaluate_single_or_multi_label(self.predict(X, batch_size=batch_size, threshold=threshold), y)

    def fit(
        self,
        X: Sequence[str],
        y: Sequence[Any],
        learning_rate: float = 1e-3,
        batch_size: int | None = None,
        min_epochs: int | None = None,
        max_epochs: int | None = -1,
        early_stopping_patience: int | None = 5,
        test_size: float = 0.1,
        device: str = "auto",
        X_val: Sequence[str] | None = None,
        y_val: Sequence[Any] | None = None,
        class_weight: Literal["balanced"] | Mapping[Any, float] | torch.Tensor | None = None,
        validation_steps: int | None = None,
        random_seed: int = DEFAULT_RANDOM_SEED,
        token_dropout: float = 0.0,
        focal_gamma: float = 0.0,
    ) -> Self:
        """Train on labeled texts, from the initial state, and keep the best state on held-out texts.

        Args:
            X: Texts: a list, or a column of a Hugging Face dataset.
            y: One label for each text, or a list for each text; text or whole numbers.
            learning_rate: Learning rate of Adam.
            batch_size: Number of texts per batch; None to choose.
            min_epochs: Number of epochs before early stopping.
            max_epochs: Maximum number of epochs; -1 or None for no limit.
            early_stopping_patience: Number of checks without improvement before stopping; None for no early stopping.
            test_size: Share (10,000 texts at most) or number of texts to hold out.
            device: Device of torch, or `"auto"`.
            X_val: Texts for validation, instead of held-out ones.
            y_val: Their labels.
            class_weight: `"balanced"` gives each label the same weight; or the weight of each label, by label.
            validation_steps: Number of steps between two checks; None to choose.
            random_seed: Random seed.
            token_dropout: Share of the tokens to drop at random during training.
            focal_gamma: Gamma of the focal loss; 0 for cross-entropy.

        Returns:
            The model.

        Raises:
            InputError: The texts or labels are not valid for training, or an argument is out of range.
        """
        if focal_gamma < 0:
            raise InputError(f"focal_gamma must be 0 or more, not {focal_gamma!r}.")
        texts, labels, texts_val, labels_val = read_columns(as_list, X=X, y=y, X_val=X_val, y_val=y_val)
        lists, self.multilabel = label_lists(labels, len(texts))
        counts = Counter(chain.from_iterable(lists))
        self.classes_ = sorted(counts)
        self.out_dim = len(self.classes_)
        targets, targets_val = self._targets(lists), None
        if labels_val is not None:
            lists_val, is_multi_label = label_lists(labels_val, len(texts_val))
            if is_multi_label != self.multilabel:
                raise InputError("y_val must be multi-label, with a list for each text, if and only if y is.")
            if unknown := set(chain.from_iterable(lists_val)) - set(self.classes_):
                raise InputError(f"y_val has labels that are not in y: {', '.join(map(repr, unknown))}.")
            targets_val = self._targets(lists_val)
        weight = self._resolve_class_weight(class_weight, counts)
        torch.manual_seed(random_seed)
        self._initialize()
        strata = None if self.multilabel else labels
        loss: nn.Module = BinaryFocalLoss(focal_gamma, weight) if self.multilabel else FocalLoss(focal_gamma, weight)
        self._train(
            self._text_examples(texts, targets, texts_val, targets_val, test_size, random_seed, strata),
            loss,
            _jaccard if self.multilabel else _accuracy,
            token_dropout,
            batch_size,
            learning_rate=learning_rate,
            min_epochs=min_epochs,
            max_epochs=max_epochs,
            early_stopping_patience=early_stopping_patience,
            device=device,
            validation_steps=validation_steps,
            random_seed=random_seed,
        )
        return self

    def _activation(self) -> tuple[Activation, NDArray[Any] | None]:
        return Activation.SIGMOID if self.multilabel else Activation.SOFTMAX, self.classes

    def _targets(self, lists: list[list[Label]]) -> torch.Tensor:
        """Convert labels to zeros and ones, (n_texts, n_labels), or to indices of labels, (n_texts,)."""
        members = torch.from_numpy(membership(lists, self.classes_))
        return members.float() if self.multilabel else members.float().argmax(dim=1)

    def _resolve_class_weight(
        self, class_weight: Literal["balanced"] | Mapping[Any, float] | torch.Tensor | None, counts: Mapping[Any, int]
    ) -> torch.Tensor | None:
        """The weight of each label, (n_labels,), given its number of texts."""
        if class_weight is None:
            return None
        if isinstance(class_weight, str):
            total = sum(counts.values())
            return torch.tensor([total / (len(counts) * counts[label]) for label in self.classes_])
        weights = class_weight
        if isinstance(weights, Mapping):
            weights = torch.tensor([float(weights[label]) for label in self.classes_ if label in weights])
        if len(weights) != len(self.classes_):
            raise InputError(f"class_weight must have a weight for each of the labels {self.classes_}.")
        return weights.float()


def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(dim=1) == y).float().mean()


def _jaccard(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Number of labels both true and predicted, divided by the number of labels in either; the mean over texts."""
    predicted, true = logits > 0, y > 0
    either = (predicted | true).sum(dim=1)
    return ((predicted & true).sum(dim=1) / either.clamp(min=1)).mean()
