"""The teacher: a Sentence Transformer that embeds vocabulary entries and sentences."""

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
from m2v_core.distillation.teacher.forward import Pool, Variants, embed_sequences
from m2v_core.distillation.teacher.requirements import check_requirements
from m2v_core.distillation.teacher.source import TeacherSource, locate_teacher
from m2v_core.errors import (
    DeviceError,
    InputError,
    NeedsExtra,
    TeacherError,
)
from m2v_core.progress import ProgressReporter
from m2v_core.storage.teacher_code import find_custom_code, reject_custom_code

with NeedsExtra(None, "distill"):
    import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MAX_LENGTH = 512  # tokens; enough for any vocabulary entry


@dataclass(frozen=True)
class Teacher:
    """A Sentence Transformer.

    Attributes:
        load_model: Returns the transformer, the same object each time; its state is restored after use.
        tokenizer: Its tokenizer.
        pad_token: Its padding token, if it has one.
        max_length: Maximum number of tokens of a vocabulary entry.
        max_text_length: Maximum number of tokens of a sentence.
        device: Device to run on: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`.
        teacher_dim: Width of the vectors of entries; None if its configuration doesn't specify it.
        folder: Folder of the Sentence Transformer; None for a bare transformer, whose sentence embedding is the
            normalized mean of its hidden states.
        files: Configuration files in the folder.
        prompt: Text prepended to each sentence.
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
    _variants: dict[str, Variants] = field(default_factory=dict)  # by pooling

    @property
    def model(self) -> PreTrainedModel:
        """The transformer."""
        return self.load_model()

    @classmethod
    def from_model(cls, model: PreTrainedModel, tokenizer: Any, device: str | None = None) -> Teacher:
        """Build a teacher from a loaded transformers model and its fast tokenizer.

        Raises:
            TeacherError: the tokenizer is not a fast tokenizer.
            DeviceError: the device is not available.
        """
        return cls._build(lambda: model, model.config, tokenizer, device)

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
        """Load the teacher in a folder.

        Args:
            source: Its files.
            device: See `resolve_device`.
            trust_remote_code: Whether code from the teacher's repository may run.
            is_lazy: Whether to load the weights on first use; damaged weights then raise later.
            prompt_name: The prompt to prepend to each sentence; None for the teacher's default.
            applies_modules: Whether its modules after pooling are applied to each entry's vector.

        Raises:
            InputError: the teacher has no prompt of that name.
            RemoteCodeError: the teacher requires custom code, which is not trusted.
            TeacherError: the folder is not a Sentence Transformer, or its files are damaged.
            DeviceError: the device is not available.
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
        return cls._build(
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
    def _build(
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
                f"The tokenizer is a {type(tokenizer).__name__}; pass a fast tokenizer (one with a tokenizer.json)."
            )
        # RoBERTa counts positions from 2, so two fewer than the table size is safe for every model.
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
        stage: str = "encode",
    ) -> npt.NDArray[np.float32]:
        """Embed vocabulary entries: pool the last hidden states and apply the teacher's modules.

        Args:
            sequences: Token ids including special tokens; none empty.
            pooling: See `Pooling`; not `"auto"`.
            reporter: Reports the stage, in sequences; cancellable between batches.
            n_special: Number of special tokens before and after each entry.
            stage: Name of the stage.

        Returns:
            `(n_sequences, teacher_dim) float32`.

        Raises:
            InputError: the pooling is unknown.
            TeacherError: the teacher has no pooler, or returns no hidden states.
            TeacherOutputError: the output contains NaN or infinity.
            Cancelled: the run was cancelled.
        """
        if pooling not in get_args(Pooling) or pooling == "auto":
            raise InputError(f"pooling is {pooling!r}; use one of {', '.join(get_args(Pooling)[1:])}.")
        reporter.start(stage, len(sequences))
        pool, variants = self._pool_entries(pooling, *n_special), self._variants.setdefault(pooling, {})
        return embed_sequences(self.model, self.device, sequences, pool, reporter, variants=variants)

    def embed_texts(
        self,
        texts: Sequence[str],
        reporter: ProgressReporter,
        collector: StateCollector | None = None,
        stage: str = "read",
    ) -> npt.NDArray[np.float32]:
        """Embed texts as the Sentence Transformer does, with its own pooling and all of its modules.

        Args:
            texts: At least one text; long texts are truncated to the teacher's maximum length.
            reporter: Reports the stage, in texts; cancellable between batches.
            collector: Collects the hidden states; None to discard them.
            stage: Name of the stage.

        Returns:
            `(n_texts, embedding_dim) float32`.

        Raises:
            TeacherError: its modules can't be loaded.
            TeacherOutputError: the output contains NaN or infinity.
            Cancelled: the run was cancelled.
        """
        reporter.start(stage, len(texts))
        modules, prompt = self._modules_after, self.prompt
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())  # a copy, because the next lines modify it
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_text_length)
        prompt_length: dict[str, int] = {}
        if prompt:
            alone = tokenizer.encode(prompt)
            prompt_length["prompt_length"] = len(alone) - alone.special_tokens_mask[-1]
        encodings = tokenizer.encode_batch([prompt + text for text in texts])  # encode_batch_fast has no offsets
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

        return embed_sequences(self.model, self.device, sequences, pool, reporter, watch)

    @property
    def sentence_pooling(self) -> str:
        """Pooling of the Sentence Transformer: `"mean"`, `"cls"`, `"lasttoken"`, ...; `"mean"` for a bare transformer.

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
        """Return the function that pools a vocabulary entry's hidden states."""

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
            # A mean instead of a sum, as the output of later modules may depend on the length of the vector.
            return (piece + share * hidden[:, 0]) / (1 + share)

        return lambda output, input_ids: self._project(pool(output, input_ids))

    @functools.cached_property
    def _modules_after(self) -> list[Any]:
        """The modules after the transformer, on the device; mean pooling and normalization for a bare transformer."""
        with NeedsExtra(None, "distill"):
            from sentence_transformers.sentence_transformer.modules import Normalize
            from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule
        if self.files is None or not self.files.modules:
            return [PoolingModule(self.model.config.hidden_size, "mean"), Normalize()]
        after = [module for module in self.files.modules if not module["type"].endswith(".Transformer")]
        return self._load_modules([(module["type"], module["path"]) for module in after])

    def _load_modules(self, modules: Sequence[tuple[str, str]]) -> list[Any]:
        assert self.folder is not None and self.files is not None
        remedy = "Custom code is not run: use recipe='fast' without a corpus, or choose another teacher."
        reject_custom_code(self.files.name, find_custom_code({}, [{"type": name} for name, _ in modules]), remedy)
        return [loading.load_module(self.folder, path, name, self.files.name, self.device) for name, path in modules]

    @functools.cached_property
    def _token_modules(self) -> list[Any]:
        """The modules that are applied to each token's vector."""
        if self.files is None or not self.applies_modules:
            return []
        return self._load_modules(self.files.sentence_modules.applied)

    @torch.inference_mode()
    def _project(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map hidden states `(..., hidden_dim)` to the space of the teacher's embeddings, `(..., teacher_dim)`."""
        for module in self._token_modules:
            name = getattr(module, "module_input_name", "sentence_embedding")
            vectors = module({name: vectors})[getattr(module, "module_output_name", name)]
        return vectors


def trusted_folder(model_name: str, revision: str | None = None) -> Path:
    """Return the teacher's local folder, downloading it if necessary; reject custom code.

    Args:
        model_name: A folder, or a repository on the Hub.
        revision: Branch, tag or commit on the Hub; None for `main`.

    Raises:
        M2VError: the same errors as `locate_teacher` and `Teacher.load`.
    """
    folder = locate_teacher(model_name, revision).folder
    check_requirements(files_of_folder(model_name, folder, "folder"))
    return folder


def resolve_device(device: str | None) -> str:
    """Return the device to run on.

    Args:
        device: `"cpu"`, `"cuda"` (or `"cuda:1"`), `"mps"`; None or `"auto"` for CUDA if available, else the CPU. MPS is
            never chosen automatically, as recent releases of torch run these models slower on it.

    Raises:
        DeviceError: the device is unknown or not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None or device == "auto":
        return "cuda" if available["cuda"] else "cpu"
    kind, _, index = device.partition(":")
    exists = available.get(kind, False)
    if exists and index:
        exists = kind == "cuda" and index.isdecimal() and int(index) < torch.cuda.device_count()
    if not exists:
        choices = ", ".join(name for name, is_available in available.items() if is_available)
        raise DeviceError(f"device is {device!r}, which is not available; use one of auto, {choices}.")
    return device
