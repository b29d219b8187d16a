"""Nearest neighbors by cosine: words of a model, documents, and the agreement of two encoders on neighbors."""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError
from m2v_core.exploration.rows import RowIndex, top_k
from m2v_core.model import StaticModel
from m2v_core.native.cosines import row_lengths, unit_rows
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.tokenization.spelling import added_words, fragments_of_added_words, readable_tokens

OVERLAP_NEIGHBORS = 10
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class Neighbor:
    """An entry of a vocabulary, or a document, and its similarity.

    Attributes:
        text: The document, or the entry as readable text, without the tokenizer's markers.
        similarity: Cosine with the query, -1 to 1.
        rank: Its 0-based position in the vocabulary, or among the documents.
    """

    text: str
    similarity: float
    rank: int


class VectorNeighbors:
    """Finds the texts nearest to a vector, given the vectors of the texts.

    Args:
        texts: The texts to search.
        rows: Their vectors, (n_texts, dim) float32, unit rows or zeros; may be memory-mapped.
        ranks: Ranks for the results, (n_texts,) int64; None for the indices.
    """

    def __init__(self, texts: Sequence[str], rows: NDArray[np.float32], ranks: NDArray[np.int64] | None = None) -> None:
        self._texts = texts
        self._rows = rows
        self._ranks = ranks
        self._index = RowIndex(rows)

    def __len__(self) -> int:
        return len(self._texts)

    def search(self, query: NDArray[np.float32], k: int = 10, without: Collection[str] = ()) -> list[Neighbor]:
        """Return the `k` nearest texts, nearest first; texts with a zero vector are skipped.

        Args:
            query: (dim,) float32, not necessarily normalized; a zero vector has no neighbors.
            k: Number of results.
            without: Exclude these texts, ignoring case.

        Raises:
            InputError: `k` is below 1, or the widths differ.
            MissingExtraError: There are over a million texts, and usearch is not installed.
        """
        unit = unit_rows(query[None])
        if not unit.any() or not len(self):
            return []
        excluded = {text.strip().casefold() for text in without}
        # An excluded text may occur more than once.
        n_excluded = sum(text.casefold() in excluded for text in self._texts) if excluded else 0
        indices, similarities = self._index.search(unit, k + n_excluded)
        found = [
            Neighbor(self._texts[index], float(similarity), int(index if self._ranks is None else self._ranks[index]))
            for index, similarity in zip(indices[0], similarities[0], strict=True)
            if self._rows[index].any() and self._texts[index].casefold() not in excluded
        ]
        return found[:k]


class WordNeighbors:
    """Finds the entries of a model's vocabulary nearest to a text.

    Stores a copy of the vocabulary's vectors as float32: 4 x dim bytes per entry. Special tokens such as "[PAD]" are
    not entries.

    Args:
        model: The model to explore.
        whole_words: Exclude tokens that only continue a word, such as "##ing".

    Attributes:
        model: The explored model.
        ranks: (n_entries,) int64 rank of each entry, ascending.
        texts: The entries as readable text, by rank.
        rows: (n_entries, dim) float32, unit rows. Read-only by convention.
    """

    def __init__(self, model: StaticModel, whole_words: bool = True) -> None:
        self.model = model
        texts, starts_word = readable_tokens(model.tokens)
        table = model.token_embeddings
        vectors = table if model.token_mapping is None else table[model.token_mapping]  # (n_vocabulary, dim)
        keep = np.array([bool(text) for text in texts], dtype=bool)
        if whole_words:
            starts_word[list(added_words(model.tokenizer).values())] = True  # added words have no start marker
            keep &= starts_word
        keep[model.special_token_ids] = False
        # Weights scale rows without changing cosines, except for weights of zero.
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
        """Weight of each entry in a mean, (n_entries,) float32, above 0: its row's length times its weight."""
        table, mapping = self.model.token_embeddings, self.model.token_mapping
        lengths = row_lengths(table.astype(np.float32))
        lengths = lengths[self.ranks if mapping is None else mapping[self.ranks]]
        if self.model.weights is not None:
            lengths = lengths * np.abs(self.model.weights[self.ranks])
        return np.asarray(lengths, dtype=np.float32)

    def search(self, text: str, k: int = 10) -> list[Neighbor]:
        """Return the `k` entries nearest to `text`, nearest first, except those in `spelled_alike`.

        Empty if the text contains no known token.

        Raises:
            InputError: `k` is below 1.
        """
        return self._index.search(self.model.encode([text])[0], k, self.spelled_alike(text))

    def spelled_alike(self, text: str) -> set[str]:
        """Texts similar in spelling only: the text, subwords of its added words, added words with it as a subword.

        A teacher splits an added word such as "aspirin" into subwords, so its embedding is similar to that of "as".
        """
        tokens, key = self.model.tokens, text.strip().casefold()
        ids = self.model.tokenizer.encode(text, add_special_tokens=False).ids if self._fragments else []
        pieces = {piece for token_id in ids for piece in self._fragments.get(tokens[token_id], ())}
        return {text, *pieces, *(word for word, parts in self._fragments.items() if key in parts)}

    @functools.cached_property
    def _fragments(self) -> dict[str, frozenset[str]]:
        found = fragments_of_added_words(self.model.tokenizer)
        return {word: frozenset(part.casefold() for part in parts) for word, parts in found.items()}


class DocumentNeighbors:
    """Finds the documents nearest to a text.

    Stores the documents' embeddings: 4 x dim bytes each, 100 MB for 100,000 documents with 256 dimensions.

    Args:
        model: The model that encodes the documents, once, and each query.
        documents: The texts to search; their index is their rank.
    """

    def __init__(self, model: StaticModel, documents: Sequence[str]) -> None:
        self._model = model
        texts = well_formed(checked_texts(documents))
        self._index = VectorNeighbors(texts, unit_rows(model.encode(texts)))

    def search(self, text: str, k: int = 10) -> list[Neighbor]:
        """Return the `k` documents nearest to `text`, nearest first; an identical document comes first.

        Documents without known tokens are skipped; empty if the text contains no known token.

        Raises:
            InputError: `k` is below 1.
        """
        return self._index.search(self._model.encode([text])[0], k)


def found_by_both(a: Sequence[Neighbor], b: Sequence[Neighbor]) -> frozenset[int]:
    """The ranks that are in both lists."""
    return frozenset(neighbor.rank for neighbor in a) & {neighbor.rank for neighbor in b}


def neighbor_overlap(
    rows: NDArray[np.float32],
    teacher_rows: NDArray[np.float32],
    k: int = OVERLAP_NEIGHBORS,
    of: NDArray[np.int64] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> NDArray[np.float32]:
    """For each row, the share of its `k` nearest rows that are also among its `k` nearest in the other space.

    Neighbors are computed from full vectors by matrix products; a row is not a neighbor of itself.

    Args:
        rows: (n_rows, dim) float32, unit rows.
        teacher_rows: The teacher's vectors of the same texts, (n_rows, teacher_dim) float32, unit rows.
        k: Number of neighbors to compare; all other rows if there are fewer.
        of: Indices of the rows to compare, (n_asked,) int64; None for all.
        progress: Receives `Progress` events of the stage `compare`, in rows.
        cancel: Set it from another thread to stop within one block.

    Returns:
        (n_asked,) float32, 0 to 1.

    Raises:
        InputError: The spaces have different numbers of rows, or `k` is below 1.
        Cancelled: `cancel` was set.
    """
    if len(rows) != len(teacher_rows):
        raise InputError(
            f"{len(rows)} rows can't be compared with {len(teacher_rows)}; both must be for the same texts in the same "
            "order."
        )
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1.")
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
        # (block, k, k): compares all pairs of neighbors; neither list has duplicates
        same = nearest[0][:, :, None] == nearest[1][:, None, :]
        overlap[start : start + len(block)] = same.sum(axis=(1, 2)) / k
        reporter.advance(len(block))
    return overlap


def _others(found: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first `k` neighbors of each list of k + 1, without the row itself: (n_own, k)."""
    is_other = found != own[:, None]
    order = np.argsort(~is_other, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1)
