"""`StaticModel` with model2vec's arguments, defaults and attributes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from tokenizers import Tokenizer

from m2v_core import model as ours
from m2v_core.compat.model2vec import persistence
from m2v_core.compat.model2vec.quantization import DType, offered
from m2v_core.encoder.engine import Engine
from m2v_core.encoder.plain import Table, drop_token, token_ids
from m2v_core.encoder.texts import checked_max_length, checked_texts, well_formed
from m2v_core.errors import ModelFormatError
from m2v_core.storage import compression
from m2v_core.storage.formats import DEFAULT_MAX_LENGTH as DEFAULT_MAX_LENGTH
from m2v_core.storage.formats import StoredModel
from m2v_core.storage.front_matter import as_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2v_core.hub.push import Pushed

_UNDERSTOOD = ("convert_to_tensor", "device", "normalize_embeddings", "prompt", "prompt_name")
_PARTS = ("token_embeddings", "token_mapping", "tokenizer", "weights")


class StaticModel(ours.StaticModel):
    """A static model with replaceable parts, as in model2vec: the next method call uses the new ones.

    `embedding`, `weights`, `token_mapping`, `tokenizer`, `normalize` and `max_length` can be set; replacing one while
    another thread is encoding is not supported.

    Args:
        vectors: (n_rows, dim) float32, float16 or int8; float64 is converted to float32.
        tokenizer: Its ids are 0 to n_vocabulary - 1. Copied.
        config: The content of `config.json`. Copied.
        normalize: Whether embeddings have unit length; also written to `config`.
        base_model_name: Name of the teacher.
        language: Languages of the model, as ISO codes.
        weights: (n_vocabulary,) factor for each token's row; None if all are 1.
        token_mapping: (n_vocabulary,) row of each token; None if token i has row i.
        max_length: Maximum number of tokens per text; None for no limit. Also written to `config`.

    Raises:
        InputError: An argument has the wrong type, dtype, shape or range.
        ModelFormatError: The parts are inconsistent, or contain NaN or infinity.
    """

    _reading_tokenizer: Tokenizer
    _shown_tokenizer: Tokenizer | None = None

    def __init__(
        self,
        vectors: NDArray[Any],
        tokenizer: Tokenizer,
        config: Mapping[str, Any] | None = None,
        normalize: bool = False,
        base_model_name: str | None = None,
        language: list[str] | None = None,
        weights: NDArray[Any] | None = None,
        token_mapping: NDArray[Any] | None = None,
        max_length: int | None = DEFAULT_MAX_LENGTH,
    ) -> None:
        super().__init__(
            _as_table(vectors),
            tokenizer,
            weights=weights,
            token_mapping=token_mapping,
            normalize=normalize,
            max_length=max_length,
            config=config,
            base_model_name=base_model_name,
            language=language,
        )
        self.config.update(normalize=self.normalize, max_length=self.max_length)

    @classmethod
    def of(cls, model: ours.StaticModel) -> Self:
        """Convert a model to this class; table and tokenizer are shared."""
        if cls.__init__ is not StaticModel.__init__:  # a subclass whose constructor should receive the parts
            made = cls(
                vectors=model.token_embeddings,
                tokenizer=model.tokenizer,
                config=model.config,
                normalize=model.normalize,
                base_model_name=model.base_model_name,
                language=model.language,
                weights=model.weights,
                token_mapping=model.token_mapping,
                max_length=model.max_length,
            )
            made.prompts, made.default_prompt_name = model.prompts, model.default_prompt_name
            return made
        found = cls.__new__(cls)
        for name, value in vars(model).items():
            setattr(found, name, value)
        found.config = {**model.config, "normalize": model.normalize, "max_length": model.max_length}
        return found

    @classmethod
    def from_pretrained(  # type: ignore[override]  # model2vec's order
        cls,
        path: str | PathLike[str],
        token: str | None = None,
        normalize: bool | None = None,
        subfolder: str | None = None,
        quantize_to: str | DType | None = None,
        dimensionality: int | None = None,
        vocabulary_quantization: int | None = None,
        max_length: int | EllipsisType | None = ...,
        force_download: bool = True,
    ) -> Self:
        """Load a model from a folder or a Hub repository; see `m2v_core.StaticModel.from_pretrained`.

        The table is in this process's memory and writable.

        Args:
            path: A folder, or else a Hub repository.
            token: Hub token, for private and gated repositories.
            normalize: Overrides the model's setting.
            subfolder: Folder of the model inside `path`.
            quantize_to: `"float32"`, `"float16"` or `"int8"`; `"float64"` gives float32.
            dimensionality: Number of leading dimensions to keep; None for all.
            vocabulary_quantization: Number of rows shared by all tokens; None for one row per token.
            max_length: Overrides the model's maximum number of tokens; None for no limit.
            force_download: Accepted, but ignored: files of the Hub are downloaded only if they changed.
        """
        return cls.of(
            ours.StaticModel.from_pretrained(
                path,
                token,
                normalize,
                subfolder,
                None if quantize_to is None else offered(quantize_to),
                dimensionality,
                vocabulary_quantization,
                max_length,
                load_in_memory=True,
            )
        )

    def with_table(
        self,
        token_embeddings: NDArray[Any],
        weights: NDArray[np.float32] | None = None,
        token_mapping: NDArray[np.int32] | None = None,
    ) -> Self:
        """Return the same model with another table; see `m2v_core.StaticModel` for the arguments."""
        found = copy.copy(self)
        found.config = copy.deepcopy(self.config)
        found.embedding, found.weights, found.token_mapping = token_embeddings, weights, token_mapping
        return found

    def push_to_hub(  # type: ignore[override]  # model2vec's order
        self, repo_id: str, private: bool = False, token: str | None = None, subfolder: str | None = None
    ) -> Pushed:
        """Publish the model on the Hub, replacing an existing model.

        Args:
            repo_id: `owner/name`, or `name` for the token's own account.
            private: Whether a new repository is private.
            token: Hub token with write access.
            subfolder: Folder of the repository to publish to; None for its root.
        """
        with TemporaryDirectory(prefix="m2v-push-") as temporary:
            folder = Path(temporary, "model")
            self.save_pretrained(folder, repo_id)
            return persistence.push_folder_to_hub(folder, subfolder, repo_id, private, token)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name in _PARTS:
            for made in ("_table", "_engine", "_coverage_meter"):
                self.__dict__.pop(made, None)

    @cached_property
    def _table(self) -> Table:
        n_vocabulary = len(self.tokens)
        table = compression.checked_table(self.token_embeddings)
        weights = compression.checked_weights(self.weights, n_vocabulary)
        mapping = compression.checked_mapping(self.token_mapping, n_vocabulary, len(table))
        if mapping is None and len(table) != n_vocabulary:
            raise ModelFormatError(
                f"The tokenizer has {n_vocabulary:,} tokens, but embedding has {len(table):,} rows. Set token_mapping "
                "too."
            )
        return Table(table, weights, mapping, self.unk_token_id)

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._table, self._reading_tokenizer, self.median_token_length, self.tokens)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which truncates at `max_length` as in model2vec."""
        if self._shown_tokenizer is None:
            self._shown_tokenizer = Tokenizer.from_str(self._reading_tokenizer.to_str())
            _truncate(self._shown_tokenizer, self.max_length)
        return self._shown_tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        # The engine needs a tokenizer without truncation and padding; this one is created lazily, as it is rarely used.
        if tokenizer.truncation is not None or tokenizer.padding is not None:
            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._reading_tokenizer = tokenizer
        self._shown_tokenizer = None

    @property
    def embedding(self) -> NDArray[Any]:
        """The table, (n_rows, dim)."""
        return self.token_embeddings

    @embedding.setter
    def embedding(self, vectors: NDArray[Any]) -> None:
        self.token_embeddings = _as_table(vectors)

    @property
    def embedding_dtype(self) -> str:
        """Number format of the table."""
        return str(self.embedding.dtype)

    @property
    def vocabulary_quantization(self) -> int | None:
        """Number of rows shared by all tokens; None if each has its own."""
        is_shared = self.token_mapping is not None or len(self.embedding) != len(self.tokens)
        return len(self.embedding) if is_shared else None

    @property
    def median_token_length(self) -> int:
        """Length of the token of median length in characters."""
        return self._median_token_length

    @property
    def normalize(self) -> bool:
        """Whether embeddings have unit length."""
        return self._normalize

    @normalize.setter
    def normalize(self, value: bool) -> None:
        self._normalize = self.config["normalize"] = bool(value)

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens per text; None for no limit."""
        return self._max_length

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        self._max_length = self.config["max_length"] = checked_max_length(value)
        if self._shown_tokenizer is not None:
            _truncate(self._shown_tokenizer, self._max_length)

    def encode(  # type: ignore[override]  # model2vec's are keyword arguments
        self,
        sentences: str | Iterable[str],
        *,
        show_progress_bar: bool = False,
        max_length: int | EllipsisType | None = ...,
        normalize: bool | None = None,
        batch_size: int = 1024,
        use_multiprocessing: bool = True,
        multiprocessing_threshold: int = 10_000,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """Compute one embedding per text; see `m2v_core.StaticModel.encode`.

        Args:
            sentences: One text, or any number of them.
            show_progress_bar: Show a progress bar on stderr.
            max_length: Maximum number of tokens per text; None for no limit; the model's own limit if not passed.
            normalize: Overrides the model's setting for this call.
            batch_size: Accepted, but ignored; texts are processed in blocks of some megabytes.
            use_multiprocessing: Accepted, but ignored; every core is always used.
            multiprocessing_threshold: As `use_multiprocessing`.
            **kwargs: `convert_to_tensor`, `device`, `normalize_embeddings`, `prompt` and `prompt_name`, as in
                `m2v_core.StaticModel.encode`; all others are ignored.

        Returns:
            (n_sentences, dim) float32, or (dim,) for one text.
        """
        if kwargs:
            kwargs = {name: kwargs[name] for name in _UNDERSTOOD if name in kwargs}
        return super().encode(sentences, max_length, batch_size, show_progress_bar, normalize=normalize, **kwargs)

    def tokenize(self, sentences: str | Iterable[str], max_length: int | EllipsisType | None = ...) -> list[list[int]]:
        """Return the ids of each text's known tokens.

        Args:
            sentences: One text, or any number of them.
            max_length: Maximum number of tokens per text; None for no limit; the model's own limit if not passed.
        """
        if not isinstance(max_length, EllipsisType):
            return super().tokenize(sentences, max_length)
        texts = well_formed(checked_texts(sentences))
        return drop_token(token_ids(self._reading_tokenizer, texts, self.max_length), self.unk_token_id)

    def stored(self) -> StoredModel:
        """The parts of the model for saving."""
        name: Any = self.base_model_name
        names = as_list(name)
        return replace(super().stored(), base_model_name=names[0] if names else None)


_Model = TypeVar("_Model", bound=ours.StaticModel)


def quantize_model(
    model: _Model,
    vocabulary_quantization: int | None = None,
    quantize_to: str | DType | None = None,
    dimensionality: int | None = None,
) -> _Model:
    """Return a smaller model; the one passed is unchanged.

    Args:
        model: Model to compress.
        vocabulary_quantization: Number of rows shared by all tokens; None keeps all rows.
        quantize_to: `"float32"`, `"float16"` or `"int8"`; `"float64"` gives float32. None keeps the number format.
        dimensionality: Number of leading dimensions to keep; None for all.

    Raises:
        InputError: An argument is out of range, or the vocabulary is already quantized.
    """
    return model.compressed(
        None if quantize_to is None else offered(quantize_to), dimensionality, vocabulary_quantization
    )


def _as_table(vectors: Any) -> NDArray[Any]:
    vectors = np.asarray(vectors)
    return np.ascontiguousarray(vectors, dtype=np.float32 if vectors.dtype == np.float64 else None)


def _truncate(tokenizer: Tokenizer, max_length: int | None) -> None:
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)
