"""Which tokenizers read a text chunk by chunk, so that what each chunk gave may be remembered.

A chunk is a run of text between ASCII white space. For most tokenizers its tokens do not depend on its neighbours: they
cut at white space before anything else. Whether one does is decided here from its JSON form, once for a model, and
part by part from a list of parts known to act on each chunk alone. A tokenizer with any other part is not taken apart.
Single chunks that could still matter to their neighbours (the first word of "ice cream" where that is an entry) are
marked, and texts with such are tokenized whole.

Source: the parts and their order are those of https://github.com/huggingface/tokenizers: added tokens are found
before and after normalizing, then come normalizer, pre-tokenizer and model.
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
# Normalizers that look at one character, or one with its combining marks, and leave white space as it is ...
_LEAVE_SPACES = ("NFC", "NFD", "Lowercase")
# ... and those that may make white space, or take away it or what stands between.
_TOUCH_SPACES = ("NFKC", "NFKD", "Nmt", "Precompiled", "BertNormalizer", "Strip", "StripAccents")
# White space alone is what these look for: anywhere, or at the ends of lines.
_SPACE_PATTERNS = (r"\s+", " {2,}", " +", "\n", "\r", "\t", "  ")
_EDGE_PATTERNS = (r"\s$", r"^\s+", r"\s+$")
_DROP_SPACES = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
# After one of those each part is looked at alone.
_ACT_ON_PARTS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "ByteLevel", "Metaspace")
# A match of these begins at each space after something else, and none begins before the space and ends behind it.
# Source: the pre-tokenizers of Llama 3, Qwen 2 and 3, and of tiktoken's cl100k_base.
_SPLIT_BEFORE_SPACES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
# Categories of characters that never join the one before to one grapheme, but for these two vowel signs.
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
    """What the entries of several words begin with, and the words that go on; normalized or as they stand."""

    is_normalized: bool
    beginnings: frozenset[str]
    continuations: frozenset[str]
    longest: int


@dataclass(frozen=True)
class Splitting:
    """How a tokenizer's texts fall into chunks.

    Attributes:
        carries_space: Whether a chunk takes along the white space before it, because the tokenizer sees it.
        cuts_at_lines: Where chunks carry space: whether tabs and line ends begin a chunk as spaces do.
    """

    carries_space: bool
    cuts_at_lines: bool = True
    _is_careful: bool = False
    _sees_graphemes: bool = False
    _normalizer: normalizers.Normalizer | None = field(default=None, compare=False)
    _phrases: tuple[_Phrases, ...] = ()

    @property
    def has_phrases(self) -> bool:
        """Whether the tokenizer knows entries of several words."""
        return bool(self._phrases)

    @property
    def marks_chunks(self) -> bool:
        """Whether `marks` can be anything but 0."""
        return self.has_phrases or self._is_careful or self._sees_graphemes

    def marks(self, chunk: str) -> int:
        """What to know of a chunk when it stands between others: `UNSAFE_ALONE` and so on, added up."""
        if not self.marks_chunks:
            return 0
        read = chunk
        if self._normalizer is not None and (self._is_careful or self.has_phrases):
            read = self._normalizer.normalize_str(chunk)
        marks = 0
        if self._is_careful:
            assert self._normalizer is not None
            # The next chunk begins with a space: it must not change this one, nor this one have begun it.
            in_context = self._normalizer.normalize_str(chunk + " a")
            if in_context != read + " a" or (read and (read[-1].isspace() or read[-1] == "\u2581")):
                marks |= UNSAFE_ALONE
        if self._sees_graphemes and not (_never_joins(chunk[0]) and _is_never_joined(chunk[-1])):
            marks |= UNSAFE_ALONE
        if self.has_phrases and not read.strip():  # two words may become neighbours over it
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
    """Whether the character can't be one grapheme with white space before it."""
    if character.isascii():
        return True
    return unicodedata.category(character) in _BEGIN_GRAPHEMES and character not in _JOIN_WHAT_PRECEDES


def _is_never_joined(character: str) -> bool:
    """Whether the character can't be one grapheme with white space after it."""
    if character.isascii():
        return True
    return unicodedata.category(character) not in ("Cf", "Cn") and character not in _JOIN_WHAT_FOLLOWS


def chunk_splitting(tokenizer: Tokenizer) -> Splitting | str:
    """How the tokenizer's texts fall into chunks, or, in words, what keeps that from being sure.

    Args:
        tokenizer: Neither truncates nor pads.
    """
    if sys.byteorder != "little":
        return "this machine stores numbers big end first"
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
        return "its normalizer takes away the white space between chunks"

    is_careful = splitting.carries_space and any(step["type"] not in _LEAVE_SPACES for step in steps)
    phrases: dict[bool, list[str]] = {False: [], True: []}
    for token in tokenizer.get_added_tokens_decoder().values():
        content = token.content
        if splitting.carries_space and token.rstrip:
            return f"its token {content!r} includes the white space after it"
        if content != content.strip():
            return f"its token {content!r} begins or ends with white space"
        is_normalized = token.normalized and tokenizer.normalizer is not None
        if is_normalized:
            read = tokenizer.normalizer.normalize_str(content)
            # A normalizer that puts spaces around characters: where such an entry begins is for it alone to say.
            if len(read.split()) != len(content.split()) or read != read.strip():
                return f"its token {content!r} has other white space once normalized"
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
        return "it has no pre-tokenizer that would cut texts at white space"
    first = parts[0]
    if first["type"] in _DROP_SPACES:
        others = [part for part in parts[1:] if part["type"] not in _ACT_ON_PARTS or _depends_on_place(part)]
        if others:
            return f"its pre-tokenizer {others[0]['type']} may depend on more than one chunk"
        return Splitting(carries_space=False)
    if kinds == ["Metaspace"]:
        if first["split"] and first["replacement"] == "\u2581":
            return Splitting(carries_space=True, cuts_at_lines=False)
        return "its pre-tokenizer Metaspace does not split"
    if kinds == ["ByteLevel"] and first.get("use_regex", True):
        # A space is put before all that has none; a chunk that begins with a line end must not get one.
        return Splitting(carries_space=True, cuts_at_lines=not first["add_prefix_space"])
    if kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True) and not parts[1]["add_prefix_space"]:
        pattern = first["pattern"].get("Regex")
        if pattern in _SPLIT_BEFORE_SPACES and first["behavior"] == "Isolated" and not first["invert"]:
            return Splitting(carries_space=True, cuts_at_lines=False)
    return f"its pre-tokenizer {' and '.join(kinds)} does not surely cut at white space"


def _depends_on_place(part: _Spec) -> bool:
    return bool(part["type"] == "Metaspace" and part["prepend_scheme"] == "first")


def _replaces_within_chunks(step: _Spec, splitting: Splitting) -> bool:
    if step["type"] != "Replace":
        return False
    pattern, content = step["pattern"], step["content"]
    if "Regex" in pattern:
        if pattern["Regex"] in _EDGE_PATTERNS and not content:
            return True
        # The mark is white space only to those who will see it as such.
        spaces = " \u2581" if splitting.carries_space else " "
        return pattern["Regex"] in _SPACE_PATTERNS and bool(content) and not content.strip(spaces)
    string = pattern["String"]
    return bool(string) and not any(character.isspace() for character in string)


def _keeps_spaces(normalizer: normalizers.Normalizer | None, splitting: Splitting) -> bool:
    """Whether white space stays what it is to the pre-tokenizer, wherever a chunk begins."""
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
    """The JSON forms of a normalizer or pre-tokenizer, taken out of nested sequences, in their order."""
    return [] if component is None else _flat(json.loads(component.__getstate__()))


def _flat(spec: _Spec) -> list[_Spec]:
    if spec["type"] != "Sequence":
        return [spec]
    nested = spec["normalizers"] if "normalizers" in spec else spec["pretokenizers"]
    return [part for nested_spec in nested for part in _flat(nested_spec)]
