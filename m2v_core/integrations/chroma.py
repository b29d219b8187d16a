"""Chroma: the embedding function of a collection.

Chroma stores its name and configuration with the collection. Import this module before opening such a collection, so
that Chroma finds the function by its name.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
from chromadb.utils.embedding_functions import register_embedding_function

from m2v_core.model import StaticModel


@register_embedding_function
class M2VEmbeddingFunction(EmbeddingFunction[Documents]):
    """A static model as Chroma's `EmbeddingFunction`.

    Args:
        model_name: The model's folder, or its Hub repository.

    Attributes:
        model_name: As passed, a folder as an absolute path.

    Raises:
        M2VError: As `StaticModel.from_pretrained`.
    """

    def __init__(self, model_name: str | PathLike[str]) -> None:
        folder = Path(model_name).expanduser()
        self.model_name = str(folder.absolute() if folder.exists() else model_name)
        self._model = StaticModel.from_pretrained(model_name)

    def __call__(self, input: Documents) -> Embeddings:
        """The embedding of each document."""
        return list(self._model.encode_document(input))

    def embed_query(self, input: Documents) -> Embeddings:
        """The embedding of each search text."""
        return list(self._model.encode_query(input))

    @staticmethod
    def name() -> str:
        """The name that Chroma stores."""
        return "m2v"

    def get_config(self) -> dict[str, Any]:
        """The configuration that Chroma stores with the name."""
        return {"model_name": self.model_name}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> M2VEmbeddingFunction:
        """Create the function from a stored configuration."""
        return M2VEmbeddingFunction(config["model_name"])

    def default_space(self) -> Space:
        """The distance of a new collection."""
        return "cosine"
