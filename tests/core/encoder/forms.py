"""Tokenizers in the forms of published models, with small vocabularies, and texts that are hard to split.

Vocabularies contain every byte or letter, so that the ids show each difference between two tokenizations.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.static_models import LINES
from tests.teachers import FAMILIES, PRECOMPILED_CHARSMAP, QWEN_SPLIT, tokenizer_json

Json = dict[str, Any]

LLAMA_SPLIT = QWEN_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
WORDS = ("the", "ice", "cream", "new", "york", "city", "fox", "sea", "shells", "1984", "hello", "world")
SPACES = (" ", "  ", "   ", "\t", "\n", "\r\n", "\r", " \n", "\n ", " \t ", "\n\n", "\x0b", "\x0c", "\x85", "\xa0")
WIDE_SPACES = tuple("\u1680\u2000\u2002\u2007\u200a\u2028\u2029\u202f\u205f\u3000\u200b\u2060\ufeff\u180e\u2581")
SPECIAL = (
    "[MASK]",
    "[UNK]",
    "[CLS]",
    "[PAD]",
    "<s>",
    "</s>",
    "<mask>",
    "<unk>",
    "<|endoftext|>",
    "<think>",
    "[unused3]",
)
PHRASES = ("ice cream", "new york city", "ice  cream", "ICE Cream", "nice creamy", "new york", "ice\tcream")
# Each can change its neighbors: combining marks, and characters that normalizers drop or turn into spaces.
ODD = (
    *("\u0301", " \u0301", "e\u0301", "\u0338", "\u0e33", "\u0e01\u0e33", "\u0eb3", "\u093f", "\u200d", "\ufe0f"),
    *("\u0600", "\u0d4e", "\U000111c2", "\U00011f02", "\uff9e", "\u1100", "\u1161", "\u11a8", "\U0001f3fb"),
    *("\xad", "\x00", "\x01", "\x1c", "\x1f", "\x7f", "\x80", "\ufffd", "\xa8", "\xb4", "\u2026", "\ufb01", "\ufdfa"),
    *("\u0130", "\xdf", "\u212a", "\u1e9e", "\u03c2", "\u2000", "\uff21", "\xbd", "\u2122", "\xb2", "\u0378", "\ue000"),
    *("\u4e2d", "\u4e2d\u6587", "\U00020000", "\u3042", "\uac00", "\U0001f984", "\U0001f468\u200d\U0001f469"),
    *("\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\U000e0001", "\u0430", "\u05d0\u05b0", "\U0010ffff"),
)
_ATOMS = (
    *WORDS,
    *SPACES,
    *(" ",) * 12,
    *WIDE_SPACES,
    *SPECIAL,
    *PHRASES,
    *ODD,
    *string.punctuation,
    *("a", "Z", "7", "'s", "I'll", "don't", "12345", "!?\n", "...", "##ing", "x" * 7, "y" * 8, "z" * 17, "q" * 130),
)
texts = (
    st.lists(st.sampled_from(_ATOMS), max_size=14).map("".join)
    | st.lists(st.sampled_from(_ATOMS), max_size=10).map(" ".join)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    | st.text(" \t\nabC.\u0301\xa0\xad", max_size=20)
)
LONG_TEXTS = (
    "x" * 10_000,
    "\u4e2d\u6587" * 5_000,
    "\U0001f984" * 2_500,
    "the sea " * 1_250,
    "a" + " " * 3_000 + "b",
    " " * 5_000,
    "\n" * 2_000 + "end",
    "\x00" * 1_000,
    "e\u0301" * 2_000,
    " \u0301" * 500,
    "[MASK]" * 800,
    "a.b" * 2_000,
)


def added(content: str, *, special: bool = False, **flags: bool) -> Json:
    """An entry of `added_tokens`; `build` sets its id."""
    entry = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    return {**entry, "special": special, **flags}


def phrases(**flags: bool) -> list[Json]:
    """Multi-word entries, as in a passed vocabulary."""
    return [added(content, **flags) for content in ("ice cream", "new york city", "york city hello", "fox")]


def _sequence(key: str, kind: str, parts: tuple[Json, ...]) -> Json | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return {"type": kind, key: list(parts)}


def sequence_of(*parts: Json) -> Json | None:
    """Normalizers in sequence."""
    return _sequence("normalizers", "Sequence", parts)


def cutters(*parts: Json) -> Json | None:
    """Pre-tokenizers in sequence."""
    return _sequence("pretokenizers", "Sequence", parts)


def build(model: Json, normalizer: Json | None, pre_tokenizer: Json | None, entries: list[Json] | None = None) -> str:
    """A whole `tokenizer.json`; the entries get the ids after those of the model."""
    vocabulary = model["vocab"]
    pieces = list(vocabulary) if isinstance(vocabulary, dict) else [piece for piece, _ in vocabulary]
    ids = {piece: token_id for token_id, piece in enumerate(pieces)}
    listed = [{"id": ids.setdefault(entry["content"], len(ids)), **entry} for entry in entries or []]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": sorted(listed, key=lambda entry: entry["id"]),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": None,
            "decoder": None,
            "model": model,
        }
    )


@cache
def _byte_pairs() -> tuple[list[str], list[Any]]:
    """A byte-level BPE that also merges spaces and line ends."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    spaced = [f"{word}{space}{other}" for word in WORDS for space in SPACES for other in (*WORDS[:4], "", ".")]
    trained.train_from_iterator([*LINES, *spaced * 2], trainer)
    model = json.loads(trained.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), model["merges"]


def bpe(**changes: Any) -> Json:
    pieces, merges = _byte_pairs()
    settings = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    settings |= {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    return {"type": "BPE", **settings, "vocab": vocabulary, "merges": merges, **changes}


def unigram(**changes: Any) -> Json:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [*WORDS, "is", "and", "cre", "am", "ell", "s", "ing"]
    pieces = [
        *(letter for letter in string.printable if not letter.isspace()),
        *("\u2581", "\u2581\u2581", "\u2581\u2581\u2581", ".\u2581", "\u0301", "\u4e2d", "\u0e33", "\u0e32"),
        *words,
        *(f"\u2581{word}" for word in words),
    ]
    scored = [(piece, -20.0 / len(piece)) for piece in dict.fromkeys(pieces)]
    vocabulary = [*((token, 0.0) for token in special), *((byte, -50.0) for byte in every_byte), *scored]
    return {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": True, **changes}


def wordpiece(**changes: Any) -> Json:
    words = [*WORDS, "The", "ICE", "un", "caf\xe9", "\u4e2d", "\u0301", "\u0e33", "e\u0301", "[unused3]"]
    letters = [letter for letter in string.printable if not letter.isspace()]
    inner = [f"##{part}" for part in ("ing", "s", "am", "ell", "\u0301", *string.ascii_letters, *string.digits)]
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words, *inner])
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    settings = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {"type": "WordPiece", **settings, "vocab": vocabulary, **changes}


def word_level() -> Json:
    pieces = dict.fromkeys([*WORDS, *string.punctuation, "The", "don", "[UNK]", "caf\xe9", "...", "!?"])
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    return {"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocabulary}


BERT = {"type": "BertPreTokenizer"}
WHITE_SPACE = {"type": "WhitespaceSplit"}
PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(PRECOMPILED_CHARSMAP).decode()}
SPECIAL_TOKENS = [added("<s>", special=True), added("</s>", special=True), added("<mask>", special=True, lstrip=True)]
BERT_TOKENS = [added(token, special=True) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]


def bert_normalizer(**changes: Any) -> Json:
    settings = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return {"type": "BertNormalizer", **settings, **changes}


def metaspace(scheme: str = "always", split: bool = True) -> Json:
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def byte_level(add_prefix_space: bool = False, use_regex: bool = True) -> Json:
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def split(pattern: str, behavior: str = "Isolated") -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def replace(pattern: str, content: str) -> Json:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def replace_string(pattern: str, content: str) -> Json:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def strip(left: bool = True, right: bool = True) -> Json:
    return {"type": "Strip", "strip_left": left, "strip_right": right}


STRIP_RIGHT = strip(left=False)
LOWERCASE = {"type": "Lowercase"}
MARKED_SPACES = replace(" {2,}", "\u2581")
SINGLE_SPACES = replace(" {2,}", " ")
ONE_SPACE = (replace(r"\s+", " "), replace(r"\s$", ""))

# Tokenizers of published models, and those that `distill` builds from them; each is processed chunk by chunk.
CHUNKABLE: dict[str, Callable[[], str]] = {
    **{f"teacher {family}": partial(tokenizer_json, family) for family in FAMILIES if family != "modernbert-like"},
    "BERT uncased": lambda: build(wordpiece(), bert_normalizer(), BERT, BERT_TOKENS),
    "BERT cased": lambda: build(wordpiece(), bert_normalizer(lowercase=False), BERT, BERT_TOKENS),
    "BERT as text is": lambda: build(
        wordpiece(), bert_normalizer(clean_text=False, handle_chinese_chars=False), BERT, BERT_TOKENS
    ),
    "BERT without normalizer": lambda: build(wordpiece(max_input_chars_per_word=5), None, BERT, BERT_TOKENS),
    "BERT with phrases": lambda: build(
        wordpiece(), bert_normalizer(), BERT, [*BERT_TOKENS, *phrases(single_word=True)]
    ),
    "BERT with literal phrases": lambda: build(
        wordpiece(), bert_normalizer(), BERT, [*BERT_TOKENS, *phrases(normalized=False)]
    ),
    "BERT with phrases after its normalizers": lambda: build(
        wordpiece(),
        sequence_of(bert_normalizer(), replace(r"\s+", " "), strip()),
        BERT,
        [*BERT_TOKENS, *phrases(), added("sea", rstrip=True, lstrip=True)],
    ),
    "XLM-R": lambda: build(unigram(), PRECOMPILED, cutters(WHITE_SPACE, metaspace()), SPECIAL_TOKENS),
    "XLM-R with phrases": lambda: build(
        unigram(), sequence_of(PRECOMPILED, SINGLE_SPACES), cutters(WHITE_SPACE, metaspace()), phrases()
    ),
    "XLM-R distilled with phrases": lambda: build(
        unigram(),
        sequence_of(PRECOMPILED, *ONE_SPACE),
        metaspace("first"),
        [*SPECIAL_TOKENS, *phrases(single_word=True, lstrip=True)],
    ),
    "e5": lambda: build(unigram(), sequence_of(PRECOMPILED, SINGLE_SPACES), metaspace(), SPECIAL_TOKENS),
    "e5 after slow": lambda: build(
        unigram(), sequence_of(PRECOMPILED, STRIP_RIGHT, MARKED_SPACES), metaspace("first"), SPECIAL_TOKENS
    ),
    "e5 stripped": lambda: build(unigram(), sequence_of(PRECOMPILED, STRIP_RIGHT), metaspace(), SPECIAL_TOKENS),
    "T5": lambda: build(unigram(), PRECOMPILED, metaspace(), SPECIAL_TOKENS),
    "NMT": lambda: build(unigram(), sequence_of({"type": "Nmt"}, {"type": "NFKC"}), metaspace("never"), SPECIAL_TOKENS),
    "ALBERT": lambda: build(
        unigram(),
        sequence_of(
            replace_string("``", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, LOWERCASE, PRECOMPILED, SINGLE_SPACES
        ),
        cutters(WHITE_SPACE, metaspace()),
        SPECIAL_TOKENS,
    ),
    "accents stripped": lambda: build(unigram(), sequence_of({"type": "NFD"}, {"type": "StripAccents"}), metaspace()),
    "Metaspace always": lambda: build(unigram(), None, metaspace(), SPECIAL_TOKENS),
    "Metaspace first": lambda: build(unigram(), {"type": "NFKC"}, metaspace("first"), SPECIAL_TOKENS),
    "Metaspace never": lambda: build(unigram(), {"type": "NFC"}, metaspace("never"), phrases(lstrip=True)),
    "GPT-2": lambda: build(bpe(), None, byte_level(), [added("<|endoftext|>", special=True)]),
    "GPT-2 with a space before": lambda: build(bpe(), None, byte_level(True), [added("<|endoftext|>", special=True)]),
    "GPT-2 with phrases": lambda: build(bpe(), None, byte_level(), phrases(single_word=True, lstrip=True)),
    "GPT-2 without accents": lambda: build(
        bpe(), sequence_of({"type": "NFD"}, {"type": "StripAccents"}, LOWERCASE), byte_level(), SPECIAL_TOKENS
    ),
    "GPT-2 in NFKC": lambda: build(bpe(), sequence_of({"type": "NFKC"}, LOWERCASE), byte_level(), SPECIAL_TOKENS),
    "Llama 3": lambda: build(
        bpe(ignore_merges=True),
        None,
        cutters(split(LLAMA_SPLIT), byte_level(use_regex=False)),
        [added("<|endoftext|>", special=True)],
    ),
    "Qwen 2": lambda: build(
        bpe(),
        {"type": "NFC"},
        cutters(split(QWEN_SPLIT), byte_level(use_regex=False)),
        [added("<|endoftext|>", special=True), *phrases(normalized=False)],
    ),
    "WordLevel": lambda: build(word_level(), LOWERCASE, {"type": "Whitespace"}, phrases()),
    "WordLevel by BERT": lambda: build(word_level(), bert_normalizer(), BERT, phrases(single_word=True)),
    "WordLevel at whitespace": lambda: build(word_level(), None, WHITE_SPACE),
    "BPE at whitespace": lambda: build(bpe(), None, cutters(WHITE_SPACE, byte_level(True)), SPECIAL_TOKENS),
}


@cache
def tokenizer(form: str) -> Tokenizer:
    """Build the tokenizer of a form."""
    return Tokenizer.from_str(CHUNKABLE[form]())
