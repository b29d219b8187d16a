"""Encoding a vocabulary on Ray with two simulated nodes: same model whatever is killed; and invalid input."""

from __future__ import annotations

import random
import re
import shutil
import string
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import m2v_core
from m2v_core import StaticModel
from m2v_core.distillation import cached_teacher
from m2v_core.distillation.teacher.remote import RemoteTeacher
from m2v_core.distillation.teacher.source import TeacherSource
from m2v_core.distributed import vocabulary as huge_vocabulary
from m2v_core.distributed.vocabulary import ClusterReader
from m2v_core.errors import (
    InputError,
    M2VError,
    MissingExtraError,
    SaveError,
    TeacherError,
)
from tests.core.cli.commands import assert_one_error_line, m2v
from tests.core.distributed.files import actors, entries_of
from tests.core.distributed.test_files import seconds

ray = pytest.importorskip("ray", reason="pip install 'm2v-studio[ray]'")
pytest.importorskip("ray.data", reason="pip install 'm2v-studio[ray]'")

distill = partial(m2v_core.distill, recipe="fast", pca_dims=16, quantize_to="float32")
N_WORDS, SHARD_TOKENS = 30_000, 2_000
# The command, with shards small enough to be killed in between.
COMMAND = f"""
from m2v_core.cli import main
from m2v_core.distributed import vocabulary

vocabulary._SHARD_TOKENS = {SHARD_TOKENS}
main()
"""


def made_up_words(n: int) -> list[str]:
    draw = random.Random(0)
    return list(dict.fromkeys("".join(draw.choices(string.ascii_lowercase, k=draw.randrange(4, 9))) for _ in range(n)))


def inputs_of(folder: Path) -> list[str]:
    """The finished shards, repeated if they were finished more than once."""
    return [entry["input"] for manifest in folder.glob("*/_manifest.jsonl") for entry in entries_of(manifest.parent)]


def assert_same(found: StaticModel, expected: StaticModel) -> None:
    assert found.tokens == expected.tokens
    assert found.tokenizer.to_str() == expected.tokenizer.to_str()
    scale = float(np.abs(expected.token_embeddings).max())
    np.testing.assert_allclose(found.token_embeddings, expected.token_embeddings, atol=1e-4 * scale)


@pytest.fixture(scope="module")
def teacher(build_teacher_once) -> Path:
    return build_teacher_once("wordpiece")


@pytest.fixture(scope="module")
def connected(cluster):
    """A connection shared by all calls of this process."""
    with ray.init(address=cluster.address, log_to_driver=False):
        yield


def test_the_model_is_the_same_whatever_is_killed(cluster, teacher, tmp_path, monkeypatch):
    words = made_up_words(N_WORDS)
    (tmp_path / "words.txt").write_text("\n".join(words))
    cache = tmp_path / "cache"
    given = [
        *(sys.executable, "-c", COMMAND, "distill", "--model-name", teacher, "--save-path", tmp_path / "made"),
        *("--vocabulary-path", tmp_path / "words.txt", "--no-use-subword", "--recipe", "fast", "--device", "cpu"),
        *("--engine", "ray", "--address", cluster.address, "--cache-folder", cache),
    ]
    process = subprocess.Popen(given, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in seconds():
        assert process.poll() is None
        if len(inputs_of(cache)) >= 2:
            break
    process.kill()
    process.wait()
    before = inputs_of(cache)

    known, killed_at = {actor.pid for actor in actors()}, []

    def kill_an_actor(event):
        fresh = [actor for actor in actors() if actor.pid not in known]
        if event.stage == "encode" and fresh and not killed_at:
            killed_at.append(len(inputs_of(cache)))
            fresh[0].kill()

    monkeypatch.setattr(huge_vocabulary, "_SHARD_TOKENS", SHARD_TOKENS)
    given_again = {"vocabulary": words, "use_subword": False, "device": "cpu"}
    reader = ClusterReader(cache, address=cluster.address)
    found = distill(teacher, **given_again, reader=reader, progress=kill_an_actor)
    after = inputs_of(cache)
    assert len(before) <= killed_at[0] < len(after)
    assert after[: len(before)] == before
    assert max(Counter(after).values()) == 1  # no shard was encoded twice
    assert_same(found, distill(teacher, **given_again))
    (folder,) = cache.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["_manifest.jsonl", "_vectors.npy"]


def test_vectors_are_reused_for_other_settings(connected, teacher, tmp_path):
    on_ray = partial(distill, teacher, reader=ClusterReader(tmp_path / "cache"))
    assert_same(on_ray(), distill(teacher))  # on the node declared to have a GPU
    # From here on, any use of the cluster is an error.
    on_ray = partial(on_ray, reader=ClusterReader(tmp_path / "cache", address="auto"))
    assert_same(on_ray(pca_dims=8), distill(teacher, pca_dims=8))
    # The calibration sentences are encoded in this process.
    assert_same(on_ray(recipe="calibrated"), distill(teacher, recipe="calibrated"))
    (kept,) = (tmp_path / "cache").glob("*/_vectors.npy")
    other = shutil.copytree(teacher, tmp_path / "teacher")
    for changed in ({"vocabulary": ["river", "bank"]}, {"pooling": "mean"}, {"model_name": other}):
        with pytest.raises(InputError, match="already connected to a Ray cluster; the address 'auto' can't be used"):
            m2v_core.distill(**(on_ray.keywords | {"model_name": teacher} | changed))
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(InputError, match="already connected to a Ray cluster"):
        on_ray()


def test_errors_of_a_teacher_on_an_actor_reach_the_caller(connected, broken_teacher, tmp_path):
    with pytest.raises(TeacherError, match="can't be loaded .* Check that it is a complete Sentence Transformer"):
        distill(broken_teacher("truncated-weights"), reader=ClusterReader(tmp_path / "cache"))


def test_a_worker_with_another_teacher_is_rejected(teacher, tmp_path):
    copy = shutil.copytree(teacher, tmp_path / "teacher")
    described = RemoteTeacher.of(TeacherSource(str(copy), copy), "cpu", False, "mean", (1, 1), True)
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    with pytest.raises(TeacherError, match="on this worker differ from those of the process that started the run"):
        described.load()


def test_a_folder_that_cannot_be_written(teacher, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="Could not write .*Not a directory"):
        distill(teacher, reader=ClusterReader(tmp_path / "file" / "cache"))


def test_a_missing_cluster(teacher, tmp_path):
    ray.shutdown()
    with pytest.raises(M2VError, match=r"No Ray cluster responds at 127\.0\.0\.1:1 \(.*refused"):
        distill(teacher, reader=ClusterReader(tmp_path / "cache", address="127.0.0.1:1"))


def test_ray_is_not_installed(teacher, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"m2v-studio\[ray\]"):
        ClusterReader(tmp_path / "cache")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ray"], "Pass a --cache-folder that all machines share"),
        (["--workers", "2"], "--workers and --address require a Ray cluster"),
        (["--address", "auto"], "--workers and --address require a Ray cluster"),
    ],
)
def test_options_that_exclude_each_other(teacher, tmp_path, options, message):
    assert_one_error_line(m2v("distill", "--model-name", teacher, "--save-path", tmp_path / "made", *options), message)


def test_zero_workers(tmp_path):
    with pytest.raises(InputError, match="workers must be at least 1, not 0"):
        ClusterReader(tmp_path, workers=0)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"recipe": "calibrated"}, r"N_ROWS rows of 48 dimensions take .* Use recipe='fast'"),
        ({"corpus": ["a sentence"]}, "recipe='fast' without a corpus"),
        ({"vocabulary_quantization": 100}, r"model\.compressed\(vocabulary_quantization=\.\.\.\)"),
    ],
)
def test_settings_that_exceed_memory_are_rejected_before_the_work(teacher, tmp_path, monkeypatch, settings, remedy):
    pieces = Tokenizer.from_file(str(teacher / "tokenizer.json")).get_vocab()
    n_rows = len([piece for piece in pieces if not re.fullmatch(r"\[(CLS|SEP|MASK|unused\d+)\]", piece)])
    monkeypatch.setattr(cached_teacher, "MAX_VECTOR_BYTES", 4 * n_rows * 48 - 1)
    with pytest.raises(InputError, match=remedy.replace("N_ROWS", f"{n_rows:,}")):
        distill(teacher, reader=ClusterReader(tmp_path / "cache"), **settings)
    assert not (tmp_path / "cache").exists()
