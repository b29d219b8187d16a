"""A bundled dictionary as text for calibration: definitions and example sentences.

Definitions contain nearly every word of the language in natural sentences, so they work better than the same number of
sentences from books or encyclopedias; see benchmarks/quality.md.

Source: WordNet 3.1, Princeton University, https://wordnet.princeton.edu, under the license in `LICENSE.wordnet`.
`scripts/dictionary.py` generates the file.
"""

from __future__ import annotations

import functools
import lzma
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from m2v_core.distillation.settings import DistillSettings
from m2v_core.tokenization import unknown_token_id

N_LINES = 75_000
FILE = Path(__file__).with_name("wordnet.txt.xz")
_N_SAMPLED = 500
_MAX_TOKENS_PER_WORD = 1.6  # all-MiniLM-L6-v2 has 1.3; vocabularies of other languages split English into more tokens
_MAX_UNKNOWN = 0.1


def dictionary_lines(most: int = N_LINES) -> list[str]:
    """Return the first lines of the file: `"word: definition"` and example sentences in random order."""
    return lzma.decompress(FILE.read_bytes()).decode().splitlines()[:most]


def uses_dictionary(settings: DistillSettings, tokenizer: Tokenizer, languages: Sequence[str]) -> bool:
    """Whether the table is also fitted to the dictionary.

    Args:
        settings: Settings of the distillation.
        tokenizer: The static model's tokenizer.
        languages: Languages in the teacher's card; may be empty.
    """
    if settings.dictionary == "auto":
        return settings.recipe == "calibrated" and all(map(_is_english, languages)) and covers_english(tokenizer)
    return settings.dictionary == "english"


def _is_english(language: str) -> bool:
    """Whether a language in a card is English: "en", "en-US", "eng" or "English"."""
    return language.lower().replace("_", "-").split("-")[0] in ("en", "eng", "english")


def covers_english(tokenizer: Tokenizer) -> bool:
    """Whether a vocabulary covers English: few unknown tokens, and few tokens per word."""
    sample = dictionary_sample()
    encodings = tokenizer.encode_batch_fast(list(sample), add_special_tokens=False)
    n_words = sum(len(line.split()) for line in sample)
    n_tokens = sum(len(encoding.ids) for encoding in encodings)
    unk_id = unknown_token_id(tokenizer)
    n_unknown = sum(encoding.ids.count(unk_id) for encoding in encodings) if unk_id is not None else 0
    return n_words <= n_tokens <= _MAX_TOKENS_PER_WORD * n_words and n_unknown <= _MAX_UNKNOWN * n_tokens


@functools.cache
def dictionary_sample() -> tuple[str, ...]:
    """Return the first 500 lines."""
    return tuple(dictionary_lines(_N_SAMPLED))
