"""Options of `encode_file` except for the files themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from m2v_core._version import __version__
from m2v_core.bulk.formats import DType, InputFormat
from m2v_core.bulk.readers import OnError, Wanted
from m2v_core.bulk.vectors import VectorColumn
from m2v_core.errors import InputError

if TYPE_CHECKING:
    from m2v_core.model import StaticModel

EMBEDDING_COLUMN = "embedding"


@dataclass(frozen=True)
class EncodeOptions:
    """Options described at `encode_file`.

    Raises:
        InputError: `dtype` or `on_error` has a value that is not allowed.
    """

    column: str | None = None
    input_format: InputFormat | None = None
    keep_columns: bool = True
    embedding_column: str = EMBEDDING_COLUMN
    dtype: DType = "float32"
    max_length: int | EllipsisType | None = ...
    normalize: bool | None = None
    on_error: OnError = "fail"

    def __post_init__(self) -> None:
        for name, allowed in (("dtype", DType), ("on_error", OnError)):
            if getattr(self, name) not in get_args(allowed):
                raise InputError(f"{name} must be one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}.")

    @property
    def encode_arguments(self) -> dict[str, Any]:
        """Arguments for `StaticModel.encode`."""
        return {"max_length": self.max_length, "normalize": self.normalize}

    def wanted(self) -> Wanted:
        """What to read of a file."""
        return Wanted(self.column, self.keep_columns, self.on_error)

    def vector_column(self, model: StaticModel) -> VectorColumn:
        """The column of embeddings to add."""
        return VectorColumn(self.embedding_column, model.dim, self.dtype)

    def fingerprint(self, model: StaticModel) -> dict[str, Any]:
        """Everything that determines the embeddings of a model and texts, under names suitable for messages."""
        return {
            "embedding column": self.embedding_column,
            "dtype": self.dtype,
            "max_length": model.max_length if isinstance(self.max_length, EllipsisType) else self.max_length,
            "normalize": model.normalize if self.normalize is None else self.normalize,
            "on_error": self.on_error,
            "m2v-studio": __version__,
        }


def model_fingerprint(model: StaticModel) -> str:
    """A digest of everything that determines a model's embeddings, except for the arguments of `encode`."""
    digest = hashlib.sha256(model.tokenizer.to_str().encode())
    for part in (model.token_embeddings, model.weights, model.token_mapping):
        if part is not None:
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    return digest.hexdigest()
