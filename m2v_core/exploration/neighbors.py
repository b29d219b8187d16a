"""Nearest neighbours by cosine: the words of a model, and documents; and how far two encoders agree on them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError
from m2v_core.exploration.rows import RowIndex, top_k
from m2v_core.model import StaticModel
from m2v_core.native.cosines import row_lengths, unit_rows
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.tokenization.spelling import readable_tokens

OVERLAP_NEIGHBORS = 10
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class Neighbor:
    """One entry of a vocabulary, or one document, and how near it is.

    Attributes:
        text: The document; the entry as people write it, without the tokenizer's marks.
        similarity: Cosine with the query, -1 to 1.
        rank: Its 0-based position in the vocabulary, or among the documents.
    """

    text: str
    similarity: float
    rank: int


class VectorNeighbors:
    """Finds the texts nearest to a vector, among texts whose vectors are there already.

    Args:
        texts: What is searched.
        rows: Their vectors, (n_texts, dim) float32, unit rows or zeros; may be mapped from a file.
        ranks: What stands as each one's rank, (n_texts,) int64; their places when None.
    """

    def __init__(self, texts: Sequence[str], rows: NDArray[np.float32], ranks: NDArray[np.int64] | None = None) -> None:
        self._texts = texts
        self._rows = rows
        self._ranks = ranks
        self._index = RowIndex(rows)

    def __len__(self) -> int:
        return len(self._texts)

    def search(self, query: NDArray[np.float32], k: int = 10, without: str | None = None) -> list[Neighbor]:
        """The `k` texts nearest to a vector, the nearest first; texts whose vector is zero are left out.

        Args:
            query: (dim,) float32, of any length; nothing is near a vector of zeros.
            k: How many to return.
            without: Leave this text out, in capitals and not.

        Raises:
            InputError: `k` is below 1, or the widths differ.
            MissingExtraError: There are over a million texts, and usearch is not installed.
        """
        unit = unit_rows(query[None])
        if not unit.any() or not len(self):
            return []
        wanted = None if without is None else without.strip().casefold()
        # The text itself may stand there more than once.
        n_same = 0 if wanted is None else sum(text.casefold() == wanted for text in self._texts)
        indices, similarities = self._index.search(unit, k + n_same)
        found = [
            Neighbor(self._texts[index], float(similarity), int(index if self._ranks is None else self._ranks[index]))
            for index, similarity in zip(indices[0], similarities[0], strict=True)
            if self._rows[index].any() and (wanted is None or self._texts[index].casefold() != wanted)
        ]
        return found[:k]


class WordNeighbors:
    """Finds the entries of a model's vocabulary nearest to a text.

    Holds the vocabulary's vectors once more, as float32: 4 x dim bytes an entry. What the tokenizer marks as special
    is no entry, such as "[PAD]".

    Args:
        model: The model to look into.
        whole_words: Leave out pieces that only continue a word, such as "##ing".

    Attributes:
        model: The model looked into.
        ranks: (n_entries,) int64 each entry's rank, rising.
        texts: The entries as people write them, by rank.
        rows: (n_entries, dim) float32, unit rows. Read them, don't change them.
    """

    def __init__(self, model: StaticModel, whole_words: bool = True) -> None:
        self.model = model
        texts, starts_word = readable_tokens(model.tokens)
        table = model.token_embeddings
        vectors = table if model.token_mapping is None else table[model.token_mapping]  # (n_vocabulary, dim)
        keep = np.array([bool(text) for text in texts], dtype=bool)
        if whole_words:
            keep &= starts_word
        keep[model.special_token_ids] = False
        # Weights scale rows and change no cosine, but for a row that they silence.
        keep &= np.any(vectors, axis=1)
        if model.weights is not None:
            keep &= model.weights != 0
        self.ranks = np.flatnonzero(keep)
        self.texts = [texts[rank] for rank in self.ranks]
        self.rows = unit_rows(vectors[self.ranks])
        self._index = VectorNeighbors(self.texts, self.rows, self.ranks)

    def __len__(self) -> int:
        return len(self.ranks)

    def norms(self) -> NDArray[np.float32]:
        """How much each entry counts in a mean, (n_entries,) float32, above 0: its row's length times its weight."""
        table, mapping = self.model.token_embeddings, self.model.token_mapping
        lengths = row_lengths(table.astype(np.float32))
        lengths = lengths[self.ranks if mapping is None else mapping[self.ranks]]
        if self.model.weights is not None:
            lengths = lengths * np.abs(self.model.weights[self.ranks])
        return np.asarray(lengths, dtype=np.float32)

    def search(self, text: str, k: int = 10) -> list[Neighbor]:
        """The `k` entries nearest to `text`, the nearest first, never `text` itself.

        Empty if the model knows no part of the text.

        Raises:
            InputError: `k` is below 1.
        """
        return self._index.search(self.model.encode([text])[0], k, without=text)


class DocumentNeighbors:
    """Finds the documents nearest to a text.

    Holds the documents' embeddings: 4 x dim bytes each, 100 MB for 100,000 of 256 dimensions.

    Args:
        model: Encodes the documents, at once, and every query.
        documents: The texts to search; their place is their rank.
    """

    def __init__(self, model: StaticModel, documents: Sequence[str]) -> None:
        self._model = model
        texts = well_formed(checked_texts(documents))
        self._index = VectorNeighbors(texts, unit_rows(model.encode(texts)))

    def search(self, text: str, k: int = 10) -> list[Neighbor]:
        """The `k` documents nearest to `text`, the nearest first; a document that equals it comes first.

        Documents of which the model knows no part are left out; empty if it knows no part of the text.

        Raises:
            InputError: `k` is below 1.
        """
        return self._index.search(self._model.encode([text])[0], k)


def found_by_both(a: Sequence[Neighbor], b: Sequence[Neighbor]) -> frozenset[int]:
    """The ranks that stand in both lists."""
    return frozenset(neighbor.rank for neighbor in a) & {neighbor.rank for neighbor in b}


def neighbor_overlap(
    rows: NDArray[np.float32],
    teacher_rows: NDArray[np.float32],
    k: int = OVERLAP_NEIGHBORS,
    of: NDArray[np.int64] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> NDArray[np.float32]:
    """For each row, the share of its `k` nearest that are among its `k` nearest in the other space too.

    Neighbours come from full vectors, by matrix product over all rows; a row is no neighbour of itself.

    Args:
        rows: (n_rows, dim) float32, unit rows.
        teacher_rows: The same texts by the teacher, (n_rows, teacher_dim) float32, unit rows.
        k: How many neighbours are looked at; all others if there are fewer.
        of: For which rows, (n_asked,) int64; all when None.
        progress: Receives `Progress` events of the stage `compare`, in rows.
        cancel: Set it from another thread to stop the work within a block.

    Returns:
        (n_asked,) float32, 0 to 1.

    Raises:
        InputError: The spaces have different numbers of rows, or `k` is below 1.
        Cancelled: `cancel` was set.
    """
    if len(rows) != len(teacher_rows):
        raise InputError(
            f"{len(rows)} rows can't be compared with {len(teacher_rows)}; both must be of the same texts, in order."
        )
    if k < 1:
        raise InputError(f"k is {k}; ask for at least 1 neighbour.")
    asked = np.arange(len(rows), dtype=np.int64) if of is None else of
    k = min(k, len(rows) - 1)
    overlap = np.zeros(len(asked), dtype=np.float32)
    reporter = ProgressReporter(progress, cancel)
    reporter.start("compare", len(asked))
    if k < 1:
        return overlap
    for start in range(0, len(asked), _BLOCK_ROWS):
        block = asked[start : start + _BLOCK_ROWS]
        nearest = [_others(top_k(space[block], space, k + 1)[0], block, k) for space in (rows, teacher_rows)]
        # (block, k, k): each neighbour here against each there, and neither list repeats itself
        same = nearest[0][:, :, None] == nearest[1][:, None, :]
        overlap[start : start + len(block)] = same.sum(axis=(1, 2)) / k
        reporter.advance(len(block))
    return overlap


def _others(found: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first `k` of each list that are not the row itself, (n_own, k); of k + 1, one at most is."""
    is_other = found != own[:, None]
    order = np.argsort(~is_other, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1)
