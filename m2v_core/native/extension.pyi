"""Types of the extension module built from `src/`."""

from typing import Any

from numpy.typing import NDArray

available_instructions: tuple[str, ...]
"""Instruction sets that this processor supports, of "plain C", "AVX2", "AVX-512" and "NEON"; the last one is used."""

_Rest = tuple[ChunkTable | None, list[int], list[int]]

class ChunkTable:
    """Chunks of text and their token ids, each below `n_vocabulary`.

    `hash_mask` is for tests: fewer bits make chunks collide.
    """

    def __new__(cls, n_vocabulary: int, hash_mask: int = ...) -> ChunkTable: ...
    def __len__(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Number of slots, chunks, token ids of chunks with more than two, and bytes of chunks longer than 16."""

    def add(self, chunk: bytes, ids: list[int], marks: int, /) -> None:
        """Insert a chunk unless the table contains it."""

    def get(self, chunk: bytes, /) -> tuple[list[int], int] | None:
        """Ids and marks of a chunk; None if the table does not contain it."""

    def awaiting(self) -> list[str]:
        """The chunks that have no tokens yet."""

    def fill(self, sequences: list[list[int]], marks: list[int], /) -> None:
        """Set the tokens and marks of the chunks that `awaiting` returns, in the same order."""

    def merged(
        self,
        other: ChunkTable,
        max_slots: int,
        max_token_ids: int,
        max_long_bytes: int,
        max_chunk_bytes: int,
        /,
    ) -> ChunkTable:
        """Return this table with the chunks of another added: this one if it has room, otherwise a larger copy.

        When the limits are reached, chunks that were not looked up since the table was created are evicted.
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
        """The chunk's token ids; None if the tokenizer must process the chunk."""

class Encoder:
    """A model's table and the rules by which its texts are split into chunks. Keeps references to its arrays."""

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

        Returns None if all are written and no chunk was new. Otherwise: a table of the new chunks, the indices of
        texts with chunks that `awaiting` returns, and the indices of texts that must be tokenized whole; indices
        are relative to `start`, and the embeddings of these texts are not written.
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
    """Split a list into about `n_parts` parts and return the end of each.

    A part has from `min_part` to `max_part` characters, counting at most `max_characters` of each text, and at most
    `max_texts` texts; the last part may be shorter.
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
