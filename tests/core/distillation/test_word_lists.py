"""Automatic vocabularies and known frequencies, against wordfreq, gensim and slow loops."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import unicodedata
from collections import Counter
from importlib.metadata import version
from itertools import pairwise

import numpy as np
import pytest
import wordfreq
from gensim.models.phrases import npmi_scorer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from m2v_core.distillation.automatic_vocabulary import resolve_words
from m2v_core.distillation.pipeline import distill
from m2v_core.distillation.preflight import look_up, plan
from m2v_core.distillation.settings import DistillRequest
from m2v_core.distillation.weighting import rank_weights, ranks_by_count
from m2v_core.distillation.word_lists import (
    MIN_NPMI,
    MIN_OCCURRENCES,
    check_source,
    corpus_warning,
    corpus_words,
    count_words,
    frequent_words,
    languages,
)
from m2v_core.errors import InputError, MissingExtraError, VocabularyError
from tests.teachers import corpus_sentences, tokenizer_json, udhr_paragraphs

SENTENCES = ["The patient had a heart attack.", "After a heart attack, rest.", "An attack of the heart?"] * 5


def bare(family: str) -> str:
    return json.dumps(json.loads(tokenizer_json(family)) | {"truncation": None, "padding": None})


def n_pieces(tokenizer: Tokenizer, word: str) -> int:
    """Number of tokens of a word inside a sentence; 2 for one unknown token."""
    before, all_ = (tokenizer.encode(text, add_special_tokens=False).tokens for text in ("(", f"( {word}"))
    return 2 if all_[len(before) :] in (["[UNK]"], ["<unk>"]) else len(all_) - len(before)


@pytest.mark.parametrize("family", ["wordpiece", "wordpiece-cased", "unigram", "bytelevel"])
def test_frequent_words_are_the_top_of_wordfreq_without_single_tokens(family):
    tokenizer = Tokenizer.from_str(bare(family))
    found = frequent_words("en", bare(family), 500, True).counts
    assert len(found) == 500
    for word, frequency in found.items():
        assert n_pieces(tokenizer, word) > 1
        assert frequency == pytest.approx(wordfreq.word_frequency(word, "en"), rel=0.02)
    least = min(found.values())
    assert list(found.values()) == sorted(found.values(), reverse=True)
    for word in wordfreq.top_n_list("en", 3000):
        if wordfreq.word_frequency(word, "en") > 1.02 * least and word not in found:
            assert n_pieces(tokenizer, word) == 1 or re.search(r"\d", word) or not re.search(r"[^\W\d_]", word), word


def test_a_model_without_subwords_includes_single_tokens():
    found = frequent_words("en", bare("wordpiece"), 100, False).counts
    assert {"the", "of", "and"} <= found.keys()


def test_words_with_equal_normalized_spelling_are_merged():
    found = frequent_words("fr", bare("wordpiece"), 10_000, True).counts
    assert "peche" in found and "pêche" not in found  # the tokenizer drops accents
    alike = [
        frequency
        for word, frequency in wordfreq.get_frequency_dict("fr").items()
        if unicodedata.normalize("NFD", word).encode("ascii", "ignore") == b"peche"
    ]
    sure = sum(frequency for frequency in alike if frequency > min(found.values()))
    assert max(alike) < sure <= found["peche"] * 1.0001 and found["peche"] <= sum(alike) * 1.0001


def phrases_of(texts: list[str]) -> dict[str, float]:
    """The NPMI of each frequent pair of adjacent words, computed with loops."""
    runs = [run.split() for text in texts for run in re.split(r"[,.]", text)]
    words = Counter(word for run in runs for word in run)
    pairs = Counter(pair for run in runs for pair in pairwise(run))
    total = sum(words.values())
    return {
        f"{a} {b}": math.log(n * total / (words[a] * words[b])) / -math.log(n / total)
        for (a, b), n in pairs.items()
        if n >= MIN_OCCURRENCES and n < total
    }


@given(
    st.lists(
        st.lists(st.sampled_from(["new", "york", "heart", "attack", "the", "a", "a,", "the."]), min_size=1, max_size=9),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 6),
)
def test_phrases_are_those_of_a_slow_loop(runs, repeats):
    texts = [" ".join(run) for run in runs] * repeats
    words, phrases = count_words(texts)
    assert words == Counter(re.findall(r"\w+", " ".join(texts)))
    strengths = phrases_of(texts)
    for phrase, strength in strengths.items():
        if abs(strength - MIN_NPMI) > 1e-9:
            assert (phrase in phrases) == (strength > MIN_NPMI)
    assert phrases.keys() <= strengths.keys()
    joined = " | ".join(re.sub(r"[,.]", " |", text) for text in texts)
    for phrase, n in phrases.items():
        assert n == len(re.findall(rf"(?=\b{phrase}\b)", joined))


def test_phrases_are_those_that_gensim_scores_alike():
    texts = [text.lower() for text in corpus_sentences(2000)]
    words, phrases = count_words(texts)
    total = sum(words.values())
    assert len(phrases) > 20
    for phrase, n in phrases.items():
        first, second = phrase.split(" ")
        score = npmi_scorer(words[first], words[second], n, len(words), MIN_OCCURRENCES, total)
        assert score >= MIN_NPMI


def test_words_of_a_corpus():
    found = corpus_words(SENTENCES, bare("wordpiece"), 100, True)
    assert found.counts["heart attack"] == 10 and found.n_phrases >= 1
    assert "attack, rest" not in found.counts and "attack rest" not in found.counts
    tokenizer = Tokenizer.from_str(bare("wordpiece"))
    for word, n in found.counts.items():
        assert n_pieces(tokenizer, word) > 1
        assert n == len(re.findall(rf"\b{word}\b", " | ".join(SENTENCES).lower()))
    most_frequent = list(corpus_words(SENTENCES, bare("wordpiece"), 2, True).counts)
    assert most_frequent == list(found.counts)[:2]


def test_words_of_scripts_with_marks_and_without_spaces():
    hindi = ["मानव अधिकार, घोषणा"] * 5
    assert "अधिकार" in count_words(hindi)[0] and "मानव अधिकार" in count_words(hindi)[1]
    normalizer = Tokenizer.from_str(bare("wordpiece")).normalizer
    assert "人权" in count_words(["人权。宣言"] * 5, normalizer)[1]  # without the spaces of the normalizer


@pytest.mark.parametrize(
    ("card", "source"),
    [
        ((), "auto:en"),
        (("de",), "auto:de"),
        (("de-AT", "xx"), "auto:de"),
        (("en", "de"), "auto:en"),
        (("xx",), "auto:en"),
    ],
)
def test_auto_selects_the_language_of_the_teacher(card, source):
    request = DistillRequest(vocabulary="auto", vocabulary_size=10)
    _, words = resolve_words(request, Tokenizer.from_str(bare("wordpiece")), None, card, None)
    assert words is not None and words.source == source
    assert set(words.counts) <= set(wordfreq.get_frequency_dict(source.removeprefix("auto:")))


@pytest.mark.parametrize("code", ["en", "EN-us", " en "])
def test_region_codes_map_to_the_language(code):
    check_source(f"auto:{code}", False)


def test_an_unknown_language_is_rejected_with_a_list():
    with pytest.raises(InputError, match=r"'auto:tlh'.*no language 'tlh'") as refusal:
        distill("/nonexistent/teacher", vocabulary="auto:tlh")
    assert all(f"{code}," in str(refusal.value) for code in languages())
    assert set(languages()) == set(wordfreq.available_languages())


@pytest.mark.parametrize("vocabulary", ["auto", "auto:en"])
def test_without_wordfreq_the_extra_is_named(monkeypatch, vocabulary):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(MissingExtraError, match=r"wordfreq is not installed; run: pip install 'm2v-studio\[words\]'"):
        distill("/nonexistent/teacher", vocabulary=vocabulary)
    DistillRequest(vocabulary="auto:corpus", corpus=["text"])  # needs none


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"vocabulary": "auto:corpus"}, "'auto:corpus', but there is no corpus.*pass sentences as corpus"),
        ({"vocabulary": "auto:corpus", "corpus": []}, "there is no corpus"),
        ({"vocabulary": "words.txt"}, r"the string 'words\.txt'; pass a list of words, 'auto'"),
        (
            {"vocabulary": ["a"], "vocabulary_size": 5},
            "vocabulary_size is 5, which applies only to automatic",
        ),
        ({"vocabulary": {"one": 3, "two": -1}}, "count of 'two' is '-1'; each word needs a number above 0"),
        ({"vocabulary": {"one": 3, "two": 0}}, "count of 'two' is '0'"),
        ({"vocabulary": {"one": None}}, "count of 'one' is missing"),
        ({"vocabulary": {"one": float("nan")}}, "count of 'one' is 'nan'"),
        ({"vocabulary": {"one": True}}, "count of 'one' is 'True'"),
    ],
)
def test_invalid_vocabularies_are_rejected(arguments, says):
    with pytest.raises(InputError, match=says):
        distill("/nonexistent/teacher", **arguments)


def test_a_corpus_without_frequent_words_is_rejected(build_teacher_once):
    with pytest.raises(
        VocabularyError, match="corpus of 1 texts has no word that occurs at least 5 times.*Pass more text"
    ):
        distill(build_teacher_once("wordpiece"), vocabulary="auto:corpus", corpus=["Just one text."])


def test_a_size_that_is_too_small_is_rejected(build_teacher_once):
    with pytest.raises(InputError, match=r"vocabulary_size is '0.001MB', but the model takes 0\.\d MB without any"):
        plan(look_up(build_teacher_once("wordpiece")), vocabulary="auto:en", vocabulary_size="0.001MB")


@pytest.mark.parametrize(
    "settings",
    [{}, {"quantize_to": "int8"}, {"use_subword": False}, {"vocabulary_quantization": 100, "pca_dims": 16}],
    ids=str,
)
def test_a_size_in_megabytes_is_that_of_the_model(build_teacher_once, settings):
    folder = build_teacher_once("wordpiece")
    settings = {"recipe": "fast", "vocabulary": "auto:en", "pca_dims": 16, **settings}
    without = distill(folder, **settings | {"vocabulary_size": 1}).n_bytes
    model = distill(folder, vocabulary_size=f"{(without + 20_000) / 1e6}MB", **settings)
    per_word = (model.n_bytes - without) / (model.config["m2v"]["n_entry_rows"] - 1)
    assert without + 20_000 - 2 * per_word < model.n_bytes <= without + 20_000


def test_the_configuration_describes_the_vocabulary(build_teacher_once, tmp_path):
    folder = build_teacher_once("wordpiece")
    settings = {"recipe": "fast", "vocabulary": "auto", "vocabulary_size": 50}
    model = distill(folder, **settings)
    noted = model.config["m2v"]
    assert (noted["vocabulary_source"], noted["vocabulary_size"], noted["n_entries"]) == ("auto:en", 50, 50)
    model.save_pretrained(tmp_path / "model", "someone/model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    said = f"50 frequent words of 'en' (wordfreq {version('wordfreq')}, CC BY-SA 4.0)"
    assert f"Vocabulary: {said}; 50 entries, {noted['n_entry_rows']} rows" in card
    assert "--vocabulary auto:en" in card and "--vocabulary-size 50" in card and "--vocabulary-path" not in card
    planned = plan(look_up(folder), **settings)
    assert (planned.vocabulary_source, planned.vocabulary_summary) == ("auto:en", said)
    assert (planned.n_rows, planned.n_bytes) == (len(model.token_embeddings), model.n_bytes)


def test_a_model_of_the_words_of_a_corpus(build_teacher_once):
    model = distill(
        build_teacher_once("wordpiece"), vocabulary="auto:corpus", corpus=SENTENCES, recipe="fast", pca_dims=8
    )
    assert "heart attack" in model.tokens
    noted = model.config["m2v"]
    assert noted["vocabulary_source"] == "auto:corpus"
    assert re.fullmatch(r"\d+ words and [1-9]\d* phrases of the corpus", noted["vocabulary_summary"])


def test_a_corpus_in_another_language_gives_a_warning(build_teacher_once, caplog):
    tokenizer = Tokenizer.from_str(bare("wordpiece"))
    korean = [text for text in udhr_paragraphs() if re.search("[가-힣]", text)]
    assert corpus_warning(corpus_sentences(100), tokenizer) is None
    warning = corpus_warning(korean, tokenizer)
    assert warning is not None
    assert re.search(r"does not fit the corpus: \d+% of the tokens are unknown and \d+% are single letters", warning)
    with caplog.at_level(logging.WARNING):
        distill(build_teacher_once("wordpiece"), corpus=korean, recipe="fast", pca_dims=8)
    assert warning in caplog.messages
    assert plan(look_up(build_teacher_once("wordpiece")), corpus=korean).corpus_warning == warning


def counts_by_row() -> st.SearchStrategy[dict[int, float]]:
    return st.dictionaries(st.integers(0, 199), st.floats(1e-6, 1e6), min_size=1, max_size=200)


@given(counts_by_row(), st.floats(1e-3, 1e3))
def test_known_counts_determine_ranks(counts, unit):
    ranks = np.arange(200)
    placed = ranks_by_count(ranks, counts)
    others = np.array(sorted(set(range(200)) - counts.keys()), dtype=int)
    np.testing.assert_array_equal(placed[others], others)
    assert placed.min() >= 0 and placed.max() < 200
    falling = sorted(counts, key=lambda row: -counts[row])
    assert list(placed[falling]) == sorted(placed[falling])
    np.testing.assert_allclose(ranks_by_count(ranks, {row: n * unit for row, n in counts.items()}), placed, atol=1)


def test_rows_without_counts_keep_their_ranks():
    np.testing.assert_array_equal(ranks_by_count(np.array([3, 1, 2]), {}), [3, 1, 2])


def test_words_share_the_total_probability_of_their_ranks():
    counts = dict(zip(range(100, 200), np.random.default_rng(0).integers(500, 1000, 100), strict=True))
    placed = ranks_by_count(np.arange(200), counts)
    before, after = (np.sum(1 / (ranks + 2)) for ranks in (np.arange(100, 200), placed[100:]))
    assert after == pytest.approx(before, rel=0.02)


def test_weights_follow_the_real_frequencies(build_teacher_once):
    """In a word-level model, p is each word's share of all counts."""
    words = list(frequent_words("en", bare("wordpiece"), 300, False).counts)
    shares = 1 / np.arange(2.0, 302.0) / np.sum(1 / np.arange(2.0, 302.0))
    order = np.random.default_rng(0).permutation(300)
    counts = {words[i]: float(1e6 * shares[i]) for i in order}
    settings = {"use_subword": False, "recipe": "fast", "pca_dims": None, "quantize_to": "float32"}
    folder = build_teacher_once("wordpiece")
    weighted = distill(folder, vocabulary=counts, **settings)
    plain = distill(folder, vocabulary=words, apply_zipf=False, **settings)
    assert weighted.tokens == plain.tokens  # by falling count
    found = (
        np.linalg.norm(weighted.token_embeddings, axis=1)[:300] / np.linalg.norm(plain.token_embeddings, axis=1)[:300]
    )
    np.testing.assert_allclose(found, 1e-4 / (1e-4 + shares), rtol=1e-4)


def test_counts_are_part_of_the_cache_key(build_teacher_once, tmp_path):
    folder = build_teacher_once("wordpiece")
    settings = {"use_subword": False, "recipe": "fast", "pca_dims": None, "cache_folder": tmp_path}
    words = ["aspirin", "king", "queen"]
    by_place, by_count = (distill(folder, vocabulary=v, **settings) for v in (words, dict.fromkeys(words, 1)))
    assert by_place.tokens == by_count.tokens
    assert not np.allclose(by_place.token_embeddings, by_count.token_embeddings)


def test_a_list_is_weighted_by_its_order():
    np.testing.assert_array_equal(rank_weights(50), rank_weights(50)[ranks_by_count(np.arange(50), {})])
