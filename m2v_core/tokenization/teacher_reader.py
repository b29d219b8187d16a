"""What the teacher reads for a piece or a word, and how it spells one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, normalizers

from m2v_core.errors import TeacherError, VocabularyError
from m2v_core.tokenization.ids import unknown_token_id
from m2v_core.tokenization.spec import Spec, lead


class TeacherReader:
    """Turns pieces and words into what the teacher reads for them."""

    def __init__(self, tokenizer: Tokenizer, spec: Spec, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_str(json.dumps({**spec, "truncation": None, "padding": None}))
        self._prefix, self._suffix = self._special_ids()
        self._body_length = max(1, max_length - len(self._prefix) - len(self._suffix))
        # Words stand inside a sentence far more often than at its start, and a byte-level tokenizer that adds
        # no space of its own tells the two apart.
        self._lead = lead(spec)

    @property
    def unknown_token(self) -> str | None:
        """The string of the unknown token, if the teacher has one."""
        unk_id = unknown_token_id(self._tokenizer)
        return None if unk_id is None else self._tokenizer.id_to_token(unk_id)

    @property
    def n_special(self) -> tuple[int, int]:
        """Special tokens before and after what is read."""
        return len(self._prefix), len(self._suffix)

    def _special_ids(self) -> tuple[list[int], list[int]]:
        bare: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        dressed: list[int] = self._tokenizer.encode("a").ids
        for start in range(len(dressed) - len(bare) + 1):
            if dressed[start : start + len(bare)] == bare:
                return dressed[:start], dressed[start + len(bare) :]
        raise TeacherError(f"The teacher's tokenizer rewrites text when it adds special tokens: {bare} -> {dressed}.")

    def around(self, bodies: Iterable[list[int]]) -> list[list[int]]:
        """The bodies, cut to what the teacher reads, each between the teacher's special tokens."""
        return [[*self._prefix, *body[: self._body_length], *self._suffix] for body in bodies]

    def read(self, words: Iterable[str]) -> list[list[int]]:
        """The words as the teacher reads each alone."""
        encodings = self._tokenizer.encode_batch([self._lead + word for word in words], add_special_tokens=False)
        return self.around(encoding.ids for encoding in encodings)


def as_the_teacher_spells(
    vocabulary: Sequence[str], normalizer: normalizers.Normalizer | None
) -> dict[str, dict[str, None]]:
    """Passed words as the teacher spells them (uncased, say), in the order passed, each with its entries.

    Args:
        vocabulary: The words, of which several may come to the same.
        normalizer: The teacher's; None where it must not be applied beforehand.

    Raises:
        VocabularyError: No word is left.
    """
    words: dict[str, dict[str, None]] = {}
    for entry in vocabulary:
        word = " ".join(entry.split())
        if normalizer is not None:
            spelled = normalizer.normalize_str(word).strip()
            # A normalizer that puts spaces around Chinese characters would do so again: leave that to it.
            if not spelled or normalizer.normalize_str(spelled).strip() == spelled:
                word = spelled
        if word:
            words.setdefault(word, {}).setdefault(entry)
    if not words:
        raise VocabularyError(
            f"None of the {len(vocabulary)} entries of the vocabulary holds any text that the teacher "
            "can read; pass at least one word."
        )
    return words
