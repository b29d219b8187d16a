"""What the teacher made of a vocabulary and of texts, and a cache of it on disk.

The forward passes take nearly all of a distillation's time and depend on the teacher, the vocabulary and the pooling
alone. With their outcome kept, other dimensions, weights or precisions take a second, and no teacher.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from m2v_core.distillation.settings import DistillRequest, PCADims, Pooling
from m2v_core.distillation.teacher.source import TeacherSource
from m2v_core.storage.atomic import replacing
from m2v_core.storage.cache import surplus
from m2v_core.tokenization import EntryRows

logger = logging.getLogger(__name__)

_DTYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64}
_VERSION = "5"  # of the files below; a new one leaves old entries unread
_MAX_BYTES = 2 << 30  # of all entries; the ones not used for longest go first


@dataclass(frozen=True)
class TeacherVectors:
    """A vocabulary as the teacher sees it.

    Attributes:
        vectors: One for each row, `(n_rows, teacher_dim) float32`, before PCA and weights.
        ranks: The rank of each row, `(n_rows,) int64`.
        tokenizer: The static model's tokenizer.
        pooling: How they were pooled.
        entries: What became of the entries of a passed vocabulary; None without one.
    """

    vectors: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int64]
    tokenizer: Tokenizer
    pooling: Pooling
    entries: EntryRows | None = None


@dataclass(frozen=True)
class Readings:
    """What the teacher made of texts, and of the static model's tokens in them.

    Attributes:
        embeddings: Its own embedding of each text, `(n_texts, embedding_dim) float32`.
        state_sums: The sum of the last hidden states over each token's occurrences, `(n_rows, teacher_dim) float32`.
        state_counts: The number of occurrences, `(n_rows,) float32`.
    """

    embeddings: npt.NDArray[np.float32]
    state_sums: npt.NDArray[np.float32]
    state_counts: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """What calibrating begins with, before weights.

    Attributes:
        reduced: The vocabulary's vectors, reduced, `(n_rows, dim) float32`.
        directions: Those that tokens have within texts, unit rows `(n_rows, dim) float32`; None where there are none.
        counts: `(n_texts, n_rows)` sparse float32, see `calibration.Sentences`.
        targets: `(n_texts, embedding_dim) float32`, see there.
        noted: What to note of it in a model's configuration.
    """

    reduced: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32] | None
    counts: Any
    targets: npt.NDArray[np.float32]
    noted: dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """A calibrated table.

    Attributes:
        token_embeddings: `(n_rows, full_dim) float32`, its columns by falling variance.
        noted: What to note of it in a model's configuration.
        problem: Why it is the distilled table after all; None if it is not.
    """

    token_embeddings: npt.NDArray[np.float32]
    noted: dict[str, Any]
    problem: str | None


class VectorCache:
    """Teacher vectors in a folder, one file for each teacher, vocabulary and pooling.

    Keep no private or gated teacher's vectors in a cache that others share: whoever asks for the teacher by name is
    served from it.

    Args:
        folder: Where the files are; made when the first is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def find(self, source: TeacherSource, settings: DistillRequest) -> TeacherVectors | None:
        """The vectors, if they are here and whole."""
        found = self._read(self._path(source, settings), ("vectors", "ranks"), ("tokenizer", "pooling", "entries"))
        if found is None:
            return None
        (vectors, ranks), (tokenizer, pooling, noted) = found
        entries = None if noted == "null" else EntryRows.from_json(json.loads(noted))
        return TeacherVectors(vectors, ranks, Tokenizer.from_str(tokenizer), cast(Pooling, pooling), entries)

    def keep(self, source: TeacherSource, settings: DistillRequest, found: TeacherVectors) -> None:
        """Keep the vectors. A cache that can't be written costs time the next time, not this distillation."""
        self._keep(
            self._path(source, settings),
            {"vectors": found.vectors, "ranks": found.ranks},
            {
                "tokenizer": found.tokenizer.to_str(),
                "pooling": found.pooling,
                "entries": json.dumps(found.entries and found.entries.to_json()),
            },
        )

    def find_sentences(
        self, source: TeacherSource, texts: Sequence[str], tokenizer: Tokenizer, prompt_name: str | None
    ) -> Readings | None:
        """What the teacher made of these texts, and of this tokenizer's tokens in them, if it is here and whole."""
        names = [field.name for field in fields(Readings)]
        found = self._read(self._sentences_path(source, texts, tokenizer, prompt_name), names, ())
        return None if found is None else Readings(*found[0])

    def keep_sentences(
        self,
        source: TeacherSource,
        texts: Sequence[str],
        tokenizer: Tokenizer,
        prompt_name: str | None,
        readings: Readings,
    ) -> None:
        """Keep what the teacher made of them; as with `keep`, a cache that can't be written is no error."""
        tensors = {field.name: getattr(readings, field.name) for field in fields(Readings)}
        self._keep(self._sentences_path(source, texts, tokenizer, prompt_name), tensors, {})

    def find_prepared(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Prepared | None:
        """What calibrating begins with, if it is here and whole."""
        import scipy.sparse

        names = ("reduced", "directions", "shares", "token_ids", "text_starts", "targets")
        found = self._read(self._prepared_path(source, settings, pca_dims), names, ("noted",))
        if found is None:
            return None
        (reduced, directions, shares, token_ids, text_starts, targets), (noted,) = found
        counts = scipy.sparse.csr_matrix((shares, token_ids, text_starts), shape=(len(targets), len(reduced)))
        return Prepared(reduced, directions if len(directions) else None, counts, targets, json.loads(noted))

    def keep_prepared(
        self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims, prepared: Prepared
    ) -> None:
        """Keep what calibrating begins with; as with `keep`, a cache that can't be written is no error."""
        directions = prepared.directions
        tensors = {
            "reduced": prepared.reduced,
            "directions": np.empty((0, 0), np.float32) if directions is None else directions,
            "shares": prepared.counts.data,
            "token_ids": prepared.counts.indices,
            "text_starts": prepared.counts.indptr,
            "targets": prepared.targets,
        }
        self._keep(self._prepared_path(source, settings, pca_dims), tensors, {"noted": json.dumps(prepared.noted)})

    def find_fitted(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Fitted | None:
        """The calibrated table, if it is here and whole."""
        found = self._read(self._fitted_path(source, settings, pca_dims), ("token_embeddings",), ("noted", "problem"))
        if found is None:
            return None
        (token_embeddings,), (noted, problem) = found
        return Fitted(token_embeddings, json.loads(noted), problem or None)

    def keep_fitted(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims, fitted: Fitted) -> None:
        """Keep the calibrated table; as with `keep`, a cache that can't be written is no error."""
        self._keep(
            self._fitted_path(source, settings, pca_dims),
            {"token_embeddings": fitted.token_embeddings},
            {"noted": json.dumps(fitted.noted), "problem": fitted.problem or ""},
        )

    def _read(
        self, path: Path, tensors: Sequence[str], metadata: Sequence[str]
    ) -> tuple[list[npt.NDArray[Any]], list[str]] | None:
        """These tensors and lines of an entry; None where it is not here, or not whole."""
        try:
            with safe_open(path, framework="numpy") as entry:  # refuses what is not whole
                lines = [entry.metadata()[name] for name in metadata]
            found = _mapped(path, tensors), lines
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s is damaged (%s) and made again.", path, error)
            return None
        os.utime(path)  # it was used
        return found

    def _keep(self, path: Path, tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> None:
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        try:
            with replacing(self._folder, sum(tensor.nbytes for tensor in tensors.values())) as staging:
                save_file(tensors, staging / path.name, metadata=metadata)
            self._drop_oldest(kept=path)
        except (OSError, SafetensorError) as error:
            logger.warning("What the teacher said could not be kept in %s: %s", self._folder, error)

    def _sentences_path(
        self, source: TeacherSource, texts: Sequence[str], tokenizer: Tokenizer, prompt_name: str | None
    ) -> Path:
        asked = [_VERSION, source.fingerprint, "sentences", tokenizer.to_str(), prompt_name]
        digest = hashlib.sha256(json.dumps(asked).encode())
        for text in texts:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\xff")
        return self._folder / f"{digest.hexdigest()[:32]}.safetensors"

    def _path(self, source: TeacherSource, settings: DistillRequest) -> Path:
        return self._entry(_asked(source, settings))

    def _prepared_path(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Path:
        return self._entry([*_asked_to_fit(source, settings, pca_dims), "prepared"])

    def _fitted_path(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Path:
        weighting = [settings.apply_zipf, settings.weighting, settings.sif_coefficient]
        return self._entry([*_asked_to_fit(source, settings, pca_dims), "fitted", *weighting])

    def _entry(self, asked: list[Any]) -> Path:
        digest = hashlib.sha256(json.dumps([_VERSION, *asked]).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.safetensors"

    def _drop_oldest(self, kept: Path) -> None:
        entries = [(path, path.stat()) for path in self._folder.glob("*.safetensors") if path != kept]
        dated = [(stat.st_mtime, path, stat.st_size) for path, stat in entries]
        for path in surplus(dated, max_size=_MAX_BYTES, held=kept.stat().st_size):
            path.unlink(missing_ok=True)


def _mapped(path: Path, names: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Tensors of a file, read-only, where it lies in memory anyway: copies would take longer than some of the work.

    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(n_header))
    bytes_of_file = np.memmap(path, np.uint8, "r", 8 + n_header)
    found = []
    for name in names:
        start, end = header[name]["data_offsets"]
        found.append(bytes_of_file[start:end].view(_DTYPES[header[name]["dtype"]]).reshape(header[name]["shape"]))
    return [np.asarray(tensor) for tensor in found]


def _asked(source: TeacherSource, settings: DistillRequest) -> list[Any]:
    """All that the teacher's vectors depend on."""
    vocabulary = None if settings.vocabulary is None else list(settings.vocabulary)
    return [
        source.fingerprint,
        vocabulary,
        settings.use_subword,
        settings.token_remove_pattern,
        settings.pooling,
        settings.applies_modules,
        settings.prompt_name,
    ]


def _asked_to_fit(source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> list[Any]:
    """All that a fit begins with depends on."""
    corpus = None if settings.corpus is None else list(settings.corpus)
    return [*_asked(source, settings), pca_dims, settings.recipe, corpus, settings.dictionary]
