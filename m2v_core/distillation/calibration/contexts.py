"""Contextual token vectors: the mean of the teacher's hidden states over a token's occurrences in texts.

Teachers are not trained on isolated tokens. The states of a token's occurrences in the calibration texts represent it
better. The vectors of rare tokens are smoothed towards the vector of the isolated token.

Source: Bommasani, Davis and Cardie, "Interpreting Pretrained Contextualized Representations via Reductions to Static
    Embeddings", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from m2v_core.distillation.cache import TextOutputs
from m2v_core.distillation.reduction import reduce_dims
from m2v_core.distillation.settings import PCADims
from m2v_core.native.cosines import unit_rows

if TYPE_CHECKING:
    import torch

_PRIOR_COUNT = 3.0  # weight of the isolated token's vector, in occurrences; 1 to 10 give similar results
_BATCH_TEXTS = 20_000
_NONE = -1


class StateCollector:
    """Sums the hidden states of each row's occurrences during the teacher's forward passes.

    Args:
        tokenizer: The static model's tokenizer, without truncation and padding.
        n_rows: Number of tokens of the static model.
    """

    def __init__(self, tokenizer: Tokenizer, n_rows: int) -> None:
        self._tokenizer = tokenizer
        self._n_rows = n_rows
        self._rows = np.empty(0, np.int64)
        self._starts = np.empty(0, np.int64)
        self._sums: torch.Tensor | None = None
        self._counts = np.zeros(n_rows, np.float32)

    def begin(self, texts: Sequence[str], encodings: Sequence[Encoding], n_characters_before: int) -> None:
        """Find the row of each of the teacher's tokens.

        Args:
            texts: The texts to embed.
            encodings: The teacher's encoding of each, with special tokens.
            n_characters_before: Number of characters of the prompt before each text.
        """
        rows = [
            rows_of_tokens(
                self._tokenizer.encode_batch(list(texts[start : start + _BATCH_TEXTS]), add_special_tokens=False),
                encodings[start : start + _BATCH_TEXTS],
                n_characters_before,
            )
            for start in range(0, len(texts), _BATCH_TEXTS)
        ]
        self._rows = np.concatenate(rows)
        self._rows[self._rows >= self._n_rows] = _NONE
        self._starts = np.cumsum([0, *(len(encoding) for encoding in encodings)])

    def add(self, indices: npt.NDArray[np.int64], states: torch.Tensor) -> None:
        """Add a batch.

        Args:
            indices: Indices of its texts, `(n_texts,)`.
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

    def outputs(self, embeddings: npt.NDArray[np.float32]) -> TextOutputs:
        """Return the sums and counts together with the texts' embeddings.

        Args:
            embeddings: `(n_texts, embedding_dim) float32`.
        """
        assert self._sums is not None, "at least one batch was added"
        return TextOutputs(embeddings, self._sums.cpu().numpy(), self._counts)


def rows_of_tokens(
    ours: Sequence[Encoding], theirs: Sequence[Encoding], n_characters_before: int = 0
) -> npt.NDArray[np.int64]:
    """Return the static token in which each of the teacher's tokens ends, -1 for none.

    Args:
        ours: The static tokenizer's encoding of each text.
        theirs: The teacher's encoding of each text, with special tokens.
        n_characters_before: Number of characters of the prompt before each text.

    Returns:
        (total number of tokens in `theirs`,) int64, text by text.
    """
    our_text, our_spans = _spans(ours)
    text, spans = _spans(theirs)
    ids = np.array([token for encoding in ours for token in encoding.ids], np.int64)
    last = spans[:, 1] - 1 - n_characters_before  # last character of each token
    longest = 1 + int(max(our_spans.max(initial=0), last.max(initial=0)))
    # Text number and character position combined into one sort key.
    found = np.searchsorted(our_text * longest + our_spans[:, 0], text * longest + last, side="right") - 1
    place = np.maximum(found, 0)
    is_special = spans[:, 1] <= spans[:, 0]
    if not len(ids):
        return np.full(len(spans), _NONE, np.int64)
    inside = (found >= 0) & (last >= 0) & (our_text[place] == text) & (last < our_spans[place, 1]) & ~is_special
    return np.where(inside, ids[place], _NONE)


def _spans(encodings: Sequence[Encoding]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each token's text number, and its character span (first, one past last), `(n_tokens, 2)`."""
    spans = np.array([span for encoding in encodings for span in encoding.offsets], np.int64).reshape(-1, 2)
    return np.repeat(np.arange(len(encodings)), [len(encoding) for encoding in encodings]), spans


def contextual_vectors(vectors: npt.NDArray[np.float32], kinds: Sequence[TextOutputs]) -> npt.NDArray[np.float32]:
    """Return each row's mean state over its contexts, smoothed towards the vector of the isolated token.

    Args:
        vectors: Vectors of isolated tokens, `(n_rows, teacher_dim) float32`.
        kinds: Outputs for each kind of text; each kind is centered separately.

    Returns:
        `(n_rows, teacher_dim) float32`, centered.
    """
    total = _PRIOR_COUNT * (vectors - vectors.mean(axis=0))
    counts = np.full(len(vectors), _PRIOR_COUNT, np.float32)
    for kind in kinds:
        mean = kind.state_sums.sum(axis=0, dtype=np.float64) / max(float(kind.state_counts.sum()), 1.0)
        total += kind.state_sums - kind.state_counts[:, None] * mean.astype(np.float32)
        counts += kind.state_counts
    return np.asarray(total / counts[:, None])


def contextual_directions(
    vectors: npt.NDArray[np.float32], kinds: Sequence[TextOutputs], pca_dims: PCADims, dim: int
) -> npt.NDArray[np.float32] | None:
    """Return the directions of tokens within texts.

    Args:
        vectors: Vectors of isolated tokens, `(n_rows, teacher_dim) float32`.
        kinds: As for `contextual_vectors`.
        pca_dims: As for `distill`.
        dim: Width of the table to fit.

    Returns:
        `(n_rows, dim) float32`, unit rows; None if this width is not possible, for example with too few rows for PCA.
    """
    found = reduce_dims(contextual_vectors(vectors, kinds), pca_dims if pca_dims in (None, "auto") else dim)
    if found.shape[1] != dim:
        return None
    return unit_rows(found)
