"""`distill` and `distill_from_model` with model2vec's arguments, defaults and recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from m2v_core.compat.model2vec.distill.inference import PoolingMode
from m2v_core.compat.model2vec.model import StaticModel
from m2v_core.compat.model2vec.quantization import DType, offered
from m2v_core.distillation import pipeline
from m2v_core.distillation.settings import PCADims


def distill(
    model_name: str,
    vocabulary: Sequence[str] | None = None,
    device: str | None = None,
    pca_dims: PCADims = 256,
    sif_coefficient: float | None = 1e-4,
    token_remove_pattern: str | None = r"\[unused\d+\]",
    trust_remote_code: bool = False,
    quantize_to: DType | str = DType.Float16,
    vocabulary_quantization: int | None = None,
    pooling: PoolingMode | str = PoolingMode.MEAN,
) -> StaticModel:
    """Distill a Sentence Transformer into a static model; see `m2v_core.distill`, with `recipe="model2vec"`.

    Args:
        model_name: A folder, or a repository on the Hub.
        vocabulary: Words and phrases to add to the teacher's own pieces; None for no additions.
        device: Device of torch; None to choose.
        pca_dims: Dimensions to keep, a share of variance to explain, `"auto"` to rotate only, or None for no PCA.
        sif_coefficient: The a of SIF weights; None gives all rows the same weight.
        token_remove_pattern: Remove the teacher's pieces that begin with a match of this regular expression.
        trust_remote_code: Whether to run custom code of the teacher.
        quantize_to: `"float32"`, `"float16"` or `"int8"`; `"float64"` gives float32.
        vocabulary_quantization: Number of rows shared by all tokens; None for one row per token.
        pooling: `"mean"`, `"last"`, `"first"` or `"pooler"`.

    Raises:
        InputError: An argument is out of range.
        TeacherError: The teacher can't be distilled.
    """
    settings = _settings(sif_coefficient, token_remove_pattern, quantize_to, vocabulary_quantization, pooling)
    return StaticModel.of(
        pipeline.distill(model_name, vocabulary, device, pca_dims, trust_remote_code=trust_remote_code, **settings)
    )


def distill_from_model(
    model: Any,
    tokenizer: Any,
    vocabulary: Sequence[str] | None = None,
    device: str | None = None,
    pca_dims: PCADims = 256,
    sif_coefficient: float | None = 1e-4,
    token_remove_pattern: str | None = r"\[unused\d+\]",
    quantize_to: DType | str = DType.Float16,
    vocabulary_quantization: int | None = None,
    pooling: PoolingMode | str = PoolingMode.MEAN,
) -> StaticModel:
    """Distill a transformers model with its fast tokenizer into a static model; otherwise like `distill`."""
    settings = _settings(sif_coefficient, token_remove_pattern, quantize_to, vocabulary_quantization, pooling)
    return StaticModel.of(pipeline.distill_from_model(model, tokenizer, vocabulary, device, pca_dims, **settings))


def _settings(
    sif_coefficient: float | None,
    token_remove_pattern: str | None,
    quantize_to: DType | str,
    vocabulary_quantization: int | None,
    pooling: PoolingMode | str,
) -> dict[str, Any]:
    return {
        "recipe": "model2vec",
        "sif_coefficient": sif_coefficient,
        "token_remove_pattern": token_remove_pattern,
        "quantize_to": offered(quantize_to),
        "vocabulary_quantization": vocabulary_quantization,
        "pooling": PoolingMode(pooling).value,
    }
