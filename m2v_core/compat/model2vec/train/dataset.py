"""Training data: conversion of the arguments of `fit` to lists, and batches of token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from m2v_core.errors import InputError


def as_list(name: str, values: Any) -> list[Any]:
    """Convert the values of an argument to Python objects.

    Args:
        name: Name of the argument, for the message.
        values: A list, a tuple, an array, a tensor, or a column of a Hugging Face dataset.

    Raises:
        InputError: Another type.
    """
    kind = type(values)
    if kind.__module__.partition(".")[0] == "datasets":
        if kind.__name__.startswith("Iterable"):
            raise InputError(f"{name} comes from an iterable dataset, which has no length. Load it without streaming.")
        if kind.__name__ != "Column":
            raise InputError(f"{name} is a whole dataset. Pass one of its columns, such as dataset['text'].")
        source = values
        while hasattr(source, "source"):  # a field of a column is a column
            source = source.source
        if source.format["type"] == "custom":
            raise InputError(
                f"{name} is a column of a Hugging Face dataset with a transform. Apply it first, with dataset.map."
            )
    elif isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray, torch.Tensor)):
        raise InputError(
            f"{name} must be a list, a tuple, an array, a tensor, or a column of a Hugging Face dataset, got "
            f"{kind.__name__}."
        )
    return [value.tolist() if hasattr(value, "tolist") else value for value in values]


def as_texts(name: str, values: Any) -> list[str]:
    """The texts of an argument; the arguments and errors are those of `as_list`."""
    texts = as_list(name, values)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"All texts in {name} must be strings, but text {number} (counting from 0) is {type(text).__name__}."
            )
    return texts


def read_columns(reads_second: Callable[[str, Any], list[Any]], **columns: Any) -> list[Any]:
    """Convert four arguments of `fit` to lists: training texts with targets, and validation texts with targets or None.

    Args:
        reads_second: Converts the second and fourth argument, like `as_texts` the others.
        **columns: The arguments.

    Raises:
        InputError: An argument is invalid, or two don't match.
    """
    readers = (as_texts, reads_second) * 2
    found: list[Any] = [
        None if values is None else read(name, values)
        for read, (name, values) in zip(readers, columns.items(), strict=True)
    ]
    names = list(columns)
    for first in (0, 2):
        a, b = found[first : first + 2]
        pair = " and ".join(names[first : first + 2])
        if (a is None) != (b is None):
            raise InputError(f"Pass both {pair}, or neither.")
        if a is not None and len(a) != len(b):
            raise InputError(f"{pair} must have the same length, but have {len(a):,} and {len(b):,}.")
    return found


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of some texts, concatenated.

    Attributes:
        ids: (n_tokens,) int64.
        offsets: (n_texts,) int64 index of each text's first token.
        lengths: (n_texts,) int64.
    """

    ids: torch.Tensor
    offsets: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def from_lengths(cls, ids: torch.Tensor, lengths: torch.Tensor) -> TokenBatch:
        """Create a batch from the ids of texts with these lengths, in order."""
        return cls(ids, lengths.cumsum(0) - lengths, lengths)

    @classmethod
    def from_token_ids(cls, token_ids: Sequence[Sequence[int]]) -> TokenBatch:
        """Create a batch from the ids of each text."""
        ids = torch.tensor(list(chain.from_iterable(token_ids)), dtype=torch.int64)
        return cls.from_lengths(ids, torch.tensor([len(of_text) for of_text in token_ids], dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> TokenBatch:
        """The batch on a device."""
        return TokenBatch(self.ids.to(device), self.offsets.to(device), self.lengths.to(device))

    def without_some(self, share: float) -> TokenBatch:
        """Return the batch without a random share of its tokens; at least one token per non-empty text is kept."""
        keep = torch.rand(len(self.ids), device=self.ids.device) >= share
        owner = torch.repeat_interleave(self.lengths)
        emptied = (torch.bincount(owner[keep], minlength=len(self)) == 0) & (self.lengths > 0)
        keep[self.offsets[emptied]] = True
        return self.from_lengths(self.ids[keep], torch.bincount(owner[keep], minlength=len(self)))


@dataclass(frozen=True)
class PairBatch:
    """Pairs of texts.

    Attributes:
        tokens: Tokens of the first texts, then of the second texts.
        text_ids: (2 * n_pairs,) int64, equal for equal texts.
    """

    tokens: TokenBatch
    text_ids: torch.Tensor

    def to(self, device: torch.device | str) -> PairBatch:
        """The batch on a device."""
        return PairBatch(self.tokens.to(device), self.text_ids.to(device))


@dataclass(frozen=True)
class TextExamples:
    """Texts with targets.

    Attributes:
        token_ids: Token ids of each text.
        targets: (n_texts, ...) targets of the loss.
    """

    token_ids: list[list[int]]
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.token_ids)

    def batch(self, numbers: Sequence[int]) -> tuple[TokenBatch, torch.Tensor]:
        """Return some of the texts, and their targets."""
        return TokenBatch.from_token_ids([self.token_ids[number] for number in numbers]), self.targets[list(numbers)]


@dataclass(frozen=True)
class PairExamples:
    """Pairs of texts that match.

    Attributes:
        first: Token ids of the first text of each pair.
        second: Token ids of the second text.
    """

    first: list[list[int]]
    second: list[list[int]]

    def __len__(self) -> int:
        return len(self.first)

    def batch(self, numbers: Sequence[int]) -> tuple[PairBatch, torch.Tensor]:
        """Return some of the pairs, and for each first text the index of its second text among them."""
        texts = [ids[number] for ids in (self.first, self.second) for number in numbers]
        known: dict[tuple[int, ...], int] = {}
        text_ids = [known.setdefault(tuple(text), len(known)) for text in texts]
        return PairBatch(TokenBatch.from_token_ids(texts), torch.tensor(text_ids)), torch.arange(len(numbers))
