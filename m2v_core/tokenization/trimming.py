"""Removes tokens from a teacher's tokenizer."""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Tokenizer

from m2v_core.errors import VocabularyError
from m2v_core.tokenization.ids import unknown_token_id
from m2v_core.tokenization.spec import Spec


def removable_tokens(
    spec: Spec, tokenizer: Tokenizer, token_remove_pattern: str | None, pad_token: str | None
) -> set[str]:
    """Return the special tokens and those that match the pattern, except for the unknown and the padding token.

    Raises:
        VocabularyError: The pattern matches every token.
    """
    pattern = None if token_remove_pattern is None else re.compile(token_remove_pattern)
    kept = {pad_token}
    unk_id = unknown_token_id(tokenizer)
    if unk_id is not None:
        kept.add(tokenizer.id_to_token(unk_id))
    special = {token["content"] for token in spec["added_tokens"] if token["special"]}
    matching = {token for token in tokenizer.get_vocab(with_added_tokens=True) if pattern and pattern.match(token)}
    if pattern is not None and len(matching - kept) == len(set(tokenizer.get_vocab()) - kept):
        raise VocabularyError(
            f"The pattern of tokens to remove, {token_remove_pattern!r}, matches every token. Narrow it, or omit it "
            "(token_remove_pattern)."
        )
    return (special | matching) - kept


def prune(spec: Spec, tokenizer: Tokenizer, removed: set[str]) -> Spec:
    """Remove tokens from the tokenizer and renumber the rest without gaps in the same order."""
    model = dict(spec["model"])
    if model["type"] == "Unigram":
        # The position of <unk> changes when special tokens before it are removed, so its id must be updated.
        unknown = None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]
        model["vocab"] = [entry for entry in model["vocab"] if entry[0] not in removed]
        pieces = [piece for piece, _ in model["vocab"]]
        model["unk_id"] = None if unknown is None else pieces.index(unknown)
    else:
        # Added tokens are inserted at their position, because otherwise the rank of those after them would change.
        every_id = tokenizer.get_vocab(with_added_tokens=True)
        pieces = [piece for piece in sorted(every_id, key=every_id.__getitem__) if piece not in removed]
        model["vocab"] = {piece: i for i, piece in enumerate(pieces)}
    if model["type"] == "BPE":
        model["merges"] = _possible_merges(model)
    ids = {piece: i for i, piece in enumerate(pieces)}
    added = sorted((t for t in spec["added_tokens"] if t["content"] not in removed), key=lambda t: t["id"])
    for token in added:
        ids.setdefault(token["content"], len(ids))
    return {**spec, "model": model, "added_tokens": [{**t, "id": ids[t["content"]]} for t in added]}


def _possible_merges(model: Spec) -> list[Any]:
    """The merges whose two sides and result are still pieces."""
    prefix = model.get("continuing_subword_prefix") or ""
    possible = []
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        if {left, right, left + right.removeprefix(prefix)} <= model["vocab"].keys():
            possible.append(merge)
    return possible
