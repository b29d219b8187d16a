"""The interface of encoders, and metadata about them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import NotFoundError
from m2v_core.native.cpus import n_usable_cpus

Role = Literal["static", "teacher", "peer"]

_MODEL_FILES = {".safetensors", ".json", ".txt", ".model"}  # weights, tokenizer, settings: what loading reads


@dataclass(frozen=True)
class EncoderFacts:
    """Metadata of an encoder.

    Attributes:
        name: Display name.
        role: `"static"`: one of this library's; `"teacher"`; `"peer"`: another library's.
        dim: Width of its embeddings.
        device: Device of the computation: `"cpu"`, or `"cuda:0 (NVIDIA H200)"`.
        n_threads: Maximum number of CPU threads.
        size_bytes: Size of weights, tokenizer and settings on disk; None if it has no files.
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
    """Converts texts to vectors.

    Encoders with prompts have an attribute `prompts`, texts by name, and their `encode` has an argument `prompt`: the
    text to insert before each text instead of the default prompt, "" for none.
    """

    @property
    def facts(self) -> EncoderFacts:
        """Metadata of the encoder."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, including tokenization; (n_texts, dim) float32."""


@runtime_checkable
class BatchReporter(Encoder, Protocol):
    """An encoder that can report its progress within a call of `encode`.

    Attributes:
        on_batch: Called by `encode` after each batch with the number of its texts; None to report nothing.
    """

    on_batch: Callable[[int], None] | None


def tokenizer_threads() -> int:
    """Threads that the tokenizers library may use in this process.

    Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/parallelism.rs
    """
    if os.environ.get("TOKENIZERS_PARALLELISM", "true").lower() in {"", "off", "false", "f", "no", "n", "0"}:
        return 1
    asked_for = os.environ.get("RAYON_NUM_THREADS", "")
    return int(asked_for) if asked_for.isdecimal() and int(asked_for) > 0 else n_usable_cpus()


def disk_bytes(folder: Path) -> int:
    """Bytes of a model's weights, tokenizer and settings on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in _MODEL_FILES and file.is_file())


def model_folder(path: str | Path) -> Path:
    """The folder of a static model: the given one, or that of a download from the Hub.

    Raises:
        NotFoundError: No such folder and no such repository.
        HubError: There is no such folder, and the Hub can't be reached or rejected the request.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute():
        raise NotFoundError(f"There is no model in {folder}. It may have been removed; choose another.")
    from m2v_core.hub import download

    return download.download_model(str(path))


def display_name(path: str | Path) -> str:
    """The name of a model's folder, or of its repository."""
    folder = Path(path).expanduser()
    return folder.resolve().name if folder.is_dir() else str(path)
