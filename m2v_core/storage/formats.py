"""All published layouts of static models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m2v_core.storage.front_matter import FrontMatter

# Releases before 0.10 did not write it, and always truncated at this length.
DEFAULT_MAX_LENGTH = 512

MODULES = "modules.json"
CARD = "README.md"
PROMPTS = "config_sentence_transformers.json"
# The head of a classifier, next to its static model: file names of model2vec since 0.9, and before.
HEAD = "head.safetensors"
SKOPS_HEAD = "pipeline.skops"
# The modules that a static model in Sentence Transformers format may have.
STATIC_MODULES = frozenset({"StaticEmbedding", "Normalize"})


@dataclass(frozen=True)
class Layout:
    """File layout of one family of releases.

    Attributes:
        name: The library and releases that write it.
        tensors: Path of the safetensors file, relative to the model's folder.
        table: Name of the table in that file.
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
        """The required paths."""
        return self.tensors, self.tokenizer, self.config

    def is_in(self, folder: Path) -> bool:
        """Whether the required files exist; their content is not validated."""
        return all((folder / file).is_file() for file in self.files)


# Models are written in the first layout, and read in the first layout whose files exist.
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
    """A third-party library that loads our models, and its supported releases.

    Attributes:
        package: Its name on the package index.
        oldest: Oldest supported release.
        oldest: Oldest release supported.
        oldest_with_weights: Oldest release that applies `weights` and `mapping`.
        oldest_for_long_texts: Oldest release that encodes more than `DEFAULT_MAX_LENGTH` tokens of a text; None if
            there is none.
    """

    package: str
    oldest: str
    oldest_with_weights: str
    oldest_for_long_texts: str | None


# The only place with these release numbers. tests/contracts/test_reader_releases.py verifies them in environments with
# the oldest and the newest release of each reader.
MODEL2VEC = Reader("model2vec", "0.8", "0.8", "0.10")
SENTENCE_TRANSFORMERS = Reader("sentence-transformers", "5.0", "6.2", "5.0")
LAGHU = Reader("laghu", "0.2", "0.2", None)
READERS = (MODEL2VEC, SENTENCE_TRANSFORMERS, LAGHU)


@dataclass(frozen=True)
class Form:
    """The properties of a saved model that determine which releases can load it correctly.

    Attributes:
        dtype: Number format of the table.
        normalize: Whether embeddings have unit length.
        max_length: Maximum number of tokens per text; None for no limit.
        has_weights: Whether there are `weights`, as in int8 models.
        has_mapping: Whether tokens share rows.
        has_default_prompt: Whether a prompt is inserted before each text by default.
    """

    dtype: str
    normalize: bool
    max_length: int | None
    has_weights: bool
    has_mapping: bool
    has_default_prompt: bool = False

    @classmethod
    def of(cls, stored: StoredModel) -> Form:
        """Return the form of a stored model."""
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

        In float16, its `Normalize` divides the zero vector of a text without known tokens by a norm that rounds to
        0, which returns NaN. Releases that apply `weights` convert the table to float32 for that.
        """
        return self.dtype == "float16" and self.normalize and not self.has_weights

    def oldest_release(self, reader: Reader) -> str | None:
        """The oldest release of a reader with the same embeddings; None if there is none."""
        release = reader.oldest_with_weights if self.has_weights or self.has_mapping else reader.oldest
        if self.max_length is not None and self.max_length <= DEFAULT_MAX_LENGTH:
            return release
        if reader.oldest_for_long_texts is None:
            return None
        return max(
            release, reader.oldest_for_long_texts, key=lambda version: [int(part) for part in version.split(".")]
        )

    def readers(self) -> dict[str, str]:
        """Releases that load the model, by package: `">= 6.2"`, `">= 5.0, with .float()"` or `"no release"`."""
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
        """One sentence for each reader with requirements beyond its oldest supported release."""
        found = []
        for reader in READERS:
            release = self.oldest_release(reader)
            if release is None:
                found.append(f"{reader.package} truncates each text at {DEFAULT_MAX_LENGTH} tokens.")
            elif release != reader.oldest:
                found.append(f"This model requires {reader.package} >= {release}.")
        if self.is_converted:
            found.append(
                "In sentence-transformers, load it with SentenceTransformer(...).float(): in float16, texts without "
                "known tokens become NaN."
            )
        if self.has_default_prompt:
            found.append(
                "model2vec and laghu apply no prompts; insert the model's default prompt before each text yourself."
            )
        return found


def all_paths() -> list[str]:
    """Every path that a layout uses, sorted: the files to download from a repository."""
    return sorted({MODULES, CARD, PROMPTS, *(path for layout in LAYOUTS for path in layout.files)})


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` contains the files of a layout, damaged or not."""
    return any(layout.is_in(folder) for layout in LAYOUTS)


def is_classifier_folder(folder: Path) -> bool:
    """Whether there is a head next to the model, damaged or not."""
    return any((folder / head).is_file() for head in (HEAD, SKOPS_HEAD))


@dataclass(frozen=True)
class StoredModel:
    """The parts of a model as stored on disk.

    Attributes:
        token_embeddings: (n_rows, dim) float32, float16 or int8.
        tokenizer: Its ids are indices into `weights` and `token_mapping`, or into the rows without a mapping.
        weights: (n_vocabulary,) float32, or None if all are 1.
        token_mapping: (n_vocabulary,) int32, or None if token i has row i.
        normalize: Whether embeddings have unit length.
        max_length: Maximum number of tokens per text; None for no limit.
        config: `config.json`, including unknown keys.
        base_model_name: The card's `base_model`, when saving.
        language: The card's `language`, when saving.
        prompts: Prompts by name, inserted before texts; as in Sentence Transformers.
        default_prompt_name: The prompt used by default; None for none.
        front_matter: The card's front matter, when loading.
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
