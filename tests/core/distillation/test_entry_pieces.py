"""How a teacher splits a vocabulary, against its own tokenizer and the tokenizer of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from m2v_core.distillation.entry_pieces import EntryPieces, entry_pieces
from m2v_core.distillation.preflight import look_up
from m2v_core.tokenization import build_static_vocabulary

KINDS = ["wordpiece", "unigram", "decoder"]
PHRASES = ["heart attack", "zyzzyva", "myocardial infarction"]


def words_of(tokenizer: Tokenizer) -> list[str]:
    """Words that are single tokens of the teacher inside a sentence."""
    known = {piece.removeprefix("▁").removeprefix("Ġ") for piece in tokenizer.get_vocab()}
    alone = sorted(word for word in known if word.isalpha() and word.islower() and word.isascii() and len(word) > 3)
    return [word for word in alone if len(in_a_sentence(tokenizer, word)) == 1][:20]


def in_a_sentence(tokenizer: Tokenizer, word: str) -> list[str]:
    """The tokens of a word after another word: those that it adds to a text."""
    without, whole = (tokenizer.encode(text, add_special_tokens=False).tokens for text in ("of", f"of {word}"))
    assert whole[: len(without)] == without
    return whole[len(without) :]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_teacher(build_teacher_once: Callable[[str], Path], kind: str):
    folder = build_teacher_once(kind)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = words_of(tokenizer)
    assert len(words) > 3
    found = entry_pieces(look_up(folder), [*words, *PHRASES])
    pieces = [in_a_sentence(tokenizer, phrase) for phrase in PHRASES]
    assert (found.n_entries, found.n_read, found.n_single) == (len(words) + 3, len(words) + 3, len(words))
    assert found.n_unknown == sum("[UNK]" in parts or "<unk>" in parts for parts in pieces)
    assert found.mean_pieces == sum(map(len, pieces)) / 3
    assert [(word, list(parts)) for word, parts in found.examples] == list(zip(PHRASES, pieces, strict=True))


@pytest.mark.parametrize("use_subword", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_each_entry_is_one_token_of_the_model(build_teacher_once: Callable[[str], Path], kind: str, use_subword: bool):
    facts = look_up(build_teacher_once(kind))
    words = [*words_of(facts.tokenizer), *PHRASES]
    static = build_static_vocabulary(facts.tokenizer, words, use_subword).tokenizer
    assert all(len(static.encode(word).ids) == 1 for word in PHRASES)
    told = " ".join(entry_pieces(facts, words).summary(use_subword))
    assert "with this vocabulary each becomes one token" in told
    if not use_subword:  # the teacher's tokens are not included, so single tokens are needed too
        assert all(static.token_to_id(word) is not None for word in words)
        assert "still needed" in told


def test_unknown_text_is_not_a_single_token(build_teacher_once: Callable[[str], Path]):
    found = entry_pieces(look_up(build_teacher_once("wordpiece")), ["𓀀𓀀", "heart attack"])
    assert (found.n_single, found.n_unknown) == (0, 1)
    assert [word for word, _ in found.examples] == ["heart attack"]


def test_a_long_list_is_sampled(build_teacher_once: Callable[[str], Path]):
    facts = look_up(build_teacher_once("wordpiece"))
    found = entry_pieces(facts, [f"word{number}" for number in range(100)], most_words=10)
    assert (found.n_entries, found.n_read) == (100, 10)
    assert found.summary(True)[0] == "Based on a sample of 10 of the 100 entries."


def test_without_a_tokenizer_the_result_is_none(build_teacher_once: Callable[[str], Path]):
    assert entry_pieces(replace(look_up(build_teacher_once("wordpiece")), tokenizer=None), ["a"]) is None


@pytest.mark.parametrize(
    ("counts", "use_subword", "said"),
    [
        (
            (3, 3, 1, 0, 2.5),
            True,
            [
                "1 of the 3 entries is already a single token in the teacher's vocabulary, so adding it changes "
                "little.",
                "2 of the 3 entries are split into 2.5 tokens on average; with this vocabulary each becomes one token.",
            ],
        ),
        (
            (2, 2, 2, 0, 0.0),
            False,
            [
                "All 2 entries are already single tokens in the teacher's vocabulary, but are still needed because "
                "this model contains only your words."
            ],
        ),
        (
            (1, 1, 0, 1, 4.0),
            True,
            [
                "The entry is split into 4.0 tokens; with this vocabulary it becomes one token.",
                "The entry contains text that is unknown to the teacher.",
            ],
        ),
    ],
)
def test_the_summary_for_users(counts: tuple, use_subword: bool, said: list[str]):
    assert EntryPieces(*counts, examples=()).summary(use_subword) == said
