"""Every layout that a static model was ever published in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m2v_core.storage.front_matter import FrontMatter

# Releases before 0.10 did not write it, and always cut at this.
DEFAULT_MAX_LENGTH = 512

MODULES = "modules.json"
CARD = "README.md"
# A classifier's head, beside its static model: as model2vec has it since 0.9, and before.
HEAD = "head.safetensors"
SKOPS_HEAD = "pipeline.skops"
# The modules that a Sentence Transformer may consist of and still be a static model.
STATIC_MODULES = frozenset({"StaticEmbedding", "Normalize"})


@dataclass(frozen=True)
class Layout:
    """Where one family of releases keeps the parts of a model.

    Attributes:
        name: Who wrote it.
        tensors: Path of the safetensors file, relative to the model's folder.
        table: Name of the table inside that file.
        tokenizer: Path of the tokenizer.
        config: Path of the configuration.
    """

    name: str
    tensors: str
    table: str
    tokenizer: str
    config: str

    @property
    def files(self) -> tuple[str, str, str]:
        """The paths that must be there."""
        return self.tensors, self.tokenizer, self.config

    def is_in(self, folder: Path) -> bool:
        """Whether those are there; what is in them is not looked at."""
        return all((folder / file).is_file() for file in self.files)


# The first is what we write, and the first that a folder satisfies is the one it is read as.
LAYOUTS: tuple[Layout, ...] = (
    Layout("model2vec 0.2 on", "model.safetensors", "embeddings", "tokenizer.json", "config.json"),
    Layout("model2vec 0.1", "embeddings.safetensors", "embeddings", "tokenizer.json", "config.json"),
    Layout(
        "older sentence-transformers",
        "0_StaticEmbedding/model.safetensors",
        "embedding.weight",
        "0_StaticEmbedding/tokenizer.json",
        "config_sentence_transformers.json",
    ),
    Layout(
        "sentence-transformers",
        "model.safetensors",
        "embedding.weight",
        "tokenizer.json",
        "config_sentence_transformers.json",
    ),
)


def all_paths() -> list[str]:
    """Every path that any layout uses, sorted: what to fetch of a repository."""
    return sorted({MODULES, CARD, *(path for layout in LAYOUTS for path in layout.files)})


def is_model_folder(folder: Path) -> bool:
    """Whether the files of some layout are in `folder`, damaged or not."""
    return any(layout.is_in(folder) for layout in LAYOUTS)


def is_classifier_folder(folder: Path) -> bool:
    """Whether there is a head beside the model, damaged or not."""
    return any((folder / head).is_file() for head in (HEAD, SKOPS_HEAD))


@dataclass(frozen=True)
class StoredModel:
    """The parts of a model as they stand on disk.

    Attributes:
        token_embeddings: (n_rows, dim) float32, float16 or int8.
        tokenizer: Its ids index `weights` and `token_mapping`, or the rows where there is no mapping.
        weights: (n_vocabulary,) float32, or None for ones.
        token_mapping: (n_vocabulary,) int32, or None where token i has row i.
        normalize: Whether embeddings have unit length.
        max_length: Tokens read of each text; None for all.
        config: `config.json`, keys that nobody here knows included.
        base_model_name: The card's `base_model`, when saving.
        language: The card's `language`, when saving.
        front_matter: Of the card, when loading.
    """

    token_embeddings: NDArray[Any]
    tokenizer: Tokenizer
    weights: NDArray[np.float32] | None = None
    token_mapping: NDArray[np.int32] | None = None
    normalize: bool = True
    max_length: int | None = DEFAULT_MAX_LENGTH
    config: dict[str, Any] = field(default_factory=dict)
    base_model_name: str | None = None
    language: list[str] | None = None
    front_matter: FrontMatter | None = None
