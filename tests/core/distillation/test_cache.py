"""The cache of teacher outputs returns what the teacher would return."""

import multiprocessing
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import m2v_core
from m2v_core import StaticModel
from m2v_core.distillation import cache

WORDS = ["river", "new york", "bank"]
OTHER_WORDS = ["new york", "old york", "zyzzyva"]


distill = partial(m2v_core.distill, recipe="fast")


@pytest.fixture(scope="module")
def wordpiece_teacher(build_teacher_once) -> Path:
    return build_teacher_once("wordpiece")


@pytest.fixture
def run_distill(tmp_path: Path, wordpiece_teacher: Path):
    def run(**settings):
        return distill(str(wordpiece_teacher), device="cpu", **{"cache_folder": tmp_path / "cache"} | settings)

    return run


@pytest.fixture(scope="module")
def calibrated_once(wordpiece_teacher: Path, tmp_path_factory) -> tuple[Path, StaticModel]:
    """The cache and the model of a calibrated run; treat both as read-only."""
    cache = tmp_path_factory.mktemp("calibrated")
    return cache, distill(str(wordpiece_teacher), recipe="calibrated", pca_dims=16, device="cpu", cache_folder=cache)


@pytest.fixture
def calibrated(calibrated_once: tuple[Path, StaticModel], tmp_path: Path) -> StaticModel:
    """A calibrated model whose inputs are cached for `run_distill`."""
    cache, model = calibrated_once
    shutil.copytree(cache, tmp_path / "cache")
    return model


@pytest.fixture
def entries(tmp_path: Path):
    return lambda: sorted((tmp_path / "cache").glob("*"))


@pytest.fixture
def n_read(run_distill):
    """Distill, and return the number of entries that the teacher embedded, and the model."""

    def run(**settings):
        totals = [0]
        settings["progress"] = lambda event: event.stage == "encode" and totals.append(event.total)
        model = run_distill(quantize_to="float32", **settings)
        return totals[-1], model

    return run


def is_vectors(entry: Path) -> bool:
    return "-" in entry.stem


@pytest.mark.parametrize(
    "settings",
    [
        {"pca_dims": 8},
        {"pca_dims": None, "weighting": "zipf"},
        {"pca_dims": 8, "quantize_to": "int8", "apply_zipf": False},
        {"pca_dims": 8, "vocabulary_quantization": 50},
    ],
)
def test_cached_outputs_give_the_same_model(run_distill, entries, wordpiece_teacher: Path, settings, monkeypatch):
    run_distill(pca_dims=16)
    assert len(entries()) == 2  # the vocabulary, and its vectors
    plain = distill(str(wordpiece_teacher), device="cpu", **settings)
    # Loading a teacher fails from here on.
    monkeypatch.setattr("m2v_core.distillation.teacher.teacher.Teacher.load", None)
    kept = run_distill(**settings)
    np.testing.assert_array_equal(kept.token_embeddings, plain.token_embeddings)
    assert kept.tokenizer.to_str() == plain.tokenizer.to_str()
    assert kept.config == plain.config


@pytest.mark.parametrize(
    ("settings", "more_vectors"),
    [
        ({"pooling": "first"}, 1),
        ({"vocabulary": WORDS}, 1),
        ({"vocabulary": WORDS, "use_subword": False}, 1),
        ({"token_remove_pattern": r"\[unused\d+\]|a"}, 0),
    ],
)
def test_other_settings_have_their_own_entries(run_distill, entries, settings, more_vectors):
    run_distill()
    run_distill(**settings)
    assert [is_vectors(entry) for entry in entries()].count(False) == 2
    assert [is_vectors(entry) for entry in entries()].count(True) == 1 + more_vectors


@pytest.mark.parametrize("use_subword", [True, False])
def test_the_teacher_embeds_only_uncached_entries(run_distill, n_read, use_subword, tmp_path, monkeypatch):
    n_pieces, _ = n_read()
    assert n_pieces > 100
    assert 1 <= n_read(vocabulary=WORDS)[0] <= len(WORDS)
    n_other, found = n_read(vocabulary=OTHER_WORDS, use_subword=use_subword)
    assert n_other == 2  # "new york" is cached from the other words
    settings = {"quantize_to": "float32", "cache_folder": tmp_path / "another"}
    plain = run_distill(vocabulary=OTHER_WORDS, use_subword=use_subword, **settings)
    assert found.tokenizer.to_str() == plain.tokenizer.to_str() and found.config == plain.config
    np.testing.assert_allclose(found.token_embeddings, plain.token_embeddings, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("m2v_core.distillation.teacher.teacher.Teacher.embed", None)
    assert n_read(vocabulary=[*OTHER_WORDS, *WORDS])[0] == 0


def test_entries_with_the_same_token_ids_share_a_vector(tmp_path):
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    kept = cache.VectorCache(tmp_path)
    kept.put_vectors(["teacher"], [[1, 2], [1]], vectors)
    found, missing = kept.get_vectors(["teacher"], [[1], [2], [1, 2], [1], [1, 2, 3]])
    assert missing == [1, 4] and kept.find_missing(["teacher"], [[2], [1]]) == [0]
    np.testing.assert_array_equal(found[[0, 2, 3]], vectors[[1, 0, 1]])
    assert kept.get_vectors(["another teacher"], [[1]]) == (None, [0])


def test_processes_share_a_cache(wordpiece_teacher: Path, run_distill, n_read, tmp_path: Path):
    processes = multiprocessing.get_context("spawn")
    lists = [WORDS, OTHER_WORDS, None]
    running = [
        processes.Process(
            target=m2v_core.distill,
            args=(str(wordpiece_teacher), words),
            kwargs={"recipe": "fast", "device": "cpu", "cache_folder": str(tmp_path / "cache")},
        )
        for words in lists
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
        assert process.exitcode == 0
    for words in lists:
        n, found = n_read(vocabulary=words)
        assert n == 0
        plain = run_distill(vocabulary=words, quantize_to="float32", cache_folder=tmp_path / "another")
        np.testing.assert_allclose(found.token_embeddings, plain.token_embeddings, rtol=1e-4, atol=1e-5)


def test_a_changed_teacher_has_its_own_entries(entries, wordpiece_teacher: Path, tmp_path: Path):
    teacher = shutil.copytree(wordpiece_teacher, tmp_path / "teacher")
    distill(str(teacher), device="cpu", cache_folder=tmp_path / "cache")
    weights = teacher / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    distill(str(teacher), device="cpu", cache_folder=tmp_path / "cache")
    assert len(entries()) == 4


@pytest.mark.parametrize("damages_vectors", [True, False])
def test_a_damaged_entry_is_rebuilt(run_distill, n_read, entries, caplog, damages_vectors):
    expected = run_distill(quantize_to="float32")
    (entry,) = [entry for entry in entries() if is_vectors(entry) == damages_vectors]
    entry.write_bytes(entry.read_bytes()[:1000])
    n_again, again = n_read()
    np.testing.assert_array_equal(again.token_embeddings, expected.token_embeddings)
    assert "damaged" in caplog.text and (n_again > 0) == damages_vectors
    caplog.clear()
    assert n_read()[0] == 0 and "damaged" not in caplog.text


def test_a_calibrated_table_is_cached(calibrated, run_distill, entries, monkeypatch):
    """Vocabulary, vectors, bags, the input of the fit and the table are cached; other dimensions are truncated."""
    assert calibrated.config["m2v"]["calibrated"] and len(entries()) == 5
    monkeypatch.setattr("m2v_core.distillation.teacher.teacher.Teacher.load", None)
    monkeypatch.setattr("m2v_core.distillation.pipeline._fit", None)
    again, narrow = run_distill(recipe="calibrated", pca_dims=16), run_distill(recipe="calibrated", pca_dims=8)
    np.testing.assert_array_equal(again.token_embeddings, calibrated.token_embeddings)
    np.testing.assert_array_equal(narrow.token_embeddings, calibrated.token_embeddings[:, :8])
    assert narrow.config["m2v"] == calibrated.config["m2v"] | {"pca_dims": 8}
    wide = run_distill(recipe="calibrated", pca_dims=0.9)
    share = run_distill(recipe="fast", pca_dims=0.9, apply_zipf=False)
    assert wide.dim == share.dim


@pytest.mark.usefixtures("calibrated")
def test_other_weights_are_fitted_without_teacher_and_texts(run_distill, entries, monkeypatch, tmp_path):
    expected = run_distill(recipe="calibrated", pca_dims=16, weighting="zipf", cache_folder=tmp_path / "another")
    monkeypatch.setattr("m2v_core.distillation.teacher.teacher.Teacher.load", None)
    monkeypatch.setattr("m2v_core.distillation.pipeline._prepare", None)
    other = run_distill(recipe="calibrated", pca_dims=16, weighting="zipf")
    assert other.config["m2v"] == expected.config["m2v"] and len(entries()) == 6
    np.testing.assert_array_equal(other.token_embeddings, expected.token_embeddings)


@pytest.mark.parametrize("damaged", ["sentences", "prepared", "table"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_entries_are_rebuilt(calibrated, run_distill, entries, damaged, damage):
    def holds(path: Path, name: bytes) -> bool:
        return name in path.read_bytes()[:100_000]

    (table,) = [path for path in entries() if holds(path, b'"problem":')]
    (sentences,) = [path for path in entries() if holds(path, b"state_sums")]
    (prepared,) = [path for path in entries() if holds(path, b"text_starts")]
    (vocabulary,) = [path for path in entries() if holds(path, b"n_special")]
    broken = {"sentences": sentences, "prepared": prepared, "table": table}[damaged]
    for later in {"sentences": [prepared, table], "prepared": [table], "table": []}[damaged]:
        later.unlink()
    broken.write_bytes(broken.read_bytes()[:-100] if damage == "cut" else vocabulary.read_bytes())
    again = run_distill(recipe="calibrated", pca_dims=16)
    # The teacher may run in another precision, as the probe runs again.
    np.testing.assert_allclose(
        again.token_embeddings.astype(np.float32), calibrated.token_embeddings.astype(np.float32), atol=0.02
    )


def test_the_oldest_entries_are_evicted(run_distill, entries, monkeypatch):
    run_distill()
    first = entries()
    monkeypatch.setattr(cache, "_MAX_BYTES", 1.5 * sum(entry.stat().st_size for entry in first))
    run_distill(pooling="first")
    assert len(entries()) == 2
    assert not any(entry.exists() for entry in first)


def test_vectors_in_use_are_evicted_last(run_distill, n_read, entries, monkeypatch):
    run_distill()
    run_distill(pooling="first")
    run_distill(vocabulary=WORDS)  # uses the vectors of the first run
    monkeypatch.setattr(cache, "_MAX_BYTES", sum(entry.stat().st_size for entry in entries()))
    run_distill(pooling="last")
    assert n_read(vocabulary=OTHER_WORDS)[0] < 5


def test_a_cache_that_is_not_writable_is_no_error(wordpiece_teacher: Path, tmp_path: Path, caplog):
    (tmp_path / "cache").write_text("a file stands here")
    model = distill(str(wordpiece_teacher), cache_folder=tmp_path / "cache", device="cpu")
    assert model.dim
    assert "could not be cached" in caplog.text
