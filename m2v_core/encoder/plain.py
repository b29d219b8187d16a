"""The plain path: the tokenizer reads each text whole, and NumPy sums the rows.

It is the reference for the faster paths, and the fallback without compiled kernels and for tokenizers whose texts
cannot be split into chunks safely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows gathered at a time for each text: bounds the memory for texts of any length.
ROWS_AT_ONCE = 64
# Smaller batches use the calling thread: on busy cores, `encode_batch` takes milliseconds to start its threads.
_CHARACTERS_FOR_THREADS = 2_000


@dataclass(frozen=True)
class Table:
    """Token embeddings in any of the stored forms.

    Attributes:
        token_embeddings: (n_rows, dim) float32, float16 or int8.
        weights: (n_vocabulary,) float32 factor of each token's row; None if all are 1.
        token_mapping: (n_vocabulary,) int32 row of each token; None if token i has row i.
        unk_token_id: The token excluded from every mean; None if the tokenizer has none.
    """

    token_embeddings: NDArray[Any]
    weights: NDArray[np.float32] | None
    token_mapping: NDArray[np.int32] | None
    unk_token_id: int | None

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self.token_embeddings.shape[1])

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the weighted rows, (..., dim) float32, of ids of any shape (...)."""
        rows = self.token_embeddings[ids if self.token_mapping is None else self.token_mapping[ids]]
        rows = rows.astype(np.float32, copy=False)
        return rows if self.weights is None else rows * self.weights[ids][..., None]

    def counts(self) -> NDArray[np.bool_]:
        """Whether each token contributes to a mean, (n_vocabulary,); False for the unknown token and zero rows."""
        counts: NDArray[np.bool_] = np.any(self.token_embeddings, axis=1)  # (n_rows,)
        if self.token_mapping is not None:
            counts = counts[self.token_mapping]
        if self.weights is not None:
            counts &= self.weights != 0
        if self.unk_token_id is not None:
            counts[self.unk_token_id] = False
        return counts

    def means(self, sequences: list[list[int]], normalize: bool) -> NDArray[np.float32]:
        """Return the mean row of each sequence, (n_sequences, dim) float32; zeros for an empty sequence."""
        means = np.zeros((len(sequences), self.dim), dtype=np.float32)
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        for length in np.unique(lengths[lengths > 0]):
            members = np.flatnonzero(lengths == length)
            ids = np.array([sequences[i] for i in members], dtype=np.int64)  # (n_members, length)
            # The block size does not depend on the batch, so neither does a text's sum. Blocks are summed in float64
            # because a float32 sum of a million rows is off in the fourth digit.
            sums = np.zeros((len(members), self.dim))
            for start in range(0, length, ROWS_AT_ONCE):
                sums += self.rows(ids[:, start : start + ROWS_AT_ONCE]).sum(axis=1)
            means[members] = sums if normalize else sums / length
        if normalize:  # the mean and the sum have the same direction
            norms = np.sqrt(np.einsum("nd,nd->n", means, means, dtype=np.float64)).astype(np.float32)[:, None]
            np.divide(means, norms, out=means, where=norms > 0)
        return means


def truncate(texts: list[str], max_length: int | None, characters_per_token: int) -> list[str]:
    """Truncate the texts to the characters of `max_length` tokens, as Model2Vec does before it truncates tokens."""
    if max_length is None:
        return texts
    limit = max_length * characters_per_token
    return [text[:limit] if len(text) > limit else text for text in texts]


def drop_token(sequences: list[list[int]], token_id: int | None) -> list[list[int]]:
    """Return the sequences without a token; unchanged if it is None."""
    return [[i for i in ids if i != token_id] if token_id in ids else ids for ids in sequences]


def token_ids(tokenizer: Tokenizer, texts: list[str], max_length: int | None) -> list[list[int]]:
    """Return the ids of each text's first tokens, unknown tokens included.

    Args:
        tokenizer: No truncation or padding.
        texts: Texts to tokenize.
        max_length: Maximum number of tokens per text; None for no limit.
    """
    if sum(map(len, texts)) < _CHARACTERS_FOR_THREADS:
        return [tokenizer.encode(text, add_special_tokens=False).ids[:max_length] for text in texts]
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids[:max_length] for encoding in encodings]
