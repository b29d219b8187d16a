"""Types of the extension module built from `src/`."""

from typing import Any

from numpy.typing import NDArray

available_instructions: tuple[str, ...]
"""Instruction sets that this processor runs, of "plain C", "AVX2", "AVX-512" and "NEON"; the last is used."""

_Rest = tuple[ChunkTable | None, list[int], list[int]]

class ChunkTable:
    """Chunks of text and their token ids, each below `n_vocabulary`.

    `hash_mask` is for tests: fewer bits make chunks collide.
    """

    def __new__(cls, n_vocabulary: int, hash_mask: int = ...) -> ChunkTable: ...
    def __len__(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Slots, chunks, token ids of chunks with more than two, bytes of chunks with more than 16."""

    def add(self, chunk: bytes, ids: list[int], marks: int, /) -> None:
        """Insert a chunk unless it is there."""

    def get(self, chunk: bytes, /) -> tuple[list[int], int] | None:
        """Ids and marks of a chunk."""

    def awaiting(self) -> list[str]:
        """The chunks that have no tokens yet."""

    def fill(self, sequences: list[list[int]], marks: list[int], /) -> None:
        """Give the chunks of `awaiting`, in its order, their tokens and marks."""

    def merged(
        self,
        other: ChunkTable,
        max_slots: int,
        max_token_ids: int,
        max_long_bytes: int,
        max_chunk_bytes: int,
        /,
    ) -> ChunkTable:
        """This table with the chunks of another: itself where it has room, else a larger one.

        When the limits are reached, chunks that were not looked up since the table was made are left out.
        """

class Subwords:
    """A subword model for chunks of plain ASCII; `encoder/subwords.py` builds one from a tokenizer."""

    def __new__(
        cls,
        model: str,
        n_vocabulary: int,
        classes: bytes,
        spelling: bytes,
        pieces: dict[str, int] | tuple[str, ...],
        unknown: int,
        *,
        max_word_bytes: int = ...,
        inner_prefix: bytes = ...,
        prefix: bytes = ...,
        has_space: bool = ...,
        scores: NDArray[Any] = ...,
        unknown_score: float = ...,
        byte_ids: NDArray[Any] = ...,
        merges: NDArray[Any] = ...,
        prefers_whole_words: bool = ...,
    ) -> Subwords: ...
    def ids(self, chunk: bytes, /) -> list[int] | None:
        """The chunk's token ids; None where the tokenizer has to judge."""

class Encoder:
    """A model's table and the way its texts fall into chunks. Keeps the arrays it is given."""

    def __new__(
        cls,
        token_embeddings: NDArray[Any],
        mapping: NDArray[Any] | None,
        weights: NDArray[Any] | None,
        n_vocabulary: int,
        unknown: int,
        carries_space: bool,
        cuts_at_lines: bool,
        instructions: str = ...,
    ) -> Encoder: ...
    def pool(
        self,
        texts: list[str],
        start: int,
        stop: int,
        max_tokens: int,
        max_characters: int,
        known: ChunkTable,
        extra: ChunkTable | None,
        subwords: Subwords | None,
        normalize: bool,
        embeddings: NDArray[Any],
        /,
    ) -> _Rest | None:
        """Write the embeddings of `texts[start:stop]`, `(stop - start, dim) float32`.

        Returns None when all are written and no chunk was new. Otherwise: a table of the new chunks, the places of
        texts with chunks that `awaiting` lists, and the places of texts that the tokenizer must read whole; both are
        counted from `start`, and their embeddings are not written.
        """

    def token_ids(
        self,
        texts: list[str],
        start: int,
        stop: int,
        max_tokens: int,
        max_characters: int,
        known: ChunkTable,
        extra: ChunkTable | None,
        subwords: Subwords | None,
        /,
    ) -> tuple[list[list[int]], _Rest | None]:
        """The ids of the known tokens of `texts[start:stop]`, and the rest as in `pool`."""

def parts(
    texts: list[str], max_characters: int, n_parts: int, min_part: int, max_part: int, max_texts: int, /
) -> list[int]:
    """Where to cut a list into about `n_parts` parts: the end of each.

    A part has from `min_part` to `max_part` characters, of which `max_characters` count of each text, and at most
    `max_texts` texts; the last one may be shorter.
    """

def multiply_by_gram(
    starts: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[Any],
    table: NDArray[Any],
    products: NDArray[Any],
    /,
) -> None:
    """Write A^T (A table), `(n_columns, dim) float32`, for a sparse matrix A in CSR form."""
