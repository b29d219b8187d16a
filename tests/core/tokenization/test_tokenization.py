"""Invariants of a static model's tokenizer for every teacher family and vocabulary.

Tokenizers are tested after a round trip through their JSON form, because that is what is saved.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from m2v_core.errors import InputError, ModelFormatError
from m2v_core.tokenization import EntryRows, build_static_vocabulary, check_tokenizer, unknown_token_id
from tests import teachers

UNUSED = r"\[unused\d+\]"
PAD_TOKENS = {"[PAD]", "<pad>", "<|endoftext|>"}
# Words that a pre-tokenizer splits, multi-word entries, uppercase, accents, other scripts.
WORDS = [
    "banana",
    "ice cream",
    "new york",
    "Zanzibar",
    "C++",
    "don't",
    "co-op",
    "rock'n'roll",
    "3d printing",
    "naïve",
    "Straße",
    "привет",
    "日本",
]
CONTEXTS = [
    "{}",
    "a {}",
    "the {} is",
    "{} is",
    "{}, indeed",
    "so {}.",
    "and {}? yes",
    "({})",
    'he message "{}"',
    "{}!\n",
    "one\n{} two",
    "one\t{}",
    "  {}  ",
    "one, {}; two",
    "{} {}",
]
TEXTS = [
    "",
    " ",
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces,   three    four",
    "tab\tnewline\nboth\r\n",
    "C++ and C# don't co-op; rock'n'roll isn't 3.14% off (really) [no]",
    "naïve café Straße ÅNGSTRÖM",
    "привет мир 日本語 ",
    "snow ☃ and \U0001f600 emoji",
    "ﬁne \uff21\uff22\uff23… x\u00a0y e\u0301 a\u00adb",
    "a" * 300,
    "UPPER lower MiXeD",
]


@dataclass(frozen=True)
class Built:
    """A static tokenizer loaded from its JSON form, with helpers for the tests."""

    tokenizer: Tokenizer
    n_rows: int
    sequences: list[list[int]]

    @property
    def unknown_id(self) -> int | None:
        return unknown_token_id(self.tokenizer)

    def tokens(self, text: str) -> list[str]:
        return pieces(self.tokenizer, text)

    def known(self, text: str) -> list[int]:
        return [token_id for token_id in self.tokenizer.encode(text).ids if token_id != self.unknown_id]


@cache
def teacher_of(family: str) -> Tokenizer:
    return Tokenizer.from_str(teachers.tokenizer_json(family))


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of `text` as in the vocabulary (`tokens` of Unigram models contains unknown text)."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return [tokenizer.id_to_token(token_id) for token_id in ids]


def build(
    family: str, vocabulary: list[str] | None = None, use_subword: bool = True, pattern: str | None = UNUSED
) -> Built:
    return _build(family, None if vocabulary is None else tuple(vocabulary), use_subword, pattern)


@lru_cache(maxsize=32)
def _build(family: str, vocabulary: tuple[str, ...] | None, use_subword: bool, pattern: str | None) -> Built:
    words = None if vocabulary is None else list(vocabulary)
    static = build_static_vocabulary(teacher_of(family), words, use_subword, pattern)
    sequences = [list(sequence) for sequence in static.sequences]
    tokenizer = Tokenizer.from_str(static.tokenizer.to_str())
    assert len(static.ranks) == len(sequences)
    # Word level has one more row, the last, for the unknown token, which needs no teacher input.
    word_level = words is not None and not use_subword
    return Built(tokenizer, len(sequences) + word_level, sequences)


def check_invariants(built: Built, family: str) -> None:
    """Check the conditions of FORMAT.md that don't depend on a text."""
    tokens = built.tokenizer.get_vocab(with_added_tokens=True)
    assert sorted(tokens.values()) == list(range(len(tokens))), "ids are not contiguous"
    assert built.n_rows == len(tokens), "rows differ from the vocabulary"
    assert built.tokenizer.get_vocab_size(with_added_tokens=True) == len(tokens)
    check_tokenizer(built.tokenizer, built.n_rows)
    teacher_size = teacher_of(family).get_vocab_size()
    assert all(0 <= teacher_id < teacher_size for sequence in built.sequences for teacher_id in sequence)
    model = json.loads(built.tokenizer.to_str())["model"]
    if model["type"] == "WordLevel":
        assert built.unknown_id == built.n_rows - 1
        assert built.tokenizer.id_to_token(built.unknown_id) == model["unk_token"]
    elif built.unknown_id is not None:
        assert built.tokenizer.id_to_token(built.unknown_id) == teachers.UNKNOWN_TOKEN[family]
    if model["type"] == "Unigram":
        assert model["vocab"][model["unk_id"]][0] == teachers.UNKNOWN_TOKEN[family]


def tokens_over(built: Built, text: str, start: int, end: int) -> list[str]:
    """The text, without outer whitespace, of all tokens that overlap text[start:end]."""
    offsets = built.tokenizer.encode(text).offsets
    return [text[left:right].strip() for left, right in offsets if max(left, start) < min(right, end)]


def assert_one_token_in_every_context(built: Built, word: str, contexts: list[str] = CONTEXTS) -> None:
    for context in contexts:
        text = context.format(word, word)
        for match in re.finditer(re.escape(word), text):
            assert tokens_over(built, text, *match.span()) == [word], f"in {text!r}: {built.tokens(text)}"
    assert len(built.known(word)) == 1, f"{word!r} alone: {built.tokens(word)}"


# Output mode: the teacher's subwords


def test_output_mode_satisfies_the_invariants(family: str):
    check_invariants(build(family), family)


def test_unknown_text_gets_the_unknown_token(family: str):
    built = build(family)
    unknown = teachers.UNKNOWN_TOKEN[family]
    if family in ("bytelevel", "modernbert-like", "decoder"):
        # Bytes cover every text, so nothing is unknown.
        assert built.tokens("☃") == pieces(teacher_of(family), "☃")
        return
    assert built.unknown_id == built.tokenizer.token_to_id(unknown)
    expected = ["▁", unknown] if family == "unigram" else [unknown]
    assert pieces(teacher_of(family), "☃") == expected
    assert built.tokens("☃") == expected
    assert built.tokens("☃ and ☂") == pieces(teacher_of(family), "☃ and ☂")


def test_real_text_tokenizes_as_the_teacher_does(family: str):
    built, teacher = build(family), teacher_of(family)
    for text in [*teachers.corpus_sentences(500, skip=teachers.TRAINING_SENTENCES), *teachers.udhr_paragraphs()]:
        assert built.tokens(text) == pieces(teacher, text)


@pytest.mark.parametrize("text", TEXTS)
def test_odd_texts_tokenize_as_the_teacher_does(family: str, text: str):
    assert build(family).tokens(text) == pieces(teacher_of(family), text)


def test_nothing_is_added_around_a_text(family: str):
    built = build(family)
    encoding = built.tokenizer.encode("Hello, world!", add_special_tokens=True)
    assert encoding.ids == built.tokenizer.encode("Hello, world!", add_special_tokens=False).ids


def test_only_unknown_and_pad_of_the_special_tokens_remain(family: str):
    added = json.loads(teachers.tokenizer_json(family))["added_tokens"]
    special = {token["content"] for token in added if token["special"]}
    kept = special & set(build(family).tokenizer.get_vocab())
    assert kept <= PAD_TOKENS | {teachers.UNKNOWN_TOKEN[family]}


def test_unused_tokens_are_removed_and_all_others_keep_their_order(family: str):
    teacher, built = teacher_of(family).get_vocab(), build(family).tokenizer.get_vocab()
    added = json.loads(teachers.tokenizer_json(family))["added_tokens"]
    special = {token["content"] for token in added if token["special"]}
    expected = [
        token
        for token in sorted(teacher, key=teacher.__getitem__)
        if token not in special and not re.search(UNUSED, token)
    ]
    # The order determines the ranks, and these the weights.
    assert [token for token in sorted(built, key=built.__getitem__) if token not in special] == expected


def test_each_row_is_encoded_from_its_own_piece(family: str):
    teacher, built = teacher_of(family), build(family)
    for row, sequence in enumerate(built.sequences):
        token = built.tokenizer.id_to_token(row)
        if token not in PAD_TOKENS | {teachers.UNKNOWN_TOKEN[family]}:
            assert teacher.token_to_id(token) in sequence


def test_without_a_pattern_the_unused_tokens_stay(family: str):
    teacher = teacher_of(family).get_vocab()
    unused = {token for token in teacher if re.fullmatch(UNUSED, token)}
    assert unused or not family.startswith(("wordpiece", "modernbert"))
    built = build(family, pattern=None)
    check_invariants(built, family)
    assert unused <= set(built.tokenizer.get_vocab())


def test_removing_a_piece_does_not_change_other_text(family: str):
    teacher = teacher_of(family)
    sentences = teachers.corpus_sentences(300)
    counts = Counter(piece for sentence in sentences for piece in pieces(teacher, sentence))
    merges = json.loads(teachers.tokenizer_json(family))["model"].get("merges", [])
    inner = {part for merge in merges for part in (merge.split(" ") if isinstance(merge, str) else merge)}
    removed = next(piece for piece, _ in counts.most_common() if len(piece) > 3 and piece not in inner)
    built = build(family, pattern=f"^{re.escape(removed)}$")
    check_invariants(built, family)
    assert removed not in built.tokenizer.get_vocab()
    untouched = [sentence for sentence in sentences if removed not in pieces(teacher, sentence)]
    assert 50 < len(untouched) < 300
    for sentence in untouched:
        assert built.tokens(sentence) == pieces(teacher, sentence)
    for sentence in set(sentences) - set(untouched):
        assert removed not in built.tokens(sentence)
        assert all(token is not None for token in built.tokens(sentence))


def test_a_pattern_that_leaves_nothing_is_rejected(family: str):
    with pytest.raises(InputError):
        build(family, pattern=r"(?s).*")


# A passed vocabulary, with subwords


@pytest.mark.parametrize("use_subword", [True, False])
def test_a_vocabulary_satisfies_the_invariants(family: str, use_subword: bool):
    check_invariants(build(family, WORDS, use_subword), family)


@pytest.mark.parametrize("use_subword", [True, False])
@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_one_token_in_every_context(family: str, use_subword: bool, word: str):
    assert_one_token_in_every_context(build(family, WORDS, use_subword), word)


@pytest.mark.parametrize("use_subword", [True, False])
def test_no_two_words_share_a_token(family: str, use_subword: bool):
    built = build(family, WORDS, use_subword)
    ids = [token_id for word in WORDS for token_id in built.known(word)]
    assert len(set(ids)) == len(WORDS)


def embeddings_of(word: str) -> list[str]:
    """Texts that contain `word` as a part of another word."""
    before = [f"x{word}", f"9{word}", f"é{word}", f"nice{word}"]
    return before if not word[-1].isalnum() else [*before, f"{word}s", f"{word}9", f"{word}é", f"x{word}y"]


@pytest.mark.parametrize("word", [word for word in WORDS if word != "日本"])
def test_no_word_is_matched_inside_another(family: str, word: str):
    subword, word_level, teacher = build(family, WORDS), build(family, WORDS, False), teacher_of(family)
    for text in embeddings_of(word):
        assert subword.tokens(text) == pieces(teacher, text)
        assert subword.tokens(f"a {text}, b") == pieces(teacher, f"a {text}, b")
        assert word_level.known(text) == []


def test_ice_cream_is_not_in_nice_creamy(family: str):
    built, teacher = build(family, ["banana", "ice cream"]), teacher_of(family)
    for text in ("nice creamy", "nice cream", "ice creamy", "bananas", "xbanana", "a nice creamy banana7"):
        assert built.tokens(text) == pieces(teacher, text)


def test_sentences_without_the_words_tokenize_as_the_teacher_does(family: str):
    built, teacher = build(family, WORDS), teacher_of(family)
    held = re.compile("|".join([*map(re.escape, WORDS), "naive", "strasse"]), re.IGNORECASE)
    unseen = teachers.corpus_sentences(550, skip=teachers.TRAINING_SENTENCES)
    texts = [text for text in [*unseen, *teachers.udhr_paragraphs(), *TEXTS] if not held.search(text)]
    assert len(texts) > 1_480
    for text in texts:
        assert built.tokens(text) == pieces(teacher, text)


@pytest.mark.parametrize("word", ["banana", "ice cream", "C++"])
def test_the_text_around_a_word_tokenizes_as_the_teacher_does(family: str, word: str):
    built, teacher = build(family, WORDS), teacher_of(family)
    (word_id,) = built.known(word)
    alone = built.tokenizer.id_to_token(word_id)
    before, after = pieces(teacher, "He ate"), pieces(teacher, " today")
    assert built.tokens(f"He ate {word} today") == [*before, alone, *after]
    assert built.tokens(f"He ate {word}") == [*before, alone]
    assert built.tokens(f"{word} today") == [alone, *after]


@pytest.mark.parametrize("mark", [",", ".", "!", ")", '"', "-"])
def test_punctuation_after_a_word_is_the_same_piece_as_in_the_teacher(family: str, mark: str):
    built, teacher = build(family, ["banana"]), teacher_of(family)
    (word_id,) = built.known("banana")
    expected = pieces(teacher, f"Europe{mark}")[len(pieces(teacher, "Europe")) :]
    assert expected, "the teacher keeps the mark apart"
    assert built.tokens(f"banana{mark}") == [built.tokenizer.id_to_token(word_id), *expected]


def test_the_longest_of_several_words_is_matched(family: str):
    words = ["york", "new york", "new york city", "city"]
    for use_subword in (True, False):
        built = build(family, words, use_subword)
        assert len({built.known(word)[0] for word in words}) == 4
        for word in words:
            assert_one_token_in_every_context(built, word, ["{}", "in {}", "in {}, now"])


def test_words_that_are_already_pieces_get_no_second_row(family: str):
    # Byte-level families have "world" and " world", a Unigram model mostly just " world".
    words = ["the", "world", "of", "Congress", "banana"]
    plain, built = build(family), build(family, words)
    check_invariants(built, family)
    assert plain.n_rows < built.n_rows <= plain.n_rows + len(words)
    for word in words:
        assert_one_token_in_every_context(built, word, ["{}", "a {}", "{} is"])


def test_words_keep_their_order_after_the_subwords(family: str):
    words = ["zebra crossing", "banana", "Zanzibar", "ice cream"]
    plain, built = build(family), build(family, words)
    ids = [built.known(word)[0] for word in words]
    assert ids == sorted(ids)
    assert [built.tokenizer.id_to_token(row) for row in range(plain.n_rows)] == [
        plain.tokenizer.id_to_token(row) for row in range(plain.n_rows)
    ]


def test_case_follows_the_teacher(family: str):
    for use_subword in (True, False):
        built = build(family, ["Zanzibar"], use_subword)
        expected = built.known("Zanzibar")
        assert len(expected) == 1
        for other in ("zanzibar", "ZANZIBAR"):
            assert (built.known(other) == expected) is (family == "wordpiece")
        built = build(family, ["new york", "New York"], use_subword)
        check_invariants(built, family)
        assert (built.known("new york") == built.known("New York")) is (family == "wordpiece")
        assert len(built.known("New York")) == 1


def test_accents_follow_the_teacher():
    built = build("wordpiece", ["naïve"])
    assert built.known("naive") == built.known("naïve") == built.known("NAÏVE")
    built = build("wordpiece-cased", ["naïve"])
    assert built.known("naive") != built.known("naïve")


@pytest.mark.parametrize("use_subword", [True, False])
def test_duplicates_make_one_row(family: str, use_subword: bool):
    once = build(family, ["banana", "ice cream"], use_subword)
    twice = build(family, ["banana", "banana", "ice cream", "banana", "ice cream"], use_subword)
    check_invariants(twice, family)
    assert twice.n_rows == once.n_rows
    folded = build(family, ["banana", "Banana", "BANANA"], use_subword)
    check_invariants(folded, family)
    assert folded.n_rows - once.n_rows + 2 == (1 if family == "wordpiece" else 3)


@pytest.mark.parametrize("use_subword", [True, False])
def test_words_that_look_like_pieces_or_special_tokens_cause_no_errors(family: str, use_subword: bool):
    names = ["[CLS]", "[UNK]", "[PAD]", "<s>", "<unk>", "<pad>", "<|endoftext|>", "[unused3]"]
    built = build(family, [*names, "##ing", "▁the", "Ġthe", "##", "▁", "Ġ", "banana"], use_subword)
    check_invariants(built, family)
    assert_one_token_in_every_context(built, "banana", ["{}", "a {}", "{}, b"])
    if use_subword:
        assert built.tokens("walking the dog") == pieces(teacher_of(family), "walking the dog")


def test_many_words(family: str):
    counts = Counter(word for line in teachers.corpus_sentences(3_000) for word in re.findall(r"[A-Za-z]{3,}", line))
    words = [word for word, _ in counts.most_common(1_500)]
    for use_subword in (True, False):
        built = build(family, words, use_subword)
        check_invariants(built, family)
        assert not [word for word in words if len(built.known(word)) != 1]
        text = "".join(f"({word}) " for word in words)
        spans = built.tokenizer.encode(text).offsets
        found = Counter(text[start:end].strip() for start, end in spans)
        assert not [word for word in words if found[word] != 1]


# A passed vocabulary, word level


def test_word_level_contains_only_its_words(family: str):
    built = build(family, WORDS, use_subword=False)
    expected = len({word.lower() for word in WORDS})
    assert expected <= built.n_rows <= expected + 2  # possibly with an unknown and a pad token
    for text in ("something else entirely", "bananas ☃", "york", "ice", "cream puff", ",", "", " "):
        assert built.known(text) == []


def test_word_level_skips_unknown_words(family: str):
    built = build(family, WORDS, use_subword=False)
    text = "He ate banana, (ice cream) and more bananas in new york; C++ don't care."
    expected = [built.known(word)[0] for word in ("banana", "ice cream", "new york", "C++", "don't")]
    assert built.known(text) == expected


def test_word_level_on_real_text(family: str):
    words = ["Congress", "Constitution", "freedom", "United States"]
    built = build(family, words, use_subword=False)
    ids = {word: built.known(word)[0] for word in words}
    flags = re.IGNORECASE if family == "wordpiece" else 0
    expression = re.compile("|".join(rf"(?<!\w){word}(?!\w)" for word in words), flags)
    fold = {word.lower(): word for word in words}
    hits = 0
    for text in [*teachers.corpus_sentences(2_000), *teachers.udhr_paragraphs()]:
        expected = [ids[fold[match.lower()]] for match in expression.findall(text)]
        assert built.known(text) == expected
        hits += len(expected)
    assert hits > 20


@pytest.mark.parametrize("words", [[], [""], ["   "], ["\n", "\t "]])
def test_word_level_without_a_usable_word_is_rejected(words: list[str]):
    with pytest.raises(InputError):
        build("wordpiece", words, use_subword=False)


# Any vocabulary

any_word = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
letters = st.text(
    st.one_of(
        st.characters(min_codepoint=97, max_codepoint=122),
        st.characters(categories=["Lu", "Ll", "Lo", "Nd"], max_codepoint=0x2FFF),
    ),
    min_size=1,
    max_size=8,
)
plain_word = st.lists(letters, min_size=1, max_size=3).map(" ".join)
quick = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quick
@example(words=["\u0301"], use_subword=True)
@example(words=["\u0301"], use_subword=False)
@example(words=["\x00", "a\x00b"], use_subword=True)
@example(words=["\u200b", "\ufeff", "\u00ad"], use_subword=False)
@example(words=["\u3000", "\u00a0", "a\u00a0b"], use_subword=True)
@example(words=["İstanbul", "ΣΑΣ", "ǅ", "ﬁ"], use_subword=True)
@example(words=["##", "##a", "a", " a", "a "], use_subword=False)
@given(words=st.lists(any_word, min_size=1, max_size=8), use_subword=st.booleans())
def test_any_vocabulary_satisfies_the_invariants_or_is_rejected(family: str, words: list[str], use_subword: bool):
    try:
        built = build(family, words, use_subword)
    except InputError:
        return
    check_invariants(built, family)
    for text in [*words, " ".join(words), "".join(words), "He ate a banana, today."]:
        ids = built.tokenizer.encode(text).ids
        assert all(0 <= token_id < built.n_rows for token_id in ids)


@quick
@given(words=st.lists(plain_word, min_size=1, max_size=6, unique_by=str.casefold), use_subword=st.booleans())
def test_any_word_of_letters_is_one_token_when_it_stands_alone(family: str, words: list[str], use_subword: bool):
    normalizer = teacher_of(family).normalizer
    normal = [normalizer.normalize_str(word) if normalizer else word for word in words]
    # Characters that the normalizer removes or replaces (a half, a superscript) are not letters to the teacher.
    assume(all(re.fullmatch(r"[^\W_]+(?: +[^\W_]+)*", word.strip()) for word in normal))
    assume(len(set(normal)) == len(normal))
    built = build(family, words, use_subword)
    check_invariants(built, family)
    for word in words:
        for context in ("{}", "a {}", "{}, b", "({})"):
            text = context.format(word)
            start = text.index(word, 2 if context.startswith("a ") else 0)
            assert tokens_over(built, text, start, start + len(word)) == [word]


@quick
@given(
    word=plain_word,
    left=st.sampled_from(["x", "9", "é", "nice"]),
    right=st.sampled_from(["", "s", "9", "é", "y"]),
)
def test_no_word_of_letters_is_matched_inside_another(family: str, word: str, left: str, right: str):
    text = f"{left}{word}{right}"
    normalizer = teacher_of(family).normalizer
    normal = normalizer.normalize_str(word) if normalizer else word
    assume(re.fullmatch(r"[^\W_]+(?: [^\W_]+)*", normal))
    assume(normal not in (normalizer.normalize_str(text) if normalizer else text).split())
    built = build(family, [word])
    assert built.tokens(text) == pieces(teacher_of(family), text)


@quick
@given(text=st.text(max_size=40))
@example("[CLS] [SEP] </s> <s> [MASK] <|im_end|> <mask>")
def test_any_text_tokenizes_as_the_teacher_does(family: str, text: str):
    teacher = teacher_of(family)
    special = {token.content for token in teacher.get_added_tokens_decoder().values() if token.special}
    tokens = build(family).tokens(text)
    assert None not in tokens
    if not special & set(pieces(teacher, text)) - {teachers.UNKNOWN_TOKEN[family]}:
        assert tokens == pieces(teacher, text)


# Validation


def test_unknown_token_id(family: str):
    teacher = teacher_of(family)
    expected = {"wordpiece": 11, "wordpiece-cased": 11, "unigram": 3}
    if family in expected:
        assert unknown_token_id(teacher) == expected[family]
    elif family == "decoder":
        assert unknown_token_id(teacher) is None
    else:
        assert unknown_token_id(teacher) in (None, teacher.token_to_id(teachers.UNKNOWN_TOKEN[family]))


def test_a_table_of_another_size_is_rejected(family: str):
    built = build(family)
    for n_rows in (built.n_rows - 1, built.n_rows + 1, 0):
        with pytest.raises(ModelFormatError, match=re.escape(f"{built.n_rows:,}") + "|" + str(built.n_rows)):
            check_tokenizer(built.tokenizer, n_rows)


def test_a_gap_between_ids_is_rejected():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for n_rows in (3, 4):
        with pytest.raises(ModelFormatError):
            check_tokenizer(tokenizer, n_rows)


def test_the_same_teacher_gives_the_same_tokenizer_every_time(family: str):
    for vocabulary, use_subword in product([None, WORDS], [True, False]):
        if vocabulary is None and not use_subword:
            continue
        first = build_static_vocabulary(teacher_of(family), vocabulary, use_subword, UNUSED)
        second = build_static_vocabulary(teacher_of(family), vocabulary, use_subword, UNUSED)
        assert first.tokenizer.to_str() == second.tokenizer.to_str()


def test_the_teacher_tokenizer_is_not_modified(family: str):
    teacher = Tokenizer.from_str(teachers.tokenizer_json(family))
    teacher.enable_truncation(7)
    teacher.enable_padding(length=9)
    before = teacher.to_str()
    for vocabulary, use_subword in ((None, True), (WORDS, True), (WORDS, False)):
        static = build_static_vocabulary(teacher, vocabulary, use_subword, UNUSED)
        assert len(static.tokenizer.encode("banana " * 40).ids) >= 40
        assert len(static.tokenizer.encode("banana").ids) < 9
    assert teacher.to_str() == before


ENTRIES = ["möchte", "mochte", "パンダ", "ハンダ", "अपने", "अपन", "Müller", "läuft", "lauft", "café", "cafe"]


@pytest.mark.parametrize("use_subword", [True, False])
def test_entries_that_share_a_row_are_counted_and_listed(use_subword: bool):
    tokenizer = Tokenizer.from_str(teachers.tokenizer_json("wordpiece"))
    rows = build_static_vocabulary(tokenizer, ENTRIES, use_subword).entries
    assert rows is not None
    assert (rows.n_entries, rows.n_rows, rows.n_merged) == (11, 6, 5)
    summary = rows.summary()
    assert summary is not None and summary.startswith("11 entries, 6 rows: 5 share the row of another entry")
    assert "möchte = mochte; パンダ = ハンダ; अपने = अपन; ..." in summary
    # Must equal the number of rows of the table.
    static = build_static_vocabulary(tokenizer, ENTRIES, use_subword)
    n_others = len(build_static_vocabulary(tokenizer).sequences) if use_subword else 0
    assert len(static.sequences) - n_others == 6


def test_entries_of_mixed_scripts_are_listed():
    tokenizer = Tokenizer.from_str(teachers.tokenizer_json("unigram"))
    rows = build_static_vocabulary(tokenizer, ["T恤", "听歌", "ice cream"], use_subword=False).entries
    assert rows is not None and rows == EntryRows.from_json(json.loads(json.dumps(rows.to_json())))
    assert rows.summary() == (
        "1 entry is partly in a script without spaces, and only matched between spaces and punctuation (T恤)."
    )
    # WordPiece tokenizers split ideographs, and match it.
    tokenizer = Tokenizer.from_str(teachers.tokenizer_json("wordpiece"))
    found = build_static_vocabulary(tokenizer, ["T恤"], use_subword=False)
    assert found.entries is not None and found.entries.summary() is None
    assert 0 in found.tokenizer.encode("买T恤吧").ids


def test_entries_with_a_row_each_have_no_summary():
    tokenizer = Tokenizer.from_str(teachers.tokenizer_json("wordpiece-cased"))
    rows = build_static_vocabulary(tokenizer, ["Berlin", "berlin", "Berlin"], use_subword=False).entries
    assert rows is not None and (rows.n_entries, rows.n_rows, rows.summary()) == (2, 2, None)


WITHOUT_SPACES = {
    "我最喜欢在下雨天听歌": ["下雨天", "听歌"],
    "今日は美味しいラーメンを食べた": ["ラーメン"],
    "วันนี้ราคาทองคำขึ้น": ["ราคา"],
    "ຂ້ອຍມັກກິນເຂົ້າ": ["ກິນ"],
    "ខ្ញុំចូលចិត្តផ្លែឈើ": ["ចិត្ត"],
    "ကျွန်တော်ထမင်းစားတယ်": ["ထမင်း"],
}


@pytest.mark.parametrize("use_subword", [True, False])
@pytest.mark.parametrize("text", WITHOUT_SPACES)
def test_entries_are_matched_inside_text_without_spaces(family: str, text: str, use_subword: bool):
    entries = WITHOUT_SPACES[text]
    static = build_static_vocabulary(
        Tokenizer.from_str(teachers.tokenizer_json(family)),
        [word for words in WITHOUT_SPACES.values() for word in words],
        use_subword,
    ).tokenizer
    found = static.encode(text).ids
    for entry in entries:
        [row] = static.encode(entry).ids
        assert row in found


@pytest.mark.parametrize("use_subword", [True, False])
def test_entries_of_scripts_with_spaces_stay_whole_words(family: str, use_subword: bool):
    static = build_static_vocabulary(
        Tokenizer.from_str(teachers.tokenizer_json(family)), ["ice cream", "cream", "听歌", "한국"], use_subword
    ).tokenizer
    for text, entry in [("nice creamy", "ice cream"), ("screams", "cream"), ("한국어", "한국")]:
        [row] = static.encode(entry).ids
        assert row not in static.encode(text).ids, text
