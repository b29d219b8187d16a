"""Editing a teacher's tokenizer, in the form of a `TokenizerModel` of the package skeletoken."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from m2v_core.tokenization.building import build_static_vocabulary

logger = logging.getLogger(__name__)

_Model = TypeVar("_Model", bound=Any)


def clean_and_create_vocabulary(
    model: _Model, vocabulary_to_add: Sequence[str], token_remove_regex: re.Pattern[str] | None
) -> _Model:
    """Build the tokenizer of a static model.

    Args:
        model: The teacher's tokenizer.
        vocabulary_to_add: Words and phrases to add.
        token_remove_regex: Remove the teacher's pieces that begin with a match; None removes none.

    Raises:
        VocabularyError: No token is left.
        TeacherError: Tokenizers of this kind can't be edited.
    """
    pattern = None if token_remove_regex is None else token_remove_regex.pattern
    built = build_static_vocabulary(
        model.to_tokenizer(), list(vocabulary_to_add) or None, token_remove_pattern=pattern, pad_token=model.pad_token
    )
    if built.entries is not None and (summary := built.entries.summary()):
        logger.warning("Vocabulary: %s", summary)
    edited: _Model = type(model).from_tokenizer(built.tokenizer)
    return edited


def turn_tokens_into_ids(tokens: Sequence[str], model: Any) -> list[list[int]]:
    """Return the teacher's input for each token: its id between the special tokens, or the ids of its pieces.

    Args:
        tokens: Pieces of the tokenizer, or words.
        model: The teacher's tokenizer.
    """
    tokenizer, vocabulary = model.to_tokenizer(), model.vocabulary
    before, after = model.bos_ids or [], model.eos_ids or []
    return [
        [*before, vocabulary[token], *after] if token in vocabulary else tokenizer.encode(token).ids for token in tokens
    ]
