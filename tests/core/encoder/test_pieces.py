"""The WordPiece kernel, beside the tokenizer that it stands for."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from m2v_core.encoder.pieces import word_pieces
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
    assert engine("kernel", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


@pytest.mark.parametrize("form", [form for form in forms.CHUNKABLE if form.startswith("BERT")])
def test_every_pair_of_ascii_characters(form):
    tokenizer = forms.tokenizer(form)
    pairs = [one + other for one in ASCII for other in ASCII]
    texts = [*ASCII, *("".join(pairs[start : start + 128]) for start in range(0, len(pairs), 128))]
    texts += [" ".join(pairs[start : start + 128]) for start in range(0, len(pairs), 128)]
    assert engine("kernel", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


@pytest.mark.parametrize("longest_word", [5, 100, 240, 248, 300])
def test_long_words(longest_word):
    tokenizer = tokenizer_of(["a", "aaa", "a" * 64], ["a", "aa", "a" * 62], longest_word, None, [])
    assert word_pieces(tokenizer).longest
    texts = ["a" * n for n in (*range(1, 140), *range(238, 260), *range(298, 304))]
    texts += [f"{text}.{text}" for text in texts]
    assert engine("kernel", tokenizer).token_ids(texts, None) == [judged(tokenizer, text) for text in texts]


def test_plain_ascii_is_not_left_to_the_tokenizer():
    tokenizer = forms.tokenizer("BERT uncased")
    pieces = word_pieces(tokenizer)
    kinds = {character: pieces.kinds[ord(character)] for character in string.printable.strip()}
    foreign = {character for character, kind in kinds.items() if kind == 2}
    assert foreign == {"["}  # where [MASK] begins
    assert {character for character, kind in kinds.items() if kind == 0} == set(string.ascii_letters + string.digits)


@pytest.mark.parametrize(
    ("model", "normalizer", "pre_tokenizer"),
    [
        (forms.wordpiece(), None, forms.WHITE_SPACE),
        (forms.wordpiece(), forms.LOWERCASE, forms.BERT),
        (forms.wordpiece(), forms.sequence_of(forms.bert_normalizer(), forms.strip()), forms.BERT),
        (forms.wordpiece(unk_token="[NONE]"), forms.bert_normalizer(), forms.BERT),
        (forms.wordpiece(vocab={"[UNK]": 0, "a" * 65: 1}), forms.bert_normalizer(), forms.BERT),
        (forms.unigram(), None, forms.metaspace()),
        (forms.bpe(), None, forms.byte_level()),
        (forms.word_level(), forms.bert_normalizer(), forms.BERT),
    ],
)
def test_other_tokenizers_have_no_pieces(model, normalizer, pre_tokenizer):
    tokenizer = Tokenizer.from_str(forms.build(model, normalizer, pre_tokenizer))
    assert word_pieces(tokenizer).longest == 0
