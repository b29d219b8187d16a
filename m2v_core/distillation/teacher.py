"""The teacher: loading a Sentence Transformer's encoder, and its forward passes.

The only room with torch. A vocabulary's sequences are tiny, three tokens for a single piece, and that decides how
they are run: batches of one length need no padding, plain matrix attention beats the fused kernels, and half the
bits are enough wherever the processor is faster with them, which is measured at the start.
"""

from __future__ import annotations

import copy
import ctypes
import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from tokenizers import Tokenizer

from m2v_core.distillation.settings import Pooling
from m2v_core.distillation.source import TeacherSource, locate_teacher
from m2v_core.errors import (
    DeviceError,
    InputError,
    MissingExtraError,
    RemoteCodeError,
    TeacherError,
    TeacherOutputError,
)
from m2v_core.progress import ProgressReporter

# Threads that spin for long while they wait are in the way of whatever else runs: on two busy cores the teacher reads
# several times as fast when they soon sleep. Heeded if nobody has loaded torch yet.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
try:
    import torch
    from transformers import (
        CONFIG_MAPPING,
        AutoConfig,
        AutoModel,
        AutoModelForTextEncoding,
        AutoTokenizer,
        PreTrainedModel,
    )
except ImportError as error:
    raise MissingExtraError(error.name or "torch", "distill") from error

logger = logging.getLogger(__name__)

_MAX_LENGTH = 512  # no entry of a vocabulary needs more
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)

_CPU_BATCH_TOKENS = 1536  # 512 single pieces between two special tokens: the best of 256 to 2,048 on two cores
_GPU_BATCH_TOKENS = 49152
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_PROBE_PARAMETERS = 4_000_000  # a smaller teacher is done in no time, and always in full precision
_PROBE_SEQUENCES = 256
_MEAN_TEXTS = 32  # of a batch are enough for a mean to take away
_PROBE_COSINE = 0.999  # least cosine of a row, the mean row taken away, between half and full precision


@dataclass(frozen=True)
class Teacher:
    """A Sentence Transformer's encoder, ready to read a vocabulary.

    Attributes:
        model: The transformer; used in evaluation mode and left as it was found.
        tokenizer: Its tokenizer.
        pad_token: Its padding token, if it has one.
        max_length: Longest sequence it reads, in tokens.
        device: Where it runs: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    pad_token: str | None
    max_length: int
    device: str

    @classmethod
    def from_model(cls, model: PreTrainedModel, tokenizer: Any, device: str | None = None) -> Teacher:
        """A teacher from a transformers model and its fast tokenizer, both already loaded.

        Raises:
            TeacherError: the tokenizer is not a fast one.
            DeviceError: the device isn't there.
        """
        backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise TeacherError(
                f"The tokenizer is a {type(tokenizer).__name__}; a fast tokenizer is needed: one with a tokenizer.json."
            )
        # RoBERTa counts positions from 2: two fewer than the table holds is safe for every model.
        positions = (getattr(model.config, "max_position_embeddings", None) or _MAX_LENGTH) - 2
        longest = getattr(tokenizer, "model_max_length", _MAX_LENGTH)
        return cls(
            model=model,
            tokenizer=backend,
            pad_token=getattr(tokenizer, "pad_token", None),
            max_length=max(3, min(positions, longest, _MAX_LENGTH)),
            device=resolve_device(device),
        )

    @classmethod
    def load(cls, source: TeacherSource, device: str | None = None, trust_remote_code: bool = False) -> Teacher:
        """The teacher in a folder.

        Args:
            source: Its files.
            device: See `resolve_device`.
            trust_remote_code: Whether code that comes with the teacher may run.

        Raises:
            RemoteCodeError: the teacher needs its own code, and that is not trusted.
            TeacherError: what is there is no Sentence Transformer, or its files are damaged.
            DeviceError: the device isn't there.
        """
        resolved_device = resolve_device(device)
        encoder_folder = _encoder_folder(source.folder)
        _refuse_remote_code(encoder_folder, source.name, trust_remote_code)
        tokenizer = _load_tokenizer(encoder_folder, source.name, trust_remote_code)
        model = _load_model(encoder_folder, source.name, trust_remote_code)
        return cls.from_model(model, tokenizer, resolved_device)

    def embed(
        self, sequences: Sequence[Sequence[int]], pooling: Pooling, reporter: ProgressReporter
    ) -> npt.NDArray[np.float32]:
        """One vector for each sequence of ids, pooled from the last hidden state.

        Args:
            sequences: Teacher ids, the special tokens included; none empty.
            pooling: `"mean"` over all positions; the `"last"` or `"first"` position; or the model's own `"pooler"`.
            reporter: Gets the stage `"encode"`, in sequences; the work can be cancelled between batches.

        Returns:
            `(n_sequences, teacher_dim) float32`.

        Raises:
            InputError: an unknown pooling.
            TeacherError: the teacher has no pooler, or no hidden states.
            TeacherOutputError: NaN or infinity came back.
            Cancelled: the caller asked to stop.
        """
        if pooling not in get_args(Pooling):
            raise InputError(f"pooling is {pooling!r}; use one of {', '.join(get_args(Pooling))}.")
        reporter.start("encode", len(sequences))
        with _prepared(self.model, self.device) as model, _memory_kept():
            encoder = _fastest_precision(model, _probe(sequences), pooling)
            vectors: npt.NDArray[np.float32] | None = None
            for indices in _batches(sequences, _CPU_BATCH_TOKENS if self.device == "cpu" else _GPU_BATCH_TOKENS):
                batch = _forward(encoder, [sequences[i] for i in indices], pooling)
                if encoder is not model and not np.isfinite(batch).all():
                    batch = _forward(model, [sequences[i] for i in indices], pooling)
                if not np.isfinite(batch).all():
                    broken = int(np.flatnonzero(~np.isfinite(batch).all(axis=1))[0])
                    raise TeacherOutputError(
                        f"The teacher returned NaN or infinity for the ids {list(sequences[indices[broken]])[:8]}; "
                        "its weights are damaged, or it needs another precision. Nothing was distilled."
                    )
                if vectors is None:
                    vectors = np.empty((len(sequences), batch.shape[1]), dtype=np.float32)
                vectors[indices] = batch
                reporter.advance(len(indices))
        assert vectors is not None, "a vocabulary is never empty"
        return vectors


def trusted_folder(model_name: str) -> Path:
    """The teacher's folder on this machine, downloaded where need be; one that needs its own code is refused.

    Raises:
        M2VError: as `locate_teacher` and `Teacher.load`.
    """
    folder = locate_teacher(model_name).folder
    _refuse_remote_code(_encoder_folder(folder), model_name, trust_remote_code=False)
    return folder


def _encoder_folder(folder: Path) -> Path:
    """The folder of the transformer within a Sentence Transformer."""
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return folder
    try:
        modules = json.loads(modules_file.read_text(encoding="utf-8"))
        paths = [str(module["path"]) for module in modules if module["type"].endswith(".Transformer")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TeacherError(f"{modules_file} is damaged ({error!r}); download the teacher again.") from error
    return folder / paths[0] if paths else folder


def _refuse_remote_code(folder: Path, model_name: str, trust_remote_code: bool) -> None:
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise TeacherError(
            f"{model_name} has no config.json; it is no Sentence Transformer. Choose a repository or folder with "
            "config.json, tokenizer.json and model.safetensors."
        )
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TeacherError(f"{config_file} is damaged ({error}); download the teacher again.") from error
    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING and not trust_remote_code:
        raise RemoteCodeError(
            f"{model_name} needs code of its own ({config['auto_map'].get('AutoModel', 'auto_map')}). Read that code "
            "and, if you trust it, pass trust_remote_code=True; or choose another teacher."
        )


def _load_tokenizer(folder: Path, model_name: str, trust_remote_code: bool) -> Any:
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise TeacherError(
            f"{model_name} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}); a teacher must read text. "
            "Is it a model for images or sound?"
        )
    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code, use_fast=True)
    except _LOADING_ERRORS as error:
        raise TeacherError(
            f"The tokenizer of {model_name} can't be loaded ({_first_line(error)}). A fast tokenizer is needed: ask "
            "its authors for a tokenizer.json, or make one with transformers' convert_slow_tokenizer."
        ) from error


def _load_model(folder: Path, model_name: str, trust_remote_code: bool) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
        # Of an encoder-decoder such as T5, the encoder alone is the teacher.
        factory = AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel
        model = factory.from_pretrained(str(folder), config=config, trust_remote_code=trust_remote_code)
    except _LOADING_ERRORS as error:
        raise TeacherError(
            f"{model_name} can't be loaded ({_first_line(error)}). Is it a Sentence Transformer, and is it complete? "
            "Delete it from the cache and download it again."
        ) from error
    return cast(PreTrainedModel, model)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def resolve_device(device: str | None) -> str:
    """The device to run on.

    Args:
        device: `"cpu"`, `"cuda"` (or `"cuda:1"`), `"mps"`; None or `"auto"` for CUDA where there is one, else
            the CPU. MPS is never chosen unasked: recent releases of torch run these models slower on it.

    Raises:
        DeviceError: the device is unknown or isn't there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None or device == "auto":
        return "cuda" if available["cuda"] else "cpu"
    kind, _, index = device.partition(":")
    exists = available.get(kind, False)
    if exists and index:
        exists = kind == "cuda" and index.isdecimal() and int(index) < torch.cuda.device_count()
    if not exists:
        here = ", ".join(name for name, is_here in available.items() if is_here)
        raise DeviceError(f"device is {device!r}, which isn't there; here are: auto, {here}.")
    return device


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


@contextmanager
def _memory_kept() -> Iterator[None]:
    """Memory that one layer frees serves the next, where the C library would give it back and fetch it anew.

    Fetching means zeroed pages, one fault each: a third of the time on two cores. Only glibc can be told so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, 128 << 10)
        mallopt(_M_TRIM_THRESHOLD, 128 << 10)
        ctypes.CDLL(None).malloc_trim(0)


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
def _forward(model: PreTrainedModel, sequences: Sequence[Sequence[int]], pooling: Pooling) -> npt.NDArray[np.float32]:
    """Pooled hidden states of sequences of one length, `(n_sequences, teacher_dim) float32`."""
    input_ids = torch.tensor(sequences, device=model.device)  # (n_sequences, length)
    output = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))
    hidden: Any = getattr(output, "last_hidden_state", None)  # (n_sequences, length, teacher_dim)
    if hidden is None:
        raise TeacherError(f"{type(model).__name__} returns no hidden states; it can't be a teacher.")
    if pooling == "pooler":
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            raise TeacherError(f"{type(model).__name__} has no pooler; use pooling='mean', 'first' or 'last'.")
    elif pooling == "mean":
        pooled = hidden.float().mean(dim=1)
    else:
        pooled = hidden[:, 0 if pooling == "first" else -1]
    vectors: npt.NDArray[np.float32] = pooled.float().cpu().numpy()
    return vectors


def _fastest_precision(model: PreTrainedModel, probe: Sequence[Sequence[int]], pooling: Pooling) -> PreTrainedModel:
    """The model itself or, where that is faster and gives the same vectors, its twin with half-width products."""
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if model.dtype != torch.float32 or n_parameters < _PROBE_PARAMETERS or len(probe) < _PROBE_SEQUENCES:
        return model
    twin = _with_half_products(model)
    expected, seconds = _timed(model, probe, pooling)
    found, twin_seconds = _timed(twin, probe, pooling)
    expected, found = expected - expected.mean(axis=0), found - found.mean(axis=0)  # what PCA will see
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosines = (expected * found).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    logger.info("bfloat16 is %.1f times as fast; least cosine %.5f.", seconds / twin_seconds, cosines.min())
    agree = bool(cosines.min() >= _PROBE_COSINE)  # False for NaN
    return twin if agree and twin_seconds < seconds else model


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
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], pooling: Pooling
) -> tuple[npt.NDArray[np.float32], float]:
    _forward(model, sequences[:8], pooling)  # the first call sets up kernels
    seconds = []
    for _ in range(2):  # the better of two, as another program may have had the processor
        started = time.perf_counter()
        vectors = _forward(model, sequences, pooling)
        seconds.append(time.perf_counter() - started)
    return vectors, min(seconds)
