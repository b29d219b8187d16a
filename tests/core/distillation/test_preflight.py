"""Preflight checks, against folders, the loopback Hub and actual distillations."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from m2v_core.distillation.cache import VectorCache
from m2v_core.distillation.calibration.bags import sample_evenly
from m2v_core.distillation.pipeline import distill
from m2v_core.distillation.preflight import TeacherFacts, look_up, plan
from m2v_core.errors import HubError, NotFoundError
from m2v_core.hub import info
from tests.hub.server import LoopbackHub
from tests.static_models import static_model

WORDS = ["new york", "heart attack", "aspirin", "king", "queen", "zyzzyva"]
WEIGHT_BYTES = 100_000


def publish(hub: LoopbackHub, folder: Path, name: str = "someone/teacher", license: str = "mit", **how) -> str:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files["README.md"] = f"---\nlicense: {license}\nlanguage: [en, de]\n---\n# A teacher\n".encode()
    files["onnx/model.onnx"] = files["pytorch_model.bin"] = b"x" * WEIGHT_BYTES
    return hub.add(name, files, **how)


def test_a_folder_and_the_hub_give_the_same_facts(session_hub: LoopbackHub, teacher_folder: Path, family: str):
    commit = publish(session_hub, teacher_folder, f"someone/{family}")
    here, there = look_up(teacher_folder), look_up(f"someone/{family}")
    for name in ("n_parameters", "teacher_dim", "max_length", "family", "n_pieces", "pad_token", "problems"):
        assert getattr(here, name) == getattr(there, name), name
    assert here.problems == ()
    assert (here.access, here.commit, here.download_bytes, here.license) == ("folder", None, 0, None)
    assert (there.access, there.commit, there.license) == ("public", commit, "mit")
    assert plan(here) == plan(there)


def test_no_weights_are_downloaded(session_hub: LoopbackHub, build_teacher_once: Callable[[str], Path]):
    folder = build_teacher_once("wordpiece")
    publish(session_hub, folder, "someone/heavy")
    session_hub.requests.clear()
    facts = look_up("someone/heavy")
    assert not [path for path in session_hub.paths() + session_hub.paths("HEAD") if "safetensors" in path]
    # ONNX and pickle files are not downloaded.
    assert facts.download_bytes < sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) + 100
    assert facts.download_bytes > (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"quantize_to": "float32", "pca_dims": None},
        {"quantize_to": "int8", "pca_dims": 16},
        {"pca_dims": 10_000},
        {"pca_dims": "auto"},
        {"vocabulary": WORDS},
        {"vocabulary": WORDS, "use_subword": False},
        {"vocabulary": WORDS, "use_subword": False, "quantize_to": "int8"},
        {"vocabulary": "auto:en", "vocabulary_size": 60},
        {"vocabulary": {"aspirin": 3, "new york": 5}, "use_subword": False},
        {"vocabulary_quantization": 64, "pca_dims": 16},
        {"vocabulary_quantization": 64, "pca_dims": 16, "quantize_to": "int8"},
        {"vocabulary": WORDS, "use_subword": False, "vocabulary_quantization": 3},
    ],
    ids=str,
)
# Calibration takes seconds, so it is tested with one teacher.
@pytest.mark.parametrize(("kind", "recipe"), [("wordpiece", "calibrated"), ("unigram", "fast"), ("decoder", "fast")])
def test_the_plan_matches_the_distillation(build_teacher_once: Callable[[str], Path], kind: str, recipe: str, settings):
    folder = build_teacher_once(kind)
    settings = {"recipe": recipe, **settings}
    planned = plan(look_up(folder), **{"token_remove_pattern": r"\[unused\d+\]", **settings})
    model = distill(folder, **settings)
    assert (planned.n_rows, planned.dim) == model.token_embeddings.shape
    assert planned.n_bytes == model.n_bytes
    assert not planned.is_upper_bound
    assert planned.seconds is not None and planned.seconds > 0


@pytest.mark.parametrize("use_subword", [True, False])
@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "decoder"])
def test_a_long_vocabulary_is_sampled(build_teacher_once: Callable[[str], Path], kind: str, use_subword: bool):
    facts = look_up(build_teacher_once(kind))
    words = [f"{word} {number}" if number % 3 else word + "x" * number for word in WORDS for number in range(30)]
    whole = plan(facts, vocabulary=words, use_subword=use_subword)
    few = plan(facts, vocabulary=words, use_subword=use_subword, most_words=40)
    assert few.is_estimate and not whole.is_estimate
    added, told = (n - (plan(facts).n_rows if use_subword else 0) for n in (whole.n_rows, few.n_rows))
    assert 0.8 * added < told < 1.2 * added
    assert 0.8 * whole.n_bytes < few.n_bytes < 1.2 * whole.n_bytes
    assert plan(facts, vocabulary=words, use_subword=use_subword, most_words=len(words)) == whole


def test_a_sample_is_even_and_in_order():
    assert sample_evenly(["a", "b", "c", "d", "e"], 2) == ("a", "c")
    assert sample_evenly(["a", "b"], 2) == sample_evenly(["a", "b"], None) == ("a", "b")


def test_a_share_of_the_variance_has_an_upper_bound(build_teacher_once: Callable[[str], Path]):
    folder = build_teacher_once("wordpiece")
    planned = plan(look_up(folder), pca_dims=0.5)
    assert planned.is_upper_bound
    assert planned.n_bytes is not None
    assert distill(folder, pca_dims=0.5).n_bytes < planned.n_bytes


def test_more_parameters_and_more_words_take_longer(build_teacher_once: Callable[[str], Path]):
    facts = look_up(build_teacher_once("wordpiece"))
    larger = TeacherFacts(**{**vars(facts), "n_parameters": 10**9})
    few, many, slow = plan(facts, vocabulary=WORDS), plan(facts, vocabulary=WORDS * 2), plan(larger)
    assert few.seconds == many.seconds, "duplicates count once"
    assert plan(facts).seconds < few.seconds < slow.seconds


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("custom-code", "requires custom code"),
        ("no-tokenizer", r"has no tokenizer"),
        ("slow-tokenizer", r"BertJapaneseTokenizer is a slow tokenizer"),
        ("vision", r"has no tokenizer"),
        ("empty", r"no valid config\.json"),
    ],
)
@pytest.mark.parametrize("is_on_hub", [False, True], ids=["folder", "hub"])
def test_problems_are_reported(session_hub: LoopbackHub, broken_teacher, kind: str, said: str, is_on_hub: bool):
    folder = broken_teacher(kind)
    if is_on_hub:
        session_hub.add(f"broken/{kind}", folder)
    facts = look_up(f"broken/{kind}" if is_on_hub else folder)
    assert re.search(said, " ".join(facts.problems))
    plan(facts)


def test_weights_only_as_a_pickle(session_hub: LoopbackHub, build_teacher_once, tmp_path: Path):
    folder = tmp_path / "pickled"
    shutil.copytree(build_teacher_once("wordpiece"), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    session_hub.add("someone/pickled", folder)
    for teacher in (folder, "someone/pickled"):
        [problem] = look_up(teacher).problems
        assert "no model.safetensors" in problem


def test_custom_code_for_a_known_architecture_is_not_required(build_teacher_once, tmp_path: Path):
    folder = tmp_path / "known"
    shutil.copytree(build_teacher_once("wordpiece"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling.Model"}}))
    assert look_up(folder).problems == ()


def test_a_static_model_is_rejected(session_hub: LoopbackHub, tmp_path: Path):
    static_model().save_pretrained(tmp_path)
    session_hub.add("someone/static", tmp_path)
    assert ["already a static model" in problem for problem in look_up("someone/static").problems] == [True]


def test_damaged_files_are_reported(build_teacher_once, tmp_path: Path):
    folder = tmp_path / "damaged"
    shutil.copytree(build_teacher_once("wordpiece"), folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\xff{[")
    facts = look_up(folder)
    [problem] = facts.problems
    assert "config.json" in problem
    assert plan(facts).n_bytes is None


def test_invalid_numbers_are_ignored(build_teacher_once, tmp_path: Path):
    folder = tmp_path / "odd"
    shutil.copytree(build_teacher_once("wordpiece"), folder)
    (folder / "config.json").write_text('{"hidden_size": 1e999, "vocab_size": "many", "max_position_embeddings": -1}')
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    facts = look_up(folder)
    assert facts.teacher_dim is None
    assert plan(facts).n_bytes is None


def test_a_gated_teacher_needs_a_token(session_hub: LoopbackHub, build_teacher_once, tmp_path: Path):
    publish(session_hub, build_teacher_once("wordpiece"), "someone/gated", gated=True)
    closed = look_up("someone/gated")
    assert closed.access == "gated"
    assert closed.n_parameters
    [problem] = closed.problems
    assert "gated" in problem
    assert plan(closed).n_bytes is None
    opened = look_up("someone/gated", token="hf_loopback")
    assert opened.problems == ()
    assert plan(opened).n_bytes
    # Nothing is cached for other users.
    assert look_up("someone/gated") == closed


def test_a_private_teacher_needs_a_token_and_is_not_cached(session_hub: LoopbackHub, build_teacher_once):
    publish(session_hub, build_teacher_once("wordpiece"), "someone/secret", private=True)
    with pytest.raises(NotFoundError, match="if it is private"):
        look_up("someone/secret")
    assert look_up("someone/secret", token="hf_loopback").access == "private"
    session_hub.requests.clear()
    look_up("someone/secret", token="hf_loopback")
    assert [path for path in session_hub.paths() if path.endswith("/tokenizer.json")]


def test_a_limit_is_named(session_hub: LoopbackHub, build_teacher_once):
    folder = build_teacher_once("wordpiece")
    n_parameters = look_up(folder).n_parameters
    assert look_up(folder, max_parameters=n_parameters).problems == ()
    [problem] = look_up(folder, max_parameters=n_parameters - 1).problems
    assert f"the limit here is {n_parameters - 1:,}" in problem


def test_the_bundled_teacher_without_a_hub():
    facts = look_up("sentence-transformers/all-MiniLM-L6-v2")
    assert (facts.access, facts.license, facts.n_parameters) == ("bundled", "apache-2.0", 22_713_728)
    assert (facts.family, facts.teacher_dim, facts.max_length) == ("WordPiece", 384, 256)
    planned = plan(facts, token_remove_pattern=r"\[unused\d+\]")
    assert (planned.n_rows, planned.dim, planned.n_bytes) == (29_525, 256, 29_525 * 256 * 2)


def test_no_such_teacher():
    with pytest.raises(NotFoundError):
        look_up("someone/nothing-at-all")
    with pytest.raises(NotFoundError, match="owner/name"):
        look_up("/no/such/folder")


def test_an_unreachable_hub():
    with LoopbackHub() as down:
        pass
    with pytest.raises(HubError, match="can't be reached"):
        look_up("someone/teacher", endpoint=down.url)


def test_teachers_are_searched_by_name(build_teacher_once, monkeypatch: pytest.MonkeyPatch):
    folder = build_teacher_once("wordpiece")
    with LoopbackHub() as hub:
        for name in ("one/bert-small", "two/BERT-large", "three/gpt"):
            hub.add(name, folder)
        hub.add("four/bert-static", {"config.json": b'{"model_type": "model2vec"}'})
        for number in range(30):
            hub.add(f"many/model-{number:02}", {"modules.json": b"[]", "config.json": b"{}"})
        found = [teacher.repo_id for teacher in info.search_teachers(" bert ", endpoint=hub.url)]
        assert sorted(found) == ["one/bert-small", "two/BERT-large"]
        assert len(info.search_teachers("model-", 25, endpoint=hub.url)) == 25
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub retries for 23 s
    with pytest.raises(HubError, match="can't be reached"):
        info.search_teachers("bert", endpoint=hub.url)


def test_a_plan_excludes_cached_rows(build_teacher_once: Callable[[str], Path], tmp_path: Path):
    folder, cache = build_teacher_once("wordpiece"), VectorCache(tmp_path)
    facts = look_up(folder)
    first = plan(facts, cache=cache)
    assert first == plan(facts) and first.n_cached == 0
    distill(folder, cache_folder=tmp_path, recipe="fast", device="cpu")
    again, longer = plan(facts, cache=cache, recipe="fast"), plan(facts, vocabulary=WORDS, cache=cache, recipe="fast")
    assert again.n_cached == again.n_rows == first.n_rows
    assert longer.n_cached == first.n_rows < longer.n_rows and again.seconds < longer.seconds
    assert longer.seconds < plan(facts, vocabulary=WORDS, recipe="fast").seconds
    many = [f"{word} {number}" for word in WORDS for number in range(10)]
    told = plan(facts, vocabulary=many, cache=cache, recipe="fast", most_words=20)
    assert told.is_estimate and told.n_cached == pytest.approx(first.n_rows, rel=0.05)
    for other in ({"pooling": "first"}, {"recipe": "model2vec"}):
        assert plan(facts, cache=cache, **{"recipe": "fast"} | other).n_cached == 0
    calibrated = plan(facts, cache=cache)
    distill(folder, cache_folder=tmp_path, device="cpu")
    assert plan(facts, cache=cache).seconds < calibrated.seconds
    assert not {"bags", "dictionary", "prepare"}.intersection(plan(facts, cache=cache, pca_dims=8).stage_seconds)
