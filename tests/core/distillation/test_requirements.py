"""Requirements for teachers: preflight and distillation give the same result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from m2v_core.distillation.pipeline import distill
from m2v_core.distillation.preflight import look_up, plan
from m2v_core.distillation.teacher import loading
from m2v_core.errors import TeacherError
from m2v_core.storage.teacher_code import _known_types
from tests.hub.server import LoopbackHub
from tests.teachers import DATA

FAST = {"recipe": "fast", "pca_dims": None}
VOCAB_FILES = {
    "deberta-v2": ("spm.model", transformers.DebertaV2Config),
    "xlm-roberta": ("sentencepiece.bpe.model", transformers.XLMRobertaConfig),
    "albert": ("spiece.model", transformers.AlbertConfig),
}


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("sentencepiece") / "trained"
    sentencepiece.SentencePieceTrainer.train(
        input=str(DATA / "sentences.txt"),
        model_prefix=str(prefix),
        vocab_size=600,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


@pytest.fixture(params=VOCAB_FILES)
def slow_teacher(request: pytest.FixtureRequest, sentencepiece_model: Path, tmp_path: Path) -> Path:
    """A teacher with a sentencepiece model and no tokenizer.json."""
    name, config_class = VOCAB_FILES[request.param]
    config = config_class(
        vocab_size=620, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    folder = tmp_path / "slow"
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    shutil.copy(sentencepiece_model, folder / name)
    return folder


def test_a_sentencepiece_model_is_converted(session_hub: LoopbackHub, slow_teacher: Path):
    expected = transformers.AutoTokenizer.from_pretrained(str(slow_teacher)).backend_tokenizer
    session_hub.add("someone/slow", slow_teacher)
    for teacher in (slow_teacher, "someone/slow"):
        facts = look_up(teacher)
        assert facts.problems == ()
        assert (facts.family, facts.n_pieces) == ("Unigram", expected.get_vocab_size())
        model = distill(teacher, **FAST)
        assert model.token_embeddings.shape == (plan(facts).n_rows, plan(facts, pca_dims=None).dim)
        assert (
            model.tokenizer.encode("the weather").tokens
            == expected.encode("the weather", add_special_tokens=False).tokens
        )


def test_missing_packages_are_named_everywhere(slow_teacher: Path, monkeypatch: pytest.MonkeyPatch):
    installed = loading._is_installed
    monkeypatch.setattr(loading, "_is_installed", lambda name: name != "sentencepiece" and installed(name))
    [problem] = look_up(slow_teacher).problems
    with pytest.raises(TeacherError, match="pip install sentencepiece") as refusal:
        distill(slow_teacher, **FAST)
    assert str(refusal.value) == problem


def test_a_vocab_txt_is_converted(build_teacher_once: Callable[[str], Path], tmp_path: Path):
    with_json, folder = build_teacher_once("wordpiece"), tmp_path / "pieces"
    shutil.copytree(with_json, folder)
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(pieces, key=pieces.__getitem__)), encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    assert look_up(folder).problems == ()
    assert plan(look_up(folder)) == plan(look_up(with_json))
    ours, theirs = distill(folder, **FAST), distill(with_json, **FAST)
    texts = ["The weather is nice.", "Unrecognizable characters: zq."]
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), atol=1e-3)


def with_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_a_pickled_dense(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 48, "out_features": 8}))
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickled")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_damaged_modules(folder: Path) -> None:
    (folder / "modules.json").write_text('[{"idx": 0}]')


def as_a_static_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "model2vec"}')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_pickled_weights, r"no model\.safetensors\. Pickled.*save_pretrained"),
        (with_a_pickled_dense, r"^2_Dense of .* has no model"),
        (without_weights, r"no model\.safetensors"),
        (with_damaged_modules, r"modules\.json"),
        (as_a_static_model, r"already a static model"),
    ],
)
def test_distillation_and_preflight_report_the_same_problem(
    session_hub: LoopbackHub, build_teacher_once, tmp_path: Path, change: Callable[[Path], None], said: str
):
    folder = tmp_path / "changed"
    shutil.copytree(build_teacher_once("wordpiece"), folder)
    change(folder)
    repo = f"changed/{change.__name__}"
    session_hub.add(repo, folder)
    for teacher in (str(folder), repo):
        [problem] = look_up(teacher).problems
        with pytest.raises(TeacherError, match=said) as refusal:
            distill(teacher, recipe="fast")
        assert str(refusal.value) == problem


@pytest.mark.parametrize("kind", ["custom-code", "custom-module", "no-tokenizer", "slow-tokenizer", "vision", "empty"])
def test_a_broken_teacher_is_rejected_the_same_way_everywhere(broken_teacher: Callable[[str], Path], kind: str):
    folder = broken_teacher(kind)
    problem = look_up(folder).problems[0]
    with pytest.raises(TeacherError) as refusal:
        distill(folder, recipe="fast")
    assert str(refusal.value) == problem


def test_the_conversion_in_the_message_works(build_teacher_once, tmp_path: Path):
    SentenceTransformer(str(build_teacher_once("wordpiece")), device="cpu").save_pretrained(str(tmp_path / "converted"))
    assert look_up(tmp_path / "converted").problems == ()


def test_the_known_types_are_those_of_transformers():
    assert set(transformers.CONFIG_MAPPING) <= _known_types()
