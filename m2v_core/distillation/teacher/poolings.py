"""Choosing how a teacher's hidden states become the vector of a word, where nothing was asked for."""

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

_CANDIDATES: tuple[Pooling, ...] = ("piece_cls", "mean", "last", "first")
_MOST_WORDS = 500


def choose_pooling(teacher: Teacher, vocabulary: StaticVocabulary, reporter: ProgressReporter) -> Pooling:
    """The pooling whose sums of words come closest to the teacher's own embeddings of bags of them.

    For a teacher that pools by the mean this was measured to be `piece_cls`, and nothing is tried.

    Args:
        teacher: Ready to read.
        vocabulary: What it is going to read.
        reporter: Gets the stages of what is tried: a few hundred words and a thousand bags.

    Returns:
        One of `piece_cls`, `mean`, `last` and `first`; `piece_cls` where there are too few words to try.
    """
    if teacher.sentence_pooling == "mean":
        return "piece_cls"
    words, ids = whole_words(vocabulary.tokenizer)
    words, ids = words[:_MOST_WORDS], ids[:_MOST_WORDS]
    bags = synthetic_bags(words, np.arange(len(words)))
    if not bags:
        return "piece_cls"
    places = {word: i for i, word in enumerate(words)}
    counts = np.zeros((len(bags), len(words)), np.float32)
    for i, bag in enumerate(bags):
        for word in bag.split():
            counts[i, places[word]] += 1
    expected = _similarities(teacher.embed_texts(bags, reporter))
    agreements: dict[Pooling, float] = {}
    for pooling in _CANDIDATES:
        vectors = teacher.embed([vocabulary.sequences[i] for i in ids], pooling, reporter, vocabulary.n_special)
        found = _similarities(counts @ (vectors - vectors.mean(axis=0)))
        agreements[pooling] = float(np.corrcoef(expected, found)[0, 1])
    logger.info("Agreement of each pooling with the teacher: %s", agreements)
    return max(agreements, key=lambda pooling: np.nan_to_num(agreements[pooling], nan=-1.0))


def _similarities(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cosines of all pairs about the mean, `(n_pairs,)`."""
    centred = unit_rows(embeddings - embeddings.mean(axis=0))
    pairs: npt.NDArray[np.float32] = (centred @ centred.T)[np.triu_indices(len(centred), 1)]
    return pairs
