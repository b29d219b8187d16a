"""Forward passes through a teacher, as fast as short texts allow.

A vocabulary's sequences are tiny, three tokens for a single piece, and that decides how they are run: batches of one
length need no padding, plain matrix attention beats the fused kernels, and half the bits are enough wherever the
processor is faster with them, which is measured at the start.
"""

from __future__ import annotations

import copy
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from m2v_core.errors import NeedsExtra, TeacherError, TeacherOutputError
from m2v_core.native.cosines import unit_rows
from m2v_core.progress import ProgressReporter

with NeedsExtra(None, "distill"):
    import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_CPU_BATCH_TOKENS = 1536  # 512 single pieces between two special tokens: the best of 256 to 2,048 on two cores
_GPU_BATCH_TOKENS = 49152
_PROBE_PARAMETERS = 4_000_000  # a smaller teacher is done in no time, and always in full precision
_PROBE_SEQUENCES = 256
_MEAN_TEXTS = 32  # of a batch are enough for a mean to take away
_PROBE_COSINE = 0.999  # least cosine of a row, the mean row taken away, between half and full precision

Pool = Callable[[Any, torch.Tensor], torch.Tensor]
"""From a model's output for ids of shape (n_sequences, length) to `(n_sequences, dim)` vectors."""

Watch = Callable[["npt.NDArray[np.int64]", torch.Tensor], None]
"""Gets which sequences a batch holds, `(n_sequences,)`, and their last states, `(n_sequences, length, teacher_dim)`."""

Precisions = dict[int, bool]
"""Whether half precision was found to be better for sequences of a length."""


def read_sequences(
    model: PreTrainedModel,
    device: str,
    sequences: Sequence[Sequence[int]],
    pool: Pool,
    reporter: ProgressReporter,
    watch: Watch | None = None,
    precisions: Precisions | None = None,
) -> npt.NDArray[np.float32]:
    """One vector for each sequence of ids.

    Args:
        model: Comes back as it was found.
        device: Where to run it.
        sequences: Teacher ids, the special tokens included; none empty.
        pool: Turns a batch's output into vectors.
        reporter: Advances by sequences; the work can be cancelled between batches.
        watch: Called with each batch, once.
        precisions: What was found for this model and device before, which is added to.

    Returns:
        `(n_sequences, dim) float32`.

    Raises:
        TeacherOutputError: NaN or infinity came back.
        Cancelled: the caller asked to stop.
    """
    with _prepared(model, device) as model:
        encoder = _fastest_precision(model, _probe(sequences), pool, {} if precisions is None else precisions)
        vectors: npt.NDArray[np.float32] | None = None
        for indices in _batches(sequences, _CPU_BATCH_TOKENS if device == "cpu" else _GPU_BATCH_TOKENS):
            batch, states = _forward(encoder, [sequences[i] for i in indices], pool)
            if encoder is not model and not np.isfinite(batch).all():
                batch, states = _forward(model, [sequences[i] for i in indices], pool)
            if not np.isfinite(batch).all():
                broken = int(np.flatnonzero(~np.isfinite(batch).all(axis=1))[0])
                raise TeacherOutputError(
                    f"The teacher returned NaN or infinity for the ids {list(sequences[indices[broken]])[:8]}; "
                    "its weights are damaged, or it needs another precision. Nothing was distilled."
                )
            if vectors is None:
                vectors = np.empty((len(sequences), batch.shape[1]), dtype=np.float32)
            vectors[indices] = batch
            if watch is not None:
                watch(indices, states)
            reporter.advance(len(indices))
    assert vectors is not None, "there is always something to read"
    return vectors


@contextmanager
def _prepared(model: PreTrainedModel, device: str) -> Iterator[PreTrainedModel]:
    """The model in evaluation mode on its device with plain attention, and afterwards as it was."""
    was_training, was_on = model.training, model.device
    attention = model.config._attn_implementation
    cast(torch.nn.Module, model).eval().to(device)
    try:
        model.set_attn_implementation("eager")
    except (AttributeError, ValueError, NotImplementedError):
        logger.debug("%s keeps its own attention.", type(model).__name__)
    try:
        yield model
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        model.train(was_training).to(was_on)


def _batches(sequences: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of sequences of one length, shortest first."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, sequence in enumerate(sequences):
        by_length[len(sequence)].append(i)
    for length, indices in sorted(by_length.items()):
        size = max(1, batch_tokens // length)
        for start in range(0, len(indices), size):
            yield np.asarray(indices[start : start + size])


def _probe(sequences: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """A sample of the commonest length, spread over the vocabulary."""
    by_length: dict[int, list[Sequence[int]]] = defaultdict(list)
    for sequence in sequences:
        by_length[len(sequence)].append(sequence)
    commonest = max(by_length.values(), key=len)
    return commonest[:: max(1, len(commonest) // _PROBE_SEQUENCES)][:_PROBE_SEQUENCES]


@torch.inference_mode()
def _forward(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], pool: Pool
) -> tuple[npt.NDArray[np.float32], torch.Tensor]:
    """Of sequences of one length, `(n_sequences, dim) float32` vectors and the last hidden states."""
    input_ids = torch.tensor(sequences, device=model.device)  # (n_sequences, length)
    output = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))
    if getattr(output, "last_hidden_state", None) is None:
        raise TeacherError(f"{type(model).__name__} returns no hidden states; it can't be a teacher.")
    vectors: npt.NDArray[np.float32] = pool(output, input_ids).float().cpu().numpy()
    return vectors, output.last_hidden_state


def _fastest_precision(
    model: PreTrainedModel, probe: Sequence[Sequence[int]], pool: Pool, precisions: Precisions
) -> PreTrainedModel:
    """The model itself or, where that is faster and gives the same vectors, its twin with half-width products."""
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if model.dtype != torch.float32 or n_parameters < _PROBE_PARAMETERS or len(probe) < _PROBE_SEQUENCES:
        return model
    length = len(probe[0])
    if length in precisions:
        return _with_half_products(model) if precisions[length] else model
    twin = _with_half_products(model)
    expected, seconds = _timed(model, probe, pool)
    found, twin_seconds = _timed(twin, probe, pool)
    expected, found = (unit_rows(each - each.mean(axis=0)) for each in (expected, found))  # what PCA will see
    cosines = (expected * found).sum(axis=1)  # 0 for NaN
    logger.info("bfloat16 is %.1f times as fast; least cosine %.5f.", seconds / twin_seconds, cosines.min())
    agree = bool(cosines.min() >= _PROBE_COSINE)
    precisions[length] = agree and twin_seconds < seconds
    return twin if precisions[length] else model


class _HalfProduct(torch.nn.Module):
    """A linear layer that multiplies in bfloat16 what differs between the texts of a batch.

    W x = W m + W (x - m), where m is the mean of the batch's first texts at each position. The first part is the same
    for all texts and is done in full precision; what rounding loses is a share of the second alone, so the outcome is
    more than twice as close to full precision as with a model in bfloat16, and sums stay in float32.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self._linear: Callable[[torch.Tensor], torch.Tensor] = linear
        self._half_weight = linear.weight.detach().bfloat16()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        mean = states[:_MEAN_TEXTS].mean(dim=0, keepdim=True)  # (1, length, width)
        varying = torch.empty_like(states, dtype=torch.bfloat16)
        torch.sub(states, mean, out=varying)  # rounds on the way, where a conversion would be another pass
        return self._linear(mean) + torch.nn.functional.linear(varying, self._half_weight)


def _with_half_products(model: PreTrainedModel) -> PreTrainedModel:
    # deepcopy takes what its memo holds as copied already: the twin shares every weight with the model.
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    twin: PreTrainedModel = copy.deepcopy(model, shared)
    linears = [(parent, name, child) for parent in twin.modules() for name, child in parent.named_children()]
    for parent, name, child in linears:
        if type(child) is torch.nn.Linear:
            setattr(parent, name, _HalfProduct(child))
    return twin


def _timed(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], pool: Pool
) -> tuple[npt.NDArray[np.float32], float]:
    _forward(model, sequences[:8], pool)  # the first call sets up kernels
    seconds = []
    for _ in range(2):  # the better of two, as another program may have had the processor
        started = time.perf_counter()
        vectors, _ = _forward(model, sequences, pool)
        seconds.append(time.perf_counter() - started)
    return vectors, min(seconds)
