"""Models with a head that torch trains: labels, similarities, numbers and pairs."""

from m2v_core.errors import NeedsExtra

with NeedsExtra("torch", "distill"):
    from m2v_core.compat.model2vec.train.classifier import StaticModelForClassification
    from m2v_core.compat.model2vec.train.pairs import StaticModelForPairSimilarity
    from m2v_core.compat.model2vec.train.regression import StaticModelForRegression
    from m2v_core.compat.model2vec.train.similarity import StaticModelForSimilarity

__all__ = [
    "StaticModelForClassification",
    "StaticModelForPairSimilarity",
    "StaticModelForRegression",
    "StaticModelForSimilarity",
]
