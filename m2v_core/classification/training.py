"""Trains a head on labeled texts: the steps of `StaticClassifier.fit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core._version import __version__
from m2v_core.classification.head import Head
from m2v_core.classification.labels import (
    Labels,
    checked_labels,
    checked_training_texts,
    held_out_split,
    label_lists,
    membership,
)
from m2v_core.classification.regression import (
    STRENGTHS,
    TOKEN_STRENGTHS,
    ClassWeight,
    can_read_tokens,
    chosen_strength,
    fitted_head,
    row_counts,
)
from m2v_core.classification.report import scored
from m2v_core.encoder.texts import checked_texts
from m2v_core.errors import InputError
from m2v_core.model import StaticModel
from m2v_core.progress import ProgressReporter


@dataclass(frozen=True)
class Training:
    """How a head was trained.

    Attributes:
        n_texts: Number of training texts, including those held out by `fit`.
        n_held_out: Number of texts held out to choose the settings; 0 if there were too few.
        accuracy: Share of those with exactly the right label or labels, before the head was trained on them too;
            slightly optimistic, because the settings were chosen on them. None without any.
        macro_f1: Their mean F1 of all labels, likewise.
        strength: scikit-learn's `C` of the logistic regression.
        n_epochs: Number of epochs of fine-tuning in the result; None if the table was not fine-tuned.
        seed: As passed.
        version: Version of M2V Studio.
        reads_tokens: Whether the table has columns with the scores of single tokens for the labels.
    """

    n_texts: int
    n_held_out: int
    accuracy: float | None
    macro_f1: float | None
    strength: float
    n_epochs: int | None
    seed: int
    version: str = __version__
    reads_tokens: bool = False

    def to_json(self) -> dict[str, Any]:
        """The values as plain types."""
        return asdict(self)

    @classmethod
    def of(cls, value: Any) -> Training | None:
        """Parse the entry of a `config.json`; None if it has another format."""
        names = {field.name for field in fields(cls)}
        is_known = isinstance(value, Mapping) and set(value) | {"reads_tokens"} == names
        return cls(**value) if is_known else None


def trained(
    model: StaticModel,
    texts: Iterable[str],
    labels: Iterable[Any],
    *,
    validation: float,
    validation_data: tuple[Iterable[str], Iterable[Any]] | None,
    class_weight: ClassWeight,
    read_tokens: bool,
    fine_tune: bool,
    max_epochs: int,
    seed: int,
    reporter: ProgressReporter,
) -> tuple[StaticModel, Head, Training]:
    """Return the model or a changed copy, the head, and how it was trained; see `StaticClassifier.fit`."""
    _check_settings(validation, class_weight, max_epochs, seed)
    texts = checked_training_texts(checked_texts(texts))
    learned = checked_labels(labels, len(texts))
    if validation_data is None:
        train, held_out = held_out_split(learned.members, validation, seed)
        outside, outside_members = [texts[number] for number in held_out], learned.members[held_out]
    else:
        train, held_out = np.arange(len(texts)), np.empty(0, np.int64)
        outside, outside_members = _validation_set(validation_data, learned)

    reporter.start("encode", len(texts) + len(outside))
    embeddings = model.encode(texts)  # (n_texts, dim)
    reporter.advance(len(texts))
    outside_embeddings = model.encode(outside)  # (n_outside, dim)
    reporter.advance(len(outside))

    # If texts can have any number of labels, the threshold serves the purpose of balancing.
    balanced = class_weight == "balanced" or (class_weight == "auto" and not learned.is_multi_label)
    of_train = Labels(learned.classes, learned.members[train], learned.is_multi_label)
    tries_tokens = bool(outside) and read_tokens and not fine_tune and can_read_tokens(len(train), len(learned.classes))
    reporter.start("head", len(STRENGTHS) + len(TOKEN_STRENGTHS) * tries_tokens + 1)
    counts, outside_counts, n_epochs = None, None, None
    held = outside_embeddings, None, outside_members
    choice = chosen_strength(STRENGTHS, model, embeddings[train], None, of_train, *held, balanced, reporter)
    if tries_tokens:
        counts, outside_counts = row_counts(model, texts), row_counts(model, outside)
        learning = model, embeddings[train], counts[train], of_train
        held = outside_embeddings, outside_counts, outside_members
        by_tokens = chosen_strength(TOKEN_STRENGTHS, *learning, *held, balanced, reporter)
        choice = max(choice, by_tokens, key=lambda either: either.score)
    fitted = choice.fitted
    reads_tokens, head = fitted.scores is not None, fitted.head
    if fine_tune and outside:
        from m2v_core.classification.finetuning import fine_tuned

        reporter.advance(1)
        tuned = fine_tuned(
            model,
            head,
            [texts[number] for number in train],
            of_train,
            outside,
            outside_members,
            balanced=balanced,
            max_epochs=max_epochs,
            seed=seed,
            reporter=reporter,
        )
        model, head, n_epochs = tuned.model, tuned.head, tuned.n_epochs
        outside_embeddings = model.encode(outside)
    judged = None
    if outside:
        predicted = head.predicted(fitted.inputs(outside_embeddings, outside_counts))
        judged = scored(learned.classes.tolist(), outside_members, predicted)
    if not n_epochs and len(held_out):
        counts = counts if reads_tokens else None
        fitted = fitted_head(model, embeddings, counts, learned, choice.strength, balanced)
        head = fitted.head
        reporter.advance(1)
    if reads_tokens:
        model, head = fitted.merge_into(model, fitted.inputs(embeddings, counts))
    training = Training(
        n_texts=len(texts),
        n_held_out=len(outside),
        accuracy=judged.accuracy if judged else None,
        macro_f1=judged.macro_f1 if judged else None,
        strength=choice.strength,
        n_epochs=n_epochs,
        seed=seed,
        reads_tokens=reads_tokens,
    )
    return model, head, training


def _check_settings(validation: float, class_weight: ClassWeight, max_epochs: int, seed: int) -> None:
    if not 0 < validation < 1:  # NaN too
        raise InputError(f"validation must be a share of the texts, between 0 and 1, not {validation!r}.")
    if class_weight not in ("auto", "balanced", None):
        raise InputError(f"class_weight must be 'auto', 'balanced' or None, not {class_weight!r}.")
    for name, value, least in (("max_epochs", max_epochs, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} must be a whole number of {least} or more, not {value!r}.")


def _validation_set(data: tuple[Iterable[str], Iterable[Any]], learned: Labels) -> tuple[list[str], NDArray[np.bool_]]:
    """The texts for choosing the settings, and their labels as (n, n_labels) bool."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError("validation_data must be two lists: (texts, labels).")
    texts = checked_texts(data[0])
    lists, is_multi_label = label_lists(data[1], len(texts))
    if not texts:
        raise InputError("validation_data contains no texts. Pass some, or None to hold out training texts.")
    if is_multi_label != learned.is_multi_label:
        raise InputError(
            "The training labels and those of validation_data must both be single labels or both be lists."
        )
    try:
        return texts, membership(lists, learned.classes.tolist())
    except InputError as error:
        raise InputError(f"validation_data: {error} Its labels must occur in the training data.") from error
