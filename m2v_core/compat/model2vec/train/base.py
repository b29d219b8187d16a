"""Base class of all trainable models: table, head, and conversion to static models."""

from __future__ import annotations

import logging
from itertools import pairwise
from os import PathLike
from types import EllipsisType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from m2v_core.compat.model2vec.inference import StaticModelPipeline
from m2v_core.compat.model2vec.inference.mlp import Activation, Layer, MLPHead
from m2v_core.compat.model2vec.model import DEFAULT_MAX_LENGTH, StaticModel
from m2v_core.compat.model2vec.train.dataset import TextExamples, TokenBatch
from m2v_core.compat.model2vec.train.trainer import Examples, Loss, Schedule, train
from m2v_core.compat.model2vec.train.utils import MAX_VALIDATION_SIZE, split_indices
from m2v_core.encoder.plain import drop_token, token_ids
from m2v_core.encoder.progress_bar import progress_bar
from m2v_core.encoder.texts import checked_max_length, checked_texts, well_formed
from m2v_core.errors import InputError
from m2v_core.tokenization.ids import unknown_token_id

logger = logging.getLogger(__name__)

_DEFAULT_MODEL = "minishlab/potion-base-32m"


class BaseFinetuneable(nn.Module):
    """A static model with a head, as a torch module.

    Args:
        vectors: (n_rows, dim) the table, trained as float32.
        tokenizer: Copied; truncation and padding of the copy are disabled.
        hidden_dim: Width of the hidden layers.
        n_layers: Number of hidden layers. With none, the head is one linear layer, or nothing if `out_dim` is that of
            the table.
        out_dim: Width of the head's output.
        token_mapping: Row of each token; None if token i has row i.
        weights: (n_vocabulary,) factor for each token's row; None if all are 1.
        freeze: Whether to keep the table unchanged.
        normalize: Whether embeddings have unit length.
        freeze_weights: Whether to keep the weights unchanged. None: train existing weights. False: train weights,
            starting at 1 if there are none.
        max_length: Maximum number of tokens per text; None for no limit.
    """

    _always_has_head = False

    def __init__(
        self,
        *,
        vectors: torch.Tensor,
        tokenizer: Tokenizer,
        hidden_dim: int = 256,
        n_layers: int = 0,
        out_dim: int = 2,
        token_mapping: list[int] | None = None,
        weights: torch.Tensor | None = None,
        freeze: bool = False,
        normalize: bool = True,
        freeze_weights: bool | None = None,
        max_length: int | None = DEFAULT_MAX_LENGTH,
    ) -> None:
        super().__init__()
        self.vectors = vectors.float()
        self.embed_dim = vectors.shape[1]
        self.out_dim = out_dim
        self.hidden_dim = hidden_dim
        self.n_layers = n_layers
        self.freeze = freeze
        self.normalize = normalize
        self.freeze_weights = freeze_weights
        self.max_length = checked_max_length(max_length)
        self.token_dropout = 0.0
        mapping = torch.arange(len(vectors)) if token_mapping is None else torch.tensor(token_mapping)
        self.token_mapping = nn.Parameter(mapping.long(), requires_grad=False)
        self._weights = weights
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.unk_token_id = unknown_token_id(self.tokenizer)
        self._initialize()

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str] = _DEFAULT_MODEL,
        *,
        token: str | None = None,
        model_name: str | PathLike[str] | None = None,
        **arguments: Any,
    ) -> Self:
        """Create a model from the static model in a folder or a Hub repository.

        Args:
            path: A folder, or else a Hub repository.
            token: Hub token, for private and gated repositories.
            model_name: Deprecated name of `path`.
            **arguments: As for `from_static_model`.
        """
        if model_name:
            logger.warning("The 'model_name' argument is deprecated. Pass path instead.")
            path = model_name
        return cls.from_static_model(model=StaticModel.from_pretrained(path, token=token), **arguments)

    @classmethod
    def from_static_model(
        cls, *, model: StaticModel, max_length: int | EllipsisType | None = ..., **arguments: Any
    ) -> Self:
        """Create a model from a static model.

        Args:
            model: Initial parameters.
            max_length: Maximum number of tokens per text; None for no limit; the model's own limit if not passed.
            **arguments: As for the class, except for the parts of the model.
        """
        return cls(
            vectors=torch.from_numpy(np.array(model.embedding, dtype=np.float32)),
            tokenizer=model.tokenizer,
            token_mapping=None if model.token_mapping is None else model.token_mapping.tolist(),
            weights=None if model.weights is None else torch.from_numpy(model.weights.copy()),
            max_length=model.max_length if isinstance(max_length, EllipsisType) else max_length,
            **arguments,
        )

    def construct_embeddings(self) -> nn.EmbeddingBag:
        """Create the initial table, as a layer that sums the rows of each text."""
        return nn.EmbeddingBag.from_pretrained(self.vectors.clone(), freeze=self.freeze, mode="sum")

    def construct_weights(self) -> nn.Parameter | None:
        """Create the initial factors of the tokens' rows; None without weights."""
        if self._weights is None and self.freeze_weights is not False:
            return None
        weights = torch.ones(len(self.token_mapping)) if self._weights is None else self._weights.clone().float()
        return nn.Parameter(weights, requires_grad=not self.freeze_weights)

    def construct_head(self) -> nn.Sequential:
        """Create a new head: linear layers with ReLU between them."""
        if not self.n_layers and not self._always_has_head and self.embed_dim == self.out_dim:
            return nn.Sequential()
        widths = [self.embed_dim, *[self.hidden_dim] * self.n_layers, self.out_dim]
        layers = [nn.Linear(*pair) for pair in pairwise(widths)]
        for layer in layers[:-1]:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.xavier_uniform_(layers[-1].weight)
        parts: list[nn.Module] = []
        for layer in layers:
            nn.init.zeros_(layer.bias)
            parts += [nn.ReLU(), layer]
        return nn.Sequential(*parts[1:])

    @property
    def device(self) -> torch.device:
        """The device of the table."""
        return self.embeddings.weight.device

    def tokenize(self, texts: list[str]) -> TokenBatch:
        """Return the known tokens of the texts."""
        return TokenBatch.from_token_ids(self._tokenize_ids(texts))

    def forward(self, batch: TokenBatch) -> Any:
        """Compute the head's outputs for the texts, (n_texts, out_dim)."""
        return self.head(self._encode(batch))

    @torch.no_grad()
    def encode(self, X: list[str], batch_size: int = 1024, show_progress_bar: bool = False) -> NDArray[np.float32]:
        """Compute the head's output for each text.

        Args:
            X: The texts.
            batch_size: Number of texts per batch.
            show_progress_bar: Show a progress bar on stderr.

        Returns:
            (n_texts, out_dim) float32; for a classifier, before softmax or sigmoid.
        """
        texts = checked_texts(X)
        found = [np.empty((0, self.out_dim), np.float32)]
        with progress_bar(len(texts), show_progress_bar) as advance:
            for start in range(0, len(texts), batch_size):
                batch = texts[start : start + batch_size]
                found.append(self.head(self._encode(self.tokenize(batch).to(self.device))).cpu().numpy())
                if advance is not None:
                    advance(len(batch))
        return np.concatenate(found)

    def to_static_model(self) -> StaticModel:
        """Return the model without the head; weights are multiplied into its rows, unless tokens share rows."""
        table = self.embeddings.weight.detach().cpu().numpy().copy()
        weights = None if self.w is None else self.w.detach().cpu().numpy().copy()
        mapping = None if len(self.token_mapping) == len(table) else self.token_mapping.cpu().numpy()
        if mapping is None and weights is not None:
            table, weights = table * weights[:, None], None
        return StaticModel(
            table,
            self.tokenizer,
            normalize=self.normalize,
            weights=weights,
            token_mapping=mapping,
            max_length=self.max_length,
        )

    def to_pipeline(self) -> StaticModelPipeline:
        """Return the model and its head for use without torch."""
        layers = [
            Layer(layer.weight.detach().cpu().numpy().copy(), layer.bias.detach().cpu().numpy().copy())
            for layer in self.head
            if isinstance(layer, nn.Linear)
        ]
        return StaticModelPipeline(self.to_static_model(), MLPHead(layers, *self._activation()))

    def _activation(self) -> tuple[Activation, NDArray[Any] | None]:
        """The activation after the head, and the labels of its outputs."""
        return Activation.IDENTITY, None

    def _initialize(self) -> None:
        """Reset all parameters to their initial values, with a new head."""
        self.head = self.construct_head()
        self.embeddings = self.construct_embeddings()
        self.w = self.construct_weights()

    def _tokenize_ids(self, texts: list[str]) -> list[list[int]]:
        return drop_token(token_ids(self.tokenizer, well_formed(texts), self.max_length), self.unk_token_id)

    def _apply_token_dropout(self, batch: TokenBatch) -> TokenBatch:
        return batch.without_some(self.token_dropout) if self.training and self.token_dropout > 0 else batch

    def _encode(self, batch: TokenBatch) -> torch.Tensor:
        """Compute embeddings like a static model, (n_texts, dim); in training, with token dropout."""
        batch = self._apply_token_dropout(batch)
        weights = None if self.w is None else self.w[batch.ids]
        sums: torch.Tensor = self.embeddings(self.token_mapping[batch.ids], batch.offsets, per_sample_weights=weights)
        means = sums / batch.lengths.clamp(min=1)[:, None]
        return nn.functional.normalize(means) if self.normalize else means

    def _text_examples(
        self,
        texts: list[str],
        targets: torch.Tensor,
        texts_val: list[str] | None,
        targets_val: torch.Tensor | None,
        test_size: float,
        random_seed: int,
        strata: list[Any] | None = None,
    ) -> tuple[TextExamples, TextExamples]:
        """Create training and validation examples."""
        ids = self._tokenize_ids(texts)
        if texts_val is not None and targets_val is not None:
            return TextExamples(ids, targets), TextExamples(self._tokenize_ids(texts_val), targets_val)
        train_part, val_part = split_indices(len(ids), test_size, MAX_VALIDATION_SIZE, strata, random_seed)
        found = [TextExamples([ids[number] for number in part], targets[part]) for part in (train_part, val_part)]
        return found[0], found[1]

    def _train(
        self,
        examples: tuple[Examples, Examples],
        loss: Loss,
        accuracy: Loss | None,
        token_dropout: float,
        batch_size: int | None,
        **schedule: Any,
    ) -> None:
        """Train on the first examples and validate on the second; the other arguments are those of `fit`."""
        if not 0 <= token_dropout < 1:
            raise InputError(f"token_dropout must be a share of the tokens from 0 to below 1, not {token_dropout!r}.")
        for examples_of, name in zip(examples, ("train on", "validate on"), strict=True):
            if not len(examples_of):
                raise InputError(f"There are no texts to {name}. Pass two texts or more, or validation data.")
        if batch_size is None:
            batch_size = 32 * int(min(max(1, len(examples[0]) / 30 // 32), 16))
        self.token_dropout = token_dropout
        train(self, *examples, loss, accuracy, Schedule(batch_size=batch_size, **schedule))
