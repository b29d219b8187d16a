"""What the teacher makes of a model's words or of a person's documents, so that both can be set side by side.

The vectors are the Sentence Transformer's own, all its modules included. They stay in the job's result, from where
the app maps them into memory.
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
_TEXTS_A_STEP = 512  # between two reports of progress
_WORDS_A_BATCH = 128  # words are short: in batches of 32 they take twice as long


def read_words(order: WorkOrder) -> Mapping[str, Any]:
    """Let the teacher read the words of a model, and compare each word's neighbours.

    `model` is the model's folder, `model_id` what the app calls it, `teacher` a folder or a name on the Hub.

    Returns:
        `n_texts`, `dim`, and `mean_overlap`, the mean share of the nearest words that both have.
    """
    use_hub_account(order)
    reporter = ProgressReporter(order.progress, order.cancel)
    reporter.start("load")
    from m2v_core.exploration.neighbors import WordNeighbors, neighbor_overlap
    from m2v_core.exploration.projection import sample_rows
    from m2v_core.model import StaticModel

    words = WordNeighbors(StaticModel.from_pretrained(order.parameters["model"]))
    check_word_count(len(words))
    vectors = _read(load_teacher(order, order.parameters["teacher"]), words.texts, _WORDS_A_BATCH, reporter)
    np.save(order.staging / _VECTORS, vectors)
    overlap = neighbor_overlap(
        words.rows, vectors, of=sample_rows(len(words)), progress=order.progress, cancel=order.cancel
    )
    np.save(order.staging / _OVERLAP, overlap)
    return {"n_texts": len(vectors), "dim": vectors.shape[1], "mean_overlap": float(overlap.mean())}


def read_documents(order: WorkOrder) -> Mapping[str, Any]:
    """Let the teacher read documents.

    `documents` are the texts, `key` what the app calls them, `teacher` a folder or a name on the Hub.

    Returns:
        `n_texts` and `dim`.
    """
    use_hub_account(order)
    documents = order.texts.get("documents", [])
    check_document_count(len(documents))
    reporter = ProgressReporter(order.progress, order.cancel)
    reporter.start("load")
    vectors = _read(load_teacher(order, order.parameters["teacher"]), documents, 32, reporter)
    np.save(order.staging / _VECTORS, vectors)
    return {"n_texts": len(vectors), "dim": vectors.shape[1]}


def check_word_count(n_words: int, allowed: int | None = None) -> None:
    """Refuse what would take the teacher too long, or is nothing.

    Raises:
        LimitError: There are more than are allowed.
        NotFoundError: There are none.
    """
    if not n_words:
        raise NotFoundError("This model has no whole word for the teacher to read. Choose another model.")
    if allowed is not None and n_words > allowed:
        raise LimitError(
            f"This model has {n_words:,} words, and the teacher reads up to {allowed:,} here. "
            "Search the model alone, or choose one with a smaller vocabulary."
        )


def check_document_count(n_documents: int, allowed: int | None = None) -> None:
    """Refuse what would take the teacher too long, or is nothing.

    Raises:
        LimitError: There are more than are allowed.
        NotFoundError: There are none.
    """
    if not n_documents:
        raise NotFoundError("There are no documents for the teacher to read. Paste or upload some.")
    if allowed is not None and n_documents > allowed:
        raise LimitError(
            f"These are {n_documents:,} texts. The teacher is much slower than the static model and reads up to "
            f"{allowed:,} here: shorten the list, or search with the static model alone."
        )


def kept_vectors(result_folder: Path) -> NDArray[np.float32]:
    """The teacher's vectors in a job's result, mapped from the file: (n_texts, dim) float32, unit rows.

    Raises:
        NotFoundError: They are not there, or damaged.
    """
    return _kept(result_folder / _VECTORS, 2, "r")


def kept_overlap(result_folder: Path) -> NDArray[np.float32]:
    """Each shown word's share of neighbours that both encoders have: (n_shown,) float32, 0 to 1.

    The shown words are those of `exploration.projection.sample_rows`.

    Raises:
        NotFoundError: They are not there, or damaged.
    """
    return _kept(result_folder / _OVERLAP, 1, None)


def _kept(path: Path, n_dims: int, mmap_mode: Any) -> NDArray[np.float32]:
    gone = NotFoundError("What the teacher read is gone from the disk. Turn “Beside the teacher” off and on again.")
    try:
        array = np.asarray(np.load(path, mmap_mode=mmap_mode, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise gone from error
    if array.ndim != n_dims or array.dtype != np.float32:
        raise gone
    return array


def _read(
    teacher: TeacherEncoder, texts: Sequence[str], batch_size: int, reporter: ProgressReporter
) -> NDArray[np.float32]:
    from m2v_core.native.cosines import unit_rows

    reporter.start("encode", len(texts))
    vectors = np.empty((len(texts), teacher.facts.dim), dtype=np.float32)
    step = _TEXTS_A_STEP if batch_size == _WORDS_A_BATCH else 2 * batch_size
    for start in range(0, len(texts), step):
        read = teacher.encode(texts[start : start + step], batch_size)
        if not np.isfinite(read).all():
            raise TeacherOutputError("The teacher returned NaN or infinity; its weights are damaged.")
        vectors[start : start + step] = unit_rows(read)
        reporter.advance(len(read))
    return vectors
