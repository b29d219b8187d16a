"""Decides which tokenizers process a text chunk by chunk, so that the tokens of each chunk can be cached.

A chunk is a run of text between ASCII whitespace. Most tokenizers split at whitespace before anything else, so the
tokens of a chunk do not depend on its neighbors. Whether this holds is determined once per model from the tokenizer's
JSON form, by a list of components known to act on each chunk alone. Texts of tokenizers with any other component are
tokenized whole. Single chunks that may still affect their neighbors (the first word of "ice cream" if that is an entry)
are marked, and texts that contain them are tokenized whole.

Source: the components and their order are those of https://github.com/huggingface/tokenizers: added tokens are matched
before and after normalizing, followed by normalizer, pre-tokenizer and model.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer, normalizers

_Spec = dict[str, Any]

# Marks of a chunk, as in native/src/chunks.h.
UNSAFE_ALONE = 2
MAY_BEGIN_PHRASE = 4
MAY_CONTINUE = 8

_SPACES = " \t\n\r"
_MODELS = ("WordPiece", "WordLevel", "Unigram", "BPE")
# Normalizers that act on one character, or one with its combining marks, and leave whitespace unchanged ...
_LEAVE_SPACES = ("NFC", "NFD", "Lowercase")
# ... and those that may add whitespace, or remove it or the text between it.
_TOUCH_SPACES = ("NFKC", "NFKD", "Nmt", "Precompiled", "BertNormalizer", "Strip", "StripAccents")
# These match only whitespace: anywhere, or at the ends of lines.
_SPACE_PATTERNS = (r"\s+", " {2,}", " +", "\n", "\r", "\t", "  ")
_EDGE_PATTERNS = (r"\s$", r"^\s+", r"\s+$")
_DROP_SPACES = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
# After one of those, each part is processed alone.
_ACT_ON_PARTS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "ByteLevel", "Metaspace")
# These match at each space that follows another character, and no match crosses the start of such a space.
# Source: the pre-tokenizers of Llama 3, Qwen 2 and 3, and of tiktoken's cl100k_base.
_SPLIT_BEFORE_SPACES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
# Categories of characters that never join the preceding character in one grapheme, except for these two vowel signs.
# Source: Unicode 16, GraphemeBreakProperty.txt, SpacingMark outside the categories of marks.
_JOIN_WHAT_PRECEDES = "\u0e33\u0eb3"
_BEGIN_GRAPHEMES = (
    "Lu",
    "Ll",
    "Lt",
    "Lo",
    "Nd",
    "Nl",
    "No",
    "Pc",
    "Pd",
    "Ps",
    "Pe",
    "Pi",
    "Pf",
    "Po",
    "Sm",
    "Sc",
    "So",
)
# Grapheme_Cluster_Break=Prepend outside the category Cf. Source: Unicode 16, GraphemeBreakProperty.txt.
_JOIN_WHAT_FOLLOWS = frozenset(
    map(chr, [0x0D4E, 0x113D1, 0x1193F, 0x11941, 0x11A3A, 0x11D46, 0x11F02, *range(0x111C2, 0x111C4)])
) | frozenset(map(chr, range(0x11A84, 0x11A8A)))


@dataclass(frozen=True)
class _Phrases:
    """The prefixes of multi-word entries and the words that may follow; normalized, or as in the text."""

    is_normalized: bool
    beginnings: frozenset[str]
    continuations: frozenset[str]
    longest: int


@dataclass(frozen=True)
class Splitting:
    """How a tokenizer's texts are split into chunks.

    Attributes:
        carries_space: Whether a chunk includes the whitespace before it, because the tokenizer processes it.
        cuts_at_lines: If chunks carry space: whether tabs and line ends start a chunk as spaces do.
    """

    carries_space: bool
    cuts_at_lines: bool = True
    _is_careful: bool = False
    _sees_graphemes: bool = False
    _normalizer: normalizers.Normalizer | None = field(default=None, compare=False)
    _phrases: tuple[_Phrases, ...] = ()

    @property
    def has_phrases(self) -> bool:
        """Whether the tokenizer has multi-word entries."""
        return bool(self._phrases)

    @property
    def marks_chunks(self) -> bool:
        """Whether `marks` can be anything but 0."""
        return self.has_phrases or self._is_careful or self._sees_graphemes

    def marks(self, chunk: str) -> int:
        """Return the marks of a chunk, such as `UNSAFE_ALONE`, combined with bitwise or."""
        if not self.marks_chunks:
            return 0
        read = chunk
        if self._normalizer is not None and (self._is_careful or self.has_phrases):
            read = self._normalizer.normalize_str(chunk)
        marks = 0
        if self._is_careful:
            assert self._normalizer is not None
            # Normalizing must not merge the chunk with the next one, which begins with a space.
            in_context = self._normalizer.normalize_str(chunk + " a")
            if in_context != read + " a" or (read and (read[-1].isspace() or read[-1] == "\u2581")):
                marks |= UNSAFE_ALONE
        if self._sees_graphemes and not (_never_joins(chunk[0]) and _is_never_joined(chunk[-1])):
            marks |= UNSAFE_ALONE
        if self.has_phrases and not read.strip():  # the words around it may become neighbors
            marks |= UNSAFE_ALONE
        for phrases in self._phrases:
            form = (read if phrases.is_normalized else chunk).strip()
            lengths = range(1, min(len(form), phrases.longest) + 1)
            if any(form[-length:] in phrases.beginnings for length in lengths):
                marks |= MAY_BEGIN_PHRASE
            if any(form[:length] in phrases.continuations for length in lengths):
                marks |= MAY_CONTINUE
        return marks


def _never_joins(character: str) -> bool:
    """Whether the character can't form a grapheme with preceding whitespace."""
    if character.isascii():
        return True
    return unicodedata.category(character) in _BEGIN_GRAPHEMES and character not in _JOIN_WHAT_PRECEDES


def _is_never_joined(character: str) -> bool:
    """Whether the character can't form a grapheme with following whitespace."""
    if character.isascii():
        return True
    return unicodedata.category(character) not in ("Cf", "Cn") and character not in _JOIN_WHAT_FOLLOWS


def chunk_splitting(tokenizer: Tokenizer) -> Splitting | str:
    """Return how texts are split into chunks, or the reason, as a string, why they can't be split safely.

    Args:
        tokenizer: No truncation or padding.
    """
    if sys.byteorder != "little":
        return "this machine is not little-endian"
    model = type(tokenizer.model).__name__
    if model not in _MODELS or getattr(tokenizer.model, "dropout", None) or getattr(tokenizer.model, "alpha", None):
        return f"its model {model} may depend on more than one chunk"
    parts = components(tokenizer.pre_tokenizer)
    steps = components(tokenizer.normalizer)
    kinds = [part["type"] for part in parts]
    splitting = _by_pre_tokenizer(parts, kinds)
    if isinstance(splitting, str):
        return splitting
    for step in steps:
        if step["type"] not in (*_LEAVE_SPACES, *_TOUCH_SPACES) and not _replaces_within_chunks(step, splitting):
            return f"its normalizer {step['type']} may act across chunks"
    if not _keeps_spaces(tokenizer.normalizer, splitting):
        return "its normalizer removes the whitespace between chunks"

    is_careful = splitting.carries_space and any(step["type"] not in _LEAVE_SPACES for step in steps)
    phrases: dict[bool, list[str]] = {False: [], True: []}
    for token in tokenizer.get_added_tokens_decoder().values():
        content = token.content
        if splitting.carries_space and token.rstrip:
            return f"its token {content!r} includes the whitespace after it"
        if content != content.strip():
            return f"its token {content!r} begins or ends with whitespace"
        is_normalized = token.normalized and tokenizer.normalizer is not None
        if is_normalized:
            read = tokenizer.normalizer.normalize_str(content)
            # If the normalizer puts spaces around characters, the start of such an entry is not predictable.
            if len(read.split()) != len(content.split()) or read != read.strip():
                return f"its token {content!r} has different whitespace after normalizing"
            content = read
        if any(character.isspace() for character in content):
            phrases[is_normalized].append(content)
    return Splitting(
        splitting.carries_space,
        splitting.cuts_at_lines,
        is_careful,
        any(step["type"] == "Precompiled" for step in steps),
        tokenizer.normalizer,
        tuple(_phrases(is_normalized, contents) for is_normalized, contents in phrases.items() if contents),
    )


def _phrases(is_normalized: bool, contents: list[str]) -> _Phrases:
    beginnings: set[str] = set()
    continuations: set[str] = set()
    for content in contents:
        places = [i for i, character in enumerate(content) if character.isspace()]
        beginnings.update(content[:place] for place in places)
        continuations.update(content[place:].split()[0] for place in places)
    return _Phrases(
        is_normalized, frozenset(beginnings), frozenset(continuations), max(map(len, beginnings | continuations))
    )


def _by_pre_tokenizer(parts: list[_Spec], kinds: list[str]) -> Splitting | str:
    if not parts:
        return "it has no pre-tokenizer that splits texts at whitespace"
    first = parts[0]
    if first["type"] in _DROP_SPACES:
        others = [part for part in parts[1:] if part["type"] not in _ACT_ON_PARTS or _depends_on_position(part)]
        if others:
            return f"its pre-tokenizer {others[0]['type']} may depend on more than one chunk"
        return Splitting(carries_space=False)
    if kinds == ["Metaspace"]:
        if first["split"] and first["replacement"] == "\u2581":
            return Splitting(carries_space=True, cuts_at_lines=False)
        return "its pre-tokenizer Metaspace does not split"
    if kinds == ["ByteLevel"] and first.get("use_regex", True):
        # A space is prepended to any text without one; a chunk that begins with a line end must not get one.
        return Splitting(carries_space=True, cuts_at_lines=not first["add_prefix_space"])
    if kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True) and not parts[1]["add_prefix_space"]:
        pattern = first["pattern"].get("Regex")
        if pattern in _SPLIT_BEFORE_SPACES and first["behavior"] == "Isolated" and not first["invert"]:
            return Splitting(carries_space=True, cuts_at_lines=False)
    return f"its pre-tokenizer {' and '.join(kinds)} may not split at whitespace"


def _depends_on_position(part: _Spec) -> bool:
    return bool(part["type"] == "Metaspace" and part["prepend_scheme"] == "first")


def _replaces_within_chunks(step: _Spec, splitting: Splitting) -> bool:
    if step["type"] != "Replace":
        return False
    pattern, content = step["pattern"], step["content"]
    if "Regex" in pattern:
        if pattern["Regex"] in _EDGE_PATTERNS and not content:
            return True
        # U+2581 counts as whitespace only if chunks carry it.
        spaces = " \u2581" if splitting.carries_space else " "
        return pattern["Regex"] in _SPACE_PATTERNS and bool(content) and not content.strip(spaces)
    string = pattern["String"]
    return bool(string) and not any(character.isspace() for character in string)


def _keeps_spaces(normalizer: normalizers.Normalizer | None, splitting: Splitting) -> bool:
    """Whether the normalizer keeps whitespace as whitespace for the pre-tokenizer, wherever a chunk begins."""
    if normalizer is None:
        return True
    if splitting.carries_space and (normalizer.normalize_str("a b") != "a b" or normalizer.normalize_str(" a") != " a"):
        return False
    for space in " " if splitting.carries_space and not splitting.cuts_at_lines else _SPACES:
        read = normalizer.normalize_str(f"a{space}b")
        if not (len(read) == 3 and read[1].isspace()):
            return False
    return True


def components(component: Any) -> list[_Spec]:
    """Return the JSON forms of a normalizer or pre-tokenizer in order, with nested sequences flattened."""
    return [] if component is None else _flat(json.loads(component.__getstate__()))


def _flat(spec: _Spec) -> list[_Spec]:
    if spec["type"] != "Sequence":
        return [spec]
    nested = spec["normalizers"] if "normalizers" in spec else spec["pretokenizers"]
    return [part for nested_spec in nested for part in _flat(nested_spec)]
