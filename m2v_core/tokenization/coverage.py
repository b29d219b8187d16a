"""Measures how well a vocabulary covers texts: with another language, most tokens are single letters or unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from m2v_core.tokenization.spelling import readable_tokens

_MAX_TEXTS = 200
_MAX_CHARACTERS = 1_000  # of a text
_POOR_SHARE = 0.5
_MIN_IDEOGRAPHS = 3_000  # in vocabularies made for Chinese or Japanese, where single ideographs are words
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Coverage:
    """How well a vocabulary covers some texts.

    Attributes:
        n_tokens: Number of tokens that are unknown or contain a letter.
        unknown_share: Share of these that are unknown, 0 to 1.
        letter_share: Share of these that are a single letter or less, 0 to 1.
    """

    n_tokens: int
    unknown_share: float
    letter_share: float

    @property
    def is_poor(self) -> bool:
        """Whether coverage is too low for the model to distinguish these texts."""
        return self.n_tokens > 0 and self.unknown_share + self.letter_share >= _POOR_SHARE

    def warning(self, what: str = "these texts") -> str | None:
        """A warning for users; None if the vocabulary covers the texts.

        Args:
            what: How to refer to the texts.
        """
        if not self.is_poor:
            return None
        return (
            f"The model's vocabulary was not made for {what}: {self.unknown_share:.0%} of the tokens are unknown and "
            f"{self.letter_share:.0%} are single letters, so similarities mean little. Use a model for this language."
        )


class CoverageMeter:
    """Counts unknown tokens and single letters.

    Single ideographs count as letters only for vocabularies with fewer than 3,000 of them: in vocabularies made for
    Chinese or Japanese they are words.

    Args:
        tokenizer: No truncation or padding.
        tokens: Its vocabulary, in the order of the ids.
        unk_token_id: The unknown token; None if there is none.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: Sequence[str], unk_token_id: int | None) -> None:
        self._tokenizer = tokenizer
        self._unk_token_id = unk_token_id
        self._words, _ = readable_tokens(tokens)
        ideographs = {word for word in self._words if len(word) == 1 and _IDEOGRAPH.match(word)}
        self._words_of_one = ideographs if len(ideographs) >= _MIN_IDEOGRAPHS else frozenset()

    def measure(self, texts: Sequence[str]) -> Coverage:
        """Coverage of the first 200 texts."""
        some = [text[:_MAX_CHARACTERS] for text in texts[:_MAX_TEXTS]]
        n_unknown = n_letters = n_other = 0
        for encoding in self._tokenizer.encode_batch_fast(some, add_special_tokens=False):
            for token_id in encoding.ids:
                word = self._words[token_id]
                if token_id == self._unk_token_id:
                    n_unknown += 1
                elif ("\ufffd" in word and len(word) <= 2) or (len(word) == 1 and word.isalpha()):  # or part of one
                    n_letters += word not in self._words_of_one
                    n_other += word in self._words_of_one
                else:
                    n_other += any(map(str.isalpha, word))
        n_tokens = n_unknown + n_letters + n_other
        return Coverage(n_tokens, n_unknown / max(n_tokens, 1), n_letters / max(n_tokens, 1))
