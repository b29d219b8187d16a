"""Calibration against dense linear algebra, and its fallbacks."""

from __future__ import annotations

import platform
import threading

import hypothesis
import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import strategies as st

import m2v_core
from m2v_core.distillation import settings
from m2v_core.distillation.calibration import closed_form
from m2v_core.distillation.calibration.bags import deduplicate_texts, synthetic_bags, whole_words
from m2v_core.distillation.calibration.closed_form import (
    InitialTable,
    RotatedTargets,
    fit_closed_form,
    multiply_by_gram,
)
from m2v_core.distillation.calibration.descent import descend
from m2v_core.distillation.calibration.dictionary import dictionary_lines
from m2v_core.distillation.calibration.fit import (
    MIN_SENTENCES,
    Sentences,
    calibrate,
    count_tokens,
    prepare_sentences,
)
from m2v_core.distillation.teacher.teacher import Teacher
from m2v_core.errors import Cancelled, InputError
from m2v_core.progress import ProgressReporter
from tests import teachers

QUIET = ProgressReporter()
N_ROWS, DIM, WIDTH = 60, 6, 10


@pytest.fixture
def random():
    return np.random.default_rng(7)


def start(table: np.ndarray) -> InitialTable:
    return InitialTable(table, np.ones(len(table), np.float32))


def sentences(random, n: int, table: np.ndarray, noise: float = 0.1) -> Sentences:
    """Random sentences with the embeddings of `table` as targets, rotated into a wider space."""
    dense = np.zeros((n, N_ROWS), np.float32)
    for row in dense:
        ids = random.integers(N_ROWS, size=random.integers(2, 9))
        np.add.at(row, ids, 1 / len(ids))
    wide = np.concatenate([dense @ table, noise * random.normal(size=(n, WIDTH - DIM))], axis=1)
    turn = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    return Sentences(sparse.csr_matrix(dense), (wide @ turn).astype(np.float32))


def agreement(table: np.ndarray, judged: Sentences) -> float:
    """Correlation of static and teacher cosines, computed directly."""

    def cosines(vectors: np.ndarray) -> np.ndarray:
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (units @ units.T)[np.triu_indices(len(units), 1)]

    targets = judged.targets / np.linalg.norm(judged.targets, axis=1, keepdims=True)
    return float(np.corrcoef(cosines(judged.counts @ table), cosines(targets - targets.mean(axis=0)))[0, 1])


def test_the_closed_form_is_the_ridge_regression(random):
    table = random.normal(size=(N_ROWS, DIM)).astype(np.float32)
    given = sentences(random, 400, table)
    targets, turn = given.targets, np.linalg.qr(random.normal(size=(WIDTH, DIM)))[0].astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    wanted = targets @ turn
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    dense = given.counts.toarray().astype(np.float64)
    system = dense / np.linalg.norm(dense @ table, axis=1, keepdims=True)
    for strength in (0.03, 1.0):
        exact = table + np.linalg.solve(
            system.T @ system + strength * np.eye(N_ROWS), system.T @ (wanted - system @ table)
        )
        found = fit_closed_form(
            start(table), given.counts, RotatedTargets.from_rotation(targets, turn), strength, QUIET, tolerance=1e-6
        )
        np.testing.assert_allclose(found, exact, atol=1e-3)


@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    n_sentences=st.integers(0, 40),
    n_rows=st.integers(1, 50),
    n_columns=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.1, 0.9]),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
def test_products_equal_those_of_dense_matrices(monkeypatch, seed, n_sentences, n_rows, n_columns, share):
    random = np.random.default_rng(seed)
    dense = random.normal(size=(n_sentences, n_rows)) * (random.random((n_sentences, n_rows)) < share)
    matrix = sparse.csr_matrix(dense.astype(np.float32))
    table = random.normal(size=(n_rows, n_columns)).astype(np.float32)
    dense = matrix.toarray().astype(np.float64)
    compiled = multiply_by_gram(matrix, table)
    with monkeypatch.context() as patch:
        patch.setattr(closed_form, "kernels", None)
        plain = multiply_by_gram(matrix, table, out=np.full_like(table, np.nan))
    np.testing.assert_allclose(compiled, dense.T @ (dense @ table), atol=1e-3)
    if platform.machine() == "x86_64":  # other architectures may use fused multiply-add
        np.testing.assert_array_equal(compiled, plain)
    np.testing.assert_allclose(compiled, plain, atol=1e-3)


def test_descent_reduces_the_loss(random):
    table = random.normal(size=(N_ROWS, DIM)).astype(np.float32)
    given = sentences(random, 2000, table)
    targets = given.targets / np.linalg.norm(given.targets, axis=1, keepdims=True)
    begun = random.normal(size=(N_ROWS, DIM)).astype(np.float32)
    found = descend(begun, given.counts, targets[:, :DIM], targets, 60, QUIET)
    assert agreement(found, given) > agreement(begun, given) + 0.1


@pytest.mark.parametrize("kind", ["bags", "corpus"])
def test_a_distorted_table_improves_on_unseen_sentences(random, kind):
    true = random.normal(size=(N_ROWS, DIM)).astype(np.float32)
    given = sentences(random, 3000, true)
    unseen = Sentences(given.counts[2500:], given.targets[2500:])
    seen = Sentences(given.counts[:2500], given.targets[:2500])
    distorted = (true + 0.7 * random.normal(size=true.shape)).astype(np.float32)
    found = calibrate([start(distorted)], prepare_sentences([seen], N_ROWS), kind == "corpus", QUIET)
    assert found.problem is None
    assert found.after > found.before
    assert agreement(found.token_embeddings, unseen) > agreement(distorted, unseen) + 0.05


@pytest.mark.parametrize("broken", ["few", "constant", "noise", "nothing"])
def test_useless_sentences_leave_the_table_unchanged(random, broken):
    table = random.normal(size=(N_ROWS, DIM)).astype(np.float32)
    given = sentences(random, MIN_SENTENCES - 1 if broken == "few" else 2000, table, noise=0.0)
    if broken == "constant":
        given = Sentences(given.counts, np.ones_like(given.targets))
    elif broken == "noise":  # the targets are unrelated to the sentences
        given = Sentences(given.counts, random.normal(size=given.targets.shape).astype(np.float32))
        table = table * 0 + 1e-3  # and the table carries no information
        table += 1e-6 * random.normal(size=table.shape).astype(np.float32)
    kinds = [] if broken == "nothing" else [given]
    found = calibrate([start(table)], prepare_sentences(kinds, N_ROWS), True, QUIET)
    assert np.isfinite(found.token_embeddings).all()
    if broken != "noise":
        assert found.problem
        np.testing.assert_array_equal(found.token_embeddings, table)


def test_counts_are_shares_of_the_known_tokens():
    tokenizer = teachers_tokenizer()
    unknown = tokenizer.token_to_id("[UNK]")
    texts = ["the the dog", "", "the " * 700]
    counts = count_tokens(tokenizer, texts, unknown, tokenizer.get_vocab_size())
    for i, text in enumerate(texts):
        ids = [t for t in tokenizer.encode(text, add_special_tokens=False).ids[:512] if t != unknown]
        expected = np.bincount(ids, minlength=tokenizer.get_vocab_size()) / max(len(ids), 1)
        np.testing.assert_allclose(counts[[i]].toarray()[0], expected, atol=1e-6)


def teachers_tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_str(teachers.tokenizer_json("wordpiece"))


def test_bags_are_words_and_reproducible():
    words, ids = whole_words(teachers_tokenizer())
    assert len(words) == len(ids) > 100
    bags = synthetic_bags(words, ids, 80_000, seed=3)
    assert bags == synthetic_bags(words, ids, 80_000, seed=3) != synthetic_bags(words, ids, 80_000, seed=4)
    assert len(bags) == 4 * len(words)
    assert {word for bag in bags for word in bag.split()} <= set(words)
    assert {len(bag.split()) for bag in bags} == set(range(2, 13))
    assert synthetic_bags(words, ids, 100, seed=3) == bags[:100]
    assert synthetic_bags(words[:99], ids[:99], 80_000) == []


def test_single_characters_are_words_only_if_they_are_the_majority():
    from tokenizers import Tokenizer, models, pre_tokenizers

    def words_among(tokens: list[str]) -> list[str]:
        tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=tokens[0]))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return whole_words(tokenizer)[0]

    assert words_among(["[UNK]", "a", "\u4e2d", "the", "house"]) == ["the", "house"]
    assert words_among(["[UNK]", "\u4e2d", "\u6587", "\u5b57", "ok"]) == ["\u4e2d", "\u6587", "\u5b57", "ok"]


@pytest.mark.parametrize("better", [0, 1])
def test_the_better_initial_table_is_chosen(random, better):
    true = random.normal(size=(N_ROWS, DIM)).astype(np.float32)
    distorted = random.normal(size=(N_ROWS, DIM)).astype(np.float32)
    starts = [true, distorted] if better == 0 else [distorted, true]
    seen, unseen = sentences(random, 1500, true), sentences(random, 500, true)
    found = calibrate([start(table) for table in starts], prepare_sentences([seen], N_ROWS), False, QUIET)
    assert agreement(found.token_embeddings, unseen) > agreement(
        calibrate([start(distorted)], prepare_sentences([seen], N_ROWS), False, QUIET).token_embeddings, unseen
    )


def test_duplicates_and_blank_texts_are_dropped():
    assert deduplicate_texts([" a ", "", "b", "a", "\n"]) == ["a", "b"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return teachers.build_teacher("wordpiece", tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.mark.parametrize("options", [{}, {"vocabulary": ["zyzzyva", "the dog"]}, {"vocabulary_quantization": 300}])
def test_a_corpus_end_to_end(teacher, options):
    corpus = teachers.corpus_sentences(3000)
    fast = m2v_core.distill(teacher, recipe="fast", device="cpu", pca_dims=16, **options)
    fitted = m2v_core.distill(teacher, recipe="fast", corpus=corpus, device="cpu", pca_dims=16, **options)
    assert fitted.config["m2v"]["calibrated"] is True
    assert fitted.config["m2v"]["n_corpus_texts"] == len(deduplicate_texts(corpus))
    assert fitted.tokens == fast.tokens
    assert fitted.token_embeddings.shape == fast.token_embeddings.shape
    from m2v_core.evaluation.encoders import TeacherEncoder

    unseen = teachers.corpus_sentences(300, skip=4000)
    wanted = Sentences(sparse.identity(len(unseen), format="csr"), TeacherEncoder(teacher).encode(unseen))
    found = [agreement(model.encode(unseen), wanted) for model in (fast, fitted)]
    assert found[1] > found[0]


def test_an_effort_uses_its_numbers_of_texts(teacher, monkeypatch, caplog):
    """Uses smaller limits, so that a run takes a second."""
    monkeypatch.setitem(settings.LIMITS, "quick", settings.TextLimits(600, 500, 400))
    read = []

    def embed_texts(self, texts, *args):
        read.append(list(texts))
        return embed(self, texts, *args)

    embed = Teacher.embed_texts
    monkeypatch.setattr(Teacher, "embed_texts", embed_texts)
    corpus = teachers.corpus_sentences(1000)
    made = m2v_core.distill(teacher, corpus=corpus, dictionary="english", effort="quick", device="cpu", pca_dims=16)
    bags, lines, sentences = read
    assert len(bags) == 600 and lines == dictionary_lines()[:500]
    places = [corpus.index(text) for text in sentences]
    assert len(places) == 400 and set(np.diff(places)) <= {2, 3} and places[0] == 0
    assert "400 of them are used, evenly spaced" in caplog.text
    noted = made.config["m2v"]
    assert (noted["effort"], noted["n_bags"], noted["n_dictionary_lines"], noted["n_corpus_texts"]) == (
        *("quick", 600, 500, 400),
    )
    again = m2v_core.distill(teacher, corpus=corpus, dictionary="english", effort="quick", device="cpu", pca_dims=16)
    np.testing.assert_array_equal(made.token_embeddings, again.token_embeddings)


@pytest.mark.parametrize(
    "corpus",
    [
        ["one", "two", "three"],
        ["the same line"] * 5000,
        # Two thousand lines in a script that the teacher does not support.
        [f"{chr(0xA000 + i % 1000)}{chr(0xA000 + i // 1000)} {chr(0xA100 + i % 900)}" for i in range(2000)],
    ],
    ids=["three lines", "one line again and again", "unknown script"],
)
def test_a_useless_corpus_gives_the_uncalibrated_model(teacher, corpus, caplog):
    fast = m2v_core.distill(teacher, recipe="fast", device="cpu", pca_dims=None)
    found = m2v_core.distill(teacher, recipe="fast", corpus=corpus, device="cpu", pca_dims=None)
    assert "not calibrated" in caplog.text
    np.testing.assert_array_equal(found.token_embeddings, fast.token_embeddings)
    assert found.config["m2v"]["calibrated"] is False


def test_without_whole_words_there_are_no_bags(teacher, caplog):
    words = ["don't", "co-op", "C++", "3d printing", "..."]
    model = m2v_core.distill(teacher, words, use_subword=False, device="cpu", pca_dims=None)
    assert "too few for bags" in caplog.text and "not calibrated" in caplog.text
    assert np.isfinite(model.encode(words)).all() and model.config["m2v"]["calibrated"] is False


def test_a_teacher_with_constant_embeddings(tmp_path, caplog):
    from safetensors.numpy import load_file, save_file

    folder = teachers.build_teacher("wordpiece", tmp_path / "constant")
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if "LayerNorm" in name:
            weights[name] = np.zeros_like(tensor) if name.endswith("weight") else np.ones_like(tensor)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = m2v_core.distill(folder, recipe="calibrated", device="cpu")
    assert "not calibrated: only 0 sentences" in caplog.text
    assert np.isfinite(model.token_embeddings).all() and np.isfinite(model.encode(["the end"])).all()


def test_calibration_can_be_cancelled(teacher):
    cancel = threading.Event()

    def stop(event) -> None:
        if event.stage == "calibrate":
            cancel.set()

    with pytest.raises(Cancelled):
        m2v_core.distill(
            teacher, recipe="fast", corpus=teachers.corpus_sentences(2000), device="cpu", progress=stop, cancel=cancel
        )


def test_the_published_recipe_rejects_a_corpus(teacher):
    with pytest.raises(InputError, match="has no corpus"):
        m2v_core.distill(teacher, recipe="model2vec", corpus=["a"])
    with pytest.raises(InputError, match="corpus is the string"):
        m2v_core.distill(teacher, corpus="sentences.txt")
