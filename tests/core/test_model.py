from __future__ import annotations

import copy
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from m2v_core.errors import InputError, ModelFormatError
from m2v_core.model import StaticModel
from tests.static_models import DIM, LINES, TEXTS, TOKENIZERS, random_table, slow_embedding, static_model

MODELS = {kind: static_model(kind) for kind in TOKENIZERS}
any_model = st.sampled_from(list(MODELS.values()))
any_text = st.text() | st.text("abcdefgh THE\u0130\u00df.,'\t\n") | st.sampled_from(TEXTS)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("n_clusters", [None, 20])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("normalize", [True, False])
def test_an_embedding_is_the_mean_of_rows(kind, n_clusters, dtype, normalize):
    model = static_model(kind, dtype=dtype, n_clusters=n_clusters, normalize=normalize)
    embeddings = model.encode(TEXTS)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, [slow_embedding(model, text) for text in TEXTS], atol=2e-6)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("max_length", [1, 2, 7, 100, None])
def test_characters_and_then_tokens_are_truncated(kind, max_length):
    embeddings = MODELS[kind].encode(TEXTS, max_length=max_length)
    expected = [slow_embedding(MODELS[kind], text, max_length) for text in TEXTS]
    np.testing.assert_allclose(embeddings, expected, atol=2e-6)


def test_unknown_tokens_count_towards_the_limit():
    model = MODELS["WordLevel"]
    assert model.tokens[model.unk_token_id] == "[UNK]"
    assert model.tokenize("zzz the sea", max_length=2) == model.tokenize("the")
    np.testing.assert_array_equal(model.encode("zzz zzz the", max_length=2), np.zeros(DIM))


def test_the_models_own_limit_is_the_default():
    model = static_model(max_length=2)
    np.testing.assert_array_equal(model.encode("sea sea the fox"), model.encode("sea sea"))
    assert not np.array_equal(model.encode("sea sea the fox", max_length=None), model.encode("sea sea"))
    assert len(model.encode_as_sequence("sea sea the fox")) == 4
    assert len(model.encode_as_sequence("sea sea the fox", max_length=2)) == 2


@settings(deadline=None)
@given(any_model, any_text)
def test_any_text_is_encoded_as_defined(model, text):
    np.testing.assert_allclose(model.encode(text), slow_embedding(model, text), atol=2e-6)


@settings(deadline=None)
@given(any_model, st.lists(any_text, max_size=12), st.integers(1, 5), st.randoms())
def test_other_texts_batches_and_order_make_no_difference(model, texts, batch_size, random):
    embeddings = model.encode(texts)
    assert embeddings.shape == (len(texts), DIM)
    np.testing.assert_array_equal(model.encode(texts, batch_size=batch_size), embeddings)
    for text, embedding in zip(texts, embeddings, strict=True):
        np.testing.assert_array_equal(model.encode(text), embedding)
    order = random.sample(range(len(texts)), len(texts))
    np.testing.assert_array_equal(
        model.encode([texts[i] for i in order]).reshape(-1, DIM), embeddings[order].reshape(-1, DIM)
    )


@settings(deadline=None)
@given(any_model, st.lists(any_text, min_size=1, max_size=6))
def test_lengths_are_one_or_zero(model, texts):
    norms = np.linalg.norm(model.encode(texts), axis=1)
    is_known = [bool(ids) for ids in model.tokenize(texts, max_length=512)]
    np.testing.assert_allclose(norms, np.array(is_known, dtype=float), atol=1e-5)


@settings(deadline=None)
@given(any_model, any_text)
def test_a_sequence_has_one_row_per_known_token(model, text):
    rows = model.encode_as_sequence(text)
    ids = model.tokenize(text)[0]
    assert rows.shape == (len(ids), DIM)
    assert rows.dtype == np.float32
    assert model.unk_token_id not in ids
    np.testing.assert_array_equal(rows, model.token_embeddings[ids].reshape(-1, DIM))


def test_sequences_apply_weights_and_mapping():
    model = static_model(dtype="int8", n_clusters=20, normalize=False)
    for text, rows in zip(TEXTS, model.encode_as_sequence(TEXTS), strict=True):
        if len(rows):
            np.testing.assert_allclose(rows.mean(axis=0), slow_embedding(model, text, None), atol=2e-6)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_threads_share_a_model(kind):
    model = MODELS[kind]
    batches = [[f"{text} {i}" for text in TEXTS] for i in range(128)]
    limits = [1 + i % 30 for i in range(128)]
    alone = [model.encode(batch, limit) for batch, limit in zip(batches, limits, strict=True)]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(model.encode, batches, limits))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_passed_tokenizer_is_not_modified():
    tokenizer = TOKENIZERS["WordPiece"]()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    before = tokenizer.to_str()
    model = StaticModel(random_table(tokenizer.get_vocab_size()), tokenizer)
    assert len(model.tokenize("the fox sells sea shells")[0]) == 5
    assert tokenizer.to_str() == before
    own = model.tokenizer.to_str()
    model.encode(TEXTS, max_length=4)
    assert model.tokenizer.to_str() == own


@pytest.mark.parametrize("sentences", [list(LINES), LINES, iter(LINES), np.array(LINES), dict.fromkeys(LINES).keys()])
def test_any_iterable_of_texts_is_accepted(sentences):
    np.testing.assert_array_equal(MODELS["Unigram"].encode(sentences), MODELS["Unigram"].encode(list(LINES)))


def test_shapes():
    model = MODELS["WordPiece"]
    assert model.encode("the").shape == (DIM,)
    assert model.encode(["the"]).shape == (1, DIM)
    assert model.encode([]).shape == (0, DIM)
    assert model.encode([]).dtype == np.float32
    assert model.encode_as_sequence([]) == []
    assert model.tokenize([]) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [*((kind, "") for kind in TOKENIZERS), ("WordPiece", " \U0001f984"), ("WordLevel", " \U0001f984")],
)
def test_no_known_token_gives_zeros(kind, text):
    np.testing.assert_array_equal(MODELS[kind].encode(text), np.zeros(DIM, np.float32))


def test_attributes_of_a_model():
    model = static_model("WordLevel", dtype="float16")
    vocabulary = model.tokenizer.get_vocab()
    assert model.dim == DIM
    assert [vocabulary[token] for token in model.tokens] == list(range(len(vocabulary)))
    assert (model.normalize, model.max_length) == (True, 512)
    assert model.n_bytes == len(vocabulary) * DIM * 2
    quantized = static_model("WordLevel", dtype="int8", n_clusters=10)
    assert quantized.n_bytes == 10 * DIM + len(vocabulary) * 8
    assert MODELS["byte-level BPE"].unk_token_id is None


def test_normalize_can_be_overridden_for_a_call():
    model, plain = static_model(), static_model(normalize=False)
    np.testing.assert_array_equal(model.encode(TEXTS, normalize=False), plain.encode(TEXTS))
    np.testing.assert_array_equal(plain.encode(TEXTS, normalize=True), model.encode(TEXTS))


def test_similarity_is_the_cosine():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 8)), rng.standard_normal((3, 8))
    a[1] = 0
    similarities = StaticModel.similarity(a, b)
    assert similarities.dtype == np.float32
    for i, j in np.ndindex(4, 3):
        lengths = np.linalg.norm(a[i]) * np.linalg.norm(b[j])
        assert similarities[i, j] == pytest.approx(a[i] @ b[j] / lengths if lengths else 0, abs=1e-6)
    assert StaticModel.similarity(a[0], a[0]).tolist() == [[pytest.approx(1.0)]]
    assert abs(StaticModel.similarity(a, a)).max() <= 1.0
    with pytest.raises(InputError, match="dim"):
        StaticModel.similarity(a, b[:, :5])


def test_copies_and_pickles_return_the_same_embeddings():
    model = static_model(dtype="int8", n_clusters=20)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.encode(TEXTS), model.encode(TEXTS))


def test_config_is_a_copy():
    config = {"m2v": {"recipe": "model2vec"}}
    model = static_model(config=config)
    config["m2v"]["recipe"] = "changed"
    assert model.config == {"m2v": {"recipe": "model2vec"}}


def test_a_progress_bar_goes_to_stderr(capsys):
    MODELS["WordPiece"].encode(TEXTS, batch_size=4, show_progress_bar=True)
    output = capsys.readouterr()
    assert "16/16" in output.err
    assert output.out == ""


def test_arguments_of_other_encoders_are_accepted():
    model = MODELS["WordPiece"]
    embeddings = model.encode(TEXTS, convert_to_numpy=True, use_multiprocessing=False, multiprocessing_threshold=1)
    np.testing.assert_array_equal(embeddings, model.encode(TEXTS))
    with pytest.raises(InputError, match="one array"):
        model.encode(TEXTS, convert_to_numpy=False)
    with pytest.raises(TypeError):
        model.encode(TEXTS, convert_to_tensors=True)


@pytest.mark.parametrize("method", ["encode", "encode_as_sequence", "tokenize"])
@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (None, "NoneType"),
        (7, "int"),
        (b"bytes", "bytes"),
        ({"a": "b"}, "dict"),
        (["fine", None], "text 1 .* NoneType"),
        (["fine", "fine", 3.5], "text 2 .* float"),
        ([["nested"]], "text 0 .* list"),
        ([b"bytes"], "text 0 .* bytes"),
    ],
)
def test_items_that_are_not_texts_are_rejected(method, sentences, message):
    with pytest.raises(InputError, match=message):
        getattr(MODELS["WordPiece"], method)(sentences)


@pytest.mark.parametrize("max_length", [0, -1, 1.5, "8", True])
def test_an_invalid_limit_is_rejected(max_length):
    with pytest.raises(InputError, match=r"max_length .* None for no limit"):
        MODELS["WordPiece"].encode("the", max_length=max_length)
    with pytest.raises(InputError, match="max_length"):
        static_model(max_length=max_length)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "8", True, None])
def test_an_invalid_batch_size_is_rejected(batch_size):
    with pytest.raises(InputError, match="batch_size"):
        MODELS["WordPiece"].encode(["the"], batch_size=batch_size)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_lone_surrogates_are_replaced_with_a_warning(kind):
    model = MODELS[kind]
    with pytest.warns(UserWarning, match=r"U\+FFFD") as caught:
        embeddings = model.encode(["fine", "the \ud800 fox", "sea \udfff", "\ud83e\udd84 sea"])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = model.encode(["fine", "the \ufffd fox", "sea \ufffd", "\U0001f984 sea"])
    np.testing.assert_array_equal(embeddings, expected)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("unit", ["the sea ", "x"])
def test_ten_megabytes_are_truncated(kind, unit):
    model = MODELS[kind]
    text = unit * (10_000_000 // len(unit))
    np.testing.assert_array_equal(model.encode(text), model.encode(text[:100_000]))


def test_a_million_tokens_are_summed_exactly():
    model = MODELS["WordLevel"]
    text = "the sea " * 500_000
    np.testing.assert_allclose(model.encode(text, max_length=None), model.encode("the sea"), atol=1e-6)


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is POSIX only")
def test_long_texts_do_not_gather_all_their_rows():
    import tracemalloc

    tokenizer = TOKENIZERS["WordLevel"]()
    model = StaticModel(random_table(tokenizer.get_vocab_size(), dim=1024), tokenizer)
    text = "the sea " * 50_000
    tracemalloc.start()
    model.encode(text, max_length=None)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000 * 1024


def vocabulary_of(ids):
    return Tokenizer(models.WordLevel({f"w{i}": i for i in ids}, unk_token="w0"))


@pytest.mark.parametrize(
    ("table", "ids", "error", "message"),
    [
        (np.ones((4, 2), np.float32), range(3), ModelFormatError, "3 .*4"),
        (np.ones((3, 2), np.float32), [0, 1, 5], ModelFormatError, "contiguous"),
        (np.ones((3, 2), np.float64), range(3), InputError, "float64"),
        (np.ones(3, np.float32), range(3), InputError, "shape"),
        (np.ones((3, 0), np.float32), range(3), InputError, "shape"),
        ([[1.0]], range(1), InputError, "array"),
        (np.full((3, 2), np.nan, np.float32), range(3), ModelFormatError, "NaN .* row 0"),
        (np.full((3, 2), np.inf, np.float16), range(3), ModelFormatError, "infinity"),
    ],
)
def test_a_table_of_another_size_is_rejected(table, ids, error, message):
    with pytest.raises(error, match=message):
        StaticModel(table, vocabulary_of(ids))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": np.ones(2)}, r"weights must be of shape \(3,\), one per token, not \(2,\)"),
        ({"weights": np.full(3, np.nan)}, "NaN"),
        ({"token_mapping": np.array([0, 1, 3])}, "0 to 2, but spans 0 to 3"),
        ({"token_mapping": np.array([0, 1, -1])}, "0 to 2, but spans -1 to 1"),
        ({"token_mapping": np.array([0, 1])}, "3 tokens .*2 rows"),
        ({"token_mapping": np.ones(3)}, "integers"),
    ],
)
def test_invalid_weights_and_mappings_are_rejected(arguments, message):
    with pytest.raises(ModelFormatError, match=message):
        StaticModel(np.ones((3, 2), np.float32), vocabulary_of(range(3)), **arguments)


@pytest.fixture(scope="module")
def both_encoders(tmp_path_factory: pytest.TempPathFactory):
    """One of our models, and the same files in Sentence Transformers."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("both")
    static_model("WordPiece", normalize=False).save_pretrained(folder)
    return StaticModel.from_pretrained(folder), SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize(
    "arguments",
    [
        {"normalize_embeddings": True},
        {"normalize_embeddings": False, "show_progress_bar": None},
        {"convert_to_numpy": False, "convert_to_tensor": True, "device": "cpu"},
        {"prompt": "the sea ", "prompt_name": None},
        {"precision": "float32", "output_value": "sentence_embedding", "batch_size": 2},
    ],
    ids=str,
)
def test_arguments_of_sentence_transformers_have_the_same_meaning(both_encoders, arguments: dict[str, Any]):
    ours, theirs = both_encoders
    texts = ["the fox", "the sea and the fox"]
    for method in ("encode", "encode_query", "encode_document"):
        found, expected = getattr(ours, method)(texts, **arguments), getattr(theirs, method)(texts, **arguments)
        assert type(found) is type(expected)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-5)
    assert ours.get_sentence_embedding_dimension() == theirs.get_embedding_dimension() == ours.dim
    assert ours.get_embedding_dimension() == ours.dim


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "precision is 'int8'.*--dtype int8"),
        ({"output_value": "token_embeddings"}, "output_value is 'token_embeddings'.*encode_as_sequence"),
        ({"convert_to_numpy": False}, "convert_to_tensor=True"),
    ],
    ids=str,
)
def test_unsupported_arguments_are_rejected(arguments: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        static_model("WordPiece").encode(["the fox"], **arguments)


PROMPTS = {"sts": "compare the sea ", "query": "the fox asks ", "passage": "it says "}


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory):
    """Folders written by Sentence Transformers and by us, of a model with prompts, one of them the default."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    plain = static_model("WordPiece")
    module = StaticEmbedding(plain.tokenizer, embedding_weights=plain.token_embeddings)
    options = {"prompts": PROMPTS, "default_prompt_name": "sts", "device": "cpu"}
    theirs, ours = (tmp_path_factory.mktemp(name) for name in ("theirs", "ours"))
    SentenceTransformer(modules=[module, Normalize()], **options).save(str(theirs))
    StaticModel.from_pretrained(theirs).save_pretrained(ours)
    return theirs, ours


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"prompt": ""},
        {"prompt": "a river "},
        {"prompt_name": "passage"},
        {"prompt_name": "document"},
        {"prompt_name": "sts", "prompt": "both "},
    ],
    ids=str,
)
def test_prompts_work_as_in_sentence_transformers(prompted, arguments: dict[str, Any]):
    from sentence_transformers import SentenceTransformer

    texts = ["the fox", "sea and river", ""]
    for folder in prompted:
        ours, theirs = StaticModel.from_pretrained(folder), SentenceTransformer(str(folder), device="cpu")
        for method in ("encode", "encode_query", "encode_document"):
            found, expected = (getattr(model, method)(texts, **arguments) for model in (ours, theirs))
            np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(ours.encode(texts) - ours.encode(texts, prompt="")).max() > 0.1
        with pytest.raises(InputError, match="no prompt 'clustering'; it has query, document, passage, sts"):
            ours.encode(texts, prompt_name="clustering")
        with pytest.raises(ValueError, match="clustering"):
            theirs.encode(texts, prompt_name="clustering")


def test_prompts_are_saved_with_the_model(prompted, tmp_path):
    model = StaticModel.from_pretrained(prompted[1])
    copies = [StaticModel.from_pretrained(prompted[1], dimensionality=8), pickle.loads(pickle.dumps(model))]
    assert all((copy.prompts, copy.default_prompt_name) == (model.prompts, "sts") for copy in copies)
    np.testing.assert_array_equal(next(model.encode_stream(["the fox"])), model.encode(["the fox"]))
    card = (prompted[1] / "README.md").read_text()
    assert "Default prompt: `compare the sea`" in card
    # Saving a model without prompts over one with prompts removes the prompts in both formats.
    from sentence_transformers import SentenceTransformer

    plain = static_model("WordPiece")
    for other in (model, plain):
        other.save_pretrained(tmp_path)
    opened, theirs = StaticModel.from_pretrained(tmp_path), SentenceTransformer(str(tmp_path), device="cpu")
    assert opened.prompts == {} and opened.default_prompt_name is None
    for found in (opened.encode("the fox", prompt_name="anything"), theirs.encode("the fox")):
        np.testing.assert_allclose(found, plain.encode("the fox"), atol=1e-5)


def test_a_default_prompt_that_the_model_lacks_is_rejected():
    plain = static_model("WordPiece")
    with pytest.raises(InputError, match="no prompt 'sts'; it has query, document"):
        StaticModel(plain.token_embeddings, plain.tokenizer, prompts={"query": "q: "}, default_prompt_name="sts")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must contain a JSON object"),
        ('{"prompts": ["query"]}', "texts by name"),
        ('{"prompts": {"query": 1}}', "texts by name"),
        (f'{{"prompts": {{"query": "{"q" * 10_001}"}}}}', "the prompt 'query' has more than 10,000 characters"),
        ('{"prompts": {"query": "q: "}, "default_prompt_name": "sts"}', "default_prompt_name is 'sts'; prompts: query"),
    ],
)
def test_damaged_prompts(tmp_path, content, message):
    static_model("WordPiece").save_pretrained(tmp_path)
    (tmp_path / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(ModelFormatError, match=message):
        StaticModel.from_pretrained(tmp_path)


def test_dimensions_are_truncated_before_normalizing(tmp_path):
    from sentence_transformers import SentenceTransformer

    static_model("WordPiece").save_pretrained(tmp_path)
    ours = StaticModel.from_pretrained(tmp_path, dimensionality=12).encode(["the fox and the sea"])
    theirs = SentenceTransformer(str(tmp_path), truncate_dim=12, device="cpu").encode(["the fox and the sea"])
    assert np.linalg.norm(ours) == pytest.approx(1) and np.linalg.norm(theirs) < 0.95
    np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs), atol=1e-5)


class NamedModel(StaticModel):
    """A subclass defined by a user."""


def test_methods_of_a_subclass_return_the_subclass(tmp_path):
    static_model("WordPiece").save_pretrained(tmp_path)
    for options in ({}, {"dimensionality": 4}, {"quantize_to": "int8"}):
        assert type(NamedModel.from_pretrained(tmp_path, **options)) is NamedModel


def test_token_sequences_accept_the_arguments_of_model2vec():
    model = static_model("WordPiece")
    [found] = model.encode_as_sequence(["the fox"], use_multiprocessing=False, multiprocessing_threshold=1)
    np.testing.assert_array_equal(found, model.encode_as_sequence("the fox"))
