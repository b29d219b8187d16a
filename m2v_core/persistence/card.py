"""The model card: front matter that the Hub reads, and how to use the model."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

logger = logging.getLogger(__name__)

TAGS = ("embeddings", "static-embeddings", "sentence-transformers", "m2v-studio")

_BODY = """\
# {name}

A static embedding model: every token has one row in a table, and the embedding of a text is the mean of its
tokens' rows. There is no neural network to run, so it is fast on any CPU.

{facts}
{recipe}
## Use it

With M2V Studio:

```python
from m2v_core import StaticModel

model = StaticModel.from_pretrained("{name}")
embeddings = model.encode(["A first sentence.", "A second one."])
```

With model2vec:

```python
from model2vec import StaticModel

model = StaticModel.from_pretrained("{name}")
embeddings = model.encode(["A first sentence.", "A second one."])
```

With Sentence Transformers:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
embeddings = model.encode(["A first sentence.", "A second one."])
```
"""


@dataclass(frozen=True)
class Measured:
    """What was measured of a model; None for what was not.

    Attributes:
        fidelity: Rank correlation with the teacher's similarities, -1 to 1.
        fidelity_on: What it was measured on: "all pairs of 200 sentences".
        sentences_per_second: Encoding speed, tokenizing included.
        hardware: What the speed was measured on: "2 cores of an Intel Xeon".
    """

    fidelity: float | None = None
    fidelity_on: str | None = None
    sentences_per_second: float | None = None
    hardware: str | None = None

    def lines(self) -> list[str]:
        """One line for each thing that was measured."""
        found = []
        if self.fidelity is not None:
            on = f", on {self.fidelity_on}" if self.fidelity_on else ""
            found.append(f"Fidelity: {self.fidelity:.3f} (rank correlation with the teacher's similarities{on})")
        if self.sentences_per_second is not None:
            on = f" on {self.hardware}" if self.hardware else ""
            found.append(f"Speed: {self.sentences_per_second:,.0f} sentences a second{on}, tokenizing included")
        return found


@dataclass(frozen=True)
class Recipe:
    """How a model was distilled, as far as its configuration tells.

    Attributes:
        facts: The choices, one line each.
        command: What runs it again.
    """

    facts: tuple[str, ...]
    command: str

    @classmethod
    def of(cls, config: Mapping[str, Any], dtype: str, n_shared_rows: int | None) -> Recipe | None:
        """The recipe in a model's `config.json`; None for a model that was not distilled here.

        Args:
            config: As loaded.
            dtype: Number format of the table.
            n_shared_rows: Rows that all tokens share; None for one row a token.
        """
        settings, teacher = config.get("m2v"), config.get("tokenizer_name")
        if not isinstance(settings, Mapping) or not isinstance(teacher, str) or "recipe" not in settings:
            return None
        mode, weighting = str(settings.get("mode", "output")), settings.get("weighting")
        dims, pattern = config.get("apply_pca"), settings.get("token_remove_pattern")
        options = {"model-name": teacher, "save-path": "my-model", "recipe": settings["recipe"]}
        if mode != "output":
            options["vocabulary-path"] = "words.txt"
        if settings.get("n_corpus_texts"):
            options["corpus"] = "sentences.txt"
        options |= {"pca-dims": "none" if dims is None else dims, "pooling": config.get("pooling", "mean")}
        if weighting is not None:
            options["weighting"] = weighting
        if weighting == "sif" and config.get("sif_coefficient") is not None:
            options["sif-coefficient"] = config["sif_coefficient"]
        options |= {"token-remove-pattern": pattern or "", "quantize-to": dtype}
        if n_shared_rows is not None:
            options["vocabulary-quantization"] = n_shared_rows
        flags = ["--no-use-subword"] if mode == "vocabulary (word)" else []
        flags += ["--no-apply-zipf"] if weighting is None else []
        command = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items()]
        facts = [f"Recipe: {settings['recipe']}, mode: {mode}, weighting: {weighting or 'none'}"]
        if settings.get("teacher_revision"):
            facts.append(f"Teacher's commit: `{settings['teacher_revision']}`")
        if settings.get("version"):
            facts.append(f"Made with M2V Studio {settings['version']}")
        return cls(tuple(facts), " \\\n  ".join(["m2v distill", *command, *flags]))


def model_card(
    *,
    model_name: str,
    dim: int,
    n_tokens: int,
    dtype: str,
    base_model_name: str | None = None,
    language: list[str] | None = None,
    license: str | None = None,
    tags: tuple[str, ...] = TAGS,
    n_bytes: int | None = None,
    recipe: Recipe | None = None,
    measured: Measured | None = None,
) -> str:
    """The text of README.md.

    Args:
        model_name: Repository or folder, as users would load it.
        dim: Width of the embeddings.
        n_tokens: Size of the vocabulary.
        dtype: Number format of the table.
        base_model_name: The teacher; left out when None.
        language: ISO codes; left out when None.
        license: SPDX id; left out when None, for a license is its owner's to give.
        tags: Tags for the Hub's search.
        n_bytes: Of the tensors; left out when None.
        recipe: How it was distilled; left out when None.
        measured: What was measured; what was not is left out.
    """
    from huggingface_hub import ModelCard, ModelCardData  # takes a while, and whoever loads a model needs it not

    data = ModelCardData(
        base_model=base_model_name,
        language=language,
        library_name="model2vec",
        license=license,
        model_name=model_name,
        tags=list(tags),
    )
    facts = [] if base_model_name is None else [f"Distilled from `{base_model_name}`"]
    size = "" if n_bytes is None else f", {n_bytes / 1e6:,.1f} MB"
    facts.append(f"{n_tokens:,} tokens, {dim} dimensions, {dtype}{size}")
    again = ""
    if recipe is not None:
        facts += recipe.facts
        again = f"\nTo make it again:\n\n```bash\n{recipe.command}\n```\n"
    facts += [] if measured is None else measured.lines()
    body = _BODY.format(name=model_name, facts="\n".join(f"- {fact}" for fact in facts), recipe=again)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def read_metadata(path: Path) -> dict[str, Any]:
    """The front matter of a card; empty where there is no card, no front matter, or none that can be read.

    A card is for people: a damaged one is logged, and never keeps a model from loading.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("Ignored the model card %s: %s", path, error)
        return {}
    if not text.startswith("---"):
        return {}
    try:
        metadata = next(yaml.safe_load_all(text.split("\n---", 1)[0]), None)
    except yaml.YAMLError as error:
        logger.warning("Ignored the front matter of %s: %s", path, error)
        return {}
    return metadata if isinstance(metadata, dict) else {}


def as_list(value: object) -> list[str]:
    """A field of the front matter that may hold one name, several or none."""
    names = value if isinstance(value, list) else [value]
    return [name for name in names if isinstance(name, str)]
