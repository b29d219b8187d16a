"""The slow part of a distillation: what the teacher reads, unless a cache knows what it made of it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from m2v_core.distillation.cache import Fitted, Prepared, Readings, TeacherVectors, VectorCache
from m2v_core.distillation.reduction import leading_components
from m2v_core.distillation.settings import DistillRequest, PCADims, Pooling
from m2v_core.distillation.teacher.elsewhere import TeacherElsewhere, VocabularyReader
from m2v_core.distillation.teacher.poolings import choose_pooling
from m2v_core.distillation.teacher.source import TeacherSource
from m2v_core.distillation.vocabulary import clean_vocabulary
from m2v_core.errors import InputError
from m2v_core.progress import ProgressReporter
from m2v_core.tokenization import build_static_vocabulary

if TYPE_CHECKING:
    from m2v_core.distillation.teacher.teacher import Teacher

logger = logging.getLogger(__name__)


MOST_BYTES_AT_ONCE = 4 << 30  # of vectors that all lie in memory, over ten times as calibrating needs them


@dataclass(frozen=True)
class Elsewhere:
    """Other processes that read a vocabulary.

    Attributes:
        reader: Sends the work there.
        source: The teacher; each of them must find it by its name.
        device: Of each of them. None: a GPU each where there are some.
        trust_remote_code: Whether code that comes with the teacher may run.
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
        """As `Teacher.embed`."""
        teacher = TeacherElsewhere.of(
            self.source, self.device, self.trust_remote_code, pooling, n_special, self.applies_modules
        )
        key = [self.source.fingerprint, pooling, n_special, self.applies_modules]
        return self.reader.embed(teacher.load, key, self.device != "cpu", sequences, reporter)


def check_memory(settings: DistillRequest, n_rows: int, teacher_dim: int | None) -> None:
    """Refuse a request whose vectors must all be in memory at once and take more than 4 GiB.

    Raises:
        InputError: They are.
    """
    n_bytes = 4 * n_rows * (teacher_dim or 0)
    if n_bytes <= MOST_BYTES_AT_ONCE:
        return
    size = f"{n_rows:,} rows of {teacher_dim:,} take {n_bytes / 2**30:.1f} GiB"
    if settings.is_calibrated:
        raise InputError(
            f"{size}, and fitting them to sentences takes over ten times that in the memory of one machine; "
            f"{MOST_BYTES_AT_ONCE >> 30} GiB are the most. Use recipe='fast' without a corpus (--recipe fast)."
        )
    if settings.vocabulary_quantization is not None:
        raise InputError(
            f"{size}, and vocabulary_quantization needs them in the memory of one machine several times; "
            f"{MOST_BYTES_AT_ONCE >> 30} GiB are the most. Leave it out, and compress the model afterwards: "
            "model.compressed(vocabulary_quantization=...)."
        )


class Reading:
    """What a teacher makes of a vocabulary and of sentences.

    Args:
        load: Loads the teacher, when it is first needed.
        settings: What to read.
        reporter: Gets the stages of it.
        source: Where the teacher is; None for one that was passed in memory.
        cache: Where to look first, and keep what was read.
        elsewhere: Has the vocabulary read in other processes; None for here. Sentences are read here in either case.
        most_dims: Width of the teacher's sentence embeddings: wider vectors are reduced to it; None for any width.
    """

    def __init__(
        self,
        load: Callable[[], Teacher],
        settings: DistillRequest,
        reporter: ProgressReporter,
        source: TeacherSource | None,
        cache: VectorCache | None,
        elsewhere: Elsewhere | None = None,
        most_dims: int | None = None,
    ) -> None:
        self._teacher = functools.lru_cache(maxsize=1)(load)
        self._settings = settings
        self._reporter = reporter
        self._source = source
        self._cache = cache
        self._elsewhere = elsewhere
        self._most_dims = most_dims

    def vocabulary(self) -> TeacherVectors:
        """Each entry of the vocabulary."""
        if self._cache is not None and self._source is not None:
            found = self._cache.find(self._source, self._settings)
            if found is not None:
                return found
        read = self._read_vocabulary(self._teacher())
        if self._cache is not None and self._source is not None and self._elsewhere is None:
            self._cache.keep(self._source, self._settings, read)
        return read

    def _read_vocabulary(self, teacher: Teacher) -> TeacherVectors:
        settings, words = self._settings, self._settings.vocabulary
        if words is not None:
            cleaned = clean_vocabulary(words)
            for sentence in cleaned.summary():
                logger.warning("Vocabulary: %s", sentence)
            words = cleaned.words
        vocabulary = build_static_vocabulary(
            teacher.tokenizer,
            words,
            settings.use_subword,
            settings.token_remove_pattern,
            teacher.pad_token,
            teacher.max_length,
        )
        if self._elsewhere is not None:
            check_memory(settings, len(vocabulary.sequences), teacher.teacher_dim)
        pooling = settings.pooling
        if pooling == "auto":
            pooling = choose_pooling(teacher, vocabulary, self._reporter)
        sequences, n_special = vocabulary.sequences, vocabulary.n_special
        if self._elsewhere is None:
            vectors = teacher.embed(sequences, pooling, self._reporter, n_special)
        else:
            vectors = self._elsewhere.embed(sequences, pooling, self._reporter, n_special)
        if self._most_dims is not None and vectors.shape[1] > self._most_dims:
            vectors = leading_components(vectors, self._most_dims)
        return TeacherVectors(vectors, np.asarray(vocabulary.ranks), vocabulary.tokenizer, pooling, vocabulary.entries)

    def sentences(self, texts: Sequence[str], tokenizer: Tokenizer, n_rows: int) -> Readings:
        """What the teacher makes of each text, and of each of the static tokenizer's tokens in it."""
        if self._cache is not None and self._source is not None:
            found = self._cache.find_sentences(self._source, texts, tokenizer, self._settings.prompt_name)
            if found is not None:
                return found
        from m2v_core.distillation.calibration.contexts import StateCollector

        collector = StateCollector(tokenizer, n_rows)
        readings = collector.readings(self._teacher().embed_texts(texts, self._reporter, collector))
        if self._cache is not None and self._source is not None:
            self._cache.keep_sentences(self._source, texts, tokenizer, self._settings.prompt_name, readings)
        return readings

    def prepared(self, pca_dims: PCADims, prepare: Callable[[], Prepared]) -> Prepared:
        """What calibrating begins with, which the weighting of the model doesn't change.

        Args:
            pca_dims: Those that the table is fitted with.
            prepare: Makes it.
        """
        if self._cache is not None and self._source is not None:
            found = self._cache.find_prepared(self._source, self._settings, pca_dims)
            if found is not None:
                return found
        made = prepare()
        if self._cache is not None and self._source is not None:
            self._cache.keep_prepared(self._source, self._settings, pca_dims, made)
        return made

    def fitted(self, pca_dims: PCADims, fit: Callable[[], Fitted]) -> Fitted:
        """The calibrated table, which neither the precision of the model changes nor, where it is cut, its dimensions.

        Args:
            pca_dims: Those that it is fitted with.
            fit: Makes it.
        """
        if self._cache is not None and self._source is not None:
            found = self._cache.find_fitted(self._source, self._settings, pca_dims)
            if found is not None:
                return found
        made = fit()
        if self._cache is not None and self._source is not None:
            self._cache.keep_fitted(self._source, self._settings, pca_dims, made)
        return made
