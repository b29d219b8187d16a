"""LlamaIndex: embeddings for indexes and query engines.

LlamaIndex's own `HuggingFaceEmbedding` can't load static models: it requires a finite `max_length`, and that of
Sentence Transformers' `StaticEmbedding` is always infinite.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding

from m2v_core.model import StaticModel

_MAX_TEXTS = 2048  # LlamaIndex's limit per batch


class M2VEmbedding(BaseEmbedding):
    """A static model as LlamaIndex's `BaseEmbedding`.

    Args:
        model_name: The model's folder, or its Hub repository.
        options: Options of `BaseEmbedding`.

    Raises:
        M2VError: As `StaticModel.from_pretrained`.
    """

    _model: StaticModel

    def __init__(self, model_name: str, **options: Any) -> None:
        super().__init__(**{"model_name": str(model_name), "embed_batch_size": _MAX_TEXTS} | options)
        self._model = StaticModel.from_pretrained(model_name)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serializes."""
        return "M2VEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        embedding: list[float] = self._model.encode_query(query).tolist()
        return embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        embeddings: list[list[float]] = self._model.encode_document(texts).tolist()
        return embeddings
