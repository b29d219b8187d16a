"""Static models: this library's, model2vec's and WordLlama's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import NeedsExtra
from m2v_core.evaluation.encoders.base import EncoderFacts, disk_bytes, display_name, model_folder, tokenizer_threads
from m2v_core.model import StaticModel


class StaticEncoder:
    """A `StaticModel` of this library.

    Args:
        model: The model.
        name: What people call it.
        size_bytes: Its size on disk.

    Attributes:
        model: As passed.
    """

    def __init__(self, model: StaticModel, name: str, size_bytes: int | None = None) -> None:
        self.facts = EncoderFacts(name, "static", model.dim, "cpu", tokenizer_threads(), size_bytes)
        self.model = model

    @classmethod
    def load(cls, path: str | Path, name: str | None = None) -> StaticEncoder:
        """The model in a folder or a Hub repository.

        Args:
            path: As for `StaticModel.from_pretrained`.
            name: What people call it; the folder's or the repository's name when None.

        Raises:
            M2VError: As `StaticModel.from_pretrained`.
        """
        folder = model_folder(path)
        return cls(StaticModel.from_pretrained(folder), name or display_name(path), disk_bytes(folder))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        return self.model.encode(texts)


class Model2VecEncoder:
    """The same folder in the model2vec package.

    Args:
        path: As for `StaticModel.from_pretrained`.
        name: What people call it; the folder's or the repository's name, and the package's, when None.

    Raises:
        MissingExtraError: model2vec is not installed.
        NotFoundError: No such folder and no such repository.
        HubError: There is no such folder, and the Hub can't be reached or refused.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        with NeedsExtra("model2vec", "peers"):
            from model2vec import StaticModel as PeerModel
        folder = model_folder(path)
        self._model = PeerModel.from_pretrained(folder)
        self.facts = EncoderFacts(
            name or f"{display_name(path)} (model2vec)",
            "peer",
            int(self._model.dim),
            "cpu",
            tokenizer_threads(),
            disk_bytes(folder),
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        embeddings: NDArray[np.float32] = self._model.encode(list(texts), show_progress_bar=False)
        return embeddings


class WordLlamaEncoder:
    """WL256: the 256-wide model that the wordllama package brings along; nothing is downloaded.

    Args:
        name: What people call it.

    Raises:
        MissingExtraError: wordllama is not installed.
    """

    def __init__(self, name: str = "WL256") -> None:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            with NeedsExtra("wordllama", "peers"):
                import wordllama
        finally:
            # On import the package has every library say on the console whatever it does.
            root.handlers[:] = handlers
            root.setLevel(level)
        package = Path(wordllama.__file__).parent
        # The package looks for its tokenizer in another folder than its wheel has it in, unless told.
        self._model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
        parts = ("weights", "tokenizers")
        size_bytes = sum(disk_bytes(package / part) for part in parts)
        width = int(self._model.embedding.shape[1])
        self.facts = EncoderFacts(name, "peer", width, "cpu", tokenizer_threads(), size_bytes)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`; a zero row for a text without tokens, where the package divides by zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            embeddings = np.asarray(self._model.embed(list(texts)), np.float32)
        blank = [not text.strip() for text in texts]
        embeddings[blank] = np.nan_to_num(embeddings[blank])
        return embeddings
