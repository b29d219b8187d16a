"""Coverage of texts in languages other than the vocabulary's, measured with real tokenizers."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.tokenization import unknown_token_id
from m2v_core.tokenization.coverage import CoverageMeter
from tests.teachers import DATA, FAMILIES, corpus_sentences, tokenizer_json

UDHR = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in sorted((DATA / "udhr").glob("*.txt"))}


def meter(tokenizer: Tokenizer) -> CoverageMeter:
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return CoverageMeter(tokenizer, sorted(vocabulary, key=vocabulary.__getitem__), unknown_token_id(tokenizer))


@pytest.fixture(scope="module")
def english() -> CoverageMeter:
    tokenizer = Tokenizer.from_file(str(bundled_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return meter(tokenizer)


def is_latin(lines: list[str]) -> bool:
    letters = [letter for line in lines for letter in line if letter.isalpha()]
    return sum(letter < "\u0250" for letter in letters) > len(letters) / 2


@pytest.mark.parametrize("language", UDHR)
def test_an_english_vocabulary_covers_only_latin_scripts(english: CoverageMeter, language: str):
    found = english.measure(UDHR[language])
    assert found.is_poor is not is_latin(UDHR[language]), found
    assert (found.warning() is None) is is_latin(UDHR[language])


@pytest.mark.parametrize("family", FAMILIES)
def test_english_text_is_covered_by_every_family(family: str):
    assert not meter(Tokenizer.from_str(tokenizer_json(family))).measure(corpus_sentences(50)).is_poor


@pytest.mark.parametrize("family", FAMILIES)
def test_chinese_text_is_not_covered_by_english_families(family: str):
    lines = ["我最喜欢在下雨天听歌", "今天的天气很好，我们去公园散步吧。"]
    found = meter(Tokenizer.from_str(tokenizer_json(family))).measure(lines)
    warning = found.warning("your query")
    assert found.is_poor and warning is not None
    assert "your query" in warning and "unknown" in warning


def test_single_ideographs_are_words_of_a_chinese_vocabulary():
    vocabulary = {chr(0x4E00 + i): i for i in range(20_000)} | {"[UNK]": 20_000}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    assert not meter(tokenizer).measure(["我最喜欢在下雨天听歌"]).is_poor
    assert meter(tokenizer).measure(["the weather is nice"]).is_poor


@pytest.mark.parametrize("texts", [[], [""], ["1234 5678 !?"], ["a"] * 0])
def test_texts_without_letters_cause_no_warning(english: CoverageMeter, texts: list[str]):
    assert english.measure(texts).warning() is None
