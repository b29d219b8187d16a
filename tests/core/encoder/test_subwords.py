"""The kernels' subword models, compared with the tokenizers that they replace."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from m2v_core.encoder.splitting import Splitting, chunk_splitting
from m2v_core.encoder.subwords import build_subwords
from tests.core.encoder import forms
from tests.core.encoder.paths import engine, judged

ASCII = "".join(map(chr, range(128)))
pieces_of_words = st.lists(st.text("abA1.#-", min_size=1, max_size=4), max_size=14)
ascii_texts = st.lists(
    st.text("abAB1.#- ", max_size=12) | st.text(ASCII, max_size=12) | st.sampled_from(["a" * 250, "b" * 99, "ab" * 60])
).map("".join)


def tokenizer_of(pieces, inner, longest_word, normalizer, entries):
    vocabulary = dict.fromkeys(["[UNK]", *pieces, *(f"##{piece}" for piece in inner)])
    model = forms.wordpiece(
        vocab={piece: i for i, piece in enumerate(vocabulary)}, max_input_chars_per_word=longest_word
    )
    return Tokenizer.from_str(forms.build(model, normalizer, forms.BERT, entries))


@settings(deadline=None, max_examples=150)
@given(
    pieces=pieces_of_words,
    inner=pieces_of_words,
    longest_word=st.sampled_from([0, 1, 3, 100]),
    normalizer=st.sampled_from(
        [None, forms.bert_normalizer(), forms.bert_normalizer(lowercase=False), forms.bert_normalizer(clean_text=False)]
    ),
    entries=st.lists(
        st.builds(
            forms.added,
            st.sampled_from(["ab", "Ab", "[UNK]", "b a", "##", "a.b", "\xe4b", "\u212a", "1", "- -", "#a", "\u4e2d"]),
            normalized=st.booleans(),
            single_word=st.booleans(),
            lstrip=st.booleans(),
        ),
        max_size=2,
        unique_by=lambda entry: entry["content"],
    ),
    texts=st.lists(ascii_texts, min_size=1, max_size=8),
)
def test_any_vocabulary(pieces, inner, longest_word, normalizer, entries, texts):
    tokenizer = tokenizer_of(pieces, inner, longest_word, normalizer, entries)
    texts = [*texts, *(entry["content"] for entry in entries), "aab a bA", "k K\u212a"]
    assert engine("subwords", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


@pytest.mark.parametrize("form", [form for form in forms.CHUNKABLE if form.startswith("BERT")])
def test_every_pair_of_ascii_characters(form):
    tokenizer = forms.tokenizer(form)
    pairs = [one + other for one in ASCII for other in ASCII]
    texts = [*ASCII, *("".join(pairs[start : start + 128]) for start in range(0, len(pairs), 128))]
    texts += [" ".join(pairs[start : start + 128]) for start in range(0, len(pairs), 128)]
    assert engine("subwords", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


@pytest.mark.parametrize("longest_word", [5, 100, 240, 248, 300])
def test_long_words(longest_word):
    tokenizer = tokenizer_of(["a", "aaa", "a" * 64], ["a", "aa", "a" * 62], longest_word, None, [])
    texts = ["a" * n for n in (*range(1, 140), *range(238, 260), *range(298, 304))]
    texts += [f"{text}.{text}" for text in texts]
    assert engine("subwords", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


scored_pieces = st.dictionaries(
    st.text("abA1.#\u2581", min_size=1, max_size=5), st.floats(-30, 0, width=32), max_size=25
)
UNIGRAM_PRE_TOKENIZERS = [
    forms.metaspace(),
    forms.metaspace("first"),
    forms.metaspace("never"),
    forms.cutters(forms.WHITE_SPACE, forms.metaspace()),
    forms.cutters(forms.WHITE_SPACE, forms.metaspace("never")),
]


@settings(deadline=None, max_examples=150)
@given(
    pieces=scored_pieces,
    has_letters=st.booleans(),
    normalizer=st.sampled_from([None, forms.PRECOMPILED, forms.LOWERCASE, {"type": "NFKC"}]),
    pre_tokenizer=st.sampled_from(UNIGRAM_PRE_TOKENIZERS),
    entries=st.lists(st.sampled_from(["<s>", "ab", "b a", "#"]).map(forms.added), max_size=2, unique_by=str),
    texts=st.lists(ascii_texts, min_size=1, max_size=8),
)
def test_any_unigram_vocabulary(pieces, has_letters, normalizer, pre_tokenizer, entries, texts):
    every_letter = {letter: -20.0 - i / 7 for i, letter in enumerate(ASCII[0x21:0x7F])} if has_letters else {}
    vocabulary = [("<unk>", 0.0), *{**every_letter, **pieces}.items()]
    model = forms.unigram(vocab=vocabulary, unk_id=0, byte_fallback=False)
    tokenizer = Tokenizer.from_str(forms.build(model, normalizer, pre_tokenizer, entries))
    texts = [*texts, "aab a bA", "a.b  ab", " ab 1a"]
    assert engine("subwords", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


merge_rules = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30)
BPE_PRE_TOKENIZERS = [
    forms.byte_level(),
    forms.byte_level(True),
    forms.cutters(forms.split(forms.QWEN_SPLIT), forms.byte_level(use_regex=False)),
    forms.cutters(forms.split(forms.LLAMA_SPLIT), forms.byte_level(use_regex=False)),
    forms.cutters(forms.WHITE_SPACE, forms.byte_level(True)),
    forms.cutters(forms.WHITE_SPACE, forms.byte_level(True, use_regex=False)),
]


@settings(deadline=None, max_examples=150)
@given(
    rules=merge_rules,
    is_complete=st.booleans(),
    ignore_merges=st.booleans(),
    normalizer=st.sampled_from([None, forms.LOWERCASE, {"type": "NFC"}]),
    pre_tokenizer=st.sampled_from(BPE_PRE_TOKENIZERS),
    texts=st.lists(
        ascii_texts | st.text("aabbA'., ", max_size=15) | st.text("ab", max_size=260), min_size=1, max_size=8
    ),
)
def test_any_byte_level_vocabulary(rules, is_complete, ignore_merges, normalizer, pre_tokenizer, texts):
    pieces = ["a", "b", "A", ".", "\u0120", "'", ",", "s"]
    merges = []
    for left, right in rules:
        one, other = pieces[left % len(pieces)], pieces[right % len(pieces)]
        if len(one + other) <= 8 and one + other not in pieces:
            merges.append([one, other])
            pieces.append(one + other)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if is_complete else []
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *alphabet]))}
    model = forms.bpe(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges)
    tokenizer = Tokenizer.from_str(forms.build(model, normalizer, pre_tokenizer))
    texts = [*texts, "aab a bA", "ab'a ab's ab'", " ab,.'", "ab, ab12 12"]
    assert engine("subwords", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


def subwords_of(tokenizer: Tokenizer):
    splitting = chunk_splitting(tokenizer)
    assert isinstance(splitting, Splitting)
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size(with_added_tokens=True))]
    return build_subwords(tokenizer, splitting, tokens)


@pytest.mark.parametrize("form", ["BERT uncased", "BERT cased", "XLM-R", "e5", "T5", "GPT-2", "Llama 3"])
def test_plain_words_do_not_need_the_tokenizer(form):
    subwords = subwords_of(forms.tokenizer(form))
    space = b" " if form in ("e5", "T5", "GPT-2", "Llama 3") else b""
    for word in (b"the", b"Shells,", b"unbelievable"):
        assert subwords.ids(space + word) == judged(forms.tokenizer(form), (space + word).decode())


def test_possible_added_tokens_go_to_the_tokenizer():
    subwords = subwords_of(forms.tokenizer("BERT uncased"))
    left = {character for character in string.printable.strip() if subwords.ids(character.encode()) is None}
    assert left == {"["}  # the first character of [MASK]


@pytest.mark.parametrize(
    ("model", "normalizer", "pre_tokenizer"),
    [
        (forms.wordpiece(), None, forms.WHITE_SPACE),
        (forms.wordpiece(unk_token="[NONE]"), forms.bert_normalizer(), forms.BERT),
        (forms.unigram(), None, forms.cutters(forms.BERT, forms.metaspace())),
        (forms.unigram(unk_id=None), None, forms.metaspace()),
        (forms.bpe(), None, forms.cutters(forms.WHITE_SPACE, forms.byte_level(True, use_regex=False))),
        (forms.bpe(end_of_word_suffix="</w>"), None, forms.byte_level()),
        (forms.word_level(), forms.bert_normalizer(), forms.BERT),
    ],
)
def test_other_tokenizers_have_no_subword_model(model, normalizer, pre_tokenizer):
    assert subwords_of(Tokenizer.from_str(forms.build(model, normalizer, pre_tokenizer))) is None
