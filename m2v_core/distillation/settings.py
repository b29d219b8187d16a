"""The settings of a distillation: what may be chosen, what it is without a choice, and what is refused.

The command's options, the parameters of jobs, the app's form and the configuration of a model derive from
`DistillSettings`; so do the defaults of `distill`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError

Pooling = Literal["auto", "mean", "piece_cls", "piece_half_cls", "last", "first", "pooler"]
"""How the hidden states of an entry of the vocabulary, between the teacher's special tokens, become one vector.

`mean` is the mean over all positions, as Model2Vec has it: of a piece between [CLS] and [SEP] a third is the piece.
`piece_cls` adds the state of [CLS] to the mean over the entry's own positions, `piece_half_cls` half of it. `first`
and `last` take one position, and `pooler` the model's own. `auto` is `piece_cls` for a teacher that pools by the mean;
for any other the poolings are tried on some hundred words, and the one whose sums come closest to the teacher's own
embeddings of bags of these words is taken.
"""

CLS_SHARES = {"piece_cls": 1.0, "piece_half_cls": 0.5}

PCADims = int | float | Literal["auto"] | None
Weighting = Literal["sif", "zipf"]
Recipe = Literal["model2vec", "fast", "calibrated"]
Precision = Literal["float32", "float16", "int8"]
Dictionary = Literal["auto", "english", "none"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "weighting": get_args(Weighting),
    "pooling": get_args(Pooling),
    "quantize_to": get_args(Precision),
    "recipe": get_args(Recipe),
    "dictionary": get_args(Dictionary),
}
"""What the settings that are one of a few names may be."""


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """How a teacher is distilled.

    Attributes:
        recipe: `"model2vec"`, the method as published; `"fast"`, the best at the same cost; or `"calibrated"`, which
            has the teacher read tens of thousands of texts too and fits the table to its embeddings of them: bags of
            random words, and a dictionary for English teachers.
        pca_dims: Dimensions to keep, or the share of variance to explain (0 to 1), or `"auto"` to rotate without
            reducing, or None for no PCA.
        use_subword: With a vocabulary: True joins its words to the teacher's subwords; False makes a word-level
            model, for which unknown words yield nothing.
        token_remove_pattern: The teacher's subwords that begin with a match of this regular expression are dropped;
            None drops none.
        pooling: How the teacher's hidden states become a vector; see `Pooling`.
        weighting: `"sif"`, or `"zipf"` as Model2Vec had it before 0.4.0.
        sif_coefficient: The a of SIF weights, between 0 and 1; None weighs all rows alike.
        apply_zipf: Whether rows are weighted by rank at all.
        quantize_to: Number format of the table.
        vocabulary_quantization: Share this many rows between all tokens (k-means); None for one row a token.
        prompt_name: The teacher's prompt to put before each sentence that it reads, such as `"query"`; None for the
            teacher's default prompt, if it has one. Entries of the vocabulary are read without a prompt.
        dictionary: The dictionary whose definitions and example sentences the table is fitted to as well. `"auto"` is
            `"english"` for the recipe `calibrated` where teacher and vocabulary are English, and else `"none"`.

    Raises:
        InputError: A setting is out of its range.
    """

    recipe: Recipe = "calibrated"
    pca_dims: PCADims = 256
    use_subword: bool = True
    token_remove_pattern: str | None = r"\[unused\d+\]"
    pooling: Pooling = "auto"
    weighting: Weighting = "sif"
    sif_coefficient: float | None = 1e-4
    apply_zipf: bool = True
    quantize_to: Precision = "float16"
    vocabulary_quantization: int | None = None
    prompt_name: str | None = None
    dictionary: Dictionary = "auto"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}.")
        for name in ("use_subword", "apply_zipf"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}; use True or False.")
        # Numbers of NumPy are taken, and kept as Python's.
        for name in ("pca_dims", "sif_coefficient", "vocabulary_quantization"):
            value = getattr(self, name)
            if isinstance(value, Real) and not isinstance(value, bool):
                object.__setattr__(self, name, int(value) if isinstance(value, Integral) else float(value))
        if self.pca_dims not in (None, "auto") and not (_is_count(self.pca_dims) or _is_share(self.pca_dims)):
            raise InputError(
                f"pca_dims is {self.pca_dims!r}; use a whole number of dimensions such as 256, a share of the variance "
                "between 0 and 1 such as 0.9, 'auto' to rotate without reducing, or None for no PCA."
            )
        if self.sif_coefficient is not None and not _is_share(self.sif_coefficient):
            raise InputError(
                f"sif_coefficient is {self.sif_coefficient!r}; use a number between 0 and 1 such as 1e-4, or None."
            )
        try:
            re.compile(self.token_remove_pattern or "")
        except (re.error, TypeError) as error:
            raise InputError(
                f"token_remove_pattern {self.token_remove_pattern!r} is no regular expression ({error}); "
                r"an example that is: '\[unused\d+\]'."
            ) from error
        if self.vocabulary_quantization is not None and not _is_count(self.vocabulary_quantization):
            raise InputError(
                f"vocabulary_quantization is {self.vocabulary_quantization!r}; use a whole number of rows, 1 or more, "
                "or None for one row a token."
            )
        if self.prompt_name is not None and not (isinstance(self.prompt_name, str) and self.prompt_name):
            raise InputError(
                f"prompt_name is {self.prompt_name!r}; use the name of one of the teacher's prompts such as 'query', "
                "or None for its default."
            )
        if self.recipe == "model2vec" and self.pooling == "auto":
            object.__setattr__(self, "pooling", "mean")  # what was published
        if self.recipe == "model2vec" and self.dictionary == "english":
            raise InputError(
                "The recipe model2vec reads no dictionary, or it would be another; use recipe='fast' or 'calibrated', "
                "or leave dictionary out."
            )

    @property
    def applies_modules(self) -> bool:
        """Whether the teacher's modules after pooling are applied to each token: the method as published has none."""
        return self.recipe != "model2vec"

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> DistillSettings:
        """Settings by their names, as `to_dict` gives them; those that are missing are as by default.

        Raises:
            InputError: There is no setting of such a name, or one is out of its range.
        """
        if unknown := sorted(set(settings).difference(SETTING_NAMES)):
            raise InputError(f"There is no setting {unknown[0]!r}; the settings are {', '.join(SETTING_NAMES)}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """All settings by their names, as plain JSON values."""
        return {name: getattr(self, name) for name in SETTING_NAMES}


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_share(value: object) -> bool:
    return type(value) is float and 0.0 < value < 1.0


DEFAULTS = DistillSettings()
SETTING_NAMES = tuple(field.name for field in dataclasses.fields(DistillSettings))


@dataclass(frozen=True, kw_only=True)
class DistillRequest(DistillSettings):
    """What `distill` was asked for, but for the teacher: settings and texts.

    Attributes:
        vocabulary: Words by falling frequency; None for the teacher's own subwords.
        corpus: Sentences to fit the table to; None for none.

    Raises:
        InputError: The texts can't be used, or not with these settings.
    """

    vocabulary: Sequence[str] | None = None
    corpus: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocabulary is None and not self.use_subword:
            raise InputError("use_subword=False makes a word-level model and needs a vocabulary; pass one.")
        for name, of_what in (("vocabulary", "words"), ("corpus", "sentences")):
            texts = getattr(self, name)
            if isinstance(texts, str):
                raise InputError(f"{name} is a str; pass a list of {of_what}, or read a file of them first.")
            if texts is not None:
                try:
                    checked = well_formed(checked_texts(texts, f"a list of {of_what}"))
                except InputError as error:
                    raise InputError(f"{name}: {error}") from error
                object.__setattr__(self, name, checked)
        if self.corpus is not None and self.recipe == "model2vec":
            raise InputError(
                "The recipe model2vec reads no corpus, or it would be another; use recipe='fast' or 'calibrated'."
            )

    @property
    def is_calibrated(self) -> bool:
        """Whether the table is fitted to what the teacher says of sentences."""
        return self.recipe == "calibrated" or bool(self.corpus) or self.dictionary == "english"

    @property
    def mode(self) -> str:
        """Which of Model2Vec's three modes this is."""
        if self.vocabulary is None:
            return "output"
        return "vocabulary (subword)" if self.use_subword else "vocabulary (word)"
