"""Jobs that compute the teacher's embeddings of a model's words or a user's documents, for comparison.

The embeddings are computed with all modules of the Sentence Transformer. They are saved in the job's result, which the
app memory-maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import LimitError, NotFoundError, TeacherOutputError
from m2v_core.progress import ProgressReporter
from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.work.access import load_teacher, use_hub_account

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import TeacherEncoder

_VECTORS, _OVERLAP = "vectors.npy", "overlap.npy"
_STEP_WORDS = 512  # between progress events
_WORD_BATCH_SIZE = 128  # words are short: with a batch size of 32 they take twice as long


def embed_words(order: WorkOrder) -> Mapping[str, Any]:
    """Embed the words of a model with the teacher, and compare each word's neighbors.

    `model` is the model's folder, `model_id` its id in the library, `teacher` a folder or a name on the Hub.

    Returns:
        `n_texts`, `dim`, and `mean_overlap`, the mean share of common nearest words.
    """
    use_hub_account(order)
    reporter = ProgressReporter(order.progress, order.cancel)
    reporter.start("load")
    from m2v_core.exploration.neighbors import WordNeighbors, neighbor_overlap
    from m2v_core.exploration.projection import sample_rows
    from m2v_core.model import StaticModel

    words = WordNeighbors(StaticModel.from_pretrained(order.parameters["model"]))
    check_word_count(len(words))
    vectors = _embed(load_teacher(order, order.parameters["teacher"]), words.texts, _WORD_BATCH_SIZE, reporter)
    np.save(order.staging / _VECTORS, vectors)
    overlap = neighbor_overlap(
        words.rows, vectors, of=sample_rows(len(words)), progress=order.progress, cancel=order.cancel
    )
    np.save(order.staging / _OVERLAP, overlap)
    return {"n_texts": len(vectors), "dim": vectors.shape[1], "mean_overlap": float(overlap.mean())}


def embed_documents(order: WorkOrder) -> Mapping[str, Any]:
    """Embed documents with the teacher.

    `documents` are the texts, `key` identifies them in the app, `teacher` is a folder or a name on the Hub.

    Returns:
        `n_texts` and `dim`.
    """
    use_hub_account(order)
    documents = order.texts.get("documents", [])
    check_document_count(len(documents))
    reporter = ProgressReporter(order.progress, order.cancel)
    reporter.start("load")
    vectors = _embed(load_teacher(order, order.parameters["teacher"]), documents, 32, reporter)
    np.save(order.staging / _VECTORS, vectors)
    return {"n_texts": len(vectors), "dim": vectors.shape[1]}


def check_word_count(n_words: int, allowed: int | None = None) -> None:
    """Check the number of words before embedding them.

    Raises:
        LimitError: There are more than allowed.
        NotFoundError: There are none.
    """
    if not n_words:
        raise NotFoundError("This model has no whole words for the teacher to encode. Choose another model.")
    if allowed is not None and n_words > allowed:
        raise LimitError(
            f"This model has {n_words:,} words; the limit for the teacher is {allowed:,}. "
            "Search without the teacher, or choose a model with a smaller vocabulary."
        )


def check_document_count(n_documents: int, allowed: int | None = None) -> None:
    """Check the number of documents before embedding them.

    Raises:
        LimitError: There are more than allowed.
        NotFoundError: There are none.
    """
    if not n_documents:
        raise NotFoundError("There are no documents for the teacher to encode. Paste or upload some.")
    if allowed is not None and n_documents > allowed:
        raise LimitError(
            f"The list has {n_documents:,} texts; the limit for the teacher, which is much slower than the static "
            f"model, is {allowed:,}. Shorten the list, or search without the teacher."
        )


def load_vectors(result_folder: Path) -> NDArray[np.float32]:
    """Memory-map the teacher's vectors in a job's result: (n_texts, dim) float32, unit rows.

    Raises:
        NotFoundError: The file is missing or damaged.
    """
    return _load(result_folder / _VECTORS, 2, "r")


def load_overlap(result_folder: Path) -> NDArray[np.float32]:
    """Load the share of common neighbors of each shown word: (n_shown,) float32, 0 to 1.

    The shown words are those of `exploration.projection.sample_rows`.

    Raises:
        NotFoundError: The file is missing or damaged.
    """
    return _load(result_folder / _OVERLAP, 1, None)


def _load(path: Path, n_dims: int, mmap_mode: Any) -> NDArray[np.float32]:
    missing = NotFoundError("The teacher's embeddings were deleted. Turn “Compare with teacher” off and on again.")
    try:
        array = np.asarray(np.load(path, mmap_mode=mmap_mode, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise missing from error
    if array.ndim != n_dims or array.dtype != np.float32:
        raise missing
    return array


def _embed(
    teacher: TeacherEncoder, texts: Sequence[str], batch_size: int, reporter: ProgressReporter
) -> NDArray[np.float32]:
    from m2v_core.native.cosines import unit_rows

    reporter.start("encode", len(texts))
    vectors = np.empty((len(texts), teacher.facts.dim), dtype=np.float32)
    step = _STEP_WORDS if batch_size == _WORD_BATCH_SIZE else 2 * batch_size
    for start in range(0, len(texts), step):
        batch = teacher.encode(texts[start : start + step], batch_size)
        if not np.isfinite(batch).all():
            raise TeacherOutputError("The teacher returned NaN or infinity; its weights are damaged.")
        vectors[start : start + step] = unit_rows(batch)
        reporter.advance(len(batch))
    return vectors
