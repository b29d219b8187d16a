"""Trains a model to predict the direction of another model's vectors from texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from m2v_core.compat.model2vec.train.base import BaseFinetuneable
from m2v_core.compat.model2vec.train.dataset import as_list, read_columns
from m2v_core.compat.model2vec.train.trainer import Loss
from m2v_core.compat.model2vec.train.utils import DEFAULT_RANDOM_SEED
from m2v_core.errors import InputError


def cosine_loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cosine."""
    return (1 - nn.functional.cosine_similarity(outputs, y, dim=1)).mean()


class StaticModelForSimilarity(BaseFinetuneable):
    """A static model with a head that predicts the direction of vectors; arguments as for `BaseFinetuneable`."""

    def __init__(self, *, n_layers: int = 1, hidden_dim: int = 512, **arguments: Any) -> None:
        super().__init__(n_layers=n_layers, hidden_dim=hidden_dim, **arguments)

    _loss: Loss = staticmethod(cosine_loss)

    def fit(
        self,
        X: Sequence[str],
        y: torch.Tensor | Sequence[Sequence[float]],
        learning_rate: float = 1e-3,
        batch_size: int | None = None,
        min_epochs: int | None = None,
        max_epochs: int | None = -1,
        early_stopping_patience: int | None = 5,
        test_size: float = 0.1,
        device: str = "auto",
        X_val: Sequence[str] | None = None,
        y_val: torch.Tensor | Sequence[Sequence[float]] | None = None,
        validation_steps: int | None = None,
        random_seed: int = DEFAULT_RANDOM_SEED,
        token_dropout: float = 0.0,
    ) -> Self:
        """Train on the vectors, from the initial state, and keep the best state on held-out texts.

        Args:
            X: Texts: a list, or a column of a Hugging Face dataset.
            y: (n_texts, out_dim) the vector of each text; determines the width of the head's output.
            learning_rate: As in `StaticModelForClassification.fit`, like all that follow.
            batch_size: See there.
            min_epochs: See there.
            max_epochs: See there.
            early_stopping_patience: See there.
            test_size: See there.
            device: See there.
            X_val: See there.
            y_val: The vectors of `X_val`.
            validation_steps: See there.
            random_seed: See there.
            token_dropout: See there.

        Returns:
            The model.

        Raises:
            InputError: The texts or vectors are not valid for training, or an argument is out of range.
        """
        texts, vectors, texts_val, vectors_val = read_columns(_as_vectors, X=X, y=y, X_val=X_val, y_val=y_val)
        targets, targets_val = torch.tensor(vectors), None
        self.out_dim = targets.shape[1]
        if vectors_val is not None:
            targets_val = torch.tensor(vectors_val)
            if targets_val.shape[1] != self.out_dim:
                raise InputError(
                    f"The vectors in y_val have dimension {targets_val.shape[1]}, but those in y have {self.out_dim}."
                )
        torch.manual_seed(random_seed)
        self._initialize()
        self._train(
            self._text_examples(texts, targets, texts_val, targets_val, test_size, random_seed),
            self._loss,
            None,
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


def _as_vectors(name: str, values: Any) -> Any:
    """Convert the vectors of an argument to (n, dim) float32.

    Raises:
        InputError: They can't be converted; the message states the reason.
    """
    if isinstance(values, (np.ndarray, torch.Tensor)) and values.ndim != 2:
        raise InputError(f"{name} must be 2-dimensional, with a vector for each text, not {values.ndim}-dimensional.")
    rows = as_list(name, values)
    if not rows:
        raise InputError(f"{name} must not be empty.")
    for number, row in enumerate(rows):
        if row is None or (isinstance(row, (list, tuple)) and None in row):
            raise InputError(f"Vectors in {name} must not be missing, but number {number} (counting from 0) is {row}.")
        if not isinstance(row, (list, tuple)) or not all(isinstance(value, (int, float)) for value in row):
            raise InputError(f"Vectors in {name} must be lists of numbers, but number {number} is {row!r:.100}.")
    if len(dims := {len(row) for row in rows}) > 1:
        raise InputError(f"All vectors in {name} must have the same dimension, not {sorted(dims)}.")
    return np.array(rows, dtype=np.float32)
