"""The ids of a tokenizer: which is the unknown one, and whether each has its row."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tokenizers import Tokenizer

from m2v_core.errors import ModelFormatError


def unknown_token_id(tokenizer: Tokenizer) -> int | None:
    """The id that text without any known piece gets; None if the tokenizer has no such id."""
    model = tokenizer.model
    if hasattr(model, "unk_token"):  # WordPiece, WordLevel, BPE
        return None if model.unk_token is None else tokenizer.token_to_id(model.unk_token)
    unk_id = json.loads(tokenizer.to_str())["model"].get("unk_id")  # Unigram keeps it in its JSON form alone
    return None if unk_id is None else int(unk_id)


def check_tokenizer(tokenizer: Tokenizer, n_rows: int, vocabulary: Mapping[str, int] | None = None) -> None:
    """Holds a tokenizer to the rows of its table.

    Args:
        tokenizer: To check.
        n_rows: Rows of the table.
        vocabulary: What the tokenizer's `get_vocab` gave, where it has been asked already.

    Raises:
        ModelFormatError: ids have gaps, the rows don't fit the vocabulary, or the unknown id is out of range.
    """
    ids = sorted((vocabulary or tokenizer.get_vocab(with_added_tokens=True)).values())
    if ids != list(range(len(ids))):
        missing = next(i for i, token_id in enumerate(ids) if i != token_id)
        raise ModelFormatError(f"Token ids are not contiguous: id {missing} is missing or given twice.")
    if len(ids) != n_rows:
        raise ModelFormatError(
            f"The tokenizer knows {len(ids)} tokens but there are {n_rows} rows; the tokenizer and the table "
            "come from different models, or a file is damaged. Save or download the model again."
        )
    unk_id = unknown_token_id(tokenizer)
    if unk_id is not None and not 0 <= unk_id < n_rows:
        raise ModelFormatError(f"The unknown token has id {unk_id}, outside 0 to {n_rows - 1}.")
