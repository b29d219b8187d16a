"""Searches stored vectors for the rows nearest to texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts
from m2v_core.errors import InputError, NotFoundError
from m2v_core.exploration.index.engines import Engine, Found, with_copies
from m2v_core.exploration.index.record import check_model, open_index, read_record
from m2v_core.exploration.index.stored import find_vectors
from m2v_core.exploration.rows import top_k
from m2v_core.model import StaticModel
from m2v_core.native.cosines import unit_rows

MAX_ROWS_WITHOUT_INDEX = 200_000  # reading them takes about a second


@dataclass(frozen=True)
class Hit:
    """A search result.

    Attributes:
        text: Text of the row; None if the files contain no texts.
        similarity: Cosine with the query, -1 to 1; with an index, in the precision of its number format.
        file: The Parquet file of the row.
        row: Index of the row in the file, from 0.
        columns: The other columns of the file, including the text.
    """

    text: str | None
    similarity: float
    file: str
    row: int
    columns: dict[str, Any]


class VectorSearch:
    """Searches vectors written by `m2v encode`, using their index or, if there are few, by reading all of them.

    Opening is fast, because the index is memory-mapped. Several threads can share one instance.

    Args:
        path: A folder of vectors, a Parquet file of vectors, or an index of either.
        exact: Whether to read all vectors even if there is an index.

    Raises:
        NotFoundError: There are no vectors, or too many to search without an index.
        InputError: The vectors or the index can't be read, or the index is out of date.
        MissingExtraError: pyarrow or the engine of the index isn't installed.
    """

    def __init__(self, path: str | Path, exact: bool = False) -> None:
        vectors = find_vectors(path)
        record = read_record(vectors)
        self._engine: Engine | None = None
        self._fingerprint = vectors.model_fingerprint
        self.model_name = vectors.model
        if record is not None:
            state = record.compared(vectors)
            if state != "changed":
                self.model_name = record.model or vectors.model
                self._fingerprint = self._fingerprint or record.model_fingerprint
            if not exact:
                if state != "same":
                    what = "were added to" if state == "added" else "changed in"
                    raise InputError(
                        f"Vectors {what} {vectors.path} after its index was built. Update it: m2v index {vectors.path}"
                    )
                vectors = replace(vectors, files=record.files)
                self._engine, self._copies = open_index(vectors, record)
        elif not exact and vectors.n_rows > MAX_ROWS_WITHOUT_INDEX:
            raise NotFoundError(
                f"{vectors.path} has {vectors.n_rows:,} vectors and no index. Build one: m2v index {vectors.path}. "
                "Or search without it, which reads all vectors each time (exact=True, --exact)."
            )
        vectors.check_files()
        self.vectors = vectors

    @property
    def is_exact(self) -> bool:
        """Whether each search reads all vectors."""
        return self._engine is None

    def load_model(self, name: str | None = None) -> StaticModel:
        """Load the model that computed the vectors.

        Args:
            name: Its folder or Hub name; None for the recorded one.

        Raises:
            NotFoundError: The model does not exist, or is not recorded.
            InputError: The model is a different one.
            M2VError: The model can't be loaded.
        """
        if name is None and self.model_name is None:
            raise NotFoundError(
                f"The model of the vectors in {self.vectors.path} is not recorded. Pass it (--model MODEL)."
            )
        try:
            model = StaticModel.from_pretrained(name or self.model_name or "")
        except NotFoundError as error:
            if name is not None:
                raise
            raise NotFoundError(
                f"The model of the vectors in {self.vectors.path}, {self.model_name}, does not exist. Pass its new "
                "location (--model MODEL)."
            ) from error
        self.check_model(model, name or self.model_name or "")
        return model

    def check_model(self, model: StaticModel, name: str) -> None:
        """Raise an error if a different model computed the vectors; the message refers to `model` as `name`.

        Raises:
            InputError: The model is a different one.
        """
        try:
            check_model(model, name, self.vectors.dim, self._fingerprint)
        except InputError as error:
            made_by = f" They were computed by {self.model_name}." if self.model_name else ""
            raise InputError(f"{error}{made_by}") from error

    def search(self, queries: NDArray[np.float32], k: int = 10) -> list[list[Hit]]:
        """Return the `k` nearest rows of each query, nearest first; rows of zeros are never returned.

        Args:
            queries: (n_queries, dim) float32, not necessarily normalized; a zero vector has no neighbors.
            k: Number of results.

        Raises:
            InputError: `k` is below 1, the widths differ, or a file is damaged.
        """
        units = unit_rows(queries)
        top_k(units, np.zeros((1, self.vectors.dim), dtype=np.float32), k)  # validates the queries
        if self._engine is None:
            found = self._search_all(units, k)
        elif len(self._engine):
            found = [with_copies(one, self._copies, k) for one in self._engine.search(units, k)]
        else:
            found = [_NOTHING] * len(units)
        found = [one if unit.any() else _NOTHING for one, unit in zip(found, units, strict=True)]
        numbers = [int(number) for keys, _ in found for number in keys]
        rows = dict(zip(numbers, self.vectors.rows(numbers), strict=True))
        return [
            [self._hit(int(number), float(cosine), rows[int(number)]) for number, cosine in zip(*one, strict=True)]
            for one in found
        ]

    def _search_all(self, units: NDArray[np.float32], k: int) -> list[Found]:
        best = [_NOTHING] * len(units)
        n_before = 0
        for vectors in self.vectors.batches():
            places = np.flatnonzero(vectors.any(axis=1))
            indices, cosines = top_k(units, unit_rows(vectors[places]), k)
            for query, (keys, similarities) in enumerate(best):
                keys = np.concatenate([keys, places[indices[query]] + n_before])
                similarities = np.concatenate([similarities, cosines[query]])
                order = np.argsort(-similarities, kind="stable")[:k]  # ties: the earlier row first
                best[query] = keys[order], similarities[order]
            n_before += len(vectors)
        return best

    def _hit(self, number: int, similarity: float, columns: dict[str, Any]) -> Hit:
        file, row = self.vectors.place(number)
        text = None if self.vectors.text_column is None else columns.get(self.vectors.text_column)
        return Hit(text, similarity, file.name, row, columns)


_NOTHING: Found = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def search_texts(search: VectorSearch, model: StaticModel, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
    """Return the `k` rows nearest to each text; see `VectorSearch.search`.

    Raises:
        InputError: See `VectorSearch.search`.
        M2VError: The texts can't be encoded.
    """
    return search.search(model.encode(checked_texts(queries)), k)
