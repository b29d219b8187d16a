"""The model card: front matter that the Hub reads, and how to use the model."""

from __future__ import annotations

import logging
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
    """
    metadata = {
        "base_model": base_model_name,
        "language": language,
        "library_name": "model2vec",
        "license": license,
        "model_name": model_name,
        "tags": list(tags),
    }
    stated = {key: value for key, value in metadata.items() if value is not None}
    front_matter = yaml.safe_dump(stated, sort_keys=False, allow_unicode=True)
    facts = f"- {n_tokens:,} tokens, {dim} dimensions, {dtype}"
    if base_model_name is not None:
        facts = f"- Distilled from `{base_model_name}`\n{facts}"
    return f"---\n{front_matter}---\n\n{_BODY.format(name=model_name, facts=facts)}"


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
