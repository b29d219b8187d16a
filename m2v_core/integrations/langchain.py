"""LangChain: embeddings for vector stores and retrievers."""

from __future__ import annotations

from os import PathLike

from langchain_core.embeddings import Embeddings

from m2v_core.model import StaticModel


class M2VEmbeddings(Embeddings):
    """A static model as LangChain's `Embeddings`.

    Args:
        model: A model, its folder, or its Hub repository.

    Raises:
        M2VError: As `StaticModel.from_pretrained`.
    """

    def __init__(self, model: StaticModel | str | PathLike[str]) -> None:
        self.model = model if isinstance(model, StaticModel) else StaticModel.from_pretrained(model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The embedding of each text."""
        embeddings: list[list[float]] = self.model.encode_document(texts).tolist()
        return embeddings

    def embed_query(self, text: str) -> list[float]:
        """The embedding of a search text."""
        embedding: list[float] = self.model.encode_query(text).tolist()
        return embedding
