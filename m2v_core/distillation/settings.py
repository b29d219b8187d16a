"""Settings of a distillation, with their defaults and validation.

The command-line options, job parameters, the app's form, a model's configuration and the defaults of `distill` derive
from `DistillSettings`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Number, Real
from typing import Any, Literal, TypeGuard, get_args

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError

Pooling = Literal["auto", "mean", "piece_cls", "piece_half_cls", "last", "first", "pooler"]
"""How the hidden states of a vocabulary entry, encoded with special tokens, are pooled into one vector.

`mean` averages all positions, as in Model2Vec: the token between [CLS] and [SEP] contributes a third. `piece_cls` adds
the [CLS] state to the mean over the entry's own positions; `piece_half_cls` adds half of it. `first` and `last` use
one position; `pooler` uses the model's pooler. `auto` is `piece_cls` for teachers with mean pooling; for others, each
pooling is tried on up to 500 words, and the one whose sums agree best with the teacher's embeddings of bags of words
is used.
"""

CLS_SHARES = {"piece_cls": 1.0, "piece_half_cls": 0.5}

PCADims = int | float | Literal["auto"] | None
Weighting = Literal["sif", "zipf"]
Recipe = Literal["model2vec", "fast", "calibrated"]
Precision = Literal["float32", "float16", "int8"]
Dictionary = Literal["auto", "english", "none"]
Effort = Literal["quick", "balanced", "best"]

DEFAULT_WORDS = 30_000
"""Default number of words in an automatic vocabulary. It doubles the size of an English model.

Source: benchmarks/quality.md.
"""

_ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}

CHOICES: Mapping[str, tuple[str, ...]] = {
    "weighting": get_args(Weighting),
    "pooling": get_args(Pooling),
    "quantize_to": get_args(Precision),
    "recipe": get_args(Recipe),
    "dictionary": get_args(Dictionary),
    "effort": get_args(Effort),
}
"""Allowed values of the settings with a fixed set of names."""


@dataclass(frozen=True)
class TextLimits:
    """Maximum numbers of texts that the teacher embeds for calibration.

    Attributes:
        n_bags: Bags of random words.
        n_dictionary_lines: Definitions and example sentences: the first lines of the file, which is shuffled.
        n_corpus_texts: Texts of the corpus; larger corpora are sampled evenly.
    """

    n_bags: int
    n_dictionary_lines: int
    n_corpus_texts: int


LIMITS: Mapping[Effort, TextLimits] = {
    "quick": TextLimits(n_bags=10_000, n_dictionary_lines=10_000, n_corpus_texts=5_000),
    "balanced": TextLimits(n_bags=20_000, n_dictionary_lines=45_000, n_corpus_texts=20_000),
    "best": TextLimits(n_bags=80_000, n_dictionary_lines=75_000, n_corpus_texts=100_000),
}
"""The limits for each effort: fixed numbers, so that the result does not depend on the speed of the machine.

Source: benchmarks/quality.md, "Effort".
"""


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """Settings of a distillation.

    Attributes:
        recipe: `"model2vec"`, the published method; `"fast"`, the best quality at the same cost; or `"calibrated"`,
            which also has the teacher embed tens of thousands of texts (bags of random words and, for English
            teachers, a dictionary) and fits the table to these embeddings.
        pca_dims: Number of dimensions to keep, share of the variance to explain (0 to 1), `"auto"` to rotate without
            reducing, or None for no PCA.
        use_subword: With a vocabulary: True adds its words to the teacher's tokens; False makes a word-level model,
            which ignores unknown words.
        token_remove_pattern: Drop the teacher's tokens whose beginning matches this regular expression; None drops
            none.
        pooling: How the teacher's hidden states are pooled into a vector; see `Pooling`.
        weighting: `"sif"`, or `"zipf"` for the weights of Model2Vec before 0.4.0.
        sif_coefficient: The coefficient a of SIF weights, between 0 and 1; None gives all rows the same weight.
        apply_zipf: Whether to weight rows by rank.
        quantize_to: Number format of the table.
        vocabulary_quantization: Share this many rows among all tokens (k-means); None for one row per token.
        prompt_name: The teacher's prompt to prepend to each sentence, such as `"query"`; None for the default prompt,
            if it has one. Vocabulary entries are embedded without a prompt.
        dictionary: The dictionary whose definitions and example sentences the table is also fitted to. `"auto"` is
            `"english"` for the recipe `calibrated` if the teacher and vocabulary are English, else `"none"`.
        effort: How many texts the recipe `calibrated` uses, see `LIMITS`: `"quick"`, `"balanced"` or `"best"`. None
            means `"best"` for that recipe, and is required for the others.
        vocabulary_size: Maximum size of an automatic vocabulary: a number of words, or the model size in megabytes,
            such as `"40MB"`.

    Raises:
        InputError: A setting is out of range.
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
    effort: Effort | None = None
    vocabulary_size: int | str = DEFAULT_WORDS

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed and not (name == "effort" and self.effort is None):
                raise InputError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}.")
        for name in ("use_subword", "apply_zipf"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}; use True or False.")
        # NumPy numbers are converted to Python's.
        for name in ("pca_dims", "sif_coefficient", "vocabulary_quantization", "vocabulary_size"):
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
                f"token_remove_pattern {self.token_remove_pattern!r} is not a valid regular expression ({error}); "
                r"use one such as '\[unused\d+\]'."
            ) from error
        if self.vocabulary_quantization is not None and not _is_count(self.vocabulary_quantization):
            raise InputError(
                f"vocabulary_quantization is {self.vocabulary_quantization!r}; use a whole number of rows, 1 or more, "
                "or None for one row per token."
            )
        if self.prompt_name is not None and not (isinstance(self.prompt_name, str) and self.prompt_name):
            raise InputError(
                f"prompt_name is {self.prompt_name!r}; use the name of one of the teacher's prompts such as 'query', "
                "or None for its default."
            )
        if not _is_count(self.vocabulary_size) and self.most_bytes is None:
            raise InputError(
                f"vocabulary_size is {self.vocabulary_size!r}; use a whole number of words such as 30000, or the size "
                "of the model in megabytes such as '40MB'."
            )
        if self.recipe == "model2vec" and self.pooling == "auto":
            object.__setattr__(self, "pooling", "mean")  # as published
        if self.recipe == "model2vec" and self.dictionary == "english":
            raise InputError(
                "The recipe model2vec, as published, has no dictionary; use recipe='fast' or 'calibrated', or omit "
                "dictionary."
            )
        if self.recipe != "calibrated" and self.effort is not None:
            raise InputError(
                f"effort is {self.effort!r}, which applies only to recipe='calibrated'; with "
                f"recipe={self.recipe!r}, omit effort."
            )

    @property
    def limits(self) -> TextLimits:
        """The limits for the selected effort."""
        return LIMITS[self.effort or "best"]

    def corpus_note(self, n_texts: int) -> str | None:
        """Return a user-facing sentence if only part of the corpus is used; None if all of it is.

        Args:
            n_texts: Number of distinct texts in the corpus.
        """
        most = self.limits.n_corpus_texts
        if n_texts <= most:
            return None
        note = f"The corpus has {n_texts:,} distinct texts; {most:,} of them are used, evenly spaced"
        if most < LIMITS["best"].n_corpus_texts:
            note += f". With effort='best', up to {LIMITS['best'].n_corpus_texts:,} are used"
        return f"{note}."

    @property
    def most_bytes(self) -> int | None:
        """Maximum size of the table in bytes, from `vocabulary_size`; None if that is a number of words."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?MB", str(self.vocabulary_size), re.IGNORECASE)
        return (round(float(found[1]) * 1e6) or None) if found else None

    def table_bytes(self, n_rows: int, n_tokens: int, dim: int) -> int:
        """Bytes of a model's table, weights and mapping: `StaticModel.n_bytes`.

        Args:
            n_rows: Rows of the table.
            n_tokens: Tokens of the vocabulary, which share the rows with `vocabulary_quantization`.
            dim: Width of the rows.
        """
        n_bytes = n_rows * dim * _ITEM_BYTES[self.quantize_to]
        if self.vocabulary_quantization is not None:
            return n_bytes + 2 * 4 * n_tokens  # weights and mapping
        return n_bytes + 4 * n_tokens if self.quantize_to == "int8" else n_bytes  # the scale of each row

    @property
    def applies_modules(self) -> bool:
        """Whether the teacher's modules after pooling are applied to each token; the published method skips them."""
        return self.recipe != "model2vec"

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> DistillSettings:
        """Build settings from a dictionary as returned by `to_dict`; missing ones use their defaults.

        Raises:
            InputError: A name is unknown, or a setting is out of range.
        """
        if unknown := sorted(set(settings).difference(SETTING_NAMES)):
            raise InputError(f"Unknown setting {unknown[0]!r}; the settings are {', '.join(SETTING_NAMES)}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, as JSON values."""
        return {name: getattr(self, name) for name in SETTING_NAMES}


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_share(value: object) -> bool:
    return type(value) is float and 0.0 < value < 1.0


DEFAULTS = DistillSettings()
SETTING_NAMES = tuple(field.name for field in dataclasses.fields(DistillSettings))


def is_automatic(vocabulary: object) -> TypeGuard[str]:
    """Whether a vocabulary is automatic: `"auto"`, `"auto:corpus"` or a language such as `"auto:en"`."""
    return isinstance(vocabulary, str) and re.match(r"auto(:|$)", vocabulary.strip()) is not None


@dataclass(frozen=True, kw_only=True)
class DistillRequest(DistillSettings):
    """Settings and texts of a call to `distill`, without the teacher.

    Attributes:
        vocabulary: Words, most frequent first; words with their counts or relative frequencies; `"auto:en"` for the
            most frequent words of a language, `"auto"` for the teacher's language, `"auto:corpus"` for words and
            phrases of the corpus; None for the teacher's own tokens.
        corpus: Sentences to fit the table to; None for no corpus.

    Raises:
        InputError: The texts are invalid or conflict with the settings.
    """

    vocabulary: str | Sequence[str] | Mapping[str, float] | None = None
    corpus: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocabulary is None and not self.use_subword:
            raise InputError("use_subword=False makes a word-level model and requires a vocabulary; pass one.")
        if is_automatic(self.vocabulary):
            from m2v_core.distillation.word_lists import check_source

            check_source(self.vocabulary, bool(self.corpus))
        elif self.vocabulary_size != DEFAULT_WORDS:
            raise InputError(
                f"vocabulary_size is {self.vocabulary_size!r}, which applies only to automatic vocabularies; use "
                "vocabulary='auto' or 'auto:corpus', or omit vocabulary_size."
            )
        for name, of_what in (("vocabulary", "words"), ("corpus", "sentences")):
            texts = getattr(self, name)
            if is_automatic(texts):
                continue
            if isinstance(texts, str):
                auto = ", 'auto', 'auto:corpus', or a language such as 'auto:en'" * (name == "vocabulary")
                raise InputError(f"{name} is the string {texts[:40]!r}; pass a list of {of_what}{auto}.")
            if texts is not None:
                has_counts = name == "vocabulary" and _has_counts(texts)
                try:
                    items = list(texts) if has_counts else texts
                    checked = well_formed(checked_texts(items, f"a list of {of_what}"))
                except InputError as error:
                    raise InputError(f"{name}: {error}") from error
                object.__setattr__(self, name, checked)
                if has_counts:
                    from m2v_core.distillation.vocabulary import by_falling_count

                    object.__setattr__(self, name, by_falling_count(checked, texts.values()))
        if self.corpus is not None and self.recipe == "model2vec":
            raise InputError(
                "The recipe model2vec, as published, has no corpus; use recipe='fast' or 'calibrated', or omit corpus."
            )

    @property
    def is_calibrated(self) -> bool:
        """Whether the table is fitted to the teacher's sentence embeddings."""
        return self.recipe == "calibrated" or bool(self.corpus) or self.dictionary == "english"

    @property
    def mode(self) -> str:
        """The mode of Model2Vec: output, subword or word."""
        if self.vocabulary is None:
            return "output"
        return "vocabulary (subword)" if self.use_subword else "vocabulary (word)"


def _has_counts(vocabulary: Any) -> bool:
    """Whether the vocabulary maps words to counts; False for a data frame, which maps names to columns."""
    single = (str, Number, type(None))  # non-numeric counts are rejected later, in an error that names the word
    return isinstance(vocabulary, Mapping) and all(isinstance(count, single) for count in vocabulary.values())
