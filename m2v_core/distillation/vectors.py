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
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from m2v_core.distillation.settings import Pooling, Settings
from m2v_core.distillation.source import TeacherSource
from m2v_core.persistence.atomic import replacing

logger = logging.getLogger(__name__)

_VERSION = "2"  # of the files below; a new one leaves old entries unread
_MAX_BYTES = 2 << 30  # of all entries; the ones not used for longest go first


@dataclass(frozen=True)
class TeacherVectors:
    """A vocabulary as the teacher sees it.

    Attributes:
        vectors: One for each row, `(n_rows, teacher_dim) float32`, before PCA and weights.
        ranks: The rank of each row, `(n_rows,) int64`.
        tokenizer: The static model's tokenizer.
        pooling: How they were pooled.
    """

    vectors: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int64]
    tokenizer: Tokenizer
    pooling: Pooling


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


class VectorCache:
    """Teacher vectors in a folder, one file for each teacher, vocabulary and pooling.

    Keep no private or gated teacher's vectors in a cache that others share: whoever asks for the teacher by name is
    served from it.

    Args:
        folder: Where the files are; made when the first is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def find(self, source: TeacherSource, settings: Settings) -> TeacherVectors | None:
        """The vectors, if they are here and whole."""
        path = self._path(source, settings)
        try:
            with safe_open(path, framework="numpy") as entry:
                tokenizer = Tokenizer.from_str(entry.metadata()["tokenizer"])
                pooling: Any = entry.metadata()["pooling"]
                vectors, ranks = entry.get_tensor("vectors"), entry.get_tensor("ranks")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            logger.warning("%s is damaged (%s); the teacher reads the vocabulary again.", path, error)
            return None
        os.utime(path)  # it was used
        return TeacherVectors(vectors, ranks, tokenizer, pooling)

    def keep(self, source: TeacherSource, settings: Settings, found: TeacherVectors) -> None:
        """Keep the vectors. A cache that can't be written costs time the next time, not this distillation."""
        path = self._path(source, settings)
        try:
            with replacing(self._folder, found.vectors.nbytes) as staging:
                save_file(
                    {"vectors": np.ascontiguousarray(found.vectors), "ranks": found.ranks},
                    staging / path.name,
                    metadata={"tokenizer": found.tokenizer.to_str(), "pooling": found.pooling},
                )
            self._drop_oldest(kept=path)
        except (OSError, SafetensorError) as error:
            logger.warning("The teacher's vectors could not be kept in %s: %s", self._folder, error)

    def find_sentences(self, source: TeacherSource, texts: Sequence[str], tokenizer: Tokenizer) -> Readings | None:
        """What the teacher made of these texts, and of this tokenizer's tokens in them, if it is here and whole."""
        path = self._sentences_path(source, texts, tokenizer)
        try:
            with safe_open(path, framework="numpy") as entry:
                readings = Readings(*(entry.get_tensor(field.name) for field in fields(Readings)))
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError) as error:
            logger.warning("%s is damaged (%s); the teacher reads the texts again.", path, error)
            return None
        os.utime(path)
        return readings

    def keep_sentences(
        self, source: TeacherSource, texts: Sequence[str], tokenizer: Tokenizer, readings: Readings
    ) -> None:
        """Keep what the teacher made of them; as with `keep`, a cache that can't be written is no error."""
        path = self._sentences_path(source, texts, tokenizer)
        tensors = {field.name: np.ascontiguousarray(getattr(readings, field.name)) for field in fields(Readings)}
        try:
            with replacing(self._folder, sum(tensor.nbytes for tensor in tensors.values())) as staging:
                save_file(tensors, staging / path.name)
            self._drop_oldest(kept=path)
        except (OSError, SafetensorError) as error:
            logger.warning("The teacher's embeddings could not be kept in %s: %s", self._folder, error)

    def _sentences_path(self, source: TeacherSource, texts: Sequence[str], tokenizer: Tokenizer) -> Path:
        digest = hashlib.sha256(json.dumps([_VERSION, source.fingerprint, "sentences", tokenizer.to_str()]).encode())
        for text in texts:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\xff")
        return self._folder / f"{digest.hexdigest()[:32]}.safetensors"

    def _path(self, source: TeacherSource, settings: Settings) -> Path:
        vocabulary = None if settings.vocabulary is None else list(settings.vocabulary)
        asked = [
            source.fingerprint,
            vocabulary,
            settings.use_subword,
            settings.token_remove_pattern,
            settings.pooling,
        ]
        digest = hashlib.sha256(json.dumps([_VERSION, *asked]).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.safetensors"

    def _drop_oldest(self, kept: Path) -> None:
        entries = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in entries:
            total += path.stat().st_size
            if total > _MAX_BYTES and path != kept:
                path.unlink(missing_ok=True)
