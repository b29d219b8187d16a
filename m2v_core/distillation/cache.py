"""Disk cache of teacher outputs for vocabularies and texts.

Forward passes take nearly all of a distillation's time and depend only on the teacher, its input and the pooling. With
cached outputs, changing dimensions, weights or precision takes a second without loading the teacher, and for another
vocabulary the teacher embeds only new entries.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from itertools import chain
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
from m2v_core.storage.cache import select_evictions
from m2v_core.tokenization import EntryRows, StaticVocabulary

logger = logging.getLogger(__name__)

_DTYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64}
_VERSION = "6"  # part of the key: entries of other versions are ignored
_MAX_BYTES = 2 << 30  # limit for all entries; the least recently used are evicted first


@dataclass(frozen=True)
class TeacherVectors:
    """The teacher's vectors of a vocabulary.

    Attributes:
        vectors: The vector of each row before PCA and weights, `(n_rows, teacher_dim) float32`.
        ranks: The rank of each row, `(n_rows,) int64`.
        tokenizer: The static model's tokenizer.
        pooling: The pooling of the vectors.
        entries: How the entries of the user's vocabulary map to rows; None without one.
    """

    vectors: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int64]
    tokenizer: Tokenizer
    pooling: Pooling
    entries: EntryRows | None = None


@dataclass(frozen=True)
class TextOutputs:
    """The teacher's outputs for texts and for the static model's tokens in them.

    Attributes:
        embeddings: The teacher's embedding of each text, `(n_texts, embedding_dim) float32`.
        state_sums: The sum of the last hidden states over each token's occurrences, `(n_rows, teacher_dim) float32`.
        state_counts: The number of occurrences of each token, `(n_rows,) float32`.
    """

    embeddings: npt.NDArray[np.float32]
    state_sums: npt.NDArray[np.float32]
    state_counts: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """Input of the calibration, before weights.

    Attributes:
        reduced: The vocabulary's vectors after PCA, `(n_rows, dim) float32`.
        directions: Directions of the tokens within texts, unit rows, `(n_rows, dim) float32`; None if unavailable.
        counts: `(n_texts, n_rows)` sparse float32; see `calibration.fit.Sentences`.
        targets: `(n_texts, embedding_dim) float32`; see `calibration.fit.Sentences`.
        config_entries: Entries for the model's configuration.
    """

    reduced: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32] | None
    counts: Any
    targets: npt.NDArray[np.float32]
    config_entries: dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """A calibrated table.

    Attributes:
        token_embeddings: `(n_rows, full_dim) float32`, columns by descending variance.
        config_entries: Entries for the model's configuration.
        problem: Why the table is uncalibrated; None if calibration succeeded.
    """

    token_embeddings: npt.NDArray[np.float32]
    config_entries: dict[str, Any]
    problem: str | None


class VectorCache:
    """Teacher outputs in a folder; vectors of vocabulary entries are keyed by the teacher's token ids.

    Several processes can use the same folder. Failed writes are logged and otherwise ignored. Don't share a cache that
    contains outputs of private or gated teachers: reading them requires only the teacher's name.

    Args:
        folder: Folder of the files, created on the first write.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def get_vocabulary(
        self, source: TeacherSource, settings: DistillRequest
    ) -> tuple[StaticVocabulary, Pooling] | None:
        """Return the static vocabulary and the pooling of a request, without vectors; None if not cached."""
        names = ("token_ids", "lengths", "ranks", "n_special")
        found = self._read(self._vocabulary_path(source, settings), names, ("tokenizer", "pooling", "entries"))
        if found is None:
            return None
        (token_ids, lengths, ranks, (n_before, n_after)), (tokenizer, pooling, entries) = found
        vocabulary = StaticVocabulary(
            Tokenizer.from_str(tokenizer),
            [ids.tolist() for ids in _split(token_ids, lengths)],
            ranks.tolist(),
            (int(n_before), int(n_after)),
            None if entries == "null" else EntryRows.from_json(json.loads(entries)),
        )
        return vocabulary, cast(Pooling, pooling)

    def put_vocabulary(
        self, source: TeacherSource, settings: DistillRequest, vocabulary: StaticVocabulary, pooling: Pooling
    ) -> None:
        """Store the static vocabulary and the pooling of a request."""
        tensors = _flat(vocabulary.sequences) | {
            "ranks": np.array(vocabulary.ranks, np.int64),
            "n_special": np.array(vocabulary.n_special, np.int32),
        }
        metadata = {
            "tokenizer": vocabulary.tokenizer.to_str(),
            "pooling": pooling,
            "entries": json.dumps(vocabulary.entries and vocabulary.entries.to_json()),
        }
        self._write(self._vocabulary_path(source, settings), tensors, metadata)

    def get_vectors(
        self, key: Sequence[Any], sequences: Sequence[Sequence[int]]
    ) -> tuple[npt.NDArray[np.float32] | None, list[int]]:
        """Return the cached vectors of vocabulary entries.

        Args:
            key: Everything that a vector depends on except the token ids; see `vectors_key`.
            sequences: The teacher's token ids of each entry.

        Returns:
            `(n_sequences, dim) float32`, or None if no vector is cached; and the sorted indices of the missing rows,
            whose values are undefined.
        """
        missing = _rows_of(sequences)
        vectors: npt.NDArray[np.float32] | None = None
        for path, part, here, there in self._find_vectors(key, missing):
            self._mark_used(path)
            if vectors is None:
                vectors = np.empty((len(sequences), part.shape[1]), np.float32)
            vectors[here] = part[there]
        return vectors, sorted(row for rows in missing.values() for row in rows)

    def find_missing(self, key: Sequence[Any], sequences: Sequence[Sequence[int]]) -> list[int]:
        """Return the sorted indices of sequences whose vectors are not cached; does not mark entries as used."""
        missing = _rows_of(sequences)
        for _ in self._find_vectors(key, missing):
            pass
        return sorted(row for rows in missing.values() for row in rows)

    def _find_vectors(
        self, key: Sequence[Any], missing: dict[bytes, list[int]]
    ) -> Iterator[tuple[Path, npt.NDArray[np.float32], list[int], list[int]]]:
        """Yield path, vectors, target rows and file rows of each file with `missing` vectors, and remove those."""
        for path in sorted(self._folder.glob(f"{self._vectors_stem(key)}-*.safetensors")):
            if not missing:
                return
            found = self._read(path, ("token_ids", "lengths", "vectors"), (), is_used=False)
            if found is None:
                continue
            here, there = [], []
            for row, ids in enumerate(_split(*found[0][:2])):
                for place in missing.pop(ids.tobytes(), ()):
                    here.append(place)
                    there.append(row)
            if here:
                yield path, found[0][2], here, there

    def put_vectors(
        self, key: Sequence[Any], sequences: Sequence[Sequence[int]], vectors: npt.NDArray[np.float32]
    ) -> None:
        """Store the vectors of sequences that were not cached."""
        tensors = _flat(sequences)
        digest = hashlib.sha256(b"".join(tensor.tobytes() for tensor in tensors.values())).hexdigest()
        path = self._folder / f"{self._vectors_stem(key)}-{digest[:16]}.safetensors"
        self._write(path, tensors | {"vectors": vectors}, {})

    def get_sentences(
        self, source: TeacherSource, texts: Sequence[str], tokenizer: Tokenizer, prompt_name: str | None
    ) -> TextOutputs | None:
        """Return the teacher's outputs for these texts and this tokenizer's tokens in them; None if not cached."""
        names = [field.name for field in fields(TextOutputs)]
        found = self._read(self._sentences_path(source, texts, tokenizer, prompt_name), names, ())
        return None if found is None else TextOutputs(*found[0])

    def put_sentences(
        self,
        source: TeacherSource,
        texts: Sequence[str],
        tokenizer: Tokenizer,
        prompt_name: str | None,
        outputs: TextOutputs,
    ) -> None:
        """Store the teacher's outputs for texts."""
        tensors = {field.name: getattr(outputs, field.name) for field in fields(TextOutputs)}
        self._write(self._sentences_path(source, texts, tokenizer, prompt_name), tensors, {})

    def has_prepared(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> bool:
        """Whether the input of the calibration is cached; does not mark it as used."""
        return self._prepared_path(source, settings, pca_dims).is_file()

    def get_prepared(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Prepared | None:
        """Return the input of the calibration; None if not cached."""
        import scipy.sparse

        names = ("reduced", "directions", "shares", "token_ids", "text_starts", "targets")
        found = self._read(self._prepared_path(source, settings, pca_dims), names, ("noted",))
        if found is None:
            return None
        (reduced, directions, shares, token_ids, text_starts, targets), (entries,) = found
        counts = scipy.sparse.csr_matrix((shares, token_ids, text_starts), shape=(len(targets), len(reduced)))
        return Prepared(reduced, directions if len(directions) else None, counts, targets, json.loads(entries))

    def put_prepared(
        self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims, prepared: Prepared
    ) -> None:
        """Store the input of the calibration."""
        directions = prepared.directions
        tensors = {
            "reduced": prepared.reduced,
            "directions": np.empty((0, 0), np.float32) if directions is None else directions,
            "shares": prepared.counts.data,
            "token_ids": prepared.counts.indices,
            "text_starts": prepared.counts.indptr,
            "targets": prepared.targets,
        }
        metadata = {"noted": json.dumps(prepared.config_entries)}
        self._write(self._prepared_path(source, settings, pca_dims), tensors, metadata)

    def get_fitted(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Fitted | None:
        """Return the calibrated table; None if not cached."""
        found = self._read(self._fitted_path(source, settings, pca_dims), ("token_embeddings",), ("noted", "problem"))
        if found is None:
            return None
        (token_embeddings,), (entries, problem) = found
        return Fitted(token_embeddings, json.loads(entries), problem or None)

    def put_fitted(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims, fitted: Fitted) -> None:
        """Store the calibrated table."""
        self._write(
            self._fitted_path(source, settings, pca_dims),
            {"token_embeddings": fitted.token_embeddings},
            {"noted": json.dumps(fitted.config_entries), "problem": fitted.problem or ""},
        )

    def _read(
        self, path: Path, tensors: Sequence[str], metadata: Sequence[str], is_used: bool = True
    ) -> tuple[list[npt.NDArray[Any]], list[str]] | None:
        """Return these tensors and metadata of an entry; None if it is missing or damaged."""
        try:
            with safe_open(path, framework="numpy") as entry:  # raises if the file is damaged
                lines = [entry.metadata()[name] for name in metadata]
            found = _map_tensors(path, tensors), lines
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            logger.warning("The cache entry %s is damaged (%s) and will be rebuilt.", path, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        if is_used:
            self._mark_used(path)
        return found

    def _mark_used(self, path: Path) -> None:
        with suppress(OSError):  # another process may have evicted it
            os.utime(path)

    def _write(self, path: Path, tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> None:
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        try:
            with replacing(self._folder, sum(tensor.nbytes for tensor in tensors.values())) as staging:
                save_file(tensors, staging / path.name, metadata=metadata)
            self._evict(newest=path)
        except (OSError, SafetensorError) as error:
            logger.warning("The teacher's outputs could not be cached in %s: %s", self._folder, error)

    def _sentences_path(
        self, source: TeacherSource, texts: Sequence[str], tokenizer: Tokenizer, prompt_name: str | None
    ) -> Path:
        key = [_VERSION, source.fingerprint, "sentences", tokenizer.to_str(), prompt_name]
        digest = hashlib.sha256(json.dumps(key).encode())
        for text in texts:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\xff")
        return self._folder / f"{digest.hexdigest()[:32]}.safetensors"

    def _vocabulary_path(self, source: TeacherSource, settings: DistillRequest) -> Path:
        return self._entry([*_vocabulary_key(source, settings), "vocabulary"])

    def _vectors_stem(self, key: Sequence[Any]) -> str:
        return self._entry([*key, "vectors"]).stem

    def _prepared_path(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Path:
        return self._entry([*_fit_key(source, settings, pca_dims), "prepared"])

    def _fitted_path(self, source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> Path:
        weighting = [settings.apply_zipf, settings.weighting, settings.sif_coefficient]
        return self._entry([*_fit_key(source, settings, pca_dims), "fitted", *weighting])

    def _entry(self, key: list[Any]) -> Path:
        digest = hashlib.sha256(json.dumps([_VERSION, *key]).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.safetensors"

    def _evict(self, newest: Path) -> None:
        dated = []
        for path in self._folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):  # another process may have evicted it
                if path != newest:
                    dated.append((path.stat().st_mtime, path, path.stat().st_size))
        for path in select_evictions(dated, max_size=_MAX_BYTES, held=newest.stat().st_size):
            path.unlink(missing_ok=True)


def vectors_key(
    source: TeacherSource, pooling: Pooling, n_special: tuple[int, int], applies_modules: bool
) -> list[Any]:
    """Everything that the vector of a vocabulary entry depends on except its token ids, as JSON values.

    Args:
        source: The teacher.
        pooling: As for `Teacher.embed`.
        n_special: As for `Teacher.embed`.
        applies_modules: As for `Teacher.load`.
    """
    return [source.fingerprint, pooling, n_special, applies_modules]


def _flat(sequences: Sequence[Sequence[int]]) -> dict[str, npt.NDArray[np.int32]]:
    """Flatten sequences into two arrays: all token ids, and the length of each sequence."""
    lengths = np.fromiter(map(len, sequences), np.int32, len(sequences))
    return {"token_ids": np.fromiter(chain.from_iterable(sequences), np.int32, int(lengths.sum())), "lengths": lengths}


def _split(token_ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int32]]:
    """The inverse of `_flat`."""
    return np.split(token_ids, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _rows_of(sequences: Sequence[Sequence[int]]) -> dict[bytes, list[int]]:
    """Map the bytes of each sequence's token ids to the rows of that sequence."""
    rows: dict[bytes, list[int]] = {}
    for row, ids in enumerate(_split(*_flat(sequences).values())):
        rows.setdefault(ids.tobytes(), []).append(row)
    return rows


def _map_tensors(path: Path, names: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Memory-map tensors of a file, read-only; copying them would take longer than some of the computations.

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


def _vocabulary_key(source: TeacherSource, settings: DistillRequest) -> list[Any]:
    """Everything that the static vocabulary and the pooling depend on."""
    words = settings.vocabulary
    vocabulary = None if words is None else list(words.items() if isinstance(words, Mapping) else words)
    return [
        source.fingerprint,
        vocabulary,
        settings.use_subword,
        settings.token_remove_pattern,
        settings.pooling,
        settings.applies_modules,
        settings.prompt_name,
    ]


def _fit_key(source: TeacherSource, settings: DistillRequest, pca_dims: PCADims) -> list[Any]:
    """Everything that the input of the calibration depends on."""
    corpus = None if settings.corpus is None else list(settings.corpus)
    key = _vocabulary_key(source, settings)
    return [*key, pca_dims, settings.recipe, astuple(settings.limits), corpus, settings.dictionary]
