"""Distills Sentence Transformers into static models, with model2vec's recipe, arguments and defaults."""

from m2v_core.compat.model2vec.distill.distillation import distill, distill_from_model

__all__ = ["distill", "distill_from_model"]
