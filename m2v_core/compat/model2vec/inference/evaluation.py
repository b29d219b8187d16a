"""Scores of predicted labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from m2v_core.classification.labels import membership
from m2v_core.classification.report import scored


def evaluate_single_or_multi_label(predictions: Iterable[Any], y: Iterable[Any]) -> dict[str, Any]:
    """Precision, recall, F1 and support of each label, their means, and the accuracy, as in scikit-learn's report.

    Args:
        predictions: A label, or a list of labels, for each text.
        y: The true labels.

    Returns:
        `{label: {"precision", "recall", "f1-score", "support"}, "accuracy", "macro avg": ..., "weighted avg": ...}`.
    """
    truth, found = ([each.tolist() if hasattr(each, "tolist") else each for each in of] for of in (y, predictions))
    if not (truth and isinstance(truth[0], (list, tuple, set))):
        truth, found = ([[label] for label in of] for of in (truth, found))
    classes = sorted({label for labels in [*truth, *found] for label in labels})
    report = scored(classes, membership(truth, classes), membership(found, classes))
    names = ("precision", "recall", "f1-score", "support")
    rows = np.array([(label.precision, label.recall, label.f1, label.n_texts) for label in report.labels])
    support = rows[:, 3].sum()
    means = {
        "macro avg": rows[:, :3].mean(axis=0),
        "weighted avg": rows[:, 3] @ rows[:, :3] / max(support, 1),
    }
    result: dict[str, Any] = {
        str(label): dict(zip(names, row, strict=True)) for label, row in zip(classes, rows.tolist(), strict=True)
    }
    result["accuracy"] = report.accuracy
    return result | {
        name: dict(zip(names, [*mean.tolist(), float(support)], strict=True)) for name, mean in means.items()
    }
