"""What a distillation is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from m2v_core.compression import DTYPES
from m2v_core.distillation.reduction import PCADims, check_pca_dims
from m2v_core.distillation.weighting import Weighting, rank_weights
from m2v_core.errors import InputError
from m2v_core.tokenization import compile_remove_pattern

Pooling = Literal["auto", "mean", "piece_cls", "piece_half_cls", "last", "first", "pooler"]
"""How the hidden states of an entry of the vocabulary, between the teacher's special tokens, become one vector.

`mean` is the mean over all positions, as Model2Vec has it: of a piece between [CLS] and [SEP] a third is the piece.
`piece_cls` adds the state of [CLS] to the mean over the entry's own positions, `piece_half_cls` half of it. `first`
and `last` take one position, and `pooler` the model's own. `auto` is `piece_cls` for a teacher that pools by the mean;
for any other the poolings are tried on some hundred words, and the one whose sums come closest to the teacher's own
embeddings of bags of these words is taken.
"""

CLS_SHARES = {"piece_cls": 1.0, "piece_half_cls": 0.5}

Recipe = Literal["model2vec", "fast", "calibrated"]
DEFAULT_RECIPE: Recipe = "calibrated"

_CHOICES = {"pooling": get_args(Pooling), "quantize_to": DTYPES, "recipe": get_args(Recipe)}


@dataclass(frozen=True)
class Settings:
    """The arguments of `distill` but for the teacher, checked before anything is downloaded.

    Raises:
        InputError: an argument is out of its range.
    """

    vocabulary: Sequence[str] | None
    pca_dims: PCADims
    apply_zipf: bool
    use_subword: bool
    sif_coefficient: float | None
    weighting: Weighting
    token_remove_pattern: str | None
    pooling: Pooling
    quantize_to: str
    vocabulary_quantization: int | None
    recipe: Recipe
    corpus: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.recipe == "model2vec" and self.pooling == "auto":
            object.__setattr__(self, "pooling", "mean")  # what was published
        check_pca_dims(self.pca_dims)
        rank_weights(1, self.weighting, self.sif_coefficient)
        compile_remove_pattern(self.token_remove_pattern)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}.")
        if self.vocabulary is None and not self.use_subword:
            raise InputError("use_subword=False makes a word-level model and needs a vocabulary; pass one.")
        if self.vocabulary is not None and (
            isinstance(self.vocabulary, str) or not isinstance(self.vocabulary, Sequence)
        ):
            raise InputError(
                f"vocabulary is a {type(self.vocabulary).__name__}; pass a list of words, or read a file of them first."
            )
        if self.corpus is not None:
            if isinstance(self.corpus, str) or not isinstance(self.corpus, Sequence):
                raise InputError(
                    f"corpus is a {type(self.corpus).__name__}; pass a list of sentences, or read a file of them first."
                )
            if self.recipe == "model2vec":
                raise InputError(
                    "The recipe model2vec reads no corpus, or it would be another; use recipe='fast' or 'calibrated'."
                )
        for entry in self.vocabulary or ():
            if not isinstance(entry, str):
                raise InputError(f"The vocabulary holds {entry!r}, a {type(entry).__name__}; pass strings.")

    @property
    def is_calibrated(self) -> bool:
        """Whether the table is fitted to what the teacher says of sentences."""
        return self.recipe == "calibrated" or bool(self.corpus)

    @property
    def mode(self) -> str:
        """Which of Model2Vec's three modes this is."""
        if self.vocabulary is None:
            return "output"
        return "vocabulary (subword)" if self.use_subword else "vocabulary (word)"
