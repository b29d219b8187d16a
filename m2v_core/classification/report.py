"""How well predictions fit the truth: accuracy, and precision, recall and F1 of each label."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.classification.labels import Label


@dataclass(frozen=True)
class LabelScore:
    """One label's scores, each 0 to 1 and 0 where nothing can be divided.

    Attributes:
        label: Which.
        precision: Share of the texts predicted to have it that do.
        recall: Share of the texts that have it that are predicted to.
        f1: Harmonic mean of the two.
        n_texts: Texts that have it.
    """

    label: Label
    precision: float
    recall: float
    f1: float
    n_texts: int


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        n_texts: Texts judged.
        accuracy: Share of them with exactly the right label, or labels.
        macro_f1: Mean F1 of the labels, each counting alike.
        labels: The scores of each label.
    """

    n_texts: int
    accuracy: float
    macro_f1: float
    labels: tuple[LabelScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain types alone."""
        return asdict(self)


def scored(classes: list[Label], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Report:
    """The report on predictions.

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
