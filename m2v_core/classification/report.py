"""Evaluation results: accuracy, and precision, recall and F1 of each label."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.classification.labels import Label


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label, each 0 to 1, and 0 if undefined.

    Attributes:
        label: The label.
        precision: Share of the texts with this prediction that have the label.
        recall: Share of the texts with the label that have this prediction.
        f1: Harmonic mean of the two.
        n_texts: Number of texts with the label.
    """

    label: Label
    precision: float
    recall: float
    f1: float
    n_texts: int


@dataclass(frozen=True)
class Report:
    """Results of an evaluation.

    Attributes:
        n_texts: Number of evaluated texts.
        accuracy: Share of them with exactly the right label or labels.
        macro_f1: Unweighted mean F1 of the labels.
        labels: Scores of each label.
    """

    n_texts: int
    accuracy: float
    macro_f1: float
    labels: tuple[LabelScore, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain types."""
        return asdict(self)


def scored(classes: list[Label], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Report:
    """Build the report on predictions.

    Args:
        classes: Names of the columns.
        truth: (n_texts, n_labels), one text or more: which text has which label.
        predicted: Of the same shape: which are predicted.
    """
    hits = (truth & predicted).sum(axis=0)
    precision, recall = _ratio(hits, predicted.sum(axis=0)), _ratio(hits, truth.sum(axis=0))
    f1 = _ratio(2 * hits, predicted.sum(axis=0) + truth.sum(axis=0))
    columns = zip(classes, precision.tolist(), recall.tolist(), f1.tolist(), truth.sum(axis=0).tolist(), strict=True)
    accuracy = float((truth == predicted).all(axis=1).mean())
    return Report(len(truth), accuracy, float(f1.mean()), tuple(LabelScore(*column) for column in columns))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
