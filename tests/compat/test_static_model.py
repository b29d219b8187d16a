"""`StaticModel` in `m2v_core.compat`, compared with the real model2vec."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from m2v_core.compat.model2vec import StaticModel, quantize_model
from m2v_core.errors import InputError, ModelFormatError
from tests.static_models import DIM, TEXTS, TOKENIZERS, static_model

model2vec = pytest.importorskip("model2vec")

KNOWN = [text for text in TEXTS if text.strip()]


@pytest.fixture(params=["WordPiece", "Unigram"])
def parts(request) -> dict[str, Any]:
    source = static_model(request.param, normalize=False)
    return {"vectors": np.array(source.token_embeddings), "tokenizer": source.tokenizer}


@pytest.fixture
def pair(parts) -> tuple[StaticModel, Any]:
    return StaticModel(**copy.deepcopy(parts)), model2vec.StaticModel(**copy.deepcopy(parts))


def assert_agree(ours, theirs, **arguments) -> None:
    np.testing.assert_allclose(ours.encode(KNOWN, **arguments), theirs.encode(KNOWN, **arguments), atol=2e-6)
    for name in ("config", "dim", "embedding_dtype", "max_length", "median_token_length", "normalize", "tokens"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.tokenizer.truncation == theirs.tokenizer.truncation
    assert ours.tokenize(KNOWN) == theirs.tokenize(KNOWN)
    assert ours.vocabulary_quantization == theirs.vocabulary_quantization


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_saved_model_encodes_the_same_as_in_model2vec(kind, dtype, tmp_path):
    static_model(kind, dtype=dtype).save_pretrained(tmp_path)
    ours, theirs = StaticModel.from_pretrained(tmp_path), model2vec.StaticModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=2e-3)
    assert ours.config == theirs.config
    ours.embedding[:] = 0  # loaded into memory, as in model2vec
    assert not ours.encode("the sea").any()


def test_the_arguments_of_the_class(pair, parts):
    assert_agree(*pair)
    n_tokens = parts["tokenizer"].get_vocab_size()
    others = {
        "config": {"mine": 1, "normalize": False},
        "normalize": True,
        "base_model_name": "a/teacher",
        "language": ["en"],
        "weights": np.linspace(0.5, 2, n_tokens),
        "token_mapping": np.arange(n_tokens) % 7,
        "max_length": 3,
    }
    arguments = {**parts, **others, "vectors": parts["vectors"][:7]}
    ours, theirs = StaticModel(**arguments), model2vec.StaticModel(**arguments)
    assert_agree(ours, theirs)
    assert (ours.base_model_name, ours.language) == (theirs.base_model_name, theirs.language)
    np.testing.assert_allclose(ours.weights, theirs.weights)
    assert others["config"] == {"mine": 1, "normalize": False}
    assert_agree(StaticModel(*arguments.values()), theirs)


def test_each_part_can_be_replaced(pair):
    n_tokens = len(pair[0].tokens)
    changes = [
        ("normalize", True),
        ("max_length", 2),
        ("max_length", None),
        ("embedding", np.flip(pair[0].embedding).copy()),
        ("weights", np.linspace(0.5, 2, n_tokens, dtype=np.float32)),
        ("embedding", np.array(pair[0].embedding[:5])),
        ("token_mapping", np.arange(n_tokens) % 5),
        ("normalize", False),
    ]
    for number, (name, value) in enumerate(changes):
        for model in pair:
            setattr(model, name, value)
        if changes[number + 1 : number + 2] and changes[number + 1][0] == "token_mapping":
            with pytest.raises(ModelFormatError, match="Set token_mapping too"):
                pair[0].encode("the")
            continue
        assert_agree(*pair)


def test_the_tokenizer_can_be_replaced(pair):
    for model in pair:
        tokenizer = copy.deepcopy(model.tokenizer)
        tokenizer.normalizer = None
        tokenizer.enable_padding(length=50)
        model.tokenizer = tokenizer
    ours, theirs = pair
    theirs.tokenizer.no_padding()
    np.testing.assert_allclose(ours.encode(KNOWN), theirs.encode(KNOWN), atol=2e-6)
    assert ours.tokenize(["THE Fox"]) == theirs.tokenize(["THE Fox"])


def test_float64_is_converted_to_float32(parts):
    model = StaticModel(parts["vectors"].astype(np.float64), parts["tokenizer"])
    assert model.embedding.dtype == np.float32
    np.testing.assert_array_equal(model.encode(KNOWN), StaticModel(**parts).encode(KNOWN))


def test_arguments_of_encode(pair):
    ours, theirs = pair
    assert_agree(ours, theirs, max_length=2, normalize=True, use_multiprocessing=False, batch_size=3)
    assert_agree(ours, theirs, something="else", convert_to_numpy=True, task_name="sts", prompt_name="query")
    torch = pytest.importorskip("torch")
    found = ours.encode(KNOWN, convert_to_tensor=True, device="cpu", normalize_embeddings=True)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found, ours.encode(KNOWN, normalize=True))
    sequences = ours.encode_as_sequence(KNOWN, use_multiprocessing=True, multiprocessing_threshold=1)
    for one, other in zip(sequences, theirs.encode_as_sequence(KNOWN), strict=True):
        np.testing.assert_allclose(one, other)
    with pytest.raises(TypeError):
        ours.encode(KNOWN, 512)
    assert ours.encode([]).shape == (0, DIM)  # where model2vec raises


@pytest.mark.parametrize(
    "arguments", [{"quantize_to": "float16"}, {"dimensionality": 5}, {"quantize_to": "float64"}, {}], ids=str
)
def test_quantize_model(pair, arguments):
    ours, theirs = (
        function(model, **arguments)
        for function, model in zip((quantize_model, model2vec.quantize_model), pair, strict=True)
    )
    assert type(ours) is StaticModel
    assert ours.embedding.shape == theirs.embedding.shape
    np.testing.assert_allclose(ours.encode(KNOWN), theirs.encode(KNOWN), rtol=0, atol=0.01)


def test_a_subclass_with_its_own_constructor(parts, tmp_path):
    StaticModel(**parts).save_pretrained(tmp_path)

    class Mine(StaticModel):
        def __init__(self, vectors, tokenizer, **others):
            super().__init__(vectors, tokenizer, **others)
            self.seen = vectors.shape

    model = Mine.from_pretrained(tmp_path, dimensionality=8)
    assert type(model) is Mine
    assert model.seen == (len(model.tokens), 8)


def test_invalid_input_is_rejected(parts):
    with pytest.raises(ModelFormatError):
        StaticModel(parts["vectors"][:3], parts["tokenizer"])
    model = StaticModel(**parts)
    with pytest.raises(InputError, match="max_length"):
        model.max_length = 0
    with pytest.raises(ValueError, match="float8"):
        quantize_model(model, quantize_to="float8")


def test_publishing_to_a_folder_of_a_repository(session_hub):
    model = StaticModel.of(static_model())
    for subfolder, dim in ((None, DIM), ("small", 8), ("small", 6)):
        quantize_model(model, dimensionality=dim).push_to_hub("tester/both", False, "hf_loopback", subfolder)
    assert {"model.safetensors", "small/model.safetensors", "small/README.md"} <= set(session_hub.files("tester/both"))
    model.push_to_hub("tester/both", token="hf_loopback")  # does not change the folder
    for subfolder, dim in ((None, DIM), ("small", 6)):
        assert StaticModel.from_pretrained("tester/both", subfolder=subfolder).dim == dim
