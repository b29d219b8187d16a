"""The dictionary: its contents, when it is used, and its effect on the model."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from m2v_core import distill
from m2v_core.distillation import pipeline
from m2v_core.distillation.calibration.dictionary import N_LINES, covers_english, dictionary_lines, uses_dictionary
from m2v_core.distillation.preflight import look_up, plan
from m2v_core.distillation.settings import DistillSettings
from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.errors import InputError


@pytest.fixture(scope="module")
def bundled_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(bundled_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def word_tokenizer(words: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["[UNK]", *words])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_it_contains_definitions_and_sentences():
    lines = dictionary_lines()
    assert len(lines) == len(set(lines)) == N_LINES
    for part in (lines[:5000], lines[-5000:]):
        assert 0.58 < np.mean([": " in line for line in part]) < 0.64
    assert all(line == line.strip() and line for line in lines)
    words = {line.split(": ")[0] for line in lines if ": " in line}
    assert {"heart", "river", "quickly"} & words and not [word for word in words if "_" in word or "(" in word]


@pytest.mark.parametrize(
    ("languages", "settings", "is_taken"),
    [
        (("en",), {}, True),
        ((), {}, True),
        (("en-US", "English"), {}, True),
        (("de",), {}, False),
        (("en", "de"), {}, False),
        (("en",), {"recipe": "fast"}, False),
        (("en",), {"recipe": "model2vec"}, False),
        (("en",), {"dictionary": "none"}, False),
        (("de",), {"dictionary": "english", "recipe": "fast"}, True),
    ],
)
def test_it_is_used_for_english_teachers(bundled_tokenizer: Tokenizer, languages, settings, is_taken):
    assert uses_dictionary(DistillSettings(**settings), bundled_tokenizer, languages) == is_taken


def test_it_is_not_used_for_vocabularies_without_english_words():
    words = sorted({word for line in dictionary_lines() for word in line.replace(":", " : ").split()})
    assert covers_english(word_tokenizer(words))
    assert not covers_english(word_tokenizer(words[::2]))
    assert not covers_english(word_tokenizer(["aspirin", "myocardial infarction"]))
    characters = Tokenizer(models.BPE({chr(code): code - 32 for code in range(32, 127)}, []))
    assert not covers_english(characters)


def test_the_published_recipe_rejects_it():
    with pytest.raises(InputError, match="has no dictionary"):
        DistillSettings(recipe="model2vec", dictionary="english")


def test_the_plan_includes_it_and_its_time():
    facts = look_up("sentence-transformers/all-MiniLM-L6-v2")
    assert facts.languages == ("en",)
    with_it, without = plan(facts), plan(facts, dictionary="none")
    assert (with_it.n_dictionary_lines, without.n_dictionary_lines) == (N_LINES, 0)
    assert with_it.seconds > 1.5 * without.seconds
    assert plan(facts, vocabulary=["aspirin", "heart attack"], use_subword=False).n_dictionary_lines == 0


def test_the_table_is_fitted_to_it(build_teacher_once, monkeypatch):
    """A few lines suffice for a small teacher; the table gets closer to its embeddings of them."""
    lines = dictionary_lines()[:1500]
    monkeypatch.setattr(pipeline, "dictionary_lines", lambda most: lines)
    teacher = str(build_teacher_once("wordpiece"))
    shared = {"recipe": "fast", "device": "cpu", "quantize_to": "float32"}
    made = distill(teacher, dictionary="english", **shared)
    assert made.config["m2v"]["dictionary"] == "english" and made.config["m2v"]["n_dictionary_lines"] == 1500
    same = distill(teacher, corpus=lines, **shared)
    np.testing.assert_allclose(made.token_embeddings, same.token_embeddings, atol=1e-5)
    assert np.abs(made.token_embeddings - distill(teacher, **shared).token_embeddings).max() > 0.01
