"""Builds the tokenizer of a static model in each of the three modes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from m2v_core.errors import InputError, TeacherError
from m2v_core.tokenization.ids import check_tokenizer
from m2v_core.tokenization.spec import FAMILIES, Spec, replaces_spaces
from m2v_core.tokenization.teacher_reader import TeacherReader, group_by_spelling
from m2v_core.tokenization.trimming import prune, removable_tokens
from m2v_core.tokenization.words import join_words, mixes_scripts, word_level

_MAX_GROUPS = 3  # of entries that share a row, as examples


@dataclass(frozen=True)
class StaticVocabulary:
    """A static model's tokenizer, and the teacher's input for each of its rows.

    Attributes:
        tokenizer: The static model's tokenizer, without added special tokens, truncation or padding.
        sequences: One sequence of teacher ids per row, in row order, including the teacher's special tokens. At word
            level, the unknown token has one more id after these and no sequence.
        ranks: The rank of each row: its own index, except for a passed word that is already one of the teacher's
            pieces, which has that piece's rank.
        n_special: Number of special tokens before and after each entry in its sequence.
        entries: How the passed words were assigned to rows; None without a vocabulary.
        counts: The count of each row that a passed word added, by row; empty without counts.
    """

    tokenizer: Tokenizer
    sequences: list[list[int]]
    ranks: list[int]
    n_special: tuple[int, int]
    entries: EntryRows | None = None
    counts: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EntryRows:
    """How the entries of a vocabulary were assigned to rows.

    Attributes:
        n_entries: Number of distinct entries.
        n_rows: Number of rows for them, including existing rows of the teacher's subwords.
        n_merged: Number of entries that share the row of an earlier entry.
        merged: The first few groups of entries that share a row because the teacher ignores case or accents.
        n_mixed: Number of entries partly in a script without spaces, which only match between spaces and punctuation.
        mixed: The first few of them.
    """

    n_entries: int
    n_rows: int
    n_merged: int
    merged: tuple[tuple[str, ...], ...]
    n_mixed: int = 0
    mixed: tuple[str, ...] = ()

    @classmethod
    def of(cls, spelled: Mapping[str, Iterable[str]], found: Collection[str], tokenizer: Tokenizer) -> EntryRows:
        """Count the entries and their rows.

        Args:
            spelled: The entries of each word, from `group_by_spelling`.
            found: The words that have a row.
            tokenizer: The static model's tokenizer.
        """
        kept = {word: tuple(entries) for word, entries in spelled.items() if word in found}
        groups = list(kept.values())
        merged = [group for group in groups if len(group) > 1]
        n_entries = sum(len(tuple(entries)) for entries in spelled.values())
        n_merged = sum(len(group) - 1 for group in merged)
        mixed = [
            entries[0] for word, entries in kept.items() if mixes_scripts(word) and not _is_inside(tokenizer, word)
        ]
        shown = tuple(mixed[:_MAX_GROUPS])
        return cls(n_entries, len(groups), n_merged, tuple(merged[:_MAX_GROUPS]), len(mixed), shown)

    def summary(self) -> str | None:
        """Sentences about entries without their own row or that rarely match; None if there are none."""
        return " ".join(filter(None, [self._rows_summary(), self._mixed_summary()])) or None

    def _mixed_summary(self) -> str:
        if not self.n_mixed:
            return ""
        are = "1 entry is" if self.n_mixed == 1 else f"{self.n_mixed:,} entries are"
        return (
            f"{are} partly in a script without spaces, and only matched between spaces and punctuation "
            f"({', '.join(self.mixed)}{', ...' if self.n_mixed > len(self.mixed) else ''})."
        )

    def _rows_summary(self) -> str:
        if self.n_rows == self.n_entries:
            return ""
        shared = "; ".join(" = ".join(group) for group in self.merged)
        parts = []
        if self.n_merged:
            more = "; ..." if self.n_merged > sum(len(group) - 1 for group in self.merged) else ""
            parts.append(
                f"{self.n_merged:,} share the row of another entry, because the teacher's tokenizer does not "
                f"distinguish them ({shared}{more})"
            )
        if n_lost := self.n_entries - self.n_rows - self.n_merged:
            parts.append(f"{n_lost:,} are skipped because the tokenizer can't match them as one token")
        return f"{self.n_entries:,} entries, {self.n_rows:,} rows: {', and '.join(parts)}."

    def to_json(self) -> dict[str, Any]:
        """All attributes as plain JSON values."""
        return {**vars(self), "merged": [list(group) for group in self.merged], "mixed": list(self.mixed)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EntryRows:
        """Restore an instance from the values of `to_json`."""
        merged = tuple(tuple(group) for group in values["merged"])
        return cls(**{**values, "merged": merged, "mixed": tuple(values["mixed"])})


def _is_inside(tokenizer: Tokenizer, word: str) -> bool:
    """Whether a word is matched between ideographs, as by tokenizers that put spaces around each of them."""
    alone, inside = tokenizer.encode(word, add_special_tokens=False), tokenizer.encode(f"的{word}的")
    return set(alone.ids) <= set(inside.ids)


def build_static_vocabulary(
    tokenizer: Tokenizer,
    vocabulary: Sequence[str] | Mapping[str, float] | None = None,
    use_subword: bool = True,
    token_remove_pattern: str | None = None,
    pad_token: str | None = None,
    max_length: int = 512,
) -> StaticVocabulary:
    r"""Build the tokenizer of a static model and the teacher's input for each of its rows.

    Three modes: without `vocabulary`, the teacher's own pieces (output); with it, only the passed words
    (`use_subword=False`, word level) or the teacher's pieces plus the passed words (with subwords).

    Args:
        tokenizer: The teacher's tokenizer; it is not modified.
        vocabulary: Words or phrases by descending frequency, or with their counts; None for the teacher's vocabulary.
        use_subword: Whether to add passed words to the teacher's pieces.
        token_remove_pattern: Remove the teacher's pieces that begin with a match, such as `\[unused\d+\]`.
        pad_token: The teacher's padding token, which keeps its row, as in Model2Vec.
        max_length: Maximum length of the teacher's input in tokens, including special tokens.

    Raises:
        VocabularyError: No token is left to embed.
        TeacherError: Tokenizers of this kind can't be edited.
    """
    spec: Spec = json.loads(tokenizer.to_str())
    if spec["model"]["type"] not in FAMILIES:
        raise TeacherError(
            f"The teacher's tokenizer is a {spec['model']['type']!r} model; supported are {', '.join(FAMILIES)}."
        )
    reader = TeacherReader(tokenizer, spec, max_length)
    spec = {**spec, "post_processor": None, "truncation": None, "padding": None}
    if vocabulary is not None:
        normalizer = None if replaces_spaces(tokenizer.normalizer) else tokenizer.normalizer
        spelled = group_by_spelling(list(vocabulary), normalizer)
        if not use_subword:
            static, words = word_level(spec, list(spelled), reader.unknown_token or "[UNK]", normalizer)
            sequences = reader.read(words)
            check_tokenizer(static, len(sequences) + 1)
            return StaticVocabulary(
                static,
                sequences,
                list(range(len(sequences))),
                reader.n_special,
                EntryRows.of(spelled, set(words), static),
                _counts(enumerate(words), spelled, vocabulary),
            )
    elif not use_subword:
        raise InputError("use_subword=False makes a word-level model and needs a vocabulary; pass one.")

    pruned = prune(spec, tokenizer, removable_tokens(spec, tokenizer, token_remove_pattern, pad_token))
    static = Tokenizer.from_str(json.dumps(pruned))
    pieces = sorted(static.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    teacher_ids = tokenizer.get_vocab(with_added_tokens=True)
    sequences = reader.around([teacher_ids[piece]] for piece, _ in pieces)
    ranks = list(range(len(pieces)))
    entries, counts = None, {}
    if vocabulary is not None:
        static, joined, lost = join_words(pruned, static, list(spelled))
        n_pieces = len(sequences)
        sequences += reader.read(joined.keys())
        ranks += joined.values()
        entries = EntryRows.of(spelled, spelled.keys() - lost, static)
        added = ((row, word) for row, word in enumerate(joined, n_pieces) if joined[word] >= n_pieces)
        counts = _counts(added, spelled, vocabulary)
    check_tokenizer(static, len(sequences))
    return StaticVocabulary(static, sequences, ranks, reader.n_special, entries, counts)


def _counts(
    rows: Iterable[tuple[int, str]],
    spelled: Mapping[str, Iterable[str]],
    vocabulary: Sequence[str] | Mapping[str, float],
) -> dict[int, float]:
    """The count of each row: that of all entries that the teacher spells like its word."""
    if not isinstance(vocabulary, Mapping):
        return {}
    return {row: sum(vocabulary[entry] for entry in spelled[word]) for row, word in rows}
