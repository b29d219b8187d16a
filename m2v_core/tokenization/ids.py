"""The unknown id of a tokenizer, and whether its ids match the rows of a table."""

from __future__ import annotations

import json
import re

from tokenizers import Tokenizer

from m2v_core.errors import ModelFormatError

_UNK_ID = re.compile(rb'"unk_id":\s*(\d+)')


def unknown_token_id(tokenizer: Tokenizer) -> int | None:
    """The id assigned to text without any known piece; None if the tokenizer has no such id."""
    model = tokenizer.model
    if hasattr(model, "unk_token"):  # WordPiece, WordLevel, BPE
        return None if model.unk_token is None else tokenizer.token_to_id(model.unk_token)
    # Unigram models store it only in their JSON form, before a vocabulary that is slow to parse.
    found = _UNK_ID.search(model.__getstate__(), 0, 100)
    return int(found[1]) if found else None


def vocabulary_of(tokenizer: Tokenizer) -> dict[str, int]:
    """The id of each token, including added tokens: same as `get_vocab`, in half the time."""
    pieces = json.loads(tokenizer.model.__getstate__())["vocab"]
    if isinstance(pieces, list):  # of Unigram models, with scores
        pieces = {piece: token_id for token_id, (piece, _) in enumerate(pieces)}
    vocabulary: dict[str, int] = pieces
    vocabulary.update((token.content, token_id) for token_id, token in tokenizer.get_added_tokens_decoder().items())
    return vocabulary


def check_tokenizer(tokenizer: Tokenizer, n_rows: int) -> tuple[str, ...]:
    """Validate a tokenizer against the number of rows, and return its tokens in the order of the ids.

    Args:
        tokenizer: Tokenizer to validate.
        n_rows: Number of rows of the table.

    Raises:
        ModelFormatError: Ids have gaps, the number of rows differs, or the unknown id is out of range.
    """
    vocabulary = vocabulary_of(tokenizer)
    tokens = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
    if missing := set(range(len(tokens))).difference(vocabulary.values()):
        raise ModelFormatError(f"Token ids are not contiguous: id {min(missing)} is missing.")
    if len(tokens) != n_rows:
        raise ModelFormatError(
            f"The tokenizer has {len(tokens)} tokens but the table has {n_rows} rows; the tokenizer and the table "
            "come from different models, or a file is damaged. Save or download the model again."
        )
    unk_id = unknown_token_id(tokenizer)
    if unk_id is not None and not 0 <= unk_id < n_rows:
        raise ModelFormatError(f"The unknown token has id {unk_id}, outside 0 to {n_rows - 1}.")
    return tokens
