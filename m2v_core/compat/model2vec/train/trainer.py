"""The training loop: Adam with early stopping on held-out examples, which keeps the best state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

# Source: model2vec 0.10, whose results these values reproduce.
_STEPS_BETWEEN_CHECKS, _CHECKS_PER_EPOCH = 250, 4
_SMALLEST_GAIN = 0.001
_PLATEAU = {"factor": 0.5, "patience": 3, "min_lr": 1e-6, "threshold": 0.03}

Loss = Callable[[Any, torch.Tensor], torch.Tensor]


class Examples(Protocol):
    """Training data that is read in batches."""

    def __len__(self) -> int: ...

    def batch(self, numbers: Sequence[int]) -> tuple[Any, torch.Tensor]:
        """Return the inputs and targets of the examples with these indices."""


@dataclass(frozen=True)
class Schedule:
    """Settings of the training; the names are those of `fit`.

    Attributes:
        learning_rate: Learning rate of Adam, halved when the loss on held-out examples stalls.
        batch_size: Number of examples per batch.
        min_epochs: Number of epochs before early stopping; None for none.
        max_epochs: Maximum number of epochs; None or a negative number for no limit.
        early_stopping_patience: Number of checks without improvement before stopping; None for no early stopping.
        device: Device of torch, or `"auto"`.
        validation_steps: Number of steps between two checks; None to choose.
        random_seed: Random seed of the order of the examples.
    """

    learning_rate: float
    batch_size: int
    min_epochs: int | None
    max_epochs: int | None
    early_stopping_patience: int | None
    device: str
    validation_steps: int | None
    random_seed: int

    def steps_between_checks(self, n_batches: int) -> int:
        """The setting, or the number of steps of an epoch of `n_batches`, or of a part of a long epoch."""
        if self.validation_steps is not None:
            return self.validation_steps
        return min(n_batches, max(_STEPS_BETWEEN_CHECKS, n_batches // _CHECKS_PER_EPOCH))


def resolve_device(device: str) -> torch.device:
    """The device with this name; the fastest available one for `"auto"`."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def train(
    model: nn.Module, train: Examples, held_out: Examples, loss: Loss, accuracy: Loss | None, schedule: Schedule
) -> None:
    """Train a model; it ends on the CPU, in evaluation mode, in its best state on the held-out examples.

    Args:
        model: Called with the inputs of a batch.
        train: Training examples.
        held_out: Validation examples.
        loss: Mean loss of a batch, given the model's outputs and the targets.
        accuracy: Mean accuracy, likewise, to select the best state; None to select by the loss.
        schedule: Settings of the training.
    """
    device = resolve_device(schedule.device)
    model.to(device)
    optimizer = torch.optim.Adam([part for part in model.parameters() if part.requires_grad], schedule.learning_rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **_PLATEAU)  # type: ignore[arg-type]
    order = np.random.default_rng(schedule.random_seed)
    interval = schedule.steps_between_checks(len(_batches(np.arange(len(train)), schedule.batch_size)))
    limit = schedule.max_epochs if schedule.max_epochs is not None and schedule.max_epochs >= 0 else None
    best_state, best_score = None, -np.inf
    best_gain, n_without_gain, n_steps = -np.inf, 0, 0
    held_out_loss: float | None = None
    model.train()
    for epoch in count(1):
        if limit is not None and epoch > limit:
            break
        batches = _batches(order.permutation(len(train)), schedule.batch_size)
        for numbers in tqdm(batches, desc=f"Epoch {epoch}", unit="step", disable=None):
            inputs, targets = train.batch(numbers)
            optimizer.zero_grad()
            loss(model(inputs.to(device)), targets.to(device)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            n_steps += 1
            if n_steps % interval:
                continue
            held_out_loss, score = _judged(model, held_out, loss, accuracy, schedule.batch_size, device)
            if score > best_score:
                best_state, best_score = copy.deepcopy(model.state_dict()), score
            if score > best_gain + _SMALLEST_GAIN:
                best_gain, n_without_gain = score, 0
            else:
                n_without_gain += 1
            patience = schedule.early_stopping_patience
            if patience is not None and n_without_gain >= patience and epoch >= (schedule.min_epochs or 0):
                limit = epoch
                break
        if held_out_loss is not None:
            scheduler.step(held_out_loss)
    if best_state is not None:
        model.load_state_dict(best_state)
    model.to("cpu").eval()


@torch.no_grad()
def _judged(
    model: nn.Module, held_out: Examples, loss: Loss, accuracy: Loss | None, batch_size: int, device: torch.device
) -> tuple[float, float]:
    """The mean loss on held-out examples, and a score: their accuracy, or the negative loss."""
    model.eval()
    sums = np.zeros(2)
    for numbers in _batches(np.arange(len(held_out)), batch_size):
        inputs, targets = held_out.batch(numbers)
        outputs, targets = model(inputs.to(device)), targets.to(device)
        means = [function(outputs, targets).item() for function in (loss, accuracy) if function is not None]
        sums[: len(means)] += np.multiply(means, len(numbers))
    model.train()
    mean_loss, mean_accuracy = (sums / len(held_out)).tolist()
    return mean_loss, -mean_loss if accuracy is None else mean_accuracy


def _batches(numbers: np.ndarray[Any, Any], batch_size: int) -> list[list[int]]:
    """Split the indices into batches; a single leftover joins the last batch, because a pair needs others to train."""
    found = [numbers[start : start + batch_size].tolist() for start in range(0, len(numbers), batch_size)]
    if len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [found[-2] + found[-1]]
    return found
