"""The plain path: the tokenizer reads every text whole, and NumPy adds the rows.

Everything faster in this folder is measured against it. It is taken where the compiled kernels are missing, and for
tokenizers whose texts do not surely fall into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows gathered at once for each text while summing: bounds the memory whatever the length of a text.
ROWS_AT_ONCE = 64
# Fewer are read by the calling thread: on busy cores, the threads of `encode_batch` take milliseconds to begin.
_CHARACTERS_FOR_THREADS = 2_000


@dataclass(frozen=True)
class Table:
    """Token embeddings in any of the forms they are stored in.

    Attributes:
        token_embeddings: (n_rows, dim) float32, float16 or int8.
        weights: (n_vocabulary,) float32 factor of each token's row; None for ones.
        token_mapping: (n_vocabulary,) int32 row of each token; None where token i has row i.
        unk_token_id: The token left out of every mean; None when there is none.
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
        """Weighted rows: ids of any shape (...) -> (..., dim) float32."""
        rows = self.token_embeddings[ids if self.token_mapping is None else self.token_mapping[ids]]
        rows = rows.astype(np.float32, copy=False)
        return rows if self.weights is None else rows * self.weights[ids][..., None]

    def counts(self) -> NDArray[np.bool_]:
        """Whether each token changes the mean it stands in, (n_vocabulary,): not the unknown one, nor zeros."""
        counts: NDArray[np.bool_] = np.any(self.token_embeddings, axis=1)  # (n_rows,)
        if self.token_mapping is not None:
            counts = counts[self.token_mapping]
        if self.weights is not None:
            counts &= self.weights != 0
        if self.unk_token_id is not None:
            counts[self.unk_token_id] = False
        return counts

    def means(self, sequences: list[list[int]], normalize: bool) -> NDArray[np.float32]:
        """Means of rows: (n_sequences, dim) float32, of unit length if asked for; a zero row for an empty sequence."""
        means = np.zeros((len(sequences), self.dim), dtype=np.float32)
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        for length in np.unique(lengths[lengths > 0]):
            members = np.flatnonzero(lengths == length)
            ids = np.array([sequences[i] for i in members], dtype=np.int64)  # (n_members, length)
            # Blocks of one size, whatever the batch: a text's sum does not depend on its neighbours. float64
            # between them, for a float32 sum of a million rows is off in the fourth digit.
            sums = np.zeros((len(members), self.dim))
            for start in range(0, length, ROWS_AT_ONCE):
                sums += self.rows(ids[:, start : start + ROWS_AT_ONCE]).sum(axis=1)
            means[members] = sums if normalize else sums / length
        if normalize:  # a mean and its sum have the same direction
            norms = np.sqrt(np.einsum("nd,nd->n", means, means, dtype=np.float64)).astype(np.float32)[:, None]
            np.divide(means, norms, out=means, where=norms > 0)
        return means


def cut(texts: list[str], max_length: int | None, characters_per_token: int) -> list[str]:
    """The texts without what is beyond `max_length` tokens: as in Model2Vec, characters are cut before tokens."""
    if max_length is None:
        return texts
    limit = max_length * characters_per_token
    return [text[:limit] if len(text) > limit else text for text in texts]


def without(sequences: list[list[int]], unknown: int | None) -> list[list[int]]:
    """The sequences without the unknown token."""
    return [[i for i in ids if i != unknown] if unknown in ids else ids for ids in sequences]


def token_ids(tokenizer: Tokenizer, texts: list[str], max_length: int | None) -> list[list[int]]:
    """The ids of each text's first tokens, the unknown one among them.

    Args:
        tokenizer: Neither truncates nor pads.
        texts: Read whole.
        max_length: Tokens to give of each; None for all.
    """
    if sum(map(len, texts)) < _CHARACTERS_FOR_THREADS:
        return [tokenizer.encode(text, add_special_tokens=False).ids[:max_length] for text in texts]
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids[:max_length] for encoding in encodings]
