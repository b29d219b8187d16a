"""The JSON form of a tokenizer, and how it represents spaces."""

from __future__ import annotations

from typing import Any

from tokenizers import normalizers

FAMILIES = ("WordPiece", "Unigram", "BPE", "WordLevel")

Spec = dict[str, Any]


def leading_space(spec: Spec) -> str:
    """A space if the tokenizer distinguishes words inside a sentence from words at its start, else empty."""
    parts = parts_of(spec["pre_tokenizer"], "pretokenizers")
    bytelevel = any(part["type"] == "ByteLevel" for part in parts)
    return " " if bytelevel and not any(part.get("add_prefix_space") for part in parts) else ""


def pieces_include_spaces(spec: Spec) -> bool:
    """Whether spaces become part of pieces, so that a word includes the space before it."""
    parts = [*parts_of(spec["pre_tokenizer"], "pretokenizers"), *parts_of(spec["normalizer"], "normalizers")]
    return any(part["type"] in ("ByteLevel", "Metaspace", "Prepend") for part in parts)


def parts_of(component: Spec | None, key: str) -> list[Spec]:
    """The parts of a normalizer or pre-tokenizer, with nested sequences flattened."""
    if component is None:
        return []
    if component["type"] == "Sequence":
        return [part for nested in component[key] for part in parts_of(nested, key)]
    return [component]


def replaces_spaces(normalizer: normalizers.Normalizer | None) -> bool:
    """Whether the normalizer replaces spaces with marks, and so changes more than the spelling."""
    return normalizer is not None and normalizer.normalize_str("a b").lower() != "a b"
