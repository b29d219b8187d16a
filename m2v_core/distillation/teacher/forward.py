"""Fast forward passes through a teacher for short texts.

Batches contain sequences of equal length, so there is no padding, and eager attention is faster than fused kernels on
sequences of a few tokens. Linear layers take most of the time. Variants with weights packed by oneDNN (on CPUs) or
with products in bfloat16 are timed at the start, and the fastest one that returns the same vectors is used.
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

_CPU_BATCH_TOKENS = 1536  # 512 single tokens with two special tokens; the fastest of 256 to 2,048 texts on two cores
_GPU_BATCH_TOKENS = 49152
_PROBE_PARAMETERS = 4_000_000  # smaller teachers are fast enough without a probe
_PROBE_SEQUENCES = 256
_MEAN_TEXTS = 32  # number of texts per batch from which the mean is estimated
_PROBE_COSINE = 0.999  # minimum cosine between the centered rows of a variant and of the unchanged model

Pool = Callable[[Any, torch.Tensor], torch.Tensor]
"""Maps a model's output and its token ids, `(n_sequences, length)`, to vectors, `(n_sequences, dim)`."""

Watch = Callable[["npt.NDArray[np.int64]", torch.Tensor], None]
"""Receives the indices of a batch, `(n_sequences,)`, and its hidden states, `(n_sequences, length, teacher_dim)`."""

Variants = dict[int, str]
"""The fastest variant of the linear layers by sequence length: a key of `_VARIANTS`, or "" for none."""


def embed_sequences(
    model: PreTrainedModel,
    device: str,
    sequences: Sequence[Sequence[int]],
    pool: Pool,
    reporter: ProgressReporter,
    watch: Watch | None = None,
    variants: Variants | None = None,
) -> npt.NDArray[np.float32]:
    """Compute one vector per sequence of token ids.

    Args:
        model: The transformer; its state is restored afterwards.
        device: Device to run on.
        sequences: Token ids including special tokens; none empty.
        pool: Maps a batch's output to vectors.
        reporter: Advances by sequences; cancellable between batches.
        watch: Called once with each batch.
        variants: Cache of probe results for this model and device; updated in place.

    Returns:
        `(n_sequences, dim) float32`.

    Raises:
        TeacherOutputError: the output contains NaN or infinity.
        Cancelled: the run was cancelled.
    """
    with _prepared(model, device) as model:
        encoder = _fastest(model, _probe(sequences), pool, {} if variants is None else variants)
        vectors: npt.NDArray[np.float32] | None = None
        n_tokens, n_done, started = sum(map(len, sequences)), 0, time.perf_counter()
        for indices in _batches(sequences, _CPU_BATCH_TOKENS if device == "cpu" else _GPU_BATCH_TOKENS):
            batch, states = _forward(encoder, [sequences[i] for i in indices], pool)
            if encoder is not model and not np.isfinite(batch).all():
                batch, states = _forward(model, [sequences[i] for i in indices], pool)
            if not np.isfinite(batch).all():
                broken = int(np.flatnonzero(~np.isfinite(batch).all(axis=1))[0])
                raise TeacherOutputError(
                    f"The teacher returned NaN or infinity for the token ids {list(sequences[indices[broken]])[:8]}; "
                    "its weights are damaged, or it requires a different precision. Nothing was distilled."
                )
            if vectors is None:
                vectors = np.empty((len(sequences), batch.shape[1]), dtype=np.float32)
            vectors[indices] = batch
            if watch is not None:
                watch(indices, states)
            # The shortest sequences come first, so an estimate in sequences per second would be too optimistic.
            n_done += len(indices) * len(sequences[indices[0]])
            seconds_per_token = (time.perf_counter() - started) / n_done
            reporter.advance(len(indices), eta_seconds=seconds_per_token * (n_tokens - n_done))
    assert vectors is not None, "sequences is not empty"
    return vectors


@contextmanager
def _prepared(model: PreTrainedModel, device: str) -> Iterator[PreTrainedModel]:
    """Put the model into evaluation mode on a device with eager attention, and restore its state afterwards."""
    was_training, original_device = model.training, model.device
    attention = model.config._attn_implementation
    cast(torch.nn.Module, model).eval().to(device)
    try:
        model.set_attn_implementation("eager")
    except (AttributeError, ValueError, NotImplementedError):
        logger.debug("%s does not support eager attention.", type(model).__name__)
    try:
        yield model
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        model.train(was_training).to(original_device)


def _batches(sequences: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the indices of batches of sequences of equal length, shortest first."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, sequence in enumerate(sequences):
        by_length[len(sequence)].append(i)
    for length, indices in sorted(by_length.items()):
        size = max(1, batch_tokens // length)
        for start in range(0, len(indices), size):
            yield np.asarray(indices[start : start + size])


def _probe(sequences: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Sample sequences of the most common length, evenly spaced."""
    by_length: dict[int, list[Sequence[int]]] = defaultdict(list)
    for sequence in sequences:
        by_length[len(sequence)].append(sequence)
    candidates = max(by_length.values(), key=len)
    return candidates[:: max(1, len(candidates) // _PROBE_SEQUENCES)][:_PROBE_SEQUENCES]


@torch.inference_mode()
def _forward(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], pool: Pool
) -> tuple[npt.NDArray[np.float32], torch.Tensor]:
    """Return the vectors, `(n_sequences, dim) float32`, and last hidden states of sequences of equal length."""
    input_ids = torch.tensor(sequences, device=model.device)  # (n_sequences, length)
    output = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))
    if getattr(output, "last_hidden_state", None) is None:
        raise TeacherError(f"{type(model).__name__} returns no hidden states, so it is not supported as a teacher.")
    vectors: npt.NDArray[np.float32] = pool(output, input_ids).float().cpu().numpy()
    return vectors, output.last_hidden_state


def _fastest(model: PreTrainedModel, probe: Sequence[Sequence[int]], pool: Pool, variants: Variants) -> PreTrainedModel:
    """Return the model, or a copy with faster linear layers that returns the same vectors."""
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if model.dtype != torch.float32 or n_parameters < _PROBE_PARAMETERS or len(probe) < _PROBE_SEQUENCES:
        return model
    length = len(probe[0])
    if length in variants:
        return _with_linears(model, _VARIANTS[variants[length]]) if variants[length] else model
    full, seconds = _timed(model, probe, pool)
    expected, fastest, chosen = unit_rows(full - full.mean(axis=0)), seconds, model  # centered, as PCA does
    variants[length] = ""
    for name, layer in _VARIANTS.items():
        has_packing = model.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if name == "packed" and not has_packing:
            continue
        variant = _with_linears(model, layer)
        found, variant_seconds = _timed(variant, probe, pool)
        cosines = (expected * unit_rows(found - found.mean(axis=0))).sum(axis=1)  # 0 for NaN
        ratio = seconds / variant_seconds
        logger.info("Linear layers %s: %.2f times as fast; minimum cosine %.5f.", name, ratio, cosines.min())
        if variant_seconds < fastest and cosines.min() >= _PROBE_COSINE:
            variants[length], fastest, chosen = name, variant_seconds, variant
    return chosen


class _PackedLinear(torch.nn.Module):
    """A linear layer with weights packed by oneDNN, in full precision on a CPU."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "none")
        return product


class _HalfProduct(torch.nn.Module):
    """A linear layer that computes the differences between the texts of a batch in bfloat16.

    W x = W m + W (x - m), where m is the mean of the batch's first texts at each position. The first term is the same
    for all texts and computed in full precision; only the second is rounded. The error is less than half that of a
    model in bfloat16, and sums are computed in float32.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self._linear: Callable[[torch.Tensor], torch.Tensor] = linear
        self._half_weight = linear.weight.detach().bfloat16()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        mean = states[:_MEAN_TEXTS].mean(dim=0, keepdim=True)  # (1, length, width)
        varying = torch.empty_like(states, dtype=torch.bfloat16)
        torch.sub(states, mean, out=varying)  # subtracts and rounds in one pass
        return self._linear(mean) + torch.nn.functional.linear(varying, self._half_weight)


_VARIANTS: dict[str, Callable[[torch.nn.Linear], torch.nn.Module]] = {
    "packed": _PackedLinear,
    "in bfloat16": _HalfProduct,
}


def _with_linears(model: PreTrainedModel, layer: Callable[[torch.nn.Linear], torch.nn.Module]) -> PreTrainedModel:
    """Copy the model with its linear layers replaced; all other weights are shared."""
    # deepcopy reuses the objects in its memo instead of copying them.
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    variant: PreTrainedModel = copy.deepcopy(model, shared)
    linears = [(parent, name, child) for parent in variant.modules() for name, child in parent.named_children()]
    for parent, name, child in linears:
        if type(child) is torch.nn.Linear:
            setattr(parent, name, layer(child))
    return variant


def _timed(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], pool: Pool
) -> tuple[npt.NDArray[np.float32], float]:
    _forward(model, sequences[:8], pool)  # warm-up
    seconds = []
    for _ in range(2):  # the minimum of two, because other processes may use the CPU
        started = time.perf_counter()
        vectors, _ = _forward(model, sequences, pool)
        seconds.append(time.perf_counter() - started)
    return vectors, min(seconds)
