"""The tokenizer of a static model, in each of the three modes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from m2v_core.errors import InputError, TeacherError
from m2v_core.tokenization.ids import check_tokenizer
from m2v_core.tokenization.spec import FAMILIES, Spec, marks_spaces
from m2v_core.tokenization.teacher_reader import TeacherReader, as_the_teacher_spells
from m2v_core.tokenization.trimming import prune, removable_tokens
from m2v_core.tokenization.words import join_words, mixes_scripts, word_level

_MOST_GROUPS = 3  # of entries that share a row, as examples


@dataclass(frozen=True)
class StaticVocabulary:
    """A static model's tokenizer, and what the teacher has to read for each of its rows.

    Attributes:
        tokenizer: The static model's tokenizer: no special tokens added, no truncation, no padding.
        sequences: One sequence of teacher ids per row, in row order, with the teacher's special tokens around
            it. At word level the unknown token is one more id after these, and no teacher reads it.
        ranks: The rank of each row: its own number, but for a passed word that the teacher has as one piece already:
            then that piece's.
        n_special: How many special tokens stand before and after each entry in its sequence.
        entries: What became of the passed words; None without any.
    """

    tokenizer: Tokenizer
    sequences: list[list[int]]
    ranks: list[int]
    n_special: tuple[int, int]
    entries: EntryRows | None = None


@dataclass(frozen=True)
class EntryRows:
    """What became of the entries of a vocabulary.

    Attributes:
        n_entries: Distinct entries.
        n_rows: Rows that they got, those of subwords that the teacher has already included.
        n_merged: Entries that share the row of an earlier entry.
        merged: The first few groups of entries that share a row, as a teacher that ignores case or accents reads them.
        n_mixed: Entries partly in a script without spaces, which are found between spaces and punctuation alone.
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
        """Count them.

        Args:
            spelled: The entries of each word, see `as_the_teacher_spells`.
            found: The words that got a row.
            tokenizer: The static model's.
        """
        kept = {word: tuple(entries) for word, entries in spelled.items() if word in found}
        groups = list(kept.values())
        merged = [group for group in groups if len(group) > 1]
        n_entries = sum(len(tuple(entries)) for entries in spelled.values())
        n_merged = sum(len(group) - 1 for group in merged)
        mixed = [
            entries[0] for word, entries in kept.items() if mixes_scripts(word) and not _is_inside(tokenizer, word)
        ]
        shown = tuple(mixed[:_MOST_GROUPS])
        return cls(n_entries, len(groups), n_merged, tuple(merged[:_MOST_GROUPS]), len(mixed), shown)

    def summary(self) -> str | None:
        """What to know of entries without a row of their own, or hard to find; None where there are none."""
        return " ".join(filter(None, [self._rows_summary(), self._mixed_summary()])) or None

    def _mixed_summary(self) -> str:
        if not self.n_mixed:
            return ""
        are = "1 entry is" if self.n_mixed == 1 else f"{self.n_mixed:,} entries are"
        return (
            f"{are} partly in a script without spaces, and found between spaces and punctuation alone "
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
                f"{self.n_merged:,} share the row of another entry, as the teacher's tokenizer reads them alike "
                f"({shared}{more})"
            )
        if n_lost := self.n_entries - self.n_rows - self.n_merged:
            parts.append(f"{n_lost:,} can't be found whole by the tokenizer and are left out")
        return f"{self.n_entries:,} entries, {self.n_rows:,} rows: {', and '.join(parts)}."

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain JSON values."""
        return {**vars(self), "merged": [list(group) for group in self.merged], "mixed": list(self.mixed)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EntryRows:
        """The inverse of `to_json`."""
        merged = tuple(tuple(group) for group in values["merged"])
        return cls(**{**values, "merged": merged, "mixed": tuple(values["mixed"])})


def _is_inside(tokenizer: Tokenizer, word: str) -> bool:
    """Whether a word is found between ideographs, as by tokenizers that put spaces around each of them."""
    alone, inside = tokenizer.encode(word, add_special_tokens=False), tokenizer.encode(f"的{word}的")
    return set(alone.ids) <= set(inside.ids)


def build_static_vocabulary(
    tokenizer: Tokenizer,
    vocabulary: Sequence[str] | None = None,
    use_subword: bool = True,
    token_remove_pattern: str | None = None,
    pad_token: str | None = None,
    max_length: int = 512,
) -> StaticVocabulary:
    r"""Returns the tokenizer of a static model with the teacher's input for each of its rows.

    Three modes: without `vocabulary` the teacher's own pieces (output); with it, the passed words alone
    (`use_subword=False`, word level) or joined to the teacher's pieces (with subwords).

    Args:
        tokenizer: The teacher's tokenizer; it is left as it is.
        vocabulary: Words or phrases by falling frequency; None for the teacher's own vocabulary.
        use_subword: Whether passed words join the teacher's pieces.
        token_remove_pattern: The teacher's pieces that begin with a match go, such as `\[unused\d+\]`.
        pad_token: The teacher's padding token, which keeps its row, as in Model2Vec.
        max_length: Longest sequence the teacher reads, in tokens, its special tokens included.

    Raises:
        VocabularyError: nothing is left to embed.
        TeacherError: the tokenizer is of a kind that can't be edited.
    """
    spec: Spec = json.loads(tokenizer.to_str())
    if spec["model"]["type"] not in FAMILIES:
        raise TeacherError(
            f"The teacher's tokenizer is a {spec['model']['type']!r} model; supported are {', '.join(FAMILIES)}."
        )
    reader = TeacherReader(tokenizer, spec, max_length)
    spec = {**spec, "post_processor": None, "truncation": None, "padding": None}
    if vocabulary is not None:
        normalizer = None if marks_spaces(tokenizer.normalizer) else tokenizer.normalizer
        spelled = as_the_teacher_spells(vocabulary, normalizer)
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
            )
    elif not use_subword:
        raise InputError("use_subword=False makes a word-level model and needs a vocabulary; pass one.")

    pruned = prune(spec, tokenizer, removable_tokens(spec, tokenizer, token_remove_pattern, pad_token))
    static = Tokenizer.from_str(json.dumps(pruned))
    pieces = sorted(static.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    teacher_ids = tokenizer.get_vocab(with_added_tokens=True)
    sequences = reader.around([teacher_ids[piece]] for piece, _ in pieces)
    ranks = list(range(len(pieces)))
    entries = None
    if vocabulary is not None:
        static, joined, lost = join_words(pruned, static, list(spelled))
        sequences += reader.read(joined.keys())
        ranks += joined.values()
        entries = EntryRows.of(spelled, spelled.keys() - lost, static)
    check_tokenizer(static, len(sequences))
    return StaticVocabulary(static, sequences, ranks, reader.n_special, entries)
