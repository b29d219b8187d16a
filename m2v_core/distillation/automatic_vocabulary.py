"""Resolve an automatic vocabulary to words: select the word list and its length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from tokenizers import Tokenizer

from m2v_core.distillation.settings import DEFAULT_WORDS, DistillRequest, is_automatic
from m2v_core.distillation.word_lists import (
    Words,
    base_language,
    corpus_words,
    frequent_words,
    languages,
    plain_tokenizer,
    source_of,
)
from m2v_core.errors import InputError
from m2v_core.tokenization import build_static_vocabulary

_FALLBACK = "en"
_MAX_WORDS = 10_000_000  # upper bound of the search when the size is in megabytes


def resolve_words(
    request: DistillRequest,
    tokenizer: Tokenizer,
    pad_token: str | None,
    teacher_languages: Sequence[str],
    model_dim: int | None,
) -> tuple[DistillRequest, Words | None]:
    """Return the request with the words of its automatic vocabulary, and these words (None for other vocabularies).

    Args:
        request: The settings.
        tokenizer: The teacher's tokenizer.
        pad_token: The teacher's padding token.
        teacher_languages: Languages in the teacher's card.
        model_dim: Maximum number of dimensions of a model of this teacher; None if unknown.

    Raises:
        InputError: The size is too small for a single word.
        VocabularyError: No word of the corpus is frequent enough.
    """
    if not is_automatic(request.vocabulary):
        return request, None
    plain = plain_tokenizer(tokenizer).to_str()
    most = _max_words(request, tokenizer, pad_token, model_dim)
    source = source_of(request.vocabulary)
    if source == "corpus":
        words = corpus_words(request.corpus or (), plain, most, request.use_subword)
    else:
        language = source or _select_language(teacher_languages)
        words = frequent_words(language, plain, most, request.use_subword)
    return replace(request, vocabulary=words.counts, vocabulary_size=DEFAULT_WORDS), words


def _select_language(teacher_languages: Sequence[str]) -> str:
    """Return the teacher's language if its card lists exactly one that wordfreq supports, else English."""
    named = {base_language(code) for code in teacher_languages}.intersection(languages())
    return named.pop() if len(named) == 1 else _FALLBACK


def _max_words(request: DistillRequest, tokenizer: Tokenizer, pad_token: str | None, model_dim: int | None) -> int:
    """Return the maximum number of words for `vocabulary_size`."""
    most_bytes = request.most_bytes
    if most_bytes is None:
        return int(request.vocabulary_size)
    if model_dim is None:
        raise InputError(
            f"vocabulary_size is {request.vocabulary_size!r}, but the teacher's configuration doesn't specify the "
            "width of its embeddings; use a number of words such as 30000."
        )
    dim = min(request.pca_dims, model_dim) if isinstance(request.pca_dims, int) else model_dim
    n_pieces = 1  # the unknown token
    if request.use_subword:
        pattern = request.token_remove_pattern
        n_pieces = len(build_static_vocabulary(tokenizer, None, True, pattern, pad_token).sequences)

    def n_bytes(n_words: int) -> int:
        n_tokens = n_pieces + n_words
        return request.table_bytes(min(request.vocabulary_quantization or n_tokens, n_tokens), n_tokens, dim)

    most = bisect_right(range(_MAX_WORDS), most_bytes, key=n_bytes) - 1
    if most < 1:
        raise InputError(
            f"vocabulary_size is {request.vocabulary_size!r}, but the model takes {n_bytes(0) / 1e6:.1f} MB without "
            "any words; use a larger size, or a number of words such as 30000."
        )
    return most
