"""Which tokenizers are processed chunk by chunk, and the reason given for those that are not."""

from __future__ import annotations

import re

import pytest
from tokenizers import Tokenizer

from m2v_core.encoder.splitting import UNSAFE_ALONE, Splitting, chunk_splitting
from m2v_core.model import StaticModel
from tests.core.encoder import forms
from tests.core.encoder.forms import (
    BERT,
    LLAMA_SPLIT,
    PRECOMPILED,
    QWEN_SPLIT,
    WHITE_SPACE,
    added,
    bert_normalizer,
    bpe,
    build,
    byte_level,
    cutters,
    metaspace,
    replace,
    replace_string,
    sequence_of,
    split,
    strip,
    unigram,
    word_level,
    wordpiece,
)
from tests.core.encoder.paths import PATHS, engine, judged
from tests.static_models import random_table
from tests.teachers import tokenizer_json

GEMMA = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
PREPEND = {"type": "Prepend", "prepend": "\u2581"}
QWEN_BYTES = byte_level(use_regex=False)

REFUSED = {
    "Llama 2": (
        lambda: build(bpe(), sequence_of(PREPEND, replace_string(" ", "\u2581")), None),
        "no pre-tokenizer",
    ),
    "Llama 2 with Metaspace": (lambda: build(bpe(), None, metaspace("first", split=False)), "Metaspace does not split"),
    "Gemma": (lambda: build(bpe(), replace_string(" ", "\u2581"), GEMMA), "Split may not split"),
    "T5 with Prepend": (lambda: build(unigram(), PREPEND, metaspace()), "Prepend may act across chunks"),
    "dropout": (lambda: build(bpe(dropout=0.1), None, byte_level()), "BPE may depend on more than one chunk"),
    "no pre-tokenizer": (lambda: build(wordpiece(), bert_normalizer(), None), "no pre-tokenizer"),
    "another Split": (
        lambda: build(bpe(), None, cutters(split(r"\p{L}+|\s+"), QWEN_BYTES)),
        "Split and ByteLevel may not split",
    ),
    "Split that removes": (
        lambda: build(bpe(), None, cutters(split(QWEN_SPLIT, "Removed"), QWEN_BYTES)),
        "Split and ByteLevel may not split",
    ),
    "Split inverted": (
        lambda: build(bpe(), None, cutters({**split(LLAMA_SPLIT), "invert": True}, QWEN_BYTES)),
        "Split and ByteLevel may not split",
    ),
    "Split and a space before": (
        lambda: build(bpe(), None, cutters(split(QWEN_SPLIT), byte_level(True, use_regex=False))),
        "Split and ByteLevel may not split",
    ),
    "ByteLevel without pattern": (lambda: build(bpe(), None, QWEN_BYTES), "ByteLevel may not split"),
    "Metaspace of the first part": (
        lambda: build(unigram(), PRECOMPILED, cutters(WHITE_SPACE, metaspace("first"))),
        "Metaspace may depend on more than one chunk",
    ),
    "a Split after whitespace": (
        lambda: build(unigram(), None, cutters(WHITE_SPACE, split("a"))),
        "Split may depend on more than one chunk",
    ),
    "punctuation alone": (
        lambda: build(word_level(), None, {"type": "Punctuation", "behavior": "Isolated"}),
        "Punctuation may not split",
    ),
    "digits first": (
        lambda: build(word_level(), None, cutters({"type": "Digits", "individual_digits": True}, WHITE_SPACE)),
        "Digits and WhitespaceSplit may not split",
    ),
    "another mark": (
        lambda: build(unigram(), None, {**metaspace(), "replacement": "_"}),
        "Metaspace does not split",
    ),
    "a token that takes the space after it": (
        lambda: build(unigram(), None, metaspace(), [added("<mask>", rstrip=True)]),
        "'<mask>' includes the whitespace after it",
    ),
    "ModernBERT": (lambda: tokenizer_json("modernbert-like"), "begins or ends with whitespace"),
    "a token of spaces": (
        lambda: build(bpe(), None, byte_level(), [added("  ", normalized=False)]),
        "'  ' begins or ends with whitespace",
    ),
    "a phrase in Chinese": (
        lambda: build(wordpiece(), bert_normalizer(), BERT, [added("\u4e2d\u6587 ice")]),
        "has different whitespace after normalizing",
    ),
    "spaces removed": (lambda: build(word_level(), replace(" +", ""), WHITE_SPACE), "Replace may act across chunks"),
    "runs of spaces removed": (
        lambda: build(unigram(), replace(" {2,}", ""), metaspace()),
        "Replace may act across chunks",
    ),
    "spaces marked before WhitespaceSplit": (
        lambda: build(unigram(), replace(" {2,}", "\u2581"), cutters(WHITE_SPACE, metaspace())),
        "Replace may act across chunks",
    ),
    "line ends marked before ByteLevel": (
        lambda: build(bpe(), replace("\n", "\u2581"), byte_level()),
        "removes the whitespace",
    ),
    "an unknown pattern": (lambda: build(word_level(), replace("a b", "c"), WHITE_SPACE), "Replace may act across"),
    "spaces replaced": (lambda: build(word_level(), replace_string(" ", "_"), WHITE_SPACE), "Replace may act across"),
    "stripped on the left": (lambda: build(unigram(), strip(), metaspace()), "removes the whitespace"),
    "bytes before all": (lambda: build(bpe(), {"type": "ByteLevel"}, WHITE_SPACE), "ByteLevel may act across chunks"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_unsafe_tokenizers_process_whole_texts(form):
    make, reason = REFUSED[form]
    tokenizer = Tokenizer.from_str(make())
    message = chunk_splitting(tokenizer)
    assert isinstance(message, str)
    assert reason in message
    assert re.fullmatch(r"it.*[^.]", message)  # completes another sentence
    model = StaticModel(random_table(tokenizer.get_vocab_size(), 2), tokenizer)
    assert model.encoder_path == f"whole texts, because {message}"
    if form != "dropout":
        texts = ["the  ice cream\n<mask> a", "", *forms.PHRASES, *forms.SPACES]
        for path in PATHS:
            assert engine(path, tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


@pytest.mark.parametrize(
    ("form", "carries_space", "cuts_at_lines", "has_phrases"),
    [
        ("BERT uncased", False, True, False),
        ("BERT with phrases", False, True, True),
        ("XLM-R", False, True, False),
        ("XLM-R distilled with phrases", True, False, True),
        ("T5", True, False, False),
        ("GPT-2", True, True, False),
        ("GPT-2 with a space before", True, False, False),
        ("Llama 3", True, False, False),
        ("Qwen 2", True, False, True),
        ("WordLevel", False, True, True),
    ],
)
def test_how_texts_are_split(form, carries_space, cuts_at_lines, has_phrases):
    tokenizer = forms.tokenizer(form)
    splitting = chunk_splitting(tokenizer)
    assert isinstance(splitting, Splitting)
    assert splitting.carries_space == carries_space
    assert not carries_space or splitting.cuts_at_lines == cuts_at_lines
    assert splitting.has_phrases == has_phrases
    model = StaticModel(random_table(tokenizer.get_vocab_size(), 2), tokenizer)
    assert model.encoder_path == "chunk by chunk"


@pytest.mark.parametrize("form", ["XLM-R", "T5", "e5 stripped", "accents stripped", "NMT"])
def test_no_character_changes_neighboring_chunks(form):
    """Each unmarked chunk of one character is normalized as it is alone."""
    tokenizer = forms.tokenizer(form)
    splitting = chunk_splitting(tokenizer)
    assert isinstance(splitting, Splitting)
    normalize = tokenizer.normalizer.normalize_str
    n_safe = 0
    for code in (*range(0x20, 0x3400), *range(0xA000, 0xD800), *range(0xF900, 0x12000), *range(0x1F000, 0x20000)):
        chunk = " " + chr(code) if splitting.carries_space else chr(code)
        if chr(code) == " " or splitting.marks(chunk) & UNSAFE_ALONE:
            continue
        n_safe += 1
        space = " " if not splitting.carries_space else ""
        assert normalize(f"a{space}{chunk} b") == f"a{space}{normalize(chunk)} b", hex(code)
    assert n_safe > 20_000


@pytest.mark.parametrize("form", ["BERT with phrases", "T5", "XLM-R"])
def test_a_long_chunk_is_scanned_once(form):
    splitting = chunk_splitting(forms.tokenizer(form))
    assert isinstance(splitting, Splitting)
    assert splitting.marks("a" * 1_000_000) == 0  # would take minutes if every suffix were copied
