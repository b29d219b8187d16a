"""`distill` in `m2v_core.compat`, compared with the real model2vec, from the same small teacher."""

from __future__ import annotations

import numpy as np
import pytest

from m2v_core.compat.model2vec import StaticModel, distill
from m2v_core.compat.model2vec.distill.inference import PoolingMode
from m2v_core.compat.model2vec.quantization import DType
from m2v_core.errors import InputError
from tests.teachers import corpus_sentences

theirs = pytest.importorskip("model2vec.distill")

SENTENCES = corpus_sentences(60)


def cosines(model) -> np.ndarray:
    embeddings = model.encode(SENTENCES).astype(np.float64)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings @ embeddings.T


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((None, "cpu", 8, 1e-3), {}),
        ((["harbor", "kingfisher"], "cpu", None, None, None, False, "float32"), {}),
        ((None, "cpu"), {"pca_dims": 6, "pooling": PoolingMode.FIRST, "quantize_to": DType.Float64}),
    ],
    ids=["coefficient by place", "vocabulary", "enumerations"],
)
def test_a_distilled_model_equals_that_of_model2vec(arguments, named, build_teacher_once):
    folder = str(build_teacher_once("wordpiece"))
    ours = distill.distill(folder, *arguments, **named)
    plain = {name: getattr(value, "value", value) for name, value in named.items()}
    expected = theirs.distill(folder, *arguments, **plain)
    assert type(ours) is StaticModel
    assert ours.tokens == expected.tokens
    assert (ours.normalize, ours.dim) == (expected.normalize, expected.dim)
    assert np.abs(cosines(ours) - cosines(expected)).max() < 0.01


def test_from_a_model_and_its_tokenizer(build_teacher_once):
    transformers = pytest.importorskip("transformers")
    folder = build_teacher_once("wordpiece")
    teacher = transformers.AutoModel.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    ours = distill.distill_from_model(*teacher, None, "cpu", 8, 1e-3)
    np.testing.assert_array_equal(ours.embedding, distill.distill(str(folder), None, "cpu", 8, 1e-3).embedding)


@pytest.mark.parametrize(
    "arguments",
    [{"sif_coefficient": 2.0}, {"pooling": "best"}, {"quantize_to": "float8"}, {"pca_dims": "all"}],
    ids=str,
)
def test_invalid_input_is_rejected(arguments, build_teacher_once):
    with pytest.raises(ValueError, match=next(iter(map(str, arguments.values())))):
        distill.distill(str(build_teacher_once("wordpiece")), **arguments)
    with pytest.raises(InputError, match="vocabulary"):
        distill.distill(str(build_teacher_once("wordpiece")), "word")
