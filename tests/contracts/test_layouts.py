"""Every published layout, rebuilt and loaded.

Source: the releases of https://github.com/MinishLab/model2vec, and the files that sentence-transformers writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from m2v_core.errors import ModelFormatError
from m2v_core.model import StaticModel
from m2v_core.storage.formats import LAYOUTS
from tests.static_models import DIM, LINES, TEXTS, TOKENIZERS, random_table

model2vec = pytest.importorskip("model2vec")
sentence_transformers = pytest.importorskip("sentence_transformers")
st_modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

CARD = """---
base_model: org/teacher
language:
- en
library_name: model2vec
license: mit
model_name: org/static
tags:
- embeddings
- static-embeddings
---

# A card
"""
STATIC = {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}
NORMALIZE = {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
V0_1 = {"tokenizer_name": "org/teacher", "apply_pca": DIM, "apply_zipf": True}
V0_2_3 = {**V0_1, "hidden_dim": DIM, "seq_length": 1_000_000}
V0_3_4 = {**V0_2_3, "model_type": "model2vec", "architectures": ["StaticModel"]}
V0_3_9 = {**V0_3_4, "sif_coefficient": 1e-4, "normalize": True}
V0_7 = {**V0_3_9, "embedding_dtype": "float32", "pooling": "mean"}
V0_10 = {**V0_7, "max_length": 256}


def as_published(tokenizer: Tokenizer) -> Tokenizer:
    """Add the truncation and padding of many published files."""
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding(pad_id=0, pad_token=next(iter(tokenizer.get_vocab())))
    return tokenizer


def renamed_unigram() -> Tokenizer:
    """As written by 0.6 and 0.7 for every tokenizer: Unigram, with special tokens named [PAD] and [UNK]."""
    spec = json.loads(TOKENIZERS["Unigram"]().to_str())
    names = {"<pad>": "[PAD]", "<unk>": "[UNK]"}
    spec["model"]["vocab"] = [[names.get(piece, piece), score] for piece, score in spec["model"]["vocab"]]
    return Tokenizer.from_str(json.dumps(spec))


def write(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    tokenizer: Tokenizer,
    config: Mapping[str, Any],
    *,
    file: str = "model.safetensors",
    modules: list[dict[str, Any]] | None = None,
    card: bool = True,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / file)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    if modules is not None:
        (folder / "modules.json").write_text(json.dumps(modules))
    if card:
        (folder / "README.md").write_text(CARD)
    return folder


def expected_embeddings(tokenizer: Tokenizer, rows: np.ndarray, normalize: bool, max_length: int = 512) -> np.ndarray:
    return StaticModel(rows, tokenizer, normalize=normalize, max_length=max_length).encode(TEXTS)


@pytest.mark.parametrize("kind", ["WordPiece", "WordLevel"])
def test_0_1(tmp_path: Path, kind):
    tokenizer = as_published(TOKENIZERS[kind]())
    table = random_table(tokenizer.get_vocab_size())
    write(tmp_path, {"embeddings": table}, tokenizer, V0_1, file="embeddings.safetensors", card=False)
    model = StaticModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(model.encode(TEXTS), expected_embeddings(tokenizer, table, normalize=False))
    assert (model.normalize, model.max_length, model.base_model_name) == (False, 512, None)
    with pytest.raises(ValueError, match="model files"):
        model2vec.StaticModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "modules", "normalize"),
    [
        pytest.param(V0_1, None, False, id="0.2.0"),
        pytest.param(V0_2_3, None, False, id="0.2.3"),
        pytest.param(V0_3_4, None, False, id="0.3.4"),
        pytest.param(V0_3_4, [STATIC], False, id="0.3.7"),
        pytest.param(V0_3_4, [STATIC, NORMALIZE], True, id="0.3.7, normalizing"),
        pytest.param(V0_3_9, [STATIC, NORMALIZE], True, id="0.3.9"),
        pytest.param({**V0_3_9, "normalize": False}, [STATIC, NORMALIZE], False, id="config over modules"),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_0_2_to_0_5(tmp_path: Path, config, modules, normalize, dtype):
    tokenizer = as_published(TOKENIZERS["WordPiece"]())
    table = random_table(tokenizer.get_vocab_size()).astype(dtype)
    write(tmp_path, {"embeddings": table}, tokenizer, config, modules=modules)
    model = StaticModel.from_pretrained(tmp_path)
    kept = table.astype("float32") if dtype == "float64" else table
    np.testing.assert_array_equal(model.encode(TEXTS), expected_embeddings(tokenizer, kept, normalize))
    assert model.token_embeddings.dtype == kept.dtype
    assert (model.base_model_name, model.language) == ("org/teacher", ["en"])
    theirs = model2vec.StaticModel.from_pretrained(tmp_path, normalize=normalize)
    np.testing.assert_allclose(
        theirs.encode(list(TEXTS)), model.encode(TEXTS), atol=2e-6 if dtype != "float16" else 0.02
    )


@pytest.mark.parametrize("tokenizer", [renamed_unigram, TOKENIZERS["byte-level BPE"], TOKENIZERS["WordPiece"]])
@pytest.mark.parametrize("config", [V0_3_9, V0_7, V0_10], ids=["0.6", "0.7", "0.10"])
@pytest.mark.parametrize("mapping_dtype", [np.int32, np.int64, None])
@pytest.mark.parametrize("weights_dtype", [np.float16, np.float32, np.float64, None])
def test_0_6_on(tmp_path: Path, tokenizer, config, mapping_dtype, weights_dtype):
    tokenizer = as_published(tokenizer())
    n_vocabulary = tokenizer.get_vocab_size()
    rng = np.random.default_rng(0)
    rows = table = random_table(n_vocabulary if mapping_dtype is None else 15)
    tensors = {"embeddings": table}
    if mapping_dtype is not None:
        tensors["mapping"] = rng.integers(0, len(table), n_vocabulary).astype(mapping_dtype)
        rows = table[tensors["mapping"]]
        config = {**config, "vocabulary_quantization": len(table)}
    if weights_dtype is not None:
        tensors["weights"] = rng.uniform(0.1, 2, n_vocabulary).astype(weights_dtype)
        rows = rows * tensors["weights"].astype(np.float32)[:, None]
    write(tmp_path, tensors, tokenizer, config, modules=[STATIC, NORMALIZE])

    model = StaticModel.from_pretrained(tmp_path)
    max_length = config.get("max_length", 512)
    np.testing.assert_allclose(model.encode(TEXTS), expected_embeddings(tokenizer, rows, True, max_length), atol=1e-6)
    assert model.max_length == max_length
    assert model.config == config
    theirs = model2vec.StaticModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(theirs.encode(list(TEXTS)), model.encode(TEXTS), atol=2e-6)


def test_plain_int8(tmp_path: Path):
    tokenizer = TOKENIZERS["WordPiece"]()
    table = np.random.default_rng(0).integers(-127, 128, (tokenizer.get_vocab_size(), DIM)).astype(np.int8)
    write(tmp_path, {"embeddings": table}, tokenizer, {**V0_10, "embedding_dtype": "int8"}, modules=[STATIC])
    model = StaticModel.from_pretrained(tmp_path)
    assert model.weights is None
    theirs = model2vec.StaticModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(theirs.encode(list(TEXTS)), model.encode(TEXTS), atol=2e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_written_by_model2vec(tmp_path: Path, normalize):
    for dtype in ("float16", "float32", "float64", "int8"):
        tokenizer = TOKENIZERS["Unigram"]()
        table = random_table(tokenizer.get_vocab_size())
        original = model2vec.StaticModel(table, tokenizer, normalize=normalize, max_length=20)
        theirs = model2vec.model.quantize_model(original, quantize_to=dtype)
        theirs.save_pretrained(tmp_path / dtype)
        model = StaticModel.from_pretrained(tmp_path / dtype)
        atol = (2e-3 if dtype == "float16" else 2e-6) * (1 if normalize else 10)
        np.testing.assert_allclose(model.encode(TEXTS), theirs.encode(list(TEXTS)), atol=atol, rtol=1e-6)
        assert model.normalize == normalize


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("max_length", [5, None])
def test_written_by_sentence_transformers(tmp_path: Path, kind, normalize, max_length):
    tokenizer = TOKENIZERS[kind]()
    if max_length is not None:
        tokenizer.enable_truncation(max_length)
    table = random_table(tokenizer.get_vocab_size())
    modules = [st_modules.StaticEmbedding(tokenizer, embedding_weights=table)]
    modules += [st_modules.Normalize()] if normalize else []
    theirs = sentence_transformers.SentenceTransformer(modules=modules, device="cpu")
    theirs.save(str(tmp_path))
    model = StaticModel.from_pretrained(tmp_path)
    # We also truncate characters, in most lines before 5 tokens.
    short = "sea fox run the sea fox run" if kind == "WordLevel" else "!,.,!.!!,..,"
    texts = [short] if max_length else [*LINES, " ".join(LINES * 20)]
    np.testing.assert_allclose(model.encode(texts), theirs.encode(texts), atol=2e-5)
    assert (model.normalize, model.max_length) == (normalize, max_length)
    assert "prompts" not in model.config

    # Earlier releases also wrote the first module to a folder.
    inner = tmp_path / "0_StaticEmbedding"
    inner.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).rename(inner / name)
    listed = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([{**listed[0], "path": inner.name}, *listed[1:]]))
    nested = StaticModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(nested.encode(TEXTS), model.encode(TEXTS))
    assert nested.normalize == normalize
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(nested.encode(texts), theirs.encode(texts), atol=2e-5)


def test_a_sentence_transformer_with_max_length_zero_is_rejected(tmp_path: Path):
    tokenizer = TOKENIZERS["WordPiece"]()
    tokenizer.enable_truncation(0)
    modules = [st_modules.StaticEmbedding(tokenizer, embedding_weights=random_table(tokenizer.get_vocab_size()))]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path))
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json: max_length is 0"):
        StaticModel.from_pretrained(tmp_path)


def test_a_sentence_transformer_with_more_modules_is_rejected(tmp_path: Path):
    tokenizer = TOKENIZERS["WordPiece"]()
    table = random_table(tokenizer.get_vocab_size())
    modules = [st_modules.StaticEmbedding(tokenizer, embedding_weights=table), st_modules.Dense(DIM, 4)]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path))
    with pytest.raises(ModelFormatError, match="Dense"):
        StaticModel.from_pretrained(tmp_path)


def test_a_teacher_is_rejected(build_teacher_once: Callable[[str], Path]):
    with pytest.raises(ModelFormatError, match="Sentence Transformer"):
        StaticModel.from_pretrained(build_teacher_once("wordpiece"))


def test_our_layout_has_priority_over_an_outdated_one(tmp_path: Path):
    tokenizer = TOKENIZERS["WordPiece"]()
    stale = random_table(tokenizer.get_vocab_size(), dim=3)
    write(tmp_path, {"embeddings": stale}, tokenizer, V0_1, file="embeddings.safetensors")
    fresh = StaticModel(random_table(tokenizer.get_vocab_size()), tokenizer)
    fresh.save_pretrained(tmp_path)
    assert StaticModel.from_pretrained(tmp_path).dim == fresh.dim
    assert LAYOUTS[0].tensors == "model.safetensors"
