"""How a teacher reads the entries of a vocabulary: what they come to before a distillation, and after it."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from m2v_core.distillation.preflight import SAMPLED_WORDS, TeacherFacts, sampled
from m2v_core.tokenization import unknown_token_id
from m2v_core.tokenization.teacher_reader import TeacherReader

_MOST_EXAMPLES = 4
_NO_LIMIT = 1 << 30  # tokens of an entry, here where nothing has to read it


@dataclass(frozen=True)
class EntryPieces:
    """What a teacher makes of a vocabulary's entries, each inside a sentence.

    Attributes:
        n_entries: Entries of the vocabulary.
        n_read: How many of them the rest was told by.
        n_single: Of these, the ones that are a single known piece of the teacher.
        n_unknown: Of these, the ones with text that the teacher has no piece for.
        mean_pieces: Pieces of one of the others, on average; 0 where there are none.
        examples: Some that take several pieces, the first in the vocabulary first, each with its pieces.
    """

    n_entries: int
    n_read: int
    n_single: int
    n_unknown: int
    mean_pieces: float
    examples: tuple[tuple[str, tuple[str, ...]], ...]

    def summary(self, use_subword: bool) -> list[str]:
        """What it means for the model, a paragraph each.

        Args:
            use_subword: Whether the entries join the teacher's pieces, as in `distill`.
        """
        n_split = self.n_read - self.n_single
        said = []
        if self.n_read < self.n_entries:
            said.append(f"Told by {self.n_read:,} of the {self.n_entries:,} entries, drawn evenly.")
        if self.n_single:
            what = "is a single piece" if self.n_single == 1 else "are single pieces"
            so = (
                "which costs nothing and gains little."
                if use_subword
                else "and needed all the same: this model knows nothing but your words."
            )
            said.append(f"{self._subject(self.n_single)} {what} of the teacher already, {so}")
        if n_split:
            are, average, then = ("is", "", "it") if n_split == 1 else ("are", " on average", "each")
            said.append(
                f"{self._subject(n_split)} {are} read in {self.mean_pieces:.1f} pieces{average}; with this vocabulary "
                f"{then} is one."
            )
        if self.n_unknown:
            holds = "holds" if self.n_unknown == 1 else "hold"
            said.append(f"{self._subject(self.n_unknown)} {holds} text that the teacher does not know.")
        return said

    def _subject(self, count: int) -> str:
        if count < self.n_read:
            return f"{count:,} of the {self.n_read:,} entries"
        return "The entry" if count == 1 else f"All {count:,} entries"

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain JSON values."""
        return {**vars(self), "examples": {entry: list(pieces) for entry, pieces in self.examples}}


def entry_pieces(
    facts: TeacherFacts, vocabulary: Sequence[str], most_words: int | None = SAMPLED_WORDS
) -> EntryPieces | None:
    """How the teacher reads the entries now; None where its tokenizer is not known.

    Args:
        facts: From `preflight.look_up`.
        vocabulary: The entries, cleaned.
        most_words: How many of them are read at most, evenly drawn; None for all.
    """
    if facts.tokenizer is None:
        return None
    return _entry_pieces(facts, sampled(vocabulary, most_words), len(vocabulary))


@functools.lru_cache(maxsize=4)
def _entry_pieces(facts: TeacherFacts, words: tuple[str, ...], n_entries: int) -> EntryPieces:
    tokenizer = facts.tokenizer
    assert tokenizer is not None
    reader = TeacherReader(tokenizer, json.loads(tokenizer.to_str()), _NO_LIMIT)
    n_before, n_after = reader.n_special
    unknown = unknown_token_id(tokenizer)
    n_single = n_unknown = n_pieces = 0
    examples: list[tuple[str, tuple[str, ...]]] = []
    for word, ids in zip(words, reader.read(words), strict=True):
        body = ids[n_before : len(ids) - n_after]
        if len(body) == 1 and body[0] != unknown:
            n_single += 1
            continue
        n_pieces += len(body)
        if unknown in body:
            n_unknown += 1
        elif len(examples) < _MOST_EXAMPLES:
            examples.append((word, tuple(str(tokenizer.id_to_token(number)) for number in body)))
    n_split = len(words) - n_single
    return EntryPieces(
        n_entries, len(words), n_single, n_unknown, n_pieces / n_split if n_split else 0.0, tuple(examples)
    )
