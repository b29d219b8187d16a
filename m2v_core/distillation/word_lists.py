"""Automatic vocabularies: frequent words of a language, or words and phrases of a corpus.

Source: wordfreq, https://github.com/rspeer/wordfreq, for the frequencies; Bouma, "Normalized (Pointwise) Mutual
    Information in Collocation Extraction", 2009, for the phrases.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from tokenizers import Tokenizer, normalizers

from m2v_core.errors import InputError, NeedsExtra, VocabularyError
from m2v_core.tokenization import unknown_token_id
from m2v_core.tokenization.coverage import CoverageMeter
from m2v_core.tokenization.ids import vocabulary_of
from m2v_core.tokenization.spec import leading_space, replaces_spaces
from m2v_core.tokenization.teacher_reader import group_by_spelling
from m2v_core.tokenization.words import is_unspaced_script, single_pieces

MIN_OCCURRENCES = 5  # of a word or phrase in the corpus
MIN_NPMI = 0.5  # of the two words of a phrase: 1 if they only occur together, 0 if they are independent
_LAST_LETTER = 0x323AF  # of Unicode 15
_JOINERS = "\u200c\u200d"  # zero-width (non-)joiners, used inside words in Persian and Indic scripts


@dataclass(frozen=True)
class Words:
    """An automatic vocabulary.

    Attributes:
        counts: Each word with its count or relative frequency, most frequent first.
        source: A language such as `"auto:en"` (never `"auto"`), or `"auto:corpus"`.
        origin: User-facing source of the words and their frequencies.
        n_phrases: Number of phrases among the words.
    """

    counts: Mapping[str, float]
    source: str
    origin: str
    n_phrases: int = 0

    def summary(self) -> str:
        """A description for users, such as `"30,000 frequent words of 'en' (wordfreq 3.1.1, CC BY-SA 4.0)"`."""
        n_words = len(self.counts) - self.n_phrases
        if self.source == "auto:corpus":
            return f"{n_words:,} words and {self.n_phrases:,} phrases of the corpus"
        return f"{n_words:,} frequent words of {self.source.partition(':')[2]!r} ({self.origin})"


def check_source(vocabulary: str, has_corpus: bool) -> None:
    """Validate the source of an automatic vocabulary.

    Args:
        vocabulary: `"auto"`, `"auto:corpus"` or `"auto:en"`.
        has_corpus: Whether there is a corpus.

    Raises:
        InputError: The language is unknown, or there is no corpus.
        MissingExtraError: wordfreq is required but not installed.
    """
    source = source_of(vocabulary)
    if source == "corpus":
        if not has_corpus:
            raise InputError(
                "vocabulary is 'auto:corpus', but there is no corpus; pass sentences as corpus (--corpus), or use a "
                "language such as 'auto:en'."
            )
    elif source and source not in languages():
        raise InputError(
            f"vocabulary is {vocabulary!r}, but wordfreq has no language {source!r}; use one of "
            f"{', '.join(languages())}, 'auto' for the teacher's language, or 'auto:corpus'."
        )
    elif not source:
        languages()  # raises if wordfreq is not installed


def languages() -> list[str]:
    """Return the codes of the languages that wordfreq supports.

    Raises:
        MissingExtraError: wordfreq is not installed.
    """
    with NeedsExtra(None, "words"):
        import wordfreq
    return sorted(wordfreq.available_languages())


@functools.lru_cache(maxsize=4)
def frequent_words(language: str, tokenizer: str, most: int, use_subword: bool) -> Words:
    """Return the most frequent words of a language, with their relative frequencies.

    Args:
        language: One of `languages()`.
        tokenizer: The teacher's tokenizer as JSON, without truncation and padding.
        most: Maximum number of words.
        use_subword: Whether the words are added to the teacher's tokens; if so, single tokens are excluded.
    """
    with NeedsExtra(None, "words"):
        import wordfreq
    frequencies = {
        word: frequency
        for word, frequency in wordfreq.get_frequency_dict(language).items()
        if not any(map(str.isdigit, word)) and any(map(str.isalpha, word))  # wordfreq replaces digits with zeros
    }
    counts = _select(frequencies, Tokenizer.from_str(tokenizer), most, use_subword)
    return Words(counts, f"auto:{language}", f"wordfreq {version('wordfreq')}, CC BY-SA 4.0")


def corpus_warning(texts: Sequence[str], tokenizer: Tokenizer) -> str | None:
    """Return a user-facing warning if the teacher's tokenizer covers these texts poorly; None otherwise.

    Args:
        texts: The corpus.
        tokenizer: The teacher's tokenizer.
    """
    plain = plain_tokenizer(tokenizer)
    vocabulary = vocabulary_of(plain)
    tokens = [""] * (1 + max(vocabulary.values()))
    for token, token_id in vocabulary.items():
        tokens[token_id] = token
    coverage = CoverageMeter(plain, tokens, unknown_token_id(plain)).measure(texts)
    if not coverage.is_poor:
        return None
    return (
        f"The teacher's vocabulary does not fit the corpus: {coverage.unknown_share:.0%} of the tokens are unknown and "
        f"{coverage.letter_share:.0%} are single letters. Use a teacher for this language, or a corpus in the language "
        "of the teacher."
    )


def corpus_words(texts: Sequence[str], tokenizer: str, most: int, use_subword: bool) -> Words:
    """Return frequent words and phrases in texts, with their counts.

    A phrase is a pair of words that occurs at least five times and has a normalized pointwise mutual information of at
    least 0.5.

    Args:
        texts: Running text.
        tokenizer: As in `frequent_words`.
        most: As in `frequent_words`.
        use_subword: As in `frequent_words`.

    Raises:
        VocabularyError: No word is frequent enough.
    """
    teacher = Tokenizer.from_str(tokenizer)
    words, phrases = count_words(texts, _spelling(teacher))
    frequent = {word: n for word, n in words.items() if n >= MIN_OCCURRENCES and any(map(str.isalpha, word))}
    counts = _select(frequent | phrases, teacher, most, use_subword) if frequent else {}
    if not counts:
        raise VocabularyError(
            f"The corpus of {len(texts):,} texts has no word that occurs at least {MIN_OCCURRENCES} times and that the "
            "teacher splits into several tokens. Pass more text, or omit the vocabulary."
        )
    return Words(counts, "auto:corpus", "the corpus", sum(word in phrases for word in counts))


def count_words(
    texts: Iterable[str], normalizer: normalizers.Normalizer | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Count the words and phrases in texts; see `corpus_words`.

    Args:
        texts: Running text.
        normalizer: Applied to each text; None to skip normalization.
    """
    ids: dict[str, int] = {}
    places: list[int] = []  # word ids, with -1 between words that are separated by more than whitespace
    for text in texts:
        text = text if normalizer is None else normalizer.normalize_str(text)
        end = 0
        for match in _word().finditer(text):
            if text[end : match.start()].strip() or end == 0:
                places.append(-1)
            places.append(ids.setdefault(match[0], len(ids)))
            end = match.end()
    words = list(ids)
    sequence = np.array(places, dtype=np.int64)
    counts = np.bincount(sequence[sequence >= 0], minlength=len(words))
    is_frequent = np.append(counts >= MIN_OCCURRENCES, False)  # the last element is for -1
    first, second = sequence[:-1], sequence[1:]
    kept = is_frequent[first] & is_frequent[second]
    pairs, n_pairs = np.unique(first[kept] * len(words) + second[kept], return_counts=True)
    pairs, n_pairs = pairs[n_pairs >= MIN_OCCURRENCES], n_pairs[n_pairs >= MIN_OCCURRENCES]
    first, second = np.divmod(pairs, max(len(words), 1))
    share = n_pairs / max(counts.sum(), 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a corpus may have only one pair
        npmi = np.log(share * (counts.sum() / counts[first]) * (counts.sum() / counts[second])) / -np.log(share)
    phrases = {
        _join_phrase(words[a], words[b]): int(n)
        for a, b, n, strength in zip(first, second, n_pairs, npmi, strict=True)
        if strength >= MIN_NPMI and not any(map(str.isdigit, words[a] + words[b]))
    }
    return {word: int(n) for word, n in zip(words, counts, strict=True)}, phrases


@functools.cache
def _word() -> re.Pattern[str]:
    r"""Return a pattern for letters, marks and digits with inner hyphens and apostrophes; `\w` excludes Hindi marks."""
    runs: list[list[int]] = []
    for code in range(_LAST_LETTER + 1):
        if unicodedata.category(chr(code))[0] in "LMN" or chr(code) in _JOINERS:
            if runs and runs[-1][1] == code - 1:
                runs[-1][1] = code
            else:
                runs.append([code, code])
    letters = "".join(f"{chr(start)}-{chr(end)}" for start, end in runs)
    return re.compile(f"[{letters}]+(?:['\u2019-][{letters}]+)*")


def _join_phrase(first: str, second: str) -> str:
    """Join a phrase with a space, except in Chinese, where normalizers treat each character as a word."""
    return first + ("" if is_unspaced_script(first + second) else " ") + second


def _select(counts: Mapping[str, float], tokenizer: Tokenizer, most: int, use_subword: bool) -> dict[str, float]:
    """Select the most frequent words, merging equal spellings and, with subwords, excluding single tokens."""
    # At most one candidate per token of the teacher is excluded.
    candidates = sorted(counts, key=lambda word: -counts[word])[: most + tokenizer.get_vocab_size()]
    spelled = group_by_spelling(candidates, _spelling(tokenizer))
    single = (
        single_pieces(tokenizer, leading_space(json.loads(tokenizer.to_str())), list(spelled)) if use_subword else {}
    )
    found = {word: sum(counts[entry] for entry in entries) for word, entries in spelled.items() if word not in single}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:most])


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of the tokenizer without truncation and padding."""
    return Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None}))


def _spelling(tokenizer: Tokenizer) -> normalizers.Normalizer | None:
    return None if replaces_spaces(tokenizer.normalizer) else tokenizer.normalizer


def source_of(vocabulary: str) -> str:
    """Return `"corpus"`, a language code, or an empty string for the teacher's language."""
    source = vocabulary.strip().partition(":")[2].strip()
    return source if source == "corpus" else base_language(source)


def base_language(code: str) -> str:
    """Return the primary language of a code: `"en"` for "en-US" and "EN_us"."""
    return code.lower().replace("_", "-").split("-")[0]
