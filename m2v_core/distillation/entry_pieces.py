"""Statistics of how a teacher's tokenizer splits the entries of a vocabulary."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from m2v_core.distillation.calibration.bags import sample_evenly
from m2v_core.distillation.preflight import SAMPLED_WORDS, TeacherFacts
from m2v_core.tokenization import unknown_token_id
from m2v_core.tokenization.teacher_reader import TeacherReader

_MAX_EXAMPLES = 4
_NO_LIMIT = 1 << 30  # maximum tokens per entry; entries are only tokenized, not embedded


@dataclass(frozen=True)
class EntryPieces:
    """How a teacher's tokenizer splits the entries of a vocabulary, each tokenized as a word in a sentence.

    Attributes:
        n_entries: Number of entries of the vocabulary.
        n_read: Number of sampled entries, which the following numbers refer to.
        n_single: Number of entries that are a single known token.
        n_unknown: Number of entries that contain unknown tokens.
        mean_pieces: Mean number of tokens of the entries that are not a single known token; 0 if there are none.
        examples: The first entries with several tokens, each with its tokens.
    """

    n_entries: int
    n_read: int
    n_single: int
    n_unknown: int
    mean_pieces: float
    examples: tuple[tuple[str, tuple[str, ...]], ...]

    def summary(self, use_subword: bool) -> list[str]:
        """Return user-facing sentences about how the entries affect the model.

        Args:
            use_subword: Whether the entries are added to the teacher's tokens, as in `distill`.
        """
        n_split = self.n_read - self.n_single
        sentences = []
        if self.n_read < self.n_entries:
            sentences.append(f"Based on a sample of {self.n_read:,} of the {self.n_entries:,} entries.")
        if self.n_single:
            is_, tokens, them = (
                ("is", "a single token", "it") if self.n_single == 1 else ("are", "single tokens", "them")
            )
            effect = (
                f"so adding {them} changes little."
                if use_subword
                else f"but {is_} still needed because this model contains only your words."
            )
            sentences.append(
                f"{self._subject(self.n_single)} {is_} already {tokens} in the teacher's vocabulary, {effect}"
            )
        if n_split:
            is_, average, each = ("is", "", "it") if n_split == 1 else ("are", " on average", "each")
            sentences.append(
                f"{self._subject(n_split)} {is_} split into {self.mean_pieces:.1f} tokens{average}; with this "
                f"vocabulary {each} becomes one token."
            )
        if self.n_unknown:
            contains = "contains" if self.n_unknown == 1 else "contain"
            sentences.append(f"{self._subject(self.n_unknown)} {contains} text that is unknown to the teacher.")
        return sentences

    def _subject(self, count: int) -> str:
        if count < self.n_read:
            return f"{count:,} of the {self.n_read:,} entries"
        return "The entry" if count == 1 else f"All {count:,} entries"

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON values."""
        return {**vars(self), "examples": {entry: list(pieces) for entry, pieces in self.examples}}


def entry_pieces(
    facts: TeacherFacts, vocabulary: Sequence[str], most_words: int | None = SAMPLED_WORDS
) -> EntryPieces | None:
    """Tokenize the entries with the teacher's tokenizer; return None if the tokenizer is not available.

    Args:
        facts: From `preflight.look_up`.
        vocabulary: The cleaned entries.
        most_words: Maximum number of entries to tokenize; larger vocabularies are sampled evenly. None for all.
    """
    if facts.tokenizer is None:
        return None
    return _entry_pieces(facts, sample_evenly(vocabulary, most_words), len(vocabulary))


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
        elif len(examples) < _MAX_EXAMPLES:
            examples.append((word, tuple(str(tokenizer.id_to_token(number)) for number in body)))
    n_split = len(words) - n_single
    return EntryPieces(
        n_entries, len(words), n_single, n_unknown, n_pieces / n_split if n_split else 0.0, tuple(examples)
    )
