"""Passed words in a tokenizer: joined to the teacher's pieces, or on their own."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

from tokenizers import Tokenizer, normalizers, pre_tokenizers

from m2v_core.errors import VocabularyError
from m2v_core.tokenization.ids import unknown_token_id
from m2v_core.tokenization.spec import Spec, lead, marks_spaces, parts_of, sees_spaces

logger = logging.getLogger(__name__)


# Han, kana, Thai, Lao, Burmese and Khmer.
_WITHOUT_SPACES = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u19e0-\u19ff]+"
)


def stands_without_spaces(word: str) -> bool:
    """Whether a word is written in a script that puts no spaces between words, so that it has to be found inside text.

    A word that is only partly in such a script, such as "T恤", is matched only between spaces and punctuation: inside
    text it could be a part of a longer word.
    """
    return _WITHOUT_SPACES.fullmatch(word) is not None


def mixes_scripts(word: str) -> bool:
    """Whether a word is partly in a script without spaces, and partly not."""
    return _WITHOUT_SPACES.search(word) is not None and not stands_without_spaces(word)


def _added_token(word: str, token_id: int, spec: Spec, normalized: bool) -> Spec:
    return {
        "id": token_id,
        "content": word,
        # Elsewhere "ice cream" would be found in "nice creamy".
        "single_word": not stands_without_spaces(word),
        "lstrip": sees_spaces(spec),
        "rstrip": False,
        "normalized": normalized,
        "special": False,
    }


def join_words(spec: Spec, pruned: Tokenizer, words: list[str]) -> tuple[Tokenizer, dict[str, int], set[str]]:
    """The tokenizer with the words after the teacher's pieces, the words that got a row with their ranks, and the lost.

    A word that is a single piece of the teacher everywhere gets no new row, and does not count as lost.
    """
    pieces: dict[str, int] = pruned.get_vocab(with_added_tokens=True)
    as_piece = _single_pieces(pruned, lead(spec), words)
    # Where spaces are part of pieces, a word has one piece after a space, and others after a bracket.
    anywhere = [_single_pieces(pruned, opening, words) for opening in ("", "(")]
    words = [word for word in words if not (word in as_piece and all(word in found for found in anywhere))]
    logger.info("%d of the words join the teacher's pieces; the others are among them already.", len(words))
    if not words:
        return pruned, {}, set()
    normalized = not marks_spaces(pruned.normalizer)

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
    """The tokenizer as XLM-R has it, told apart from one that sees a space wherever a text is cut.

    It splits at white space and writes a mark before every part. A passed word cuts the text too, and the comma after
    it would become a marked comma, another piece. Marking spaces instead of parts comes to the same elsewhere.
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


def _single_pieces(tokenizer: Tokenizer, opening: str, words: list[str]) -> dict[str, int]:
    """The words that, after this opening, are one known piece, with its id."""
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
    """The tokenizer of the words alone, and those it finds: their ids are their ranks; the unknown token comes last."""
    words = [word for word in words if word != unknown]
    splitter = pre_tokenizers.BertPreTokenizer()  # at white space and punctuation
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
            if is_phrase(word) or stands_without_spaces(word)
        ]
        model = {"type": "WordLevel", "vocab": ids, "unk_token": unknown}
        return Tokenizer.from_str(json.dumps({**spec, "added_tokens": added, "model": model}))

    return _build_with(words, build)


def _build_with(words: list[str], build: Callable[[list[str]], Tokenizer]) -> tuple[Tokenizer, list[str]]:
    """A tokenizer with the words, less those that it would not find even when they stand alone."""
    static = build(words)
    alone = static.encode_batch(words, add_special_tokens=False)
    found = [w for w, encoding in zip(words, alone, strict=True) if encoding.ids == [static.token_to_id(w)]]
    if not found:
        raise VocabularyError(
            f"The tokenizer finds none of the {len(words)} words of the vocabulary; check its encoding."
        )
    if len(found) == len(words):
        return static, words
    lost = sorted(set(words) - set(found))
    logger.warning("%d words are left out: no tokenizer finds them whole, such as %r.", len(lost), lost[:3])
    return _build_with(found, build)
