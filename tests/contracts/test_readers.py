"""Saved models loaded by the real packages of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2v_core.model import StaticModel
from tests.static_models import LINES, TEXTS, TOKENIZERS, static_model

model2vec = pytest.importorskip("model2vec")
sentence_transformers = pytest.importorskip("sentence_transformers")

# model2vec averages float16 rows in float16, so the last digits differ.
TOLERANCE = {"float32": 2e-6, "float16": 2e-3, "int8": 2e-6}


def sentence_transformer(folder: Path, dtype: str = "float32") -> Any:
    """Load the model as its card instructs."""
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return theirs.float() if dtype == "float16" else theirs


every_model = pytest.mark.parametrize(
    ("kind", "dtype", "n_clusters", "normalize"),
    [
        (kind, dtype, n_clusters, normalize)
        for kind in TOKENIZERS
        for dtype in TOLERANCE
        for n_clusters in (None, 20)
        for normalize in (True, False)
    ],
)


@every_model
def test_model2vec_agrees(tmp_path: Path, kind, dtype, n_clusters, normalize):
    model = static_model(kind, dtype=dtype, n_clusters=n_clusters, normalize=normalize, base_model_name="org/teacher")
    model.save_pretrained(tmp_path)
    theirs = model2vec.StaticModel.from_pretrained(tmp_path)
    tolerance = TOLERANCE[dtype] * (1 if normalize else 20)
    np.testing.assert_allclose(theirs.encode(list(TEXTS)), model.encode(TEXTS), atol=tolerance)
    assert theirs.normalize == normalize
    assert theirs.base_model_name == "org/teacher"
    assert theirs.embedding_dtype == dtype
    assert theirs.vocabulary_quantization == n_clusters
    assert theirs.tokenize(list(TEXTS[:-1])) == model.tokenize(TEXTS[:-1])


@every_model
def test_sentence_transformers_agrees(tmp_path: Path, kind, dtype, n_clusters, normalize):
    model = static_model(kind, dtype=dtype, n_clusters=n_clusters, normalize=normalize)
    model.save_pretrained(tmp_path)
    theirs = sentence_transformer(tmp_path, dtype)
    # It truncates tokens but not characters, so the long text at the end differs. Without normalizing, unknown
    # tokens count in its mean, which no saved file could change.
    texts = list(TEXTS[:-1]) if normalize else list(LINES)
    tolerance = TOLERANCE[dtype] * (1 if normalize else 20)
    np.testing.assert_allclose(theirs.encode(texts), model.encode(texts), atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_text_of_unknowns_is_zero_everywhere(tmp_path: Path, dtype):
    model = static_model("WordLevel", dtype=dtype)
    model.save_pretrained(tmp_path)
    for theirs in (
        model2vec.StaticModel.from_pretrained(tmp_path),
        sentence_transformer(tmp_path, dtype),
    ):
        embeddings = np.asarray(theirs.encode(["", "zzz zzz", "zzz the"]), dtype=np.float32)
        np.testing.assert_array_equal(embeddings[:2], 0)
        np.testing.assert_allclose(embeddings[2], model.encode("the"), atol=TOLERANCE[dtype])


@pytest.mark.parametrize("n_clusters", [None, 20])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_card_converts_where_sentence_transformers_must(tmp_path: Path, dtype, normalize, n_clusters):
    static_model("WordLevel", dtype=dtype, normalize=normalize, n_clusters=n_clusters).save_pretrained(tmp_path)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    embeddings = np.asarray(theirs.encode(["", "the"]), dtype=np.float32)
    assert np.isfinite(embeddings[1]).all()
    # When this fails for a release, its float16 is correct, and the card need not convert for it.
    assert np.isnan(embeddings[0]).any() == ((dtype, normalize, n_clusters) == ("float16", True, None))
    is_converted = f'SentenceTransformer("{tmp_path.name}").float()' in (tmp_path / "README.md").read_text()
    assert is_converted == np.isnan(embeddings[0]).any()


@pytest.mark.parametrize("kind", ["WordPiece", "byte-level BPE"])
def test_a_float16_model_takes_the_fast_path_of_model2vec(tmp_path: Path, kind):
    static_model(kind, dtype="float16").save_pretrained(tmp_path)
    theirs = model2vec.StaticModel.from_pretrained(tmp_path)
    assert theirs.embedding.dtype == np.float16
    assert theirs.weights is None
    assert theirs.token_mapping is None


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("max_length", [1, 5, None])
def test_readers_truncate_where_we_do(tmp_path: Path, kind, max_length):
    model = static_model(kind, max_length=max_length)
    model.save_pretrained(tmp_path)
    theirs = model2vec.StaticModel.from_pretrained(tmp_path)
    assert theirs.max_length == max_length
    np.testing.assert_allclose(theirs.encode(list(TEXTS)), model.encode(TEXTS), atol=2e-6)


@pytest.mark.parametrize("max_length", [3, 5])
def test_sentence_transformers_truncates_where_we_do(tmp_path: Path, max_length):
    model = static_model("WordLevel", max_length=max_length)
    model.save_pretrained(tmp_path)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    text = "sea fox run the sea fox run the sea"
    assert len(model.tokenize(text)[0]) > max_length
    assert len(model.tokenize(text, max_length)[0]) == max_length
    np.testing.assert_allclose(theirs.encode(text), model.encode(text), atol=2e-6)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("max_length", [1, 3, 40, None])
def test_limits_have_the_same_meaning(tmp_path: Path, kind, max_length):
    model = static_model(kind)
    model.save_pretrained(tmp_path)
    theirs = model2vec.StaticModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(
        theirs.encode(list(TEXTS), max_length=max_length), model.encode(TEXTS, max_length), atol=2e-6
    )
    for rows, their_rows in zip(
        model.encode_as_sequence(TEXTS, max_length),
        theirs.encode_as_sequence(list(TEXTS), max_length=max_length),
        strict=True,
    ):
        np.testing.assert_allclose(their_rows, rows, atol=2e-6)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("normalize", [True, False])
def test_models_saved_by_other_libraries_load_here(tmp_path: Path, kind, normalize):
    model = static_model(kind, dtype="int8", n_clusters=20, normalize=normalize)
    model.save_pretrained(tmp_path / "ours")
    model2vec.StaticModel.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "model2vec")
    again = StaticModel.from_pretrained(tmp_path / "model2vec")
    np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), atol=2e-6)
    assert again.normalize == normalize

    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    theirs.save(str(tmp_path / "st"))
    again = StaticModel.from_pretrained(tmp_path / "st")
    np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), atol=2e-6)
    assert again.normalize == normalize
