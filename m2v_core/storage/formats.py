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
PROMPTS = "config_sentence_transformers.json"
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
        PROMPTS,
    ),
    Layout(
        "sentence-transformers",
        "model.safetensors",
        "embedding.weight",
        "tokenizer.json",
        PROMPTS,
    ),
)


@dataclass(frozen=True)
class Reader:
    """A program of others that opens what we save, and the releases that are supported.

    Attributes:
        package: Its name on the package index.
        oldest: Oldest release supported.
        oldest_with_weights: Oldest release that applies `weights` and `mapping`.
        oldest_for_long_texts: Oldest release that reads more than `DEFAULT_MAX_LENGTH` tokens of a text; None if there
            is none.
    """

    package: str
    oldest: str
    oldest_with_weights: str
    oldest_for_long_texts: str | None


# The only place that names these releases. Judged by tests/contracts/test_reader_releases.py, in environments with the
# oldest and the newest release of each reader.
MODEL2VEC = Reader("model2vec", "0.8", "0.8", "0.10")
SENTENCE_TRANSFORMERS = Reader("sentence-transformers", "5.0", "6.2", "5.0")
LAGHU = Reader("laghu", "0.2", "0.2", None)
READERS = (MODEL2VEC, SENTENCE_TRANSFORMERS, LAGHU)


@dataclass(frozen=True)
class Form:
    """The part of a saved model that decides which releases of its readers open it correctly.

    Attributes:
        dtype: Number format of the table.
        normalize: Whether embeddings have unit length.
        max_length: Tokens read of each text; None for all.
        has_weights: Whether there are `weights`, as int8 models have.
        has_mapping: Whether tokens share rows.
        has_default_prompt: Whether a prompt is put before each text by default.
    """

    dtype: str
    normalize: bool
    max_length: int | None
    has_weights: bool
    has_mapping: bool
    has_default_prompt: bool = False

    @classmethod
    def of(cls, stored: StoredModel) -> Form:
        """The form of a model's parts."""
        return cls(
            str(stored.token_embeddings.dtype),
            stored.normalize,
            stored.max_length,
            stored.weights is not None,
            stored.token_mapping is not None,
            bool(stored.prompts.get(stored.default_prompt_name or "")),
        )

    @property
    def is_converted(self) -> bool:
        """Whether Sentence Transformers must convert the model with `.float()`.

        In float16 its `Normalize` divides the zero vector of a text without known tokens by a norm that is rounded to
        0, and returns NaN. Releases that apply `weights` convert the table to float32 to do so.
        """
        return self.dtype == "float16" and self.normalize and not self.has_weights

    def oldest_release(self, reader: Reader) -> str | None:
        """The oldest release of a reader whose embeddings are ours; None if there is none."""
        release = reader.oldest_with_weights if self.has_weights or self.has_mapping else reader.oldest
        if self.max_length is not None and self.max_length <= DEFAULT_MAX_LENGTH:
            return release
        if reader.oldest_for_long_texts is None:
            return None
        return max(
            release, reader.oldest_for_long_texts, key=lambda version: [int(part) for part in version.split(".")]
        )

    def readers(self) -> dict[str, str]:
        """What opens the model, by package: `">= 6.2"`, `">= 5.0, with .float()"` or `"no release"`."""
        found = {}
        for reader in READERS:
            release = self.oldest_release(reader)
            found[reader.package] = "no release" if release is None else f">= {release}"
        if self.is_converted:
            found[SENTENCE_TRANSFORMERS.package] += ", with .float()"
        if self.has_default_prompt:
            for reader in (MODEL2VEC, LAGHU):
                found[reader.package] += ", without the default prompt"
        return found

    def notes(self) -> list[str]:
        """One sentence for each reader that needs more than its oldest supported release."""
        found = []
        for reader in READERS:
            release = self.oldest_release(reader)
            if release is None:
                found.append(f"{reader.package} reads at most {DEFAULT_MAX_LENGTH} tokens of each text.")
            elif release != reader.oldest:
                found.append(f"It needs {reader.package} >= {release}.")
        if self.is_converted:
            found.append(
                "In sentence-transformers, open it with SentenceTransformer(...).float(): in float16, texts without "
                "known tokens give NaN."
            )
        if self.has_default_prompt:
            found.append(
                "model2vec and laghu apply no prompts; put the model's default prompt before each text yourself."
            )
        return found


def all_paths() -> list[str]:
    """Every path that any layout uses, sorted: what to fetch of a repository."""
    return sorted({MODULES, CARD, PROMPTS, *(path for layout in LAYOUTS for path in layout.files)})


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
        prompts: Texts to put before each text, by name; as in Sentence Transformers.
        default_prompt_name: The one that is put there by default; None for none.
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
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    front_matter: FrontMatter | None = None
