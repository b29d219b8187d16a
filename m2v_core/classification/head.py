"""The head: computes label probabilities or numbers from embeddings, with NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import ModelFormatError


@dataclass(frozen=True)
class Layer:
    """One affine map.

    Attributes:
        weight: (n_outputs, n_inputs) float32.
        bias: (n_outputs,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Affine layers with ReLU between them, followed by softmax, one sigmoid per label, or nothing.

    Source: the head of model2vec's pipelines since 0.9; a logistic regression is such a head of one layer.

    Attributes:
        layers: At least one; without classes it may be empty, so that the embeddings are the outputs.
        classes: (n_labels,) text or int64, ascending if trained by this library; names of the outputs. Empty if the
            outputs are numbers, as in a regression.
        is_multi_label: Whether a text can have any number of labels instead of exactly one.

    Raises:
        ModelFormatError: The shapes don't fit together, or a number is NaN or infinite.
    """

    layers: tuple[Layer, ...]
    classes: NDArray[np.str_] | NDArray[np.int64]
    is_multi_label: bool

    def __post_init__(self) -> None:
        if not self.layers:
            if self.has_labels:
                raise ModelFormatError("The head has no layers. Train the classifier again.")
            return
        width = self.dim
        for number, layer in enumerate(self.layers):
            if layer.weight.ndim != 2 or layer.weight.shape[1] != width or layer.bias.shape != layer.weight.shape[:1]:
                raise ModelFormatError(
                    f"Layer {number} of the head has weights of shape {layer.weight.shape} and biases of shape "
                    f"{layer.bias.shape}; they must be (n, {width}) and (n,). Train the classifier again."
                )
            if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
                raise ModelFormatError(f"Layer {number} of the head has NaN or infinity. Train the classifier again.")
            width = len(layer.bias)
        if self.has_labels and (self.classes.shape != (width,) or len(set(self.classes.tolist())) != width):
            raise ModelFormatError(
                f"The head has {width} outputs and the labels {self.classes.tolist()}; there must be one label for "
                "each output. Train the classifier again."
            )

    @property
    def has_labels(self) -> bool:
        """Whether the outputs are those of labels rather than numbers."""
        return self.classes.size > 0

    @property
    def dim(self) -> int | None:
        """Expected width of embeddings; None for any."""
        return int(self.layers[0].weight.shape[-1]) if self.layers else None

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, n_outputs) float32 outputs of the last layer, for (n, dim) embeddings."""
        if not self.layers:
            return embeddings
        *hidden, last = self.layers
        outputs = embeddings
        for layer in hidden:
            outputs = np.maximum(outputs @ layer.weight.T + layer.bias, np.float32(0))
        logits: NDArray[np.float32] = outputs @ last.weight.T + last.bias
        return logits

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities, (n, n_labels) float32 in [0, 1]; rows of a single-label head add up to 1."""
        logits = self.logits(embeddings)
        if self.is_multi_label:
            # Each branch overflows for the other's values.
            small = np.exp(-np.abs(logits))
            return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def predicted(self, embeddings: NDArray[np.float32], threshold: float = 0.5) -> NDArray[np.bool_]:
        """Predictions, (n, n_labels) bool: the most likely label, or the labels above `threshold` if multi-label."""
        return self.chosen(self.probabilities(embeddings), threshold)

    def chosen(self, probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
        """Same as `predicted`, given the probabilities."""
        if self.is_multi_label:
            return probabilities > threshold
        likeliest: NDArray[np.bool_] = np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]
        return likeliest
