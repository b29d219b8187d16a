"""The rows of a table in context: the mean of the teacher's hidden states wherever a token stands in a text.

A piece read by itself is nothing that a teacher was trained on; the states of its occurrences in texts, which are read
anyway to calibrate with, say more about it. What is seldom or never met keeps, by so much, the vector it was given.

Source: Bommasani, Davis and Cardie, "Interpreting Pretrained Contextualized Representations via Reductions to Static
    Embeddings", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from m2v_core.distillation.cache import Readings
from m2v_core.distillation.reduction import reduce_dims
from m2v_core.distillation.settings import PCADims
from m2v_core.native.cosines import unit_rows

if TYPE_CHECKING:
    import torch

_FEW_CONTEXTS = 3.0  # occurrences that count as much as the vector read alone; 1 to 10 differ little
_TEXTS_AT_ONCE = 20_000
_NONE = -1


class StateCollector:
    """Adds up the hidden states of each row's occurrences while a teacher reads texts.

    Args:
        tokenizer: The static model's; neither truncates nor pads.
        n_rows: Tokens of the static model.
    """

    def __init__(self, tokenizer: Tokenizer, n_rows: int) -> None:
        self._tokenizer = tokenizer
        self._n_rows = n_rows
        self._rows = np.empty(0, np.int64)
        self._starts = np.empty(0, np.int64)
        self._sums: torch.Tensor | None = None
        self._counts = np.zeros(n_rows, np.float32)

    def begin(self, texts: Sequence[str], read: Sequence[Encoding], n_characters_before: int) -> None:
        """Find the row that each of the teacher's tokens belongs to.

        Args:
            texts: What is to be read.
            read: The teacher's encoding of each, with its special tokens.
            n_characters_before: Characters of the prompt before each text.
        """
        rows = [
            rows_of_tokens(
                self._tokenizer.encode_batch(list(texts[start : start + _TEXTS_AT_ONCE]), add_special_tokens=False),
                read[start : start + _TEXTS_AT_ONCE],
                n_characters_before,
            )
            for start in range(0, len(texts), _TEXTS_AT_ONCE)
        ]
        self._rows = np.concatenate(rows)
        self._rows[self._rows >= self._n_rows] = _NONE
        self._starts = np.cumsum([0, *(len(encoding) for encoding in read)])

    def add(self, indices: npt.NDArray[np.int64], states: torch.Tensor) -> None:
        """Add a batch.

        Args:
            indices: `(n_texts,)`, which texts it holds.
            states: `(n_texts, length, teacher_dim)`, the last hidden states.
        """
        import torch

        rows = self._rows[self._starts[indices][:, None] + np.arange(states.shape[1])].ravel()
        kept = np.flatnonzero(rows != _NONE)
        if self._sums is None:
            self._sums = torch.zeros(self._n_rows, states.shape[2], device=states.device)
        where = torch.from_numpy(kept).to(states.device)
        into = torch.from_numpy(rows[kept]).to(states.device)
        self._sums.index_add_(0, into, states.reshape(-1, states.shape[2])[where].float())
        self._counts += np.bincount(rows[kept], minlength=self._n_rows).astype(np.float32)

    def readings(self, embeddings: npt.NDArray[np.float32]) -> Readings:
        """What was added, beside what the teacher made of the texts.

        Args:
            embeddings: `(n_texts, embedding_dim) float32`.
        """
        assert self._sums is not None, "there is always something to read"
        return Readings(embeddings, self._sums.cpu().numpy(), self._counts)


def rows_of_tokens(
    ours: Sequence[Encoding], read: Sequence[Encoding], n_characters_before: int = 0
) -> npt.NDArray[np.int64]:
    """The static token in which each of the teacher's tokens ends, -1 for none.

    Args:
        ours: Each text as the static tokenizer cuts it.
        read: The same texts as the teacher's cuts them, special tokens included.
        n_characters_before: Characters of the prompt before each text.

    Returns:
        (n_tokens of all texts,) int64, row after row of `read`.
    """
    our_text, our_spans = _spans(ours)
    text, spans = _spans(read)
    ids = np.array([token for encoding in ours for token in encoding.ids], np.int64)
    last = spans[:, 1] - 1 - n_characters_before  # of the token's characters
    longest = 1 + int(max(our_spans.max(initial=0), last.max(initial=0)))
    # One number orders all characters of all texts.
    found = np.searchsorted(our_text * longest + our_spans[:, 0], text * longest + last, side="right") - 1
    place = np.maximum(found, 0)
    is_special = spans[:, 1] <= spans[:, 0]
    if not len(ids):
        return np.full(len(spans), _NONE, np.int64)
    inside = (found >= 0) & (last >= 0) & (our_text[place] == text) & (last < our_spans[place, 1]) & ~is_special
    return np.where(inside, ids[place], _NONE)


def _spans(encodings: Sequence[Encoding]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Number of each token's text, and `(n_tokens, 2)` first and one past last of its characters."""
    spans = np.array([span for encoding in encodings for span in encoding.offsets], np.int64).reshape(-1, 2)
    return np.repeat(np.arange(len(encodings)), [len(encoding) for encoding in encodings]), spans


def in_context(vectors: npt.NDArray[np.float32], kinds: Sequence[Readings]) -> npt.NDArray[np.float32]:
    """Each row's mean state over its contexts, drawn towards the vector that was read without any.

    Args:
        vectors: `(n_rows, teacher_dim) float32`.
        kinds: Texts of one kind each; every kind is centred by itself.

    Returns:
        `(n_rows, teacher_dim) float32`, centred.
    """
    total = _FEW_CONTEXTS * (vectors - vectors.mean(axis=0))
    counts = np.full(len(vectors), _FEW_CONTEXTS, np.float32)
    for kind in kinds:
        mean = kind.state_sums.sum(axis=0, dtype=np.float64) / max(float(kind.state_counts.sum()), 1.0)
        total += kind.state_sums - kind.state_counts[:, None] * mean.astype(np.float32)
        counts += kind.state_counts
    return np.asarray(total / counts[:, None])


def contextual_directions(
    vectors: npt.NDArray[np.float32], kinds: Sequence[Readings], pca_dims: PCADims, dim: int
) -> npt.NDArray[np.float32] | None:
    """The directions that tokens have within texts.

    Args:
        vectors: `(n_rows, teacher_dim) float32`, of tokens alone.
        kinds: As for `in_context`.
        pca_dims: As for `distill`.
        dim: Of the table that is to be fitted.

    Returns:
        `(n_rows, dim) float32`, unit rows; None where they can't have that width, as with rows too few for PCA.
    """
    found = reduce_dims(in_context(vectors, kinds), pca_dims if pca_dims in (None, "auto") else dim)
    if found.shape[1] != dim:
        return None
    return unit_rows(found)
