"""The head of a pipeline, with model2vec's names."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from m2v_core.classification.head import Head
from m2v_core.classification.head import Layer as Layer
from m2v_core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Activation(str, Enum):  # noqa: UP042  # model2vec's own, whose str() is that of an Enum
    """The activation after the last layer."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    IDENTITY = "identity"


class MLPHead:
    """Affine layers with ReLU between them, and an activation.

    Args:
        layers: At least one, except for `Activation.IDENTITY`.
        activation: Softmax for one label per text, sigmoid for any number of labels, identity for numbers.
        classes: (n_labels,) labels of the outputs; None for `Activation.IDENTITY`.

    Attributes:
        layers: As passed.
        activation: As passed.
        classes_: As passed, as an array.

    Raises:
        InputError: `classes` don't fit the activation.
        ModelFormatError: The shapes are inconsistent, or a number is NaN or infinite.
    """

    def __init__(self, layers: Sequence[Layer], activation: Activation, classes: NDArray[Any] | None = None) -> None:
        self.layers = list(layers)
        self.activation = Activation(activation)
        if (classes is None) != (self.activation == Activation.IDENTITY):
            raise InputError(
                "Pass classes with softmax and sigmoid, and none with identity, whose outputs are numbers."
            )
        self.classes_ = None if classes is None else np.asarray(classes)
        names = np.empty(0) if self.classes_ is None else self.classes_
        self.head = Head(tuple(self.layers), names, self.activation == Activation.SIGMOID)  # type: ignore[arg-type]

    @classmethod
    def of(cls, head: Head) -> MLPHead:
        """Convert a head to this class."""
        if not head.has_labels:
            return cls(head.layers, Activation.IDENTITY)
        return cls(head.layers, Activation.SIGMOID if head.is_multi_label else Activation.SOFTMAX, head.classes)

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the activated outputs, (n, n_outputs), for (n, dim) embeddings."""
        return self.head.logits(X) if self.activation == Activation.IDENTITY else self.head.probabilities(X)

    def predict_index(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """Compute the index of the largest output, (n,)."""
        indices: NDArray[np.int64] = self.head.logits(X).argmax(axis=1)
        return indices

    def predict_regression(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the outputs of the last layer, (n, n_outputs)."""
        return self.head.logits(X)
