"""Haystack: components that embed queries and documents in a pipeline."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike

from haystack import Document, component

from m2v_core.model import StaticModel


@component
class M2VTextEmbedder:
    """Embeds a text, such as a query.

    Args:
        model: The model's folder, or its Hub repository.

    Attributes:
        model: As passed; a saved pipeline contains it.

    Raises:
        M2VError: As `StaticModel.from_pretrained`.
    """

    def __init__(self, model: str | PathLike[str]) -> None:
        self.model = str(model)
        self._static_model = StaticModel.from_pretrained(model)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """The text's embedding, under `"embedding"`."""
        return {"embedding": self._static_model.encode_query(text).tolist()}


@component
class M2VDocumentEmbedder:
    """Embeds documents by their content.

    The arguments, attributes and errors are those of `M2VTextEmbedder`.
    """

    def __init__(self, model: str | PathLike[str]) -> None:
        self.model = str(model)
        self._static_model = StaticModel.from_pretrained(model)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Copies of the documents with their embeddings, under `"documents"`; one without content gets zeros."""
        embeddings = self._static_model.encode_document([document.content or "" for document in documents])
        return {
            "documents": [
                replace(document, embedding=embedding.tolist())
                for document, embedding in zip(documents, embeddings, strict=True)
            ]
        }
