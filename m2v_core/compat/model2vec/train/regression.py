"""Regression: predicts numbers from texts."""

from torch import nn

from m2v_core.compat.model2vec.train.similarity import StaticModelForSimilarity
from m2v_core.compat.model2vec.train.trainer import Loss


class StaticModelForRegression(StaticModelForSimilarity):
    """A static model with a head that predicts numbers, trained on squared errors; see `StaticModelForSimilarity`."""

    _loss: Loss = staticmethod(nn.functional.mse_loss)
