"""Distillation against a slow oracle: the teacher run on one sequence at a time in full precision."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

import m2v_core
from m2v_core import StaticModel
from m2v_core.distillation.reduction import dims_note, reduce_dims
from m2v_core.distillation.weighting import rank_weights
from m2v_core.errors import (
    Cancelled,
    DeviceError,
    HubError,
    InputError,
    M2VError,
    NotFoundError,
    RemoteCodeError,
    TeacherError,
    TeacherOutputError,
    VocabularyError,
)
from m2v_core.progress import Progress
from tests import teachers
from tests.hub.server import LoopbackHub

# The published method; additions of other recipes have their own tests.
distill = partial(m2v_core.distill, recipe="model2vec")
distill_from_model = partial(m2v_core.distill_from_model, recipe="model2vec")

# Only the teacher's vectors: no PCA, weights or rounding.
RAW: dict[str, Any] = {"pca_dims": None, "apply_zipf": False, "quantize_to": "float32", "device": "cpu"}
SPECIAL = {
    "wordpiece": (["[CLS]"], ["[SEP]"]),
    "wordpiece-cased": (["[CLS]"], ["[SEP]"]),
    "unigram": (["<s>"], ["</s>"]),
    "bytelevel": (["<s>"], ["</s>"]),
    "modernbert-like": (["[CLS]"], ["[SEP]"]),
    "decoder": ([], ["<|endoftext|>"]),
}
POOLINGS = ("mean", "first", "last", "pooler")
PHRASES = ["ice cream", "new york", "C++", "don't", "co-op", "Zanzibar", "naïve", "3d printing"]


@cache
def corpus_words(count: int) -> list[str]:
    """The most common words, in lowercase so that they are the same for cased and uncased teachers."""
    counts = Counter(
        word for line in teachers.corpus_sentences(3_000) for word in re.findall(r"[a-z]{3,}", line.lower())
    )
    return [word for word, _ in counts.most_common(count)]


class Oracle:
    """A minimal implementation of the teacher in a folder."""

    def __init__(self, folder: Path, family: str) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        prefix, suffix = SPECIAL[family]
        self.prefix = [self.tokenizer.token_to_id(token) for token in prefix]
        self.suffix = [self.tokenizer.token_to_id(token) for token in suffix]

    def vector(self, ids: list[int], pooling: str) -> np.ndarray:
        with torch.no_grad():
            output = self.model(input_ids=torch.tensor([[*self.prefix, *ids, *self.suffix]]))
        states = output.last_hidden_state[0].numpy()
        if pooling == "mean":
            return states.mean(axis=0)
        if pooling == "pooler":
            return output.pooler_output[0].numpy()
        return states[0] if pooling == "first" else states[-1]

    def of_piece(self, piece: str, pooling: str = "mean") -> np.ndarray:
        return self.vector([self.tokenizer.token_to_id(piece)], pooling)

    def of_word(self, word: str, pooling: str = "mean", lead: str = "") -> np.ndarray:
        return self.vector(self.tokenizer.encode(lead + word, add_special_tokens=False).ids, pooling)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads don't speed up such a small teacher, and slow it down on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def oracle(family: str, teacher_folder: Path) -> Oracle:
    return Oracle(teacher_folder, family)


@pytest.fixture(scope="module")
def wordpiece(build_teacher_once: Callable[[str], Path]) -> Path:
    return build_teacher_once("wordpiece")


@pytest.fixture(scope="module")
def word_vectors(wordpiece: Path) -> np.ndarray:
    """`(200, 48)`: the oracle's vectors of the 200 most common words."""
    oracle = Oracle(wordpiece, "wordpiece")
    return np.stack([oracle.of_word(word) for word in corpus_words(200)])


def rows(model: StaticModel) -> np.ndarray:
    """`(n_vocabulary, dim)`: each token's row as `encode` uses it."""
    table = model.token_embeddings.astype(np.float64)
    if model.token_mapping is not None:
        table = table[model.token_mapping]
    return table if model.weights is None else table * model.weights[:, None].astype(np.float64)


def row_of(model: StaticModel, word: str) -> np.ndarray:
    (token_id,) = model.tokenize([word])[0]
    return rows(model)[token_id]


def word_rows(model: StaticModel, words: list[str]) -> np.ndarray:
    table, ids = rows(model), model.tokenize(words)
    assert all(len(word_ids) == 1 for word_ids in ids)
    return table[[word_ids[0] for word_ids in ids]]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return (left * right).sum(axis=-1) / norms


def assert_same_rows(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Equal up to rounding: in direction to `tolerance`, in length to a few times its square root."""
    assert found.shape == expected.shape
    assert cosines(found, expected).min() > 1 - tolerance
    lengths = np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=max(1e-4, tolerance**0.5))


def assert_same_up_to_signs(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-3) -> None:
    """Columns are equal up to their signs."""
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=tolerance * np.abs(expected).max())


# Rows


@pytest.fixture(scope="module")
def output_run(teacher_folder: Path) -> tuple[StaticModel, list[Progress]]:
    """The teacher's tokens without PCA and weights, and the progress events."""
    events: list[Progress] = []
    model = distill(str(teacher_folder), progress=events.append, **RAW)
    return model, events


@pytest.fixture(scope="module")
def output_model(output_run: tuple[StaticModel, list[Progress]]) -> StaticModel:
    return output_run[0]


@pytest.fixture(scope="module")
def joined_model(teacher_folder: Path) -> StaticModel:
    """The teacher's tokens and `PHRASES`, without PCA and weights."""
    return distill(str(teacher_folder), PHRASES, **RAW)


def known_rows(model: StaticModel, family: str) -> list[int]:
    """All rows except that of the unknown token, which is zero."""
    unknown = teachers.UNKNOWN_TOKEN[family]
    return [row for row, token in enumerate(model.tokens) if token != unknown]


def test_each_token_has_the_teacher_s_vector(family: str, output_model: StaticModel, oracle: Oracle):
    assert output_model.token_embeddings.shape == (len(output_model.tokens), 48)
    sample = known_rows(output_model, family)[::11]
    expected = np.stack([oracle.of_piece(output_model.tokens[row]) for row in sample])
    # A vocabulary of this size may run in bfloat16.
    assert_same_rows(rows(output_model)[sample], expected, tolerance=1e-3)


def test_the_unknown_token_s_row_is_zero(family: str, output_model: StaticModel):
    unknown = teachers.UNKNOWN_TOKEN[family]
    if unknown not in output_model.tokens:
        pytest.skip("bytes cover every text, and no unknown token stayed")
    assert not rows(output_model)[output_model.tokens.index(unknown)].any()
    assert rows(output_model)[known_rows(output_model, family)].any(axis=1).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_word_has_the_teacher_s_vector(family: str, teacher_folder: Path, oracle: Oracle, pooling: str):
    words = [*PHRASES, "zanzibarian", "floccinaucinihilipilification"]
    if pooling == "pooler" and family not in teachers.HAS_POOLER:
        with pytest.raises((InputError, TeacherError), match="pooler"):
            distill(str(teacher_folder), words, use_subword=False, pooling=pooling, **RAW)
        return
    model = distill(str(teacher_folder), words, use_subword=False, pooling=pooling, **RAW)
    found = word_rows(model, words)
    # Alone or after a space, but the same for all words of a teacher.
    candidates = [np.stack([oracle.of_word(word, pooling, lead) for word in words]) for lead in ("", " ")]
    assert min(np.abs(found - candidate).max() for candidate in candidates) < 2e-5


def test_added_words_have_the_teacher_s_vectors(joined_model: StaticModel, oracle: Oracle):
    found = word_rows(joined_model, PHRASES)
    candidates = [np.stack([oracle.of_word(word, lead=lead) for word in PHRASES]) for lead in ("", " ")]
    assert max(cosines(found, candidate).min() for candidate in candidates) > 1 - 1e-3


def test_added_words_leave_the_tokens_unchanged(family: str, output_model: StaticModel, joined_model: StaticModel):
    assert joined_model.tokens[: len(output_model.tokens)] == output_model.tokens
    known = known_rows(output_model, family)
    assert_same_rows(rows(joined_model)[known], rows(output_model)[known], tolerance=1e-3)


def test_few_words_are_exact(wordpiece: Path, word_vectors: np.ndarray):
    model = distill(str(wordpiece), corpus_words(200), use_subword=False, **RAW)
    np.testing.assert_allclose(word_rows(model, corpus_words(200)), word_vectors, atol=2e-5)
    assert model.token_embeddings.dtype == np.float32


def test_word_level_rows_keep_their_order_and_the_unknown_token_is_zero(family: str, teacher_folder: Path):
    words = ["zebra", "banana", "ice cream", "apple"]
    model = distill(str(teacher_folder), words, use_subword=False, **RAW)
    assert [ids[0] for ids in model.tokenize(words)] == [0, 1, 2, 3]
    assert len(model.token_embeddings) == len(model.tokens)
    assert model.tokenize(["something else"]) == [[]]
    np.testing.assert_array_equal(model.encode(["something else", ""]), 0.0)
    assert not rows(model)[4:].any()


def test_a_sentence_is_the_mean_of_its_rows(joined_model: StaticModel):
    table = rows(joined_model)
    sentences = [*teachers.corpus_sentences(20), "I ate ice cream in new york, don't you code C++?"]
    embeddings = joined_model.encode(sentences)
    for embedding, ids in zip(embeddings, joined_model.tokenize(sentences), strict=True):
        mean = table[ids].mean(axis=0)
        np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_loaded_model_and_tokenizer_give_the_same(teacher_folder: Path):
    model = AutoModel.from_pretrained(teacher_folder)
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    words = [*PHRASES, "banana"]
    found = distill_from_model(model, tokenizer, words, use_subword=False, **RAW)
    expected = distill(str(teacher_folder), words, use_subword=False, **RAW)
    assert found.tokens == expected.tokens
    np.testing.assert_allclose(rows(found), rows(expected), atol=1e-5)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("mode", ["output", "subword", "word"])
def test_a_saved_model_is_equal_after_loading(
    mode: str, teacher_folder: Path, output_model: StaticModel, joined_model: StaticModel, tmp_path: Path
):
    if mode == "word":
        model = distill(str(teacher_folder), PHRASES, use_subword=False, pca_dims=4, device="cpu")
    else:
        model = output_model if mode == "output" else joined_model
    model.save_pretrained(tmp_path / mode)
    opened = StaticModel.from_pretrained(tmp_path / mode)
    texts = [*teachers.corpus_sentences(30), "I ate ice cream in new york, don't you code C++?", "☃", ""]
    assert opened.tokens == model.tokens
    assert opened.tokenize(texts) == model.tokenize(texts)
    np.testing.assert_allclose(opened.encode(texts), model.encode(texts), atol=1e-6)


@pytest.mark.parametrize("words", [None, ["zebra", "the", "floccinaucinihilipilification", "Zanzibar"]])
@pytest.mark.parametrize("family", ["wordpiece", "wordpiece-cased"])
def test_against_the_published_package(family: str, words: list[str] | None, build_teacher_once: Callable[[str], Path]):
    model2vec = pytest.importorskip("model2vec.distill")
    tokenizer = AutoTokenizer.from_pretrained(build_teacher_once(family))
    # In double precision bfloat16 is never used, so only rounding may differ.
    model = AutoModel.from_pretrained(build_teacher_once(family)).double()
    options: dict[str, Any] = {"vocabulary": words, "pca_dims": 16, "device": "cpu", "quantize_to": "float32"}
    theirs = model2vec.distill_from_model(model, tokenizer, **options)
    ours = distill_from_model(model, tokenizer, **options)
    unseen = teachers.corpus_sentences(200, skip=teachers.TRAINING_SENTENCES)
    sentences = [*unseen, "a zebra in Zanzibar", "floccinaucinihilipilification"]
    left, right = (found.encode(sentences).astype(np.float64) for found in (theirs, ours))
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    assert np.abs(left @ left.T - right @ right.T).max() < 1e-4


# PCA


@pytest.mark.parametrize("dims", [1, 5, 16, 47, 48])
def test_pca_keeps_the_leading_components(word_vectors: np.ndarray, dims: int):
    expected = PCA(n_components=dims, svd_solver="full").fit_transform(word_vectors)
    assert_same_up_to_signs(reduce_dims(word_vectors, dims), expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_pca_keeps_a_share_of_the_variance(word_vectors: np.ndarray, share: float):
    expected = PCA(n_components=share, svd_solver="full").fit_transform(word_vectors)
    found = reduce_dims(word_vectors, share)
    assert_same_up_to_signs(found, expected)
    assert found.shape[1] < 48


def test_pca_auto_rotates_and_keeps_everything(word_vectors: np.ndarray):
    found = reduce_dims(word_vectors, "auto")
    centred = word_vectors - word_vectors.mean(axis=0)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-2)
    covariance = found.T @ found
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * covariance.max()
    assert (np.diff(np.diag(covariance)) <= 0).all()


def test_no_pca_leaves_the_vectors_alone(word_vectors: np.ndarray):
    np.testing.assert_array_equal(reduce_dims(word_vectors.copy(), None), word_vectors)


@pytest.mark.parametrize(("pca_dims", "dim"), [(16, 16), (0.9, None), ("auto", 48), (None, 48)])
def test_pca_end_to_end(wordpiece: Path, word_vectors: np.ndarray, pca_dims: Any, dim: int | None):
    model = distill(str(wordpiece), corpus_words(200), use_subword=False, **{**RAW, "pca_dims": pca_dims})
    found = word_rows(model, corpus_words(200))
    if pca_dims is None:
        expected = word_vectors
    else:
        components = 48 if pca_dims == "auto" else pca_dims
        expected = PCA(n_components=components, svd_solver="full").fit_transform(word_vectors)
    assert model.dim == (dim or expected.shape[1])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3 * (expected**2).sum(1).max())


@pytest.mark.parametrize(
    "pca_dims", [0, -1, -0.5, 0.0, 1.5, float("nan"), float("inf"), -float("inf"), "many", "", [8], True]
)
def test_invalid_pca_dims_are_rejected(wordpiece: Path, pca_dims: Any):
    with pytest.raises(InputError, match="pca_dims"):
        distill(str(wordpiece), corpus_words(20), use_subword=False, pca_dims=pca_dims)


@pytest.mark.parametrize(("n_words", "pca_dims"), [(200, 49), (200, 10_000), (10, 32), (10, 48)])
def test_pca_dims_beyond_width_or_rows(wordpiece: Path, caplog: pytest.LogCaptureFixture, n_words: int, pca_dims: int):
    try:
        with caplog.at_level(logging.WARNING, logger="m2v_core"):
            model = distill(str(wordpiece), corpus_words(n_words), use_subword=False, pca_dims=pca_dims)
    except InputError as error:
        assert str(pca_dims) in str(error)
        return
    assert 1 <= model.dim <= 48
    assert any(f"{pca_dims:,}" in record.message for record in caplog.records)
    assert np.isfinite(model.encode(corpus_words(10))).all()
    np.testing.assert_allclose(np.linalg.norm(model.encode(corpus_words(5)), axis=1), 1.0, atol=1e-3)


def test_a_single_word(wordpiece: Path):
    # One row has no variance, so no number of components is valid.
    try:
        model = distill(str(wordpiece), ["banana"], use_subword=False)
    except InputError:
        return
    assert np.isfinite(model.encode(["banana"])).all()


# Weights


def sif(n_rows: int, coefficient: float) -> np.ndarray:
    share = np.array([1 / (rank + 2) for rank in range(n_rows)])
    share /= share.sum()
    return coefficient / (coefficient + share)


def zipf(n_rows: int) -> np.ndarray:
    return np.array([np.log(1 + rank) for rank in range(n_rows)])


@pytest.mark.parametrize("coefficient", [1e-4, 1e-3, 0.5])
def test_sif_weights(coefficient: float):
    np.testing.assert_allclose(rank_weights(500, "sif", coefficient), sif(500, coefficient), rtol=1e-5)


def test_zipf_weights():
    np.testing.assert_allclose(rank_weights(500, "zipf", 1e-4), zipf(500), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, sif(200, 1e-4)),
        ({"sif_coefficient": 1e-2}, sif(200, 1e-2)),
        ({"weighting": "zipf"}, zipf(200)),
        ({"sif_coefficient": None}, np.ones(200)),
        ({"apply_zipf": False}, np.ones(200)),
        ({"apply_zipf": False, "weighting": "zipf"}, np.ones(200)),
    ],
)
def test_weights_end_to_end(wordpiece: Path, word_vectors: np.ndarray, options: dict[str, Any], expected: np.ndarray):
    model = distill(str(wordpiece), corpus_words(200), use_subword=False, **{**RAW, "apply_zipf": True, **options})
    found = word_rows(model, corpus_words(200))
    np.testing.assert_allclose(found, word_vectors * expected[:, None], rtol=1e-3, atol=1e-5)


def test_weights_come_after_pca(wordpiece: Path, word_vectors: np.ndarray):
    model = distill(
        str(wordpiece), corpus_words(200), use_subword=False, pca_dims=8, quantize_to="float32", device="cpu"
    )
    reduced = PCA(n_components=8, svd_solver="full").fit_transform(word_vectors)
    expected = reduced * sif(200, 1e-4)[:, None]
    assert_same_up_to_signs(word_rows(model, corpus_words(200)), expected)


def test_ranks_count_the_kept_rows_in_output_mode(wordpiece: Path):
    plain = distill(str(wordpiece), **RAW)
    weighted = distill(str(wordpiece), **{**RAW, "apply_zipf": True})
    assert plain.tokens == weighted.tokens
    known = [row for row, token in enumerate(plain.tokens) if token != "[UNK]"]
    ratio = np.linalg.norm(rows(weighted)[known], axis=1) / np.linalg.norm(rows(plain)[known], axis=1)
    np.testing.assert_allclose(ratio, sif(len(plain.tokens), 1e-4)[known], rtol=0.05)


@pytest.mark.parametrize("coefficient", [0, 0.0, -1e-4, 1.5, float("nan"), float("inf"), "much"])
def test_invalid_sif_coefficients_are_rejected(wordpiece: Path, coefficient: Any):
    with pytest.raises(InputError, match="sif_coefficient"):
        distill(str(wordpiece), corpus_words(20), use_subword=False, sif_coefficient=coefficient)


# Quantization


@pytest.mark.parametrize("quantize_to", ["float32", "float16", "int8"])
def test_number_formats(wordpiece: Path, quantize_to: str):
    options: dict[str, Any] = {"use_subword": False, "pca_dims": 16, "device": "cpu"}
    exact = distill(str(wordpiece), corpus_words(200), quantize_to="float32", **options)
    model = distill(str(wordpiece), corpus_words(200), quantize_to=quantize_to, **options)
    assert model.token_embeddings.dtype == np.dtype(quantize_to)
    found, expected = word_rows(model, corpus_words(200)), word_rows(exact, corpus_words(200))
    assert cosines(found, expected).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1), rtol=0.02, atol=0)


@pytest.mark.parametrize("quantize_to", ["float32", "int8"])
def test_vocabulary_quantization_shares_rows(wordpiece: Path, word_vectors: np.ndarray, quantize_to: str):
    options = {**RAW, "quantize_to": quantize_to}
    model = distill(str(wordpiece), corpus_words(200), use_subword=False, vocabulary_quantization=20, **options)
    assert model.token_embeddings.shape == (20, 48)
    assert model.token_mapping is not None
    assert model.token_mapping.shape == (len(model.tokens),)
    assert set(model.token_mapping.tolist()) <= set(range(20))
    found = word_rows(model, corpus_words(200))
    judge = KMeans(20, n_init=3, random_state=0).fit(word_vectors)
    assert ((found - word_vectors) ** 2).sum() < 1.15 * judge.inertia_
    assert ((found - word_vectors) ** 2).sum() > 0.7 * judge.inertia_
    np.testing.assert_allclose(np.linalg.norm(model.encode(corpus_words(9)), axis=1), 1.0, atol=1e-3)


def test_vocabulary_quantization_keeps_each_word_s_weight(wordpiece: Path):
    options: dict[str, Any] = {**RAW, "use_subword": False, "vocabulary_quantization": 20}
    plain = distill(str(wordpiece), corpus_words(200), **options)
    weighted = distill(str(wordpiece), corpus_words(200), **{**options, "apply_zipf": True})
    assert len(weighted.token_embeddings) == 20
    found, expected = (word_rows(model, corpus_words(200)) for model in (weighted, plain))
    assert cosines(found, expected).min() > 0.999
    ratio = np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(ratio / ratio[0], sif(200, 1e-4) / sif(200, 1e-4)[0], rtol=1e-3)


def test_vocabulary_quantization_is_reproducible(wordpiece: Path):
    options: dict[str, Any] = {**RAW, "use_subword": False, "vocabulary_quantization": 20}
    first, second = (distill(str(wordpiece), corpus_words(200), **options) for _ in range(2))
    np.testing.assert_array_equal(first.token_mapping, second.token_mapping)
    np.testing.assert_allclose(rows(first), rows(second), atol=1e-5)


@pytest.mark.parametrize("clusters", [0, -1, 1.5, "many", True])
def test_invalid_vocabulary_quantizations_are_rejected(wordpiece: Path, clusters: Any):
    with pytest.raises(InputError, match="vocabulary_quantization"):
        distill(str(wordpiece), corpus_words(20), use_subword=False, vocabulary_quantization=clusters)


def test_more_shared_rows_than_words(wordpiece: Path):
    try:
        model = distill(str(wordpiece), corpus_words(20), use_subword=False, vocabulary_quantization=500)
    except InputError as error:
        assert "500" in str(error)
        return
    assert len(model.token_embeddings) <= len(model.tokens)


# Progress and cancelling

STAGES = ["load", "encode", "reduce", "finish"]


def test_progress_is_monotone_and_complete(output_run: tuple[StaticModel, list[Progress]]):
    model, events = output_run
    assert list(dict.fromkeys(event.stage for event in events)) == STAGES
    stages = [event.stage for event in events]
    assert stages == sorted(stages, key=STAGES.index), "a stage occurs twice"
    for stage in STAGES:
        done = [event.done for event in events if event.stage == stage]
        assert done[0] == 0
        assert done == sorted(done)
    encode = [event for event in events if event.stage == "encode"]
    assert {event.total for event in encode} == {len(model.tokens)}
    assert encode[-1].done == len(model.tokens)
    assert len(encode) >= 2
    assert encode[-1].eta_seconds == 0
    for event in events:
        assert event.rate >= 0
        assert event.eta_seconds is None or event.eta_seconds >= 0
        assert event.total == 0 or event.done <= event.total


@pytest.mark.parametrize("stage", STAGES)
def test_an_exception_from_the_callback_stops_the_work(wordpiece: Path, stage: str):
    class StopIt(Exception):
        pass

    stop = StopIt("enough")
    seen: list[str] = []

    def callback(event: Progress) -> None:
        seen.append(event.stage)
        if event.stage == stage:
            raise stop

    with pytest.raises(StopIt) as caught:
        distill(str(wordpiece), corpus_words(20), use_subword=False, device="cpu", progress=callback)
    assert caught.value is stop
    assert seen.count(stage) == 1
    assert seen[-1] == stage


@pytest.mark.parametrize("stage", STAGES[:3])
def test_an_event_cancels(wordpiece: Path, stage: str):
    cancel = threading.Event()
    seen: list[Progress] = []

    def callback(event: Progress) -> None:
        seen.append(event)
        if event.stage == stage:
            cancel.set()

    with pytest.raises(Cancelled):
        distill(str(wordpiece), device="cpu", progress=callback, cancel=cancel)
    assert [event.stage for event in seen].count(stage) == 1
    assert seen[-1].stage == stage


def test_cancelled_before_it_starts(tmp_path: Path):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        distill(str(tmp_path / "absent"), cancel=cancel)


def test_cancelled_from_another_thread(build_teacher_once: Callable[[str], Path]):
    folder = str(build_teacher_once("bytelevel"))
    cancel, encoding = threading.Event(), threading.Event()
    caught: list[BaseException] = []

    def callback(event: Progress) -> None:
        if event.stage == "encode":
            encoding.set()
            cancel.wait(30)

    def work() -> None:
        try:
            distill(folder, device="cpu", progress=callback, cancel=cancel)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert encoding.wait(60)
    cancel.set()
    thread.join(60)
    assert not thread.is_alive()
    assert [type(error) for error in caught] == [Cancelled]


# Invalid teachers


def test_an_unknown_repository(session_hub: LoopbackHub):
    with pytest.raises(NotFoundError, match="someone/no-such-teacher"):
        distill("someone/no-such-teacher")
    assert session_hub.paths()


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "..", "a b", "", "x/y/z", "~/teacher"])
def test_an_empty_name(name: str):
    with pytest.raises((NotFoundError, TeacherError, InputError)):
        distill(name)


@pytest.mark.parametrize("name", [None, 3, b"x"])
def test_a_name_that_is_not_a_string(name: Any):
    with pytest.raises(M2VError):
        distill(name)


def test_a_file_instead_of_a_folder(tmp_path: Path):
    (tmp_path / "teacher").write_text("text")
    with pytest.raises(M2VError):
        distill(str(tmp_path / "teacher"))


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ({"status": 401, "error_code": "GatedRepo"}, HubError),
        ({"status": 403, "error_code": "GatedRepo"}, HubError),
        ({"status": 403}, HubError),
        ({"status": 429}, HubError),
        ({"status": 500}, HubError),
        ({"cut_after": 0}, HubError),
    ],
    ids=str,
)
def test_a_hub_that_rejects_the_request(session_hub: LoopbackHub, failure: dict[str, Any], error: type[Exception]):
    with (
        session_hub.failing("refused-teacher", **failure),
        pytest.raises(error, match="someone/refused-teacher"),
    ):
        distill("someone/refused-teacher")
    # The error is raised without half a minute of retries.
    assert len(session_hub.requests) <= 3


def test_a_teacher_from_the_hub(session_hub: LoopbackHub, wordpiece: Path):
    commit = session_hub.add("someone/small-teacher", wordpiece)
    words = [*PHRASES, "banana"]
    found = distill("someone/small-teacher", words, use_subword=False, **RAW)
    expected = distill(str(wordpiece), words, use_subword=False, **RAW)
    np.testing.assert_allclose(rows(found), rows(expected), atol=1e-5)
    assert found.base_model_name == "someone/small-teacher"
    assert found.config["m2v"]["teacher_revision"] == commit


@pytest.mark.parametrize("load", ["by path", "relative", "already loaded", "moved since"])
def test_a_local_teacher_has_no_name_on_the_hub(
    wordpiece: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: str
):
    folder = shutil.copytree(wordpiece, tmp_path / "home" / "my teacher")
    monkeypatch.chdir(tmp_path)
    if load in ("by path", "relative"):
        model = distill(str(folder) if load == "by path" else "home/my teacher", PHRASES, use_subword=False, **RAW)
    else:
        loaded, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        if load == "moved since":
            folder.rename(folder.with_name("elsewhere"))
        model = distill_from_model(loaded, tokenizer, PHRASES, use_subword=False, **RAW)
    model.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    config = (tmp_path / "model" / "config.json").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert model.base_model_name is None and "base_model" not in front and "tokenizer_name" not in config
    assert "Distilled from `my teacher`" in card and "--model-name 'my teacher'" in card
    assert str(tmp_path) not in card + config and "home/" not in card + config


def test_a_folder_has_no_revisions(wordpiece: Path):
    with pytest.raises(InputError, match="no revision 'v2'"):
        distill(str(wordpiece), revision="v2")


def test_a_vision_model(broken_teacher: Callable[[str], Path]):
    with pytest.raises(TeacherError, match="tokenizer"):
        distill(str(broken_teacher("vision")))


def test_a_missing_tokenizer(broken_teacher: Callable[[str], Path]):
    # transformers falls back to a vocabulary of five special tokens.
    with pytest.raises(TeacherError, match="tokenizer"):
        distill(str(broken_teacher("no-tokenizer")))


def test_slow_tokenizer_files_only(broken_teacher: Callable[[str], Path]):
    with pytest.raises(TeacherError, match="tokenizer"):
        distill(str(broken_teacher("slow-tokenizer")))


def test_a_slow_tokenizer_object(broken_teacher: Callable[[str], Path], wordpiece: Path):
    tokenizer = AutoTokenizer.from_pretrained(broken_teacher("slow-tokenizer"))
    with pytest.raises(TeacherError, match="tokenizer"):
        distill_from_model(AutoModel.from_pretrained(wordpiece), tokenizer)


def test_custom_code_does_not_run_by_default(broken_teacher: Callable[[str], Path]):
    folder = broken_teacher("custom-code")
    with pytest.raises(RemoteCodeError, match="trust_remote_code"):
        distill(str(folder))
    assert not (folder / "EXECUTED").exists()


def test_custom_code_from_the_hub_does_not_run_by_default(
    session_hub: LoopbackHub, broken_teacher: Callable[[str], Path]
):
    folder = broken_teacher("custom-code")
    session_hub.add("someone/with-code", folder)
    with pytest.raises(RemoteCodeError, match="someone/with-code"):
        distill("someone/with-code")
    assert not (folder / "EXECUTED").exists()


def test_custom_code_runs_when_trusted(broken_teacher: Callable[[str], Path], word_vectors: np.ndarray):
    folder = broken_teacher("custom-code")
    model = distill(str(folder), corpus_words(200), use_subword=False, trust_remote_code=True, **RAW)
    assert (folder / "EXECUTED").exists()
    np.testing.assert_allclose(word_rows(model, corpus_words(200)), word_vectors, atol=2e-5)


def test_a_custom_module_does_not_run_by_default(broken_teacher: Callable[[str], Path]):
    # Distillation needs only the transformer, so it may either skip the module or raise an error.
    folder = broken_teacher("custom-module")
    try:
        model = distill(str(folder), corpus_words(20), use_subword=False, pca_dims=None)
    except RemoteCodeError:
        pass
    else:
        assert model.dim == 48
    assert not (folder / "EXECUTED").exists()


def test_nan_in_the_teacher_s_output(broken_teacher: Callable[[str], Path]):
    folder = broken_teacher("nan-weights")
    with pytest.raises(TeacherOutputError, match="NaN"):
        distill(str(folder))
    # Words without the damaged token still work.
    assert np.isfinite(distill(str(folder), ["banana"], use_subword=False, **RAW).token_embeddings).all()


def test_truncated_weights(broken_teacher: Callable[[str], Path]):
    with pytest.raises(TeacherError, match=r"truncated-weights|model\.safetensors"):
        distill(str(broken_teacher("truncated-weights")))


def test_an_empty_folder(broken_teacher: Callable[[str], Path]):
    with pytest.raises((TeacherError, NotFoundError), match="empty"):
        distill(str(broken_teacher("empty")))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"model_type": "no-such-architecture"}'),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"\x00\xff\xfe"),
        ("tokenizer_config.json", b"["),
        ("modules.json", b"{"),
        ("modules.json", b'[{"idx": 0}]'),
        ("model.safetensors", b""),
        ("model.safetensors", b"not a tensor in sight"),
    ],
)
def test_a_damaged_file(tmp_path: Path, wordpiece: Path, file: str, content: bytes):
    folder = teachers.build_teacher("wordpiece", tmp_path / "teacher")
    (folder / file).write_bytes(content)
    with pytest.raises(TeacherError):
        distill(str(folder), corpus_words(20), use_subword=False)


def test_a_static_model_is_rejected(tmp_path: Path, wordpiece: Path):
    distill(str(wordpiece), corpus_words(20), use_subword=False, pca_dims=8).save_pretrained(tmp_path / "model")
    with pytest.raises(TeacherError):
        distill(str(tmp_path / "model"))


# Invalid arguments


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pooling", "max"),
        ("pooling", None),
        ("weighting", "tfidf"),
        ("weighting", None),
        ("recipe", "word2vec"),
        ("quantize_to", "int4"),
        ("quantize_to", None),
        ("token_remove_pattern", "["),
        ("token_remove_pattern", "(?P<x"),
    ],
)
def test_an_unknown_choice_is_rejected_before_loading(name: str, value: Any):
    # The folder is empty, so the error can only be about the argument.
    with pytest.raises(InputError, match=name):
        distill("./no/such/folder", **{name: value})


@pytest.mark.parametrize("device", ["gpu", "tpu:0", "cuda:99", "cpu:x", ""])
def test_an_unknown_device(wordpiece: Path, device: str):
    with pytest.raises((DeviceError, InputError), match="device"):
        distill(str(wordpiece), device=device)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_an_unavailable_device(wordpiece: Path, device: str):
    if torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available():
        pytest.skip(f"{device} is there")
    with pytest.raises(DeviceError, match=device):
        distill(str(wordpiece), device=device)


@pytest.mark.parametrize("device", [None, "auto", "cpu"])
def test_available_devices(wordpiece: Path, device: str | None):
    assert distill(str(wordpiece), corpus_words(20), use_subword=False, pca_dims=None, device=device).dim == 48


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_and_cpu_agree(family: str, teacher_folder: Path):
    found = distill(str(teacher_folder), **{**RAW, "device": "cuda"})
    expected = distill(str(teacher_folder), **RAW)
    known = [row for row, token in enumerate(found.tokens) if token != teachers.UNKNOWN_TOKEN[family]]
    assert_same_rows(rows(found)[known], rows(expected)[known], tolerance=2e-3)


def test_a_path_object_is_accepted(wordpiece: Path):
    model = distill(wordpiece, corpus_words(20), use_subword=False, pca_dims=8)  # type: ignore[arg-type]
    assert model.dim == 8


def test_a_pattern_that_removes_every_token(teacher_folder: Path):
    with pytest.raises(InputError, match="token_remove_pattern"):
        distill(str(teacher_folder), token_remove_pattern=r"(?s).*")


def test_word_level_needs_a_vocabulary(wordpiece: Path):
    with pytest.raises(InputError, match="vocabulary"):
        distill(str(wordpiece), use_subword=False)


@pytest.mark.parametrize("use_subword", [True, False])
@pytest.mark.parametrize("words", [[], [""], [" ", "\n"], ["\x00"]])
def test_a_vocabulary_without_a_word(wordpiece: Path, words: list[str], use_subword: bool):
    with pytest.raises(VocabularyError):
        distill(str(wordpiece), words, use_subword=use_subword)


@pytest.mark.parametrize("words", ["banana", b"banana", [1, 2], ["a", None], [["a"]], 7])
def test_a_vocabulary_of_other_types_than_strings(wordpiece: Path, words: Any):
    with pytest.raises(InputError):
        distill(str(wordpiece), words, use_subword=False)


def test_a_very_long_word(wordpiece: Path):
    words = ["banana", "x" * 100_000, "ice cream"]
    model = distill(str(wordpiece), words, use_subword=False, pca_dims=None)
    assert len(model.tokenize(["banana"])[0]) == len(model.tokenize(["ice cream"])[0]) == 1
    assert np.isfinite(model.token_embeddings).all()


def test_a_word_longer_than_the_teacher_s_maximum_length(teacher_folder: Path):
    long_phrase = " ".join(f"word{number}" for number in range(60))
    model = distill(str(teacher_folder), ["banana", long_phrase], use_subword=False, **RAW)
    assert np.isfinite(model.token_embeddings).all()
    assert len(model.tokenize(["banana"])[0]) == 1


def test_lone_surrogates_in_the_vocabulary(wordpiece: Path):
    try:
        model = distill(str(wordpiece), ["banana", "a\ud800b"], use_subword=False, pca_dims=None)
    except InputError:
        return
    assert len(model.tokenize(["banana"])[0]) == 1


def test_nothing_is_written(wordpiece: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path: path.stat().st_mtime_ns for path in wordpiece.rglob("*")}
    monkeypatch.chdir(tmp_path)
    distill(str(wordpiece), corpus_words(20), use_subword=False, pca_dims=8)
    assert not list(tmp_path.iterdir())
    assert {path: path.stat().st_mtime_ns for path in wordpiece.rglob("*")} == before


# Allocator settings would be made through ctypes.
DISTILLING_PROCESS = """
import ctypes, os, sys
called = []
class Watched(ctypes.CDLL):
    def __getattr__(self, name):
        called.append(name)
        return super().__getattr__(name)
ctypes.CDLL = Watched
assert ctypes.CDLL(None).getpid() == os.getpid() and "getpid" in called
before = dict(os.environ)
import m2v_core
m2v_core.distill(sys.argv[1], device="cpu", pca_dims=8)
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
print([name for name in called if name.startswith(("mall", "mtrace"))])
"""


def test_distillation_changes_no_global_state(build_teacher_once):
    command = [sys.executable, "-c", DISTILLING_PROCESS, str(build_teacher_once("wordpiece"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("asked", [1, 8, 9, 10, 12, 20, 0.9, "auto", None])
@pytest.mark.parametrize("n_rows", [5, 9, 10, 100])
def test_other_dimensions_than_requested_are_reported(n_rows, asked):
    dim = reduce_dims(np.random.default_rng(0).normal(size=(n_rows, 12)).astype(np.float32), asked).shape[1]
    note = dims_note(asked, dim)
    assert (note is None) is (dim == asked or not isinstance(asked, int))
    assert note is None or f"{dim} dimensions instead of {asked}: " in note
    assert note is None or ("PCA requires more rows" in note) is (dim > asked)
