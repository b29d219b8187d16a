"""Text classification: a head on top of a static model, trained on labeled texts."""

from m2v_core.classification.classifier import StaticClassifier

__all__ = ["StaticClassifier"]
