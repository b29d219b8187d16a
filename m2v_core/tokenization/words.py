"""Adds passed words to a tokenizer, or builds a tokenizer of these words only."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

from tokenizers import Tokenizer, normalizers, pre_tokenizers

from m2v_core.errors import VocabularyError
from m2v_core.tokenization.ids import unknown_token_id
from m2v_core.tokenization.spec import Spec, leading_space, parts_of, pieces_include_spaces, replaces_spaces

logger = logging.getLogger(__name__)


# Han, kana, Thai, Lao, Burmese and Khmer.
_WITHOUT_SPACES = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u19e0-\u19ff]+"
)


def is_unspaced_script(word: str) -> bool:
    """Whether a word is in a script without spaces between words, so that it must be matched inside text.

    A word that is only partly in such a script, such as "T恤", is only matched between spaces and punctuation: inside
    text it could be part of a longer word.
    """
    return _WITHOUT_SPACES.fullmatch(word) is not None


def mixes_scripts(word: str) -> bool:
    """Whether a word is only partly in a script without spaces."""
    return _WITHOUT_SPACES.search(word) is not None and not is_unspaced_script(word)


def _added_token(word: str, token_id: int, spec: Spec, normalized: bool) -> Spec:
    return {
        "id": token_id,
        "content": word,
        # Otherwise "ice cream" would be matched in "nice creamy".
        "single_word": not is_unspaced_script(word),
        "lstrip": pieces_include_spaces(spec),
        "rstrip": False,
        "normalized": normalized,
        "special": False,
    }


def join_words(spec: Spec, pruned: Tokenizer, words: list[str]) -> tuple[Tokenizer, dict[str, int], set[str]]:
    """Add words after the teacher's pieces; return the tokenizer, the words with a row and their ranks, and the lost.

    A word that is always a single piece of the teacher gets no new row, and is not lost.
    """
    pieces: dict[str, int] = pruned.get_vocab(with_added_tokens=True)
    as_piece = single_pieces(pruned, leading_space(spec), words)
    # If spaces are part of pieces, a word is one piece after a space, but several after a bracket.
    anywhere = [single_pieces(pruned, opening, words) for opening in ("", "(")]
    words = [word for word in words if not (word in as_piece and all(word in found for found in anywhere))]
    logger.info("%d of the words are added to the teacher's pieces, which already include the others.", len(words))
    if not words:
        return pruned, {}, set()
    normalized = not replaces_spaces(pruned.normalizer)

    def build(words: list[str]) -> Tokenizer:
        ids = dict(pieces)
        for word in words:
            ids.setdefault(word, len(ids))
        added = [_added_token(word, ids[word], spec, normalized) for word in words]
        return Tokenizer.from_str(json.dumps({**spec, "added_tokens": [*spec["added_tokens"], *added]}))

    spec = _without_spaces_after_words(spec)
    static, found = _build_with(words, build)
    new = [word for word in found if word not in pieces]
    ranks = {word: as_piece.get(word, len(pieces) + i) for i, word in enumerate(new)}
    return static, ranks, set(words) - set(found)


def _without_spaces_after_words(spec: Spec) -> Spec:
    """Change an XLM-R tokenizer to mark spaces instead of parts, so that no mark follows an added word.

    XLM-R splits at whitespace and puts a mark before every part. An added word splits the text too, so a comma after
    it would become a marked comma, a different piece. Marking spaces instead of parts gives the same result elsewhere.
    """
    parts = parts_of(spec["pre_tokenizer"], "pretokenizers")
    if [part["type"] for part in parts] != ["WhitespaceSplit", "Metaspace"] or parts[1]["prepend_scheme"] != "always":
        return spec
    single_spaces = [
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Replace", "pattern": {"Regex": r"\s$"}, "content": ""},
    ]
    return {
        **spec,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*parts_of(spec["normalizer"], "normalizers"), *single_spaces],
        },
        "pre_tokenizer": {**parts[1], "prepend_scheme": "first", "split": True},
    }


def single_pieces(tokenizer: Tokenizer, opening: str, words: list[str]) -> dict[str, int]:
    """Return the words that, after this opening, are one known piece, and its id."""
    unk_id = unknown_token_id(tokenizer)
    found = {}
    for word, encoding in zip(
        words, tokenizer.encode_batch([opening + word for word in words], add_special_tokens=False), strict=True
    ):
        inside = [i for i, (_, end) in zip(encoding.ids, encoding.offsets, strict=True) if end > len(opening)]
        if len(inside) == 1 and inside[0] != unk_id and len(encoding.ids) <= 1 + bool(opening.strip()):
            found[word] = inside[0]
    return found


def word_level(
    spec: Spec, words: list[str], unknown: str, normalizer: normalizers.Normalizer | None
) -> tuple[Tokenizer, list[str]]:
    """Build a tokenizer of the words only; return it and the matched words. Id = rank; the unknown token is last."""
    words = [word for word in words if word != unknown]
    splitter = pre_tokenizers.BertPreTokenizer()  # splits at whitespace and punctuation
    spec = {
        **spec,
        "normalizer": None if normalizer is None else spec["normalizer"],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": None,
    }

    def is_phrase(word: str) -> bool:
        text = word if normalizer is None else normalizer.normalize_str(word)
        return [part for part, _ in splitter.pre_tokenize_str(text)] != [word]

    def build(words: list[str]) -> Tokenizer:
        ids = {word: i for i, word in enumerate([*words, unknown])}
        added = [
            _added_token(word, ids[word], spec, normalized=True)
            for word in words
            if is_phrase(word) or is_unspaced_script(word)
        ]
        model = {"type": "WordLevel", "vocab": ids, "unk_token": unknown}
        return Tokenizer.from_str(json.dumps({**spec, "added_tokens": added, "model": model}))

    return _build_with(words, build)


def _build_with(words: list[str], build: Callable[[list[str]], Tokenizer]) -> tuple[Tokenizer, list[str]]:
    """Build a tokenizer with the words, except those that it would not match even on their own."""
    static = build(words)
    alone = static.encode_batch(words, add_special_tokens=False)
    found = [w for w, encoding in zip(words, alone, strict=True) if encoding.ids == [static.token_to_id(w)]]
    if not found:
        raise VocabularyError(
            f"The tokenizer matches none of the {len(words)} words of the vocabulary; check the encoding of its file."
        )
    if len(found) == len(words):
        return static, words
    lost = sorted(set(words) - set(found))
    logger.warning("Skipped %d words that the tokenizer can't match as one token, such as %r.", len(lost), lost[:3])
    return _build_with(found, build)
