"""Automatic choice of the pooling of a vocabulary entry's hidden states."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from m2v_core.distillation.calibration.bags import synthetic_bags, whole_words
from m2v_core.distillation.settings import Pooling
from m2v_core.native.cosines import unit_rows
from m2v_core.progress import ProgressReporter
from m2v_core.tokenization import StaticVocabulary

if TYPE_CHECKING:
    from m2v_core.distillation.teacher.teacher import Teacher

logger = logging.getLogger(__name__)

CANDIDATES: tuple[Pooling, ...] = ("piece_cls", "mean", "last", "first")
_MAX_WORDS = 500
_MAX_BAGS = 2_000


def choose_pooling(teacher: Teacher, vocabulary: StaticVocabulary, reporter: ProgressReporter) -> Pooling:
    """Choose the pooling whose sums of word vectors agree best with the teacher's embeddings of bags of words.

    For teachers with mean pooling the best choice is known to be `piece_cls`, so nothing is computed.

    Args:
        teacher: The loaded teacher.
        vocabulary: The vocabulary to embed.
        reporter: Reports the stage `"pooling"`, once for the bags and once for each candidate.

    Returns:
        One of `piece_cls`, `mean`, `last` and `first`; `piece_cls` if there are too few words to compare.
    """
    if teacher.sentence_pooling == "mean":
        return "piece_cls"
    words, ids = whole_words(vocabulary.tokenizer)
    words, ids = words[:_MAX_WORDS], ids[:_MAX_WORDS]
    bags = synthetic_bags(words, np.arange(len(words)), _MAX_BAGS)
    if not bags:
        return "piece_cls"
    places = {word: i for i, word in enumerate(words)}
    counts = np.zeros((len(bags), len(words)), np.float32)
    for i, bag in enumerate(bags):
        for word in bag.split():
            counts[i, places[word]] += 1
    expected = _similarities(teacher.embed_texts(bags, reporter, stage="pooling"))
    agreements: dict[Pooling, float] = {}
    for pooling in CANDIDATES:
        sequences = [vocabulary.sequences[i] for i in ids]
        vectors = teacher.embed(sequences, pooling, reporter, vocabulary.n_special, "pooling")
        found = _similarities(counts @ (vectors - vectors.mean(axis=0)))
        agreements[pooling] = float(np.corrcoef(expected, found)[0, 1])
    logger.info("Agreement of each pooling with the teacher: %s", agreements)
    return max(agreements, key=lambda pooling: np.nan_to_num(agreements[pooling], nan=-1.0))


def _similarities(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cosines of all pairs after centering, `(n_pairs,)`."""
    centered = unit_rows(embeddings - embeddings.mean(axis=0))
    pairs: npt.NDArray[np.float32] = (centered @ centered.T)[np.triu_indices(len(centered), 1)]
    return pairs
