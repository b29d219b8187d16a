"""Texts to labels: a head on top of a static model, trained on labelled texts."""

from m2v_core.classification.classifier import StaticClassifier

__all__ = ["StaticClassifier"]
