"""What a teacher makes of a vocabulary, against its own tokenizer and against the tokenizer of the model."""

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
    """Words that the teacher knows whole inside a sentence."""
    known = {piece.removeprefix("▁").removeprefix("Ġ") for piece in tokenizer.get_vocab()}
    alone = sorted(word for word in known if word.isalpha() and word.islower() and word.isascii() and len(word) > 3)
    return [word for word in alone if len(in_a_sentence(tokenizer, word)) == 1][:20]


def in_a_sentence(tokenizer: Tokenizer, word: str) -> list[str]:
    """The pieces of a word after another one: what a text with it has more than one without."""
    without, whole = (tokenizer.encode(text, add_special_tokens=False).tokens for text in ("of", f"of {word}"))
    assert whole[: len(without)] == without
    return whole[len(without) :]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_those_of_the_teacher(build_teacher_once: Callable[[str], Path], kind: str):
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
def test_each_is_one_piece_of_the_model(build_teacher_once: Callable[[str], Path], kind: str, use_subword: bool):
    facts = look_up(build_teacher_once(kind))
    words = [*words_of(facts.tokenizer), *PHRASES]
    static = build_static_vocabulary(facts.tokenizer, words, use_subword).tokenizer
    assert all(len(static.encode(word).ids) == 1 for word in PHRASES)
    told = " ".join(entry_pieces(facts, words).summary(use_subword))
    assert "with this vocabulary each is one" in told
    if not use_subword:  # nothing of the teacher is left, so these too have to be there
        assert all(static.token_to_id(word) is not None for word in words)
        assert "needed all the same" in told


def test_text_that_the_teacher_does_not_know_is_no_single_piece(build_teacher_once: Callable[[str], Path]):
    found = entry_pieces(look_up(build_teacher_once("wordpiece")), ["𓀀𓀀", "heart attack"])
    assert (found.n_single, found.n_unknown) == (0, 1)
    assert [word for word, _ in found.examples] == ["heart attack"]


def test_a_long_list_is_told_by_a_sample(build_teacher_once: Callable[[str], Path]):
    facts = look_up(build_teacher_once("wordpiece"))
    found = entry_pieces(facts, [f"word{number}" for number in range(100)], most_words=10)
    assert (found.n_entries, found.n_read) == (100, 10)
    assert found.summary(True)[0] == "Told by 10 of the 100 entries, drawn evenly."


def test_without_a_tokenizer_nothing_is_told(build_teacher_once: Callable[[str], Path]):
    assert entry_pieces(replace(look_up(build_teacher_once("wordpiece")), tokenizer=None), ["a"]) is None


@pytest.mark.parametrize(
    ("counts", "use_subword", "said"),
    [
        (
            (3, 3, 1, 0, 2.5),
            True,
            [
                "1 of the 3 entries is a single piece of the teacher already, which costs nothing and gains little.",
                "2 of the 3 entries are read in 2.5 pieces on average; with this vocabulary each is one.",
            ],
        ),
        (
            (2, 2, 2, 0, 0.0),
            False,
            [
                "All 2 entries are single pieces of the teacher already, and needed all the same: "
                "this model knows nothing but your words."
            ],
        ),
        (
            (1, 1, 0, 1, 4.0),
            True,
            [
                "The entry is read in 4.0 pieces; with this vocabulary it is one.",
                "The entry holds text that the teacher does not know.",
            ],
        ),
    ],
)
def test_what_people_are_told(counts: tuple, use_subword: bool, said: list[str]):
    assert EntryPieces(*counts, examples=()).summary(use_subword) == said
