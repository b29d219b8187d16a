"""Converts pieces and words to the teacher's input, and groups words by the teacher's spelling."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, normalizers

from m2v_core.errors import TeacherError, VocabularyError
from m2v_core.tokenization.ids import unknown_token_id
from m2v_core.tokenization.spec import Spec, leading_space


class TeacherReader:
    """Converts pieces and words to the teacher's token ids."""

    def __init__(self, tokenizer: Tokenizer, spec: Spec, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_str(json.dumps({**spec, "truncation": None, "padding": None}))
        self._prefix, self._suffix = self._special_ids()
        self._body_length = max(1, max_length - len(self._prefix) - len(self._suffix))
        # Words are far more frequent inside a sentence than at its start, and byte-level tokenizers that don't add a
        # space distinguish the two.
        self._leading_space = leading_space(spec)

    @property
    def unknown_token(self) -> str | None:
        """The string of the unknown token; None if the teacher has none."""
        unk_id = unknown_token_id(self._tokenizer)
        return None if unk_id is None else self._tokenizer.id_to_token(unk_id)

    @property
    def n_special(self) -> tuple[int, int]:
        """Number of special tokens before and after the input."""
        return len(self._prefix), len(self._suffix)

    def _special_ids(self) -> tuple[list[int], list[int]]:
        bare: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        dressed: list[int] = self._tokenizer.encode("a").ids
        for start in range(len(dressed) - len(bare) + 1):
            if dressed[start : start + len(bare)] == bare:
                return dressed[:start], dressed[start + len(bare) :]
        raise TeacherError(f"The teacher's tokenizer changes text when it adds special tokens: {bare} -> {dressed}.")

    def around(self, bodies: Iterable[list[int]]) -> list[list[int]]:
        """Truncate the bodies to the teacher's maximum length and put each between the special tokens."""
        return [[*self._prefix, *body[: self._body_length], *self._suffix] for body in bodies]

    def read(self, words: Iterable[str]) -> list[list[int]]:
        """Tokenize each word on its own, with the teacher's special tokens."""
        texts = [self._leading_space + word for word in words]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return self.around(encoding.ids for encoding in encodings)


def group_by_spelling(
    vocabulary: Sequence[str], normalizer: normalizers.Normalizer | None
) -> dict[str, dict[str, None]]:
    """Normalize passed words as the teacher does (such as lowercase), in order, and map each to its entries.

    Args:
        vocabulary: The words, several of which may normalize to the same word.
        normalizer: The teacher's normalizer; None if it must not be applied in advance.

    Raises:
        VocabularyError: No word is left.
    """
    words: dict[str, dict[str, None]] = {}
    for entry in vocabulary:
        word = " ".join(entry.split())
        if normalizer is not None:
            spelled = normalizer.normalize_str(word).strip()
            # Normalizers that put spaces around Chinese characters would add more: leave those words to the tokenizer.
            if not spelled or normalizer.normalize_str(spelled).strip() == spelled:
                word = spelled
        if word:
            words.setdefault(word, {}).setdefault(entry)
    if not words:
        raise VocabularyError(
            f"None of the {len(vocabulary)} entries of the vocabulary contains text that the teacher "
            "can process; pass at least one word."
        )
    return words
