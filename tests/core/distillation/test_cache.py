"""The cache of teacher vectors: what it serves is what the teacher would give."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import m2v_core
from m2v_core import StaticModel
from m2v_core.distillation import cache

WORDS = ["river", "new york", "bank"]


distill = partial(m2v_core.distill, recipe="fast")


@pytest.fixture(scope="module")
def wordpiece_teacher(build_teacher_once) -> Path:
    return build_teacher_once("wordpiece")


@pytest.fixture
def distil(tmp_path: Path, wordpiece_teacher: Path):
    def run(**settings):
        return distill(str(wordpiece_teacher), device="cpu", **{"cache_folder": tmp_path / "cache"} | settings)

    return run


@pytest.fixture(scope="module")
def calibrated_once(wordpiece_teacher: Path, tmp_path_factory) -> tuple[Path, StaticModel]:
    """The cache that calibrating fills, and the model; treat both as read-only."""
    cache = tmp_path_factory.mktemp("calibrated")
    return cache, distill(str(wordpiece_teacher), recipe="calibrated", pca_dims=16, device="cpu", cache_folder=cache)


@pytest.fixture
def calibrated(calibrated_once: tuple[Path, StaticModel], tmp_path: Path) -> StaticModel:
    """A calibrated model; `distil` has all that was read for it."""
    cache, model = calibrated_once
    shutil.copytree(cache, tmp_path / "cache")
    return model


@pytest.fixture
def entries(tmp_path: Path):
    return lambda: sorted((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(
    "settings",
    [
        {"pca_dims": 8},
        {"pca_dims": None, "weighting": "zipf"},
        {"pca_dims": 8, "quantize_to": "int8", "apply_zipf": False},
        {"pca_dims": 8, "vocabulary_quantization": 50},
    ],
)
def test_a_kept_reading_gives_the_same_model(distil, entries, wordpiece_teacher: Path, settings, monkeypatch):
    distil(pca_dims=16)
    assert len(entries()) == 1
    plain = distill(str(wordpiece_teacher), device="cpu", **settings)
    # From here on nobody can load a teacher.
    monkeypatch.setattr("m2v_core.distillation.teacher.teacher.Teacher.load", None)
    kept = distil(**settings)
    np.testing.assert_array_equal(kept.token_embeddings, plain.token_embeddings)
    assert kept.tokenizer.to_str() == plain.tokenizer.to_str()
    assert kept.config == plain.config


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "first"},
        {"vocabulary": WORDS},
        {"vocabulary": WORDS, "use_subword": False},
        {"token_remove_pattern": "a"},
    ],
)
def test_another_reading_is_another_entry(distil, entries, settings):
    distil()
    distil(**settings)
    assert len(entries()) == 2


def test_a_changed_teacher_is_read_again(entries, wordpiece_teacher: Path, tmp_path: Path):
    teacher = shutil.copytree(wordpiece_teacher, tmp_path / "teacher")
    distill(str(teacher), device="cpu", cache_folder=tmp_path / "cache")
    weights = teacher / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    distill(str(teacher), device="cpu", cache_folder=tmp_path / "cache")
    assert len(entries()) == 2


def test_a_damaged_entry_is_made_again(distil, entries, caplog):
    expected = distil()
    (entry,) = entries()
    entry.write_bytes(entry.read_bytes()[:1000])
    again = distil()
    np.testing.assert_array_equal(again.token_embeddings, expected.token_embeddings)
    assert "damaged" in caplog.text


def test_a_calibrated_table_is_kept_too(calibrated, distil, entries, monkeypatch):
    """Entries for the vocabulary, the bags, what fitting begins with and the table: other dimensions are cut."""
    assert calibrated.config["m2v"]["calibrated"] and len(entries()) == 4
    monkeypatch.setattr("m2v_core.distillation.teacher.teacher.Teacher.load", None)
    monkeypatch.setattr("m2v_core.distillation.pipeline._fit", None)
    again, narrow = distil(recipe="calibrated", pca_dims=16), distil(recipe="calibrated", pca_dims=8)
    np.testing.assert_array_equal(again.token_embeddings, calibrated.token_embeddings)
    np.testing.assert_array_equal(narrow.token_embeddings, calibrated.token_embeddings[:, :8])
    assert narrow.config["m2v"] == calibrated.config["m2v"] | {"pca_dims": 8}
    wide = distil(recipe="calibrated", pca_dims=0.9)
    share = distil(recipe="fast", pca_dims=0.9, apply_zipf=False)
    assert wide.dim == share.dim


@pytest.mark.usefixtures("calibrated")
def test_other_weights_are_fitted_anew_without_teacher_and_texts(distil, entries, monkeypatch, tmp_path):
    expected = distil(recipe="calibrated", pca_dims=16, weighting="zipf", cache_folder=tmp_path / "another")
    monkeypatch.setattr("m2v_core.distillation.teacher.teacher.Teacher.load", None)
    monkeypatch.setattr("m2v_core.distillation.pipeline._prepare", None)
    other = distil(recipe="calibrated", pca_dims=16, weighting="zipf")
    assert other.config["m2v"] == expected.config["m2v"] and len(entries()) == 5
    np.testing.assert_array_equal(other.token_embeddings, expected.token_embeddings)


@pytest.mark.parametrize("damaged", ["sentences", "prepared", "table"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_entries_are_made_again(calibrated, distil, entries, damaged, damage):
    def holds(path: Path, name: bytes) -> bool:
        return name in path.read_bytes()[:100_000]

    (table,) = [path for path in entries() if holds(path, b'"problem":')]
    (sentences,) = [path for path in entries() if holds(path, b"state_sums")]
    (prepared,) = [path for path in entries() if holds(path, b"text_starts")]
    (vocabulary,) = set(entries()) - {sentences, prepared, table}
    broken = {"sentences": sentences, "prepared": prepared, "table": table}[damaged]
    for later in {"sentences": [prepared, table], "prepared": [table], "table": []}[damaged]:
        later.unlink()
    broken.write_bytes(broken.read_bytes()[:-100] if damage == "cut" else vocabulary.read_bytes())
    again = distil(recipe="calibrated", pca_dims=16)
    # The teacher may run in another precision, which is measured anew.
    np.testing.assert_allclose(
        again.token_embeddings.astype(np.float32), calibrated.token_embeddings.astype(np.float32), atol=0.02
    )


def test_the_oldest_entries_make_room(distil, entries, monkeypatch):
    distil()
    (first,) = entries()
    monkeypatch.setattr(cache, "_MAX_BYTES", 1.5 * first.stat().st_size)
    distil(pooling="first")
    assert len(entries()) == 1
    assert not first.exists()


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(wordpiece_teacher: Path, tmp_path: Path, caplog):
    (tmp_path / "cache").write_text("a file stands here")
    model = distill(str(wordpiece_teacher), cache_folder=tmp_path / "cache", device="cpu")
    assert model.dim
    assert "could not be kept" in caplog.text
