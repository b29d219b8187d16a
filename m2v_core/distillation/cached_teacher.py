"""Teacher outputs for a distillation, cached or computed."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from m2v_core.distillation.cache import Fitted, Prepared, TeacherVectors, TextOutputs, VectorCache, vectors_key
from m2v_core.distillation.reduction import leading_components
from m2v_core.distillation.settings import DistillRequest, PCADims, Pooling
from m2v_core.distillation.teacher.poolings import choose_pooling
from m2v_core.distillation.teacher.remote import RemoteTeacher, VocabularyReader
from m2v_core.distillation.teacher.source import TeacherSource
from m2v_core.distillation.vocabulary import clean_vocabulary
from m2v_core.distillation.weighting import ranks_by_count
from m2v_core.errors import InputError
from m2v_core.progress import ProgressReporter
from m2v_core.tokenization import StaticVocabulary, build_static_vocabulary

if TYPE_CHECKING:
    from m2v_core.distillation.teacher.teacher import Teacher

logger = logging.getLogger(__name__)


MAX_VECTOR_BYTES = 4 << 30  # limit on vectors in memory; calibration needs more than ten times as much memory


@dataclass(frozen=True)
class RemoteEncoder:
    """Embeds a vocabulary in other processes.

    Attributes:
        reader: Distributes the work.
        source: The teacher; every process must be able to load it by name.
        device: Device of each process; None for one GPU each, if available.
        trust_remote_code: Whether code from the teacher's repository may run.
        applies_modules: As for `Teacher.load`.
    """

    reader: VocabularyReader
    source: TeacherSource
    device: str | None
    trust_remote_code: bool
    applies_modules: bool = True

    def embed(
        self,
        sequences: Sequence[Sequence[int]],
        pooling: Pooling,
        reporter: ProgressReporter,
        n_special: tuple[int, int],
    ) -> npt.NDArray[np.float32]:
        """Embed sequences as `Teacher.embed` does."""
        teacher = RemoteTeacher.of(
            self.source, self.device, self.trust_remote_code, pooling, n_special, self.applies_modules
        )
        key = [self.source.fingerprint, pooling, n_special, self.applies_modules]
        return self.reader.embed(teacher.load, key, self.device != "cpu", sequences, reporter)


def check_memory(settings: DistillRequest, n_rows: int, teacher_dim: int | None) -> None:
    """Reject settings that need all vectors in memory if they take more than 4 GiB.

    Raises:
        InputError: The vectors exceed the limit.
    """
    n_bytes = 4 * n_rows * (teacher_dim or 0)
    if n_bytes <= MAX_VECTOR_BYTES:
        return
    size = f"{n_rows:,} rows of {teacher_dim:,} dimensions take {n_bytes / 2**30:.1f} GiB"
    if settings.is_calibrated:
        raise InputError(
            f"{size}, and calibration needs more than ten times as much memory on one machine; the limit is "
            f"{MAX_VECTOR_BYTES >> 30} GiB. Use recipe='fast' without a corpus (--recipe fast)."
        )
    if settings.vocabulary_quantization is not None:
        raise InputError(
            f"{size}, and vocabulary_quantization needs several times as much memory on one machine; the limit is "
            f"{MAX_VECTOR_BYTES >> 30} GiB. Omit it and compress the model afterwards: "
            "model.compressed(vocabulary_quantization=...)."
        )


class CachedTeacher:
    """A teacher that is loaded on first use, with a cache of its outputs.

    Args:
        load: Loads the teacher.
        settings: Settings and texts.
        reporter: Reports the stages.
        source: Source of the teacher; None if it was passed in memory.
        cache: The cache; None to disable caching.
        remote: Embeds the vocabulary in other processes; None for this process, which always embeds the sentences.
        max_dim: Width of the teacher's sentence embeddings, to which wider vectors are reduced; None for no limit.
    """

    def __init__(
        self,
        load: Callable[[], Teacher],
        settings: DistillRequest,
        reporter: ProgressReporter,
        source: TeacherSource | None,
        cache: VectorCache | None,
        remote: RemoteEncoder | None = None,
        max_dim: int | None = None,
    ) -> None:
        self._teacher = functools.lru_cache(maxsize=1)(load)
        self._settings = settings
        self._reporter = reporter
        self._source = source
        self._cache = cache
        self._remote = remote
        self._max_dim = max_dim

    def vocabulary(self) -> TeacherVectors:
        """Return the vectors of the vocabulary."""
        cache, source = self._cache, self._source
        found = None if cache is None or source is None else cache.get_vocabulary(source, self._settings)
        if found is None:
            found = self._build_vocabulary(self._teacher())
            if cache is not None and source is not None and self._remote is None:
                cache.put_vocabulary(source, self._settings, *found)
        vocabulary, pooling = found
        vectors = self._vectors(vocabulary, pooling)
        if self._max_dim is not None and vectors.shape[1] > self._max_dim:
            vectors = leading_components(vectors, self._max_dim)
        return TeacherVectors(vectors, np.asarray(vocabulary.ranks), vocabulary.tokenizer, pooling, vocabulary.entries)

    def _build_vocabulary(self, teacher: Teacher) -> tuple[StaticVocabulary, Pooling]:
        """Build the static vocabulary and choose the pooling of its entries."""
        settings, words = self._settings, self._settings.vocabulary
        assert not isinstance(words, str), "resolved by automatic_vocabulary.resolve_words"
        if words is not None:
            cleaned = clean_vocabulary(list(words), counts=list(words.values()) if isinstance(words, Mapping) else None)
            for sentence in cleaned.summary():
                logger.warning("Vocabulary: %s", sentence)
            words = cleaned.vocabulary
        vocabulary = build_static_vocabulary(
            teacher.tokenizer,
            words,
            settings.use_subword,
            settings.token_remove_pattern,
            teacher.pad_token,
            teacher.max_length,
        )
        if self._remote is not None:
            check_memory(settings, len(vocabulary.sequences), teacher.teacher_dim)
        pooling = settings.pooling
        if pooling == "auto":
            pooling = choose_pooling(teacher, vocabulary, self._reporter)
        ranks = ranks_by_count(np.asarray(vocabulary.ranks), vocabulary.counts)
        return replace(vocabulary, ranks=ranks.tolist(), counts={}), pooling

    def _vectors(self, vocabulary: StaticVocabulary, pooling: Pooling) -> npt.NDArray[np.float32]:
        """Return the teacher's vector of each entry, `(n_rows, teacher_dim)`, embedding those that are not cached."""
        sequences, n_special = vocabulary.sequences, vocabulary.n_special
        cached: npt.NDArray[np.float32] | None = None
        missing: Sequence[int] = range(len(sequences))
        key = []
        if self._cache is not None and self._source is not None:
            key = vectors_key(self._source, pooling, n_special, self._settings.applies_modules)
            cached, missing = self._cache.get_vectors(key, sequences)
        if cached is not None and not missing:
            return cached
        if self._remote is not None:
            return self._remote.embed(sequences, pooling, self._reporter, n_special)
        if cached is not None:
            logger.info("%s of %s entries are cached.", f"{len(sequences) - len(missing):,}", f"{len(sequences):,}")
        uncached = [sequences[row] for row in missing]
        vectors = self._teacher().embed(uncached, pooling, self._reporter, n_special)
        if self._cache is not None and self._source is not None:
            self._cache.put_vectors(key, uncached, vectors)
        if cached is None:
            return vectors
        cached[missing] = vectors
        return cached

    def sentences(self, texts: Sequence[str], tokenizer: Tokenizer, n_rows: int, stage: str) -> TextOutputs:
        """Return the teacher's outputs for texts and for the static tokenizer's tokens in them.

        Args:
            texts: Bags, dictionary lines or corpus texts.
            tokenizer: The static model's tokenizer.
            n_rows: Number of its tokens.
            stage: Name of the stage.
        """
        if self._cache is not None and self._source is not None:
            found = self._cache.get_sentences(self._source, texts, tokenizer, self._settings.prompt_name)
            if found is not None:
                return found
        from m2v_core.distillation.calibration.contexts import StateCollector

        collector = StateCollector(tokenizer, n_rows)
        outputs = collector.outputs(self._teacher().embed_texts(texts, self._reporter, collector, stage))
        if self._cache is not None and self._source is not None:
            self._cache.put_sentences(self._source, texts, tokenizer, self._settings.prompt_name, outputs)
        return outputs

    def prepared(self, pca_dims: PCADims, prepare: Callable[[], Prepared]) -> Prepared:
        """Return the input of the calibration, which is independent of the weighting.

        Args:
            pca_dims: The dimensions used to fit the table.
            prepare: Computes the input if it is not cached.
        """
        if self._cache is not None and self._source is not None:
            found = self._cache.get_prepared(self._source, self._settings, pca_dims)
            if found is not None:
                return found
        prepared = prepare()
        if self._cache is not None and self._source is not None:
            self._cache.put_prepared(self._source, self._settings, pca_dims, prepared)
        return prepared

    def fitted(self, pca_dims: PCADims, fit: Callable[[], Fitted]) -> Fitted:
        """Return the calibrated table, which is independent of the precision and, if truncated, of the dimensions.

        Args:
            pca_dims: The dimensions used to fit it.
            fit: Computes the table if it is not cached.
        """
        if self._cache is not None and self._source is not None:
            found = self._cache.get_fitted(self._source, self._settings, pca_dims)
            if found is not None:
                return found
        fitted = fit()
        if self._cache is not None and self._source is not None:
            self._cache.put_fitted(self._source, self._settings, pca_dims, fitted)
        return fitted
