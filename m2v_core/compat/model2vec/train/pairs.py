"""Trains on pairs of matching texts, to bring their embeddings close to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from m2v_core.compat.model2vec.train.base import BaseFinetuneable
from m2v_core.compat.model2vec.train.dataset import PairBatch, PairExamples, as_texts, read_columns
from m2v_core.compat.model2vec.train.utils import DEFAULT_RANDOM_SEED, MAX_VALIDATION_SIZE, split_indices
from m2v_core.errors import InputError

_Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class PairInfoNCELoss(nn.Module):
    """Cross-entropy of choosing, for each first text, its second text among all second texts of a batch.

    Second texts that equal the true one, or belong to an equal first text, are excluded from the choice.

    Args:
        temperature: Divides the cosines; above 0.
    """

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        if temperature <= 0:
            raise InputError(f"temperature must be above 0, not {temperature!r}.")
        self.temperature = temperature

    def forward(self, outputs: _Outputs, y: torch.Tensor) -> torch.Tensor:
        """Compute the mean loss, given the outputs of the model and the index of each true second text."""
        first, second, first_ids, second_ids = outputs
        cosines = nn.functional.normalize(first) @ nn.functional.normalize(second).T
        is_equal = (first_ids[:, None] == first_ids) | (second_ids[:, None] == second_ids)
        is_equal[torch.arange(len(y)), y] = False
        logits = (cosines / self.temperature).masked_fill(is_equal, -torch.inf)
        return nn.functional.cross_entropy(logits, y)


class StaticModelForPairSimilarity(BaseFinetuneable):
    """A static model that is trained on pairs of texts; the arguments are those of `BaseFinetuneable`.

    Args:
        out_dim: Width of the head's output; None for that of the table.
    """

    def __init__(
        self,
        *,
        vectors: torch.Tensor,
        n_layers: int = 1,
        hidden_dim: int = 512,
        out_dim: int | None = None,
        **arguments: Any,
    ) -> None:
        out_dim = vectors.shape[1] if out_dim is None else out_dim
        super().__init__(vectors=vectors, n_layers=n_layers, hidden_dim=hidden_dim, out_dim=out_dim, **arguments)

    def forward(self, batch: PairBatch) -> _Outputs:  # type: ignore[override]
        """Compute the head's outputs for the first and second texts, and numbers that are equal for equal texts."""
        first, second = self.head(self._encode(batch.tokens)).chunk(2)
        first_ids, second_ids = batch.text_ids.chunk(2)
        return first, second, first_ids, second_ids

    def fit(
        self,
        text_a: Sequence[str],
        text_b: Sequence[str],
        learning_rate: float = 1e-3,
        batch_size: int | None = None,
        min_epochs: int | None = None,
        max_epochs: int | None = -1,
        early_stopping_patience: int | None = 5,
        test_size: float = 0.1,
        device: str = "auto",
        text_a_val: Sequence[str] | None = None,
        text_b_val: Sequence[str] | None = None,
        validation_steps: int | None = None,
        random_seed: int = DEFAULT_RANDOM_SEED,
        temperature: float = 0.05,
        token_dropout: float = 0.0,
    ) -> Self:
        """Train on pairs, from the initial state, to find the second text of each pair; keep the best state.

        Args:
            text_a: First texts, such as queries.
            text_b: Second texts, such as documents.
            learning_rate: As in `StaticModelForClassification.fit`, like all arguments without a description.
            batch_size: Number of pairs per batch, 2 or more; each pair is contrasted with the others of its batch.
            min_epochs: See there.
            max_epochs: See there.
            early_stopping_patience: See there.
            test_size: See there.
            device: See there.
            text_a_val: First texts for validation, instead of held-out ones.
            text_b_val: Second texts for validation.
            validation_steps: See there.
            random_seed: See there.
            temperature: Divides the cosines; the smaller, the higher the weight of the most similar other texts.
            token_dropout: See there.

        Returns:
            The model.

        Raises:
            InputError: The texts are not valid for training, or an argument is out of range.
        """
        a, b, a_val, b_val = read_columns(
            as_texts, text_a=text_a, text_b=text_b, text_a_val=text_a_val, text_b_val=text_b_val
        )
        loss = PairInfoNCELoss(temperature)
        if batch_size is not None and batch_size < 2:
            raise InputError(f"batch_size must be 2 or more, not {batch_size!r}.")
        ids = [self._tokenize_ids(texts) for texts in (a, b)]
        if a_val is not None:
            examples = PairExamples(*ids), PairExamples(self._tokenize_ids(a_val), self._tokenize_ids(b_val))
        else:
            parts = split_indices(len(a), test_size, MAX_VALIDATION_SIZE, random_seed=random_seed)
            train, held_out = (PairExamples(*([of[number] for number in part] for of in ids)) for part in parts)
            examples = train, held_out
        for pairs, name in zip(examples, ("training", "validation"), strict=True):
            if len(pairs) < 2:
                raise InputError(
                    f"The {name} set needs at least two pairs, but has {len(pairs)}. Pass more pairs, another "
                    "test_size, or validation pairs."
                )
        torch.manual_seed(random_seed)
        self._initialize()
        self._train(
            examples,
            loss,
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
