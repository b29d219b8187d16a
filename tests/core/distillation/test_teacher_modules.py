"""Modules after pooling, and prompts, of a teacher."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import CNN, LSTM, LayerNorm, Pooling, WordWeights
from torch import nn

from m2v_core import StaticModel
from m2v_core.distillation.pipeline import distill
from m2v_core.distillation.preflight import look_up, plan
from m2v_core.distillation.teacher.source import TeacherSource
from m2v_core.distillation.teacher.teacher import Teacher
from m2v_core.errors import InputError
from m2v_core.progress import ProgressReporter
from tests.hub.server import LoopbackHub
from tests.teachers import corpus_sentences, tokenizer_json

WIDTH = 48
RAW = {"recipe": "fast", "pooling": "mean", "pca_dims": None, "apply_zipf": False, "quantize_to": "float32"}
WORDS = ["the", "of", "and", "to", "in", "was", "for", "that", "on", "with"]
TEXTS = corpus_sentences(12)
PIECES = list(json.loads(tokenizer_json("wordpiece"))["model"]["vocab"])


def pooling(*modes: str) -> Pooling:
    return Pooling(WIDTH, list(modes) or "mean")


# Modules after the transformer, those applied to tokens, those that are not, and the teacher's width.
STACKS: dict[str, tuple[Callable[[], list[nn.Module]], list[str], list[str], int]] = {
    "normalized": (lambda: [pooling(), Normalize()], [], [], WIDTH),
    "dense": (lambda: [pooling(), Dense(WIDTH, 16, activation_function=nn.Tanh())], ["Dense"], [], 16),
    "two dense": (
        lambda: [pooling(), Dense(WIDTH, 32, activation_function=nn.ReLU()), Dense(32, 8, bias=False), Normalize()],
        ["Dense", "Dense"],
        [],
        8,
    ),
    "wider dense": (lambda: [pooling(), Dense(WIDTH, 64, activation_function=nn.Identity())], ["Dense"], [], 64),
    "layer norm": (lambda: [pooling(), LayerNorm(WIDTH)], ["LayerNorm"], [], WIDTH),
    "normalized before dense": (
        lambda: [pooling(), Normalize(), Dense(WIDTH, 16), Normalize()],
        ["Normalize", "Dense"],
        [],
        16,
    ),
    "two poolings": (lambda: [pooling("mean", "max"), Dense(2 * WIDTH, 12)], [], ["Pooling", "Dense"], 12),
    "LSTM": (lambda: [LSTM(WIDTH, 10), Pooling(20, "mean")], [], ["LSTM"], 20),
    "CNN": (lambda: [CNN(WIDTH, 7, [1, 3]), Pooling(14, "mean"), Dense(14, 9)], [], ["CNN", "Dense"], 9),
    "word weights": (
        lambda: [WordWeights(PIECES, {"the": 0.1}), pooling(), Dense(WIDTH, 16)],
        ["Dense"],
        ["WordWeights"],
        16,
    ),
}


@pytest.fixture(scope="module", params=STACKS)
def stack(request: pytest.FixtureRequest, build_teacher_once, tmp_path_factory: pytest.TempPathFactory):
    """A teacher with these modules, and the expected facts."""
    make, applied, not_applied, width = STACKS[request.param]
    folder = tmp_path_factory.mktemp("stack")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = SentenceTransformer(modules=[Transformer(str(build_teacher_once("wordpiece"))), *make()], device="cpu")
    whole.save_pretrained(str(folder))
    return folder, applied, not_applied, width


def loaded(folder: Path, **options) -> Teacher:
    return Teacher.load(TeacherSource(str(folder), folder), **options)


def test_preflight_lists_the_modules(session_hub: LoopbackHub, stack):
    folder, applied, not_applied, width = stack
    session_hub.add("someone/stack", folder)
    for facts in (look_up(folder), look_up("someone/stack")):
        assert facts.problems == ()
        assert list(facts.modules.names_applied) == applied
        assert list(facts.modules.not_applied) == not_applied
        assert facts.teacher_dim == width == SentenceTransformer(str(folder), device="cpu").get_embedding_dimension()


def test_a_model_is_never_wider_than_its_teacher(stack, caplog: pytest.LogCaptureFixture):
    folder, _, not_applied, width = stack
    for recipe in ("fast", "model2vec"):
        for dims in (None, "auto", 40, 0.999):
            settings = {**RAW, "recipe": recipe, "pca_dims": dims}
            with caplog.at_level(logging.WARNING):
                model = distill(folder, WORDS, use_subword=False, **settings)
            assert model.dim <= width
            planned = plan(look_up(folder), vocabulary=WORDS, use_subword=False, pca_dims=dims, recipe=recipe)
            assert planned.dim == model.dim or planned.is_upper_bound
    for name in not_applied:
        assert name in caplog.text
        assert name in model.config["m2v"]["modules_not_applied"]


def test_modules_are_applied_to_tokens(stack, build_teacher_once):
    folder, applied, not_applied, _ = stack
    if not_applied and not_applied != ["WordWeights"]:
        pytest.skip("The model lies in the space of the hidden states.")
    model = distill(folder, WORDS, use_subword=False, **RAW)
    # The oracle: hidden states from transformers, followed by the modules of sentence-transformers.
    encoder = transformers.AutoModel.from_pretrained(str(build_teacher_once("wordpiece"))).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(build_teacher_once("wordpiece")))
    whole = SentenceTransformer(str(folder), device="cpu").eval()
    after = [module for module in whole if type(module).__name__ in (*applied, "Dense")]
    if after and type(after[-1]).__name__ == "Normalize":
        after.pop()
    with torch.inference_mode():
        for word in WORDS:
            features = {"sentence_embedding": encoder(**tokenizer(word, return_tensors="pt")).last_hidden_state.mean(1)}
            for module in after:
                features = module(features)
            row = model.token_embeddings[model.tokenizer.token_to_id(word)]
            np.testing.assert_allclose(row, features["sentence_embedding"][0].numpy(), atol=1e-5)


def test_sentences_are_those_of_sentence_transformers(stack):
    folder, _, not_applied, _ = stack
    if not_applied == ["LSTM"]:
        pytest.skip("sentence-transformers itself runs an LSTM on word embeddings alone.")
    # One text at a time, as a CNN would include the padding of a batch.
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, batch_size=1)
    np.testing.assert_allclose(loaded(folder).embed_texts(TEXTS, ProgressReporter()), expected, atol=2e-5)


def test_a_calibrated_model_has_the_teacher_s_width(stack):
    folder, _, not_applied, width = stack
    model = distill(folder, corpus=corpus_sentences(1_100), recipe="fast", pca_dims=None)
    assert model.dim == width
    assert np.isfinite(model.encode(TEXTS)).all()
    assert all(name in model.config["m2v"].get("modules_not_applied", []) for name in not_applied)


def test_the_card_names_what_is_not_applied(build_teacher_once, tmp_path: Path):
    whole = SentenceTransformer(
        modules=[Transformer(str(build_teacher_once("wordpiece"))), LSTM(WIDTH, 10), Pooling(20)], device="cpu"
    )
    whole.save_pretrained(str(tmp_path / "teacher"))
    distill(tmp_path / "teacher", **RAW).save_pretrained(tmp_path / "model")
    assert "Modules of the teacher that are not applied: LSTM" in (tmp_path / "model" / "README.md").read_text()


PROMPTS = {"query": "search for the following: ", "document": "this is a text: "}


def teacher_with_prompts(folder: Path, base: Path, default: str | None, include_prompt: bool = True) -> Path:
    shutil.copytree(base, folder)
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": PROMPTS, "default_prompt_name": default})
    )
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**config, "include_prompt": include_prompt}))
    return folder


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("default", [None, "document"])
@pytest.mark.parametrize("name", [None, "query", "document"])
def test_prompts_are_applied_as_in_sentence_transformers(
    build_teacher_once, tmp_path: Path, default: str | None, name: str | None, include_prompt: bool
):
    folder = teacher_with_prompts(tmp_path / "prompted", build_teacher_once("wordpiece"), default, include_prompt)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt_name=name)
    found = loaded(folder, prompt_name=name).embed_texts(TEXTS, ProgressReporter())
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_prompts_are_shown_before_and_after(session_hub: LoopbackHub, build_teacher_once, tmp_path: Path):
    folder = teacher_with_prompts(tmp_path / "prompted", build_teacher_once("wordpiece"), None)
    session_hub.add("someone/prompted", folder)
    for teacher in (folder, "someone/prompted"):
        facts = look_up(teacher)
        assert (facts.prompts, facts.default_prompt_name) == (PROMPTS, None)
    models: dict[str | None, StaticModel] = {}
    for name in (None, "query"):
        models[name] = distill(
            folder, corpus=corpus_sentences(1_100), prompt_name=name, recipe="fast", cache_folder=tmp_path / "cache"
        )
        assert models[name].config["m2v"]["prompt"] == PROMPTS.get(name or "", "")
    assert not np.allclose(models[None].encode(TEXTS), models["query"].encode(TEXTS))
    models["query"].save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "search for the following:" in card
    assert "--prompt-name query" in card


def test_an_unknown_prompt_is_rejected_with_a_list(build_teacher_once, tmp_path: Path):
    folder = teacher_with_prompts(tmp_path / "prompted", build_teacher_once("wordpiece"), None)
    with pytest.raises(InputError, match=r"'passage'.*'query', 'document'"):
        distill(folder, prompt_name="passage")
    with pytest.raises(InputError, match="it has none"):
        distill(build_teacher_once("wordpiece"), prompt_name="query")
