"""One face for everything that turns text into vectors, so that all are measured in the same way."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from m2v_core.errors import MissingExtraError, NotFoundError, RemoteCodeError, TeacherError
from m2v_core.model import StaticModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

Role = Literal["static", "teacher", "peer"]

_MODEL_FILES = {".safetensors", ".json", ".txt", ".model"}  # weights, tokenizer, settings: what loading reads
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder before it has read anything.

    Attributes:
        name: What people call it.
        role: `"static"`: one of this library's; `"teacher"`; `"peer"`: a static model in another library.
        dim: Width of its embeddings.
        device: Where it computes: `"cpu"`, or `"cuda:0 (NVIDIA H200)"`.
        n_threads: Processor threads it may use.
        size_bytes: Its weights, tokenizer and settings on disk; None where it lies on none.
    """

    name: str
    role: Role
    dim: int
    device: str
    n_threads: int
    size_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return asdict(self)


class Encoder(Protocol):
    """Whatever turns texts into vectors."""

    @property
    def facts(self) -> EncoderFacts:
        """What is known of it."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n_texts, dim) float32, tokenizing included."""


class StaticEncoder:
    """A `StaticModel` of this library.

    Args:
        model: The model.
        name: What people call it.
        size_bytes: Its size on disk.
    """

    def __init__(self, model: StaticModel, name: str, size_bytes: int | None = None) -> None:
        self.facts = EncoderFacts(name, "static", model.dim, "cpu", tokenizer_threads(), size_bytes)
        self._model = model

    @classmethod
    def load(cls, path: str | Path, name: str | None = None) -> StaticEncoder:
        """The model in a folder or a Hub repository.

        Args:
            path: As for `StaticModel.from_pretrained`.
            name: What people call it; the folder's or the repository's name when None.

        Raises:
            M2VError: As `StaticModel.from_pretrained`.
        """
        folder = _model_folder(path)
        return cls(StaticModel.from_pretrained(folder), name or _name(path), disk_bytes(folder))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        return self._model.encode(texts)


class Model2VecEncoder:
    """The same folder in the model2vec package.

    Args:
        path: As for `StaticModel.from_pretrained`.
        name: What people call it; the folder's or the repository's name, and the package's, when None.

    Raises:
        MissingExtraError: model2vec is not installed.
        NotFoundError: No such folder and no such repository.
        HubError: There is no such folder, and the Hub can't be reached or refused.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        try:
            from model2vec import StaticModel as PeerModel
        except ImportError as error:
            raise MissingExtraError("model2vec", "dev") from error
        folder = _model_folder(path)
        self._model = PeerModel.from_pretrained(folder)
        self.facts = EncoderFacts(
            name or f"{_name(path)} (model2vec)",
            "peer",
            int(self._model.dim),
            "cpu",
            tokenizer_threads(),
            disk_bytes(folder),
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        embeddings: NDArray[np.float32] = self._model.encode(list(texts), show_progress_bar=False)
        return embeddings


class TeacherEncoder:
    """A Sentence Transformer with all its modules, as sentence-transformers runs it by default.

    Args:
        folder: Where it lies on disk; see `m2v_core.distillation.teacher.trusted_folder`.
        name: What people call it; the folder's name when None.
        device: `"cpu"`, `"cuda"`, ...; see `m2v_core.distillation.teacher.resolve_device`.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        RemoteCodeError: The teacher brings modules with code of their own; no such code is run.
        TeacherError: The folder holds no Sentence Transformer, or a damaged one.
    """

    def __init__(self, folder: str | Path, name: str | None = None, device: str = "cpu") -> None:
        folder = Path(folder)
        name = name or folder.resolve().name
        _refuse_own_modules(folder, name)
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError(error.name or "sentence-transformers", "distill") from error
        try:
            # Safetensors alone: a pickle can run code when it is opened.
            self._model: Any = SentenceTransformer(
                str(folder), device=device, local_files_only=True, model_kwargs={"use_safetensors": True}
            )
        except _LOADING_ERRORS as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TeacherError(
                f"{name} can't be loaded by sentence-transformers ({reason}). Is it a complete Sentence Transformer?"
            ) from error
        on = str(self._model.device)
        if self._model.device.type == "cuda":
            on += f" ({torch.cuda.get_device_name(self._model.device)})"
        width = int(self._model.encode("width", show_progress_bar=False).shape[-1])
        self.facts = EncoderFacts(name, "teacher", width, on, torch.get_num_threads(), disk_bytes(folder))

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        """See `Encoder`; by default in batches as large as sentence-transformers' own."""
        embeddings: NDArray[np.float32] = self._model.encode(
            list(texts), batch_size=batch_size, show_progress_bar=False
        )
        return embeddings


def tokenizer_threads() -> int:
    """Threads that the tokenizers library may use in this process.

    Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/parallelism.rs
    """
    if os.environ.get("TOKENIZERS_PARALLELISM", "true").lower() in {"", "off", "false", "f", "no", "n", "0"}:
        return 1
    asked_for = os.environ.get("RAYON_NUM_THREADS", "")
    return int(asked_for) if asked_for.isdecimal() and int(asked_for) > 0 else n_usable_cpus()


def n_usable_cpus() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def disk_bytes(folder: Path) -> int:
    """Bytes of a model's weights, tokenizer and settings on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in _MODEL_FILES and file.is_file())


def _model_folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute():
        raise NotFoundError(f"There is no model in {folder}. It may have been removed; choose another.")
    from m2v_core.persistence import hub

    return hub.download_model(str(path))


def _name(path: str | Path) -> str:
    folder = Path(path).expanduser()
    return folder.resolve().name if folder.is_dir() else str(path)


def _refuse_own_modules(folder: Path, name: str) -> None:
    """Before version 6, sentence-transformers trusts whatever code lies in a local folder."""
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return
    try:
        types = [str(module["type"]) for module in json.loads(modules_file.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"modules.json of {name} is damaged ({error}); download the teacher again.") from error
    for module_type in types:
        if not module_type.startswith("sentence_transformers."):
            raise RemoteCodeError(
                f"{name} needs code of its own ({module_type}), which is not run here. Choose another teacher."
            )
