"""The teacher: loading a Sentence Transformer, and what it makes of pieces, words and sentences."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from m2v_core.distillation.calibration.contexts import StateCollector
from m2v_core.distillation.settings import CLS_SHARES, Pooling
from m2v_core.distillation.teacher import loading
from m2v_core.distillation.teacher.files import TeacherFiles, files_of_folder, number
from m2v_core.distillation.teacher.forward import Pool, Precisions, read_sequences
from m2v_core.distillation.teacher.requirements import check_requirements
from m2v_core.distillation.teacher.source import TeacherSource, locate_teacher
from m2v_core.errors import (
    DeviceError,
    InputError,
    NeedsExtra,
    TeacherError,
)
from m2v_core.progress import ProgressReporter
from m2v_core.storage.teacher_code import own_code, refuse_own_code

with NeedsExtra(None, "distill"):
    import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MAX_LENGTH = 512  # no entry of a vocabulary needs more


@dataclass(frozen=True)
class Teacher:
    """A Sentence Transformer's encoder, ready to read a vocabulary.

    Attributes:
        load_model: Gives the transformer, the same each time; it is used in evaluation mode and left as it was found.
        tokenizer: Its tokenizer.
        pad_token: Its padding token, if it has one.
        max_length: Longest sequence it reads, in tokens.
        max_text_length: Longest sentence it reads, in tokens.
        device: Where it runs: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`.
        teacher_dim: Width of the vectors that it gives for entries; None where its configuration doesn't say.
        folder: The whole Sentence Transformer; None for a bare transformer, whose sentence embedding is then the
            mean of its hidden states, of unit length.
        files: The small files in that folder.
        prompt: Text that it reads before each sentence.
        applies_modules: Whether its modules after pooling are applied to each entry's vector.
    """

    load_model: Callable[[], PreTrainedModel]
    tokenizer: Tokenizer
    pad_token: str | None
    max_length: int
    max_text_length: int
    device: str
    teacher_dim: int | None = None
    folder: Path | None = None
    files: TeacherFiles | None = None
    prompt: str = ""
    applies_modules: bool = True
    _precisions: dict[str, Precisions] = field(default_factory=dict)  # by pooling

    @property
    def model(self) -> PreTrainedModel:
        """The transformer."""
        return self.load_model()

    @classmethod
    def from_model(cls, model: PreTrainedModel, tokenizer: Any, device: str | None = None) -> Teacher:
        """A teacher from a transformers model and its fast tokenizer, both already loaded.

        Raises:
            TeacherError: the tokenizer is not a fast one.
            DeviceError: the device isn't there.
        """
        return cls._made(lambda: model, model.config, tokenizer, device)

    @classmethod
    def load(
        cls,
        source: TeacherSource,
        device: str | None = None,
        trust_remote_code: bool = False,
        is_lazy: bool = False,
        prompt_name: str | None = None,
        applies_modules: bool = True,
    ) -> Teacher:
        """The teacher in a folder.

        Args:
            source: Its files.
            device: See `resolve_device`.
            trust_remote_code: Whether code that comes with the teacher may run.
            is_lazy: Whether its weights are loaded, and found to be damaged, only when something is to be read.
            prompt_name: The prompt to read before each sentence; None for the teacher's default.
            applies_modules: Whether its modules after pooling are applied to each entry's vector.

        Raises:
            InputError: the teacher has no prompt of that name.
            RemoteCodeError: the teacher needs its own code, and that is not trusted.
            TeacherError: what is there is no Sentence Transformer, or its files are damaged.
            DeviceError: the device isn't there.
        """
        resolved_device = resolve_device(device)
        files = files_of_folder(source.name, source.folder, "folder")
        check_requirements(files, trust_remote_code)
        prompt = files.prompt(prompt_name)
        folder = source.folder / files.encoder_path
        tokenizer = loading.load_tokenizer(source.folder / files.tokenizer_path, source.name, trust_remote_code)
        config = loading.load_config(folder, source.name, trust_remote_code)
        load_model = functools.cache(
            functools.partial(loading.load_model, folder, source.name, trust_remote_code, config)
        )
        if not is_lazy:
            load_model()
        max_length = number(files.json("sentence_bert_config.json"), "max_seq_length") or _MAX_LENGTH
        return cls._made(
            load_model,
            config,
            tokenizer,
            resolved_device,
            max_text_length=max_length,
            folder=source.folder,
            files=files,
            prompt=prompt,
            applies_modules=applies_modules,
        )

    @classmethod
    def _made(
        cls,
        load_model: Callable[[], PreTrainedModel],
        config: Any,
        tokenizer: Any,
        device: str | None,
        max_text_length: int = _MAX_LENGTH,
        **more: Any,
    ) -> Teacher:
        backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise TeacherError(
                f"The tokenizer is a {type(tokenizer).__name__}; a fast tokenizer is needed: one with a tokenizer.json."
            )
        # RoBERTa counts positions from 2: two fewer than the table holds is safe for every model.
        positions = (getattr(config, "max_position_embeddings", None) or _MAX_LENGTH) - 2
        longest = getattr(tokenizer, "model_max_length", _MAX_LENGTH)
        max_length = max(3, min(positions, longest, _MAX_LENGTH))
        teacher = cls(
            load_model=load_model,
            tokenizer=backend,
            pad_token=getattr(tokenizer, "pad_token", None),
            max_length=max_length,
            max_text_length=min(max_length, max_text_length),
            device=resolve_device(device),
            teacher_dim=getattr(config, "hidden_size", None),
            **more,
        )
        if teacher.files is None or not teacher.applies_modules:
            return teacher
        return dataclasses.replace(teacher, teacher_dim=teacher.files.sentence_modules.token_dim)

    def embed(
        self,
        sequences: Sequence[Sequence[int]],
        pooling: Pooling,
        reporter: ProgressReporter,
        n_special: tuple[int, int],
    ) -> npt.NDArray[np.float32]:
        """One vector for each entry of a vocabulary, pooled from the last hidden state, through the teacher's modules.

        Args:
            sequences: Teacher ids, the special tokens included; none empty.
            pooling: See `Pooling`; not `"auto"`.
            reporter: Gets the stage `"encode"`, in sequences; the work can be cancelled between batches.
            n_special: Special tokens before and after each entry.

        Returns:
            `(n_sequences, teacher_dim) float32`.

        Raises:
            InputError: an unknown pooling.
            TeacherError: the teacher has no pooler, or no hidden states.
            TeacherOutputError: NaN or infinity came back.
            Cancelled: the caller asked to stop.
        """
        if pooling not in get_args(Pooling) or pooling == "auto":
            raise InputError(f"pooling is {pooling!r}; use one of {', '.join(get_args(Pooling)[1:])}.")
        reporter.start("encode", len(sequences))
        pool, precisions = self._pool_entries(pooling, *n_special), self._precisions.setdefault(pooling, {})
        return read_sequences(self.model, self.device, sequences, pool, reporter, precisions=precisions)

    def embed_texts(
        self, texts: Sequence[str], reporter: ProgressReporter, collector: StateCollector | None = None
    ) -> npt.NDArray[np.float32]:
        """What the Sentence Transformer itself gives for each text: its pooling, dense layers and normalization.

        Args:
            texts: Any number above 0; what is beyond the teacher's longest sequence is not read.
            reporter: Gets the stage `"read"`, in texts; the work can be cancelled between batches.
            collector: Gets the hidden states on the way.

        Returns:
            `(n_texts, embedding_dim) float32`.

        Raises:
            TeacherError: its modules can't be loaded.
            TeacherOutputError: NaN or infinity came back.
            Cancelled: the caller asked to stop.
        """
        reporter.start("read", len(texts))
        modules, prompt = self._modules_after, self.prompt
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())  # a copy: settings are state
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_text_length)
        prompt_length: dict[str, int] = {}
        if prompt:
            alone = tokenizer.encode(prompt)
            prompt_length["prompt_length"] = len(alone) - alone.special_tokens_mask[-1]
        encodings = tokenizer.encode_batch([prompt + text for text in texts])  # the fast one finds no places in texts
        sequences = [encoding.ids for encoding in encodings]
        if collector is not None:
            collector.begin(texts, encodings, len(prompt))

        def pool(output: Any, input_ids: torch.Tensor) -> torch.Tensor:
            features = {
                "token_embeddings": output.last_hidden_state.float(),  # (n_texts, length, teacher_dim)
                "attention_mask": torch.ones_like(input_ids),
                "input_ids": input_ids,
                "sentence_lengths": torch.full((len(input_ids),), input_ids.shape[1]),
                **prompt_length,
            }
            for module in modules:
                features = module(features)
            embeddings: torch.Tensor = features["sentence_embedding"]
            return embeddings

        def watch(indices: npt.NDArray[np.int64], states: torch.Tensor) -> None:
            if collector is not None:
                collector.add(indices, self._project(states))

        return read_sequences(self.model, self.device, sequences, pool, reporter, watch)

    @property
    def sentence_pooling(self) -> str:
        """How the Sentence Transformer pools a text: `"mean"`, `"cls"`, `"lasttoken"`, ...; `"mean"` for a bare one.

        Source: the `pooling_mode` keys of `1_Pooling/config.json`, as sentence-transformers writes them.
        """
        found = sorted(self.folder.glob("*_Pooling/config.json")) if self.folder is not None else []
        if not found:
            return "mean"
        try:
            config = json.loads(found[0].read_text(encoding="utf-8"))
        except ValueError:
            return "mean"
        if isinstance(config.get("pooling_mode"), str):
            return str(config["pooling_mode"])
        modes = [key for key, is_on in config.items() if key.startswith("pooling_mode_") and is_on is True]
        return (
            modes[0].removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") if modes else "mean"
        )

    def _pool_entries(self, pooling: Pooling, n_before: int, n_after: int) -> Pool:
        """How a vocabulary entry's hidden states become one vector."""

        def pool(output: Any, input_ids: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = output.last_hidden_state.float()  # (n_sequences, length, hidden_dim)
            if pooling == "mean":
                return hidden.mean(dim=1)
            if pooling == "first":
                return hidden[:, 0]
            if pooling == "last":
                return hidden[:, -1]
            if pooling == "pooler":
                if getattr(output, "pooler_output", None) is None:
                    raise TeacherError("The teacher has no pooler; use pooling='mean', 'first', 'last' or 'piece_cls'.")
                return cast(torch.Tensor, output.pooler_output)
            piece = hidden[:, n_before : hidden.shape[1] - n_after].mean(dim=1)
            if not n_before:
                return piece
            share = CLS_SHARES[pooling]
            # A mean, not a sum, as what follows may depend on the length of its input.
            return (piece + share * hidden[:, 0]) / (1 + share)

        return lambda output, input_ids: self._project(pool(output, input_ids))

    @functools.cached_property
    def _modules_after(self) -> list[Any]:
        """The modules after the transformer, on the device; for a bare transformer its mean, normalized."""
        with NeedsExtra(None, "distill"):
            from sentence_transformers.sentence_transformer.modules import Normalize
            from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule
        if self.files is None or not self.files.modules:
            return [PoolingModule(self.model.config.hidden_size, "mean"), Normalize()]
        after = [module for module in self.files.modules if not module["type"].endswith(".Transformer")]
        return self._load_modules([(module["type"], module["path"]) for module in after])

    def _load_modules(self, modules: Sequence[tuple[str, str]]) -> list[Any]:
        assert self.folder is not None and self.files is not None
        remedy = "It is not run here: distill with recipe='fast' and without a corpus, or choose another teacher."
        refuse_own_code(self.files.name, own_code({}, [{"type": name} for name, _ in modules]), remedy)
        return [loading.load_module(self.folder, path, name, self.files.name, self.device) for name, path in modules]

    @functools.cached_property
    def _token_modules(self) -> list[Any]:
        """The modules that are applied to each token's vector."""
        if self.files is None or not self.applies_modules:
            return []
        return self._load_modules(self.files.sentence_modules.applied)

    @torch.inference_mode()
    def _project(self, vectors: torch.Tensor) -> torch.Tensor:
        """Hidden states `(..., hidden_dim)` in the space of the teacher's embeddings, `(..., teacher_dim)`."""
        for module in self._token_modules:
            name = getattr(module, "module_input_name", "sentence_embedding")
            vectors = module({name: vectors})[getattr(module, "module_output_name", name)]
        return vectors


def trusted_folder(model_name: str, revision: str | None = None) -> Path:
    """The teacher's folder on this machine, downloaded where need be; one that needs its own code is refused.

    Args:
        model_name: A folder, or a repository on the Hub.
        revision: Branch, tag or commit on the Hub; None for `main`.

    Raises:
        M2VError: as `locate_teacher` and `Teacher.load`.
    """
    folder = locate_teacher(model_name, revision).folder
    check_requirements(files_of_folder(model_name, folder, "folder"))
    return folder


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
