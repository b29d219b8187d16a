"""Tokenizers of static models: trimmed from the teacher's, with passed words joined in or standing alone.

Every edit is made on the tokenizer's JSON form and checked afterwards: ids are contiguous, there is one row
per id, the unknown id is the unknown string, each kept piece is found where the teacher finds it, and each
passed word is one token when it stands alone and never part of another word.

Source: the three modes are those of https://github.com/MinishLab/model2vec; the JSON form is that of
https://github.com/huggingface/tokenizers.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers

from m2v_core.errors import InputError, ModelFormatError, TeacherError, VocabularyError

logger = logging.getLogger(__name__)

FAMILIES = ("WordPiece", "Unigram", "BPE", "WordLevel")

_Spec = dict[str, Any]  # the tokenizer's JSON form


@dataclass(frozen=True)
class StaticVocabulary:
    """A static model's tokenizer, and what the teacher has to read for each of its rows.

    Attributes:
        tokenizer: The static model's tokenizer: no special tokens added, no truncation, no padding.
        sequences: One sequence of teacher ids per row, in row order, with the teacher's special tokens around
            it. At word level the unknown token is one more id after these, and no teacher reads it.
        ranks: The rank of each row: its own number, but for a passed word that the teacher has as one piece already:
            then that piece's.
        n_special: How many special tokens stand before and after each entry in its sequence.
    """

    tokenizer: Tokenizer
    sequences: list[list[int]]
    ranks: list[int]
    n_special: tuple[int, int]


def build_static_vocabulary(
    tokenizer: Tokenizer,
    vocabulary: Sequence[str] | None = None,
    use_subword: bool = True,
    token_remove_pattern: str | None = None,
    pad_token: str | None = None,
    max_length: int = 512,
) -> StaticVocabulary:
    r"""Returns the tokenizer of a static model with the teacher's input for each of its rows.

    Three modes: without `vocabulary` the teacher's own pieces (output); with it, the passed words alone
    (`use_subword=False`, word level) or joined to the teacher's pieces (with subwords).

    Args:
        tokenizer: The teacher's tokenizer; it is left as it is.
        vocabulary: Words or phrases by falling frequency; None for the teacher's own vocabulary.
        use_subword: Whether passed words join the teacher's pieces.
        token_remove_pattern: The teacher's pieces that begin with a match go, such as `\[unused\d+\]`.
        pad_token: The teacher's padding token, which keeps its row, as in Model2Vec.
        max_length: Longest sequence the teacher reads, in tokens, its special tokens included.

    Raises:
        InputError: `token_remove_pattern` is no regular expression.
        VocabularyError: nothing is left to embed.
        TeacherError: the tokenizer is of a kind that can't be edited.
    """
    spec: _Spec = json.loads(tokenizer.to_str())
    if spec["model"]["type"] not in FAMILIES:
        raise TeacherError(
            f"The teacher's tokenizer is a {spec['model']['type']!r} model; supported are {', '.join(FAMILIES)}."
        )
    reader = _TeacherReader(tokenizer, spec, max_length)
    spec = {**spec, "post_processor": None, "truncation": None, "padding": None}
    if vocabulary is not None:
        normalizer = None if _marks_spaces(tokenizer.normalizer) else tokenizer.normalizer
        vocabulary = _as_the_teacher_spells(vocabulary, normalizer)
        if not use_subword:
            return _word_level(spec, vocabulary, reader, normalizer)
    elif not use_subword:
        raise InputError("use_subword=False makes a word-level model and needs a vocabulary; pass one.")

    pruned = _prune(spec, tokenizer, _removable_tokens(spec, tokenizer, token_remove_pattern, pad_token))
    static = Tokenizer.from_str(json.dumps(pruned))
    pieces = sorted(static.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    teacher_ids = tokenizer.get_vocab(with_added_tokens=True)
    sequences = reader.around([teacher_ids[piece]] for piece, _ in pieces)
    ranks = list(range(len(pieces)))
    if vocabulary is not None:
        static, joined = _join_words(pruned, static, vocabulary)
        sequences += reader.read(joined.keys())
        ranks += joined.values()
    check_tokenizer(static, len(sequences))
    return StaticVocabulary(static, sequences, ranks, reader.n_special)


def compile_remove_pattern(token_remove_pattern: str | None) -> re.Pattern[str] | None:
    """The regular expression of the tokens to drop.

    Raises:
        InputError: it is none.
    """
    try:
        return None if token_remove_pattern is None else re.compile(token_remove_pattern)
    except re.error as error:
        raise InputError(
            f"token_remove_pattern {token_remove_pattern!r} is no regular expression ({error}); "
            r"an example that is: '\[unused\d+\]'."
        ) from error


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


class _TeacherReader:
    """Turns pieces and words into what the teacher reads for them."""

    def __init__(self, tokenizer: Tokenizer, spec: _Spec, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_str(json.dumps({**spec, "truncation": None, "padding": None}))
        self._prefix, self._suffix = self._special_ids()
        self._body_length = max(1, max_length - len(self._prefix) - len(self._suffix))
        # Words stand inside a sentence far more often than at its start, and a byte-level tokenizer that adds
        # no space of its own tells the two apart.
        self._lead = _lead(spec)

    @property
    def unknown_token(self) -> str | None:
        """The string of the unknown token, if the teacher has one."""
        unk_id = unknown_token_id(self._tokenizer)
        return None if unk_id is None else self._tokenizer.id_to_token(unk_id)

    @property
    def n_special(self) -> tuple[int, int]:
        """Special tokens before and after what is read."""
        return len(self._prefix), len(self._suffix)

    def _special_ids(self) -> tuple[list[int], list[int]]:
        bare: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        dressed: list[int] = self._tokenizer.encode("a").ids
        for start in range(len(dressed) - len(bare) + 1):
            if dressed[start : start + len(bare)] == bare:
                return dressed[:start], dressed[start + len(bare) :]
        raise TeacherError(f"The teacher's tokenizer rewrites text when it adds special tokens: {bare} -> {dressed}.")

    def around(self, bodies: Iterable[list[int]]) -> list[list[int]]:
        """The bodies, cut to what the teacher reads, each between the teacher's special tokens."""
        return [[*self._prefix, *body[: self._body_length], *self._suffix] for body in bodies]

    def read(self, words: Iterable[str]) -> list[list[int]]:
        """The words as the teacher reads each alone."""
        encodings = self._tokenizer.encode_batch([self._lead + word for word in words], add_special_tokens=False)
        return self.around(encoding.ids for encoding in encodings)


def _lead(spec: _Spec) -> str:
    parts = _parts(spec["pre_tokenizer"], "pretokenizers")
    bytelevel = any(part["type"] == "ByteLevel" for part in parts)
    return " " if bytelevel and not any(part.get("add_prefix_space") for part in parts) else ""


def _sees_spaces(spec: _Spec) -> bool:
    """Whether spaces become part of pieces, so that a word must take the space before it along."""
    parts = [*_parts(spec["pre_tokenizer"], "pretokenizers"), *_parts(spec["normalizer"], "normalizers")]
    return any(part["type"] in ("ByteLevel", "Metaspace", "Prepend") for part in parts)


def _parts(component: _Spec | None, key: str) -> list[_Spec]:
    if component is None:
        return []
    if component["type"] == "Sequence":
        return [part for nested in component[key] for part in _parts(nested, key)]
    return [component]


def _marks_spaces(normalizer: normalizers.Normalizer | None) -> bool:
    """Whether the normalizer writes marks for spaces, and so changes more than the spelling."""
    return normalizer is not None and normalizer.normalize_str("a b").lower() != "a b"


def _as_the_teacher_spells(vocabulary: Sequence[str], normalizer: normalizers.Normalizer | None) -> list[str]:
    """Passed words as the teacher spells them (uncased, say), each once, in the order passed."""
    words: dict[str, None] = {}
    for entry in vocabulary:
        word = " ".join(entry.split())
        if normalizer is not None:
            spelled = normalizer.normalize_str(word).strip()
            # A normalizer that puts spaces around Chinese characters would do so again: leave that to it.
            if not spelled or normalizer.normalize_str(spelled).strip() == spelled:
                word = spelled
        if word:
            words.setdefault(word)
    if not words:
        raise VocabularyError(
            f"None of the {len(vocabulary)} entries of the vocabulary holds any text that the teacher "
            "can read; pass at least one word."
        )
    return list(words)


def _removable_tokens(
    spec: _Spec, tokenizer: Tokenizer, token_remove_pattern: str | None, pad_token: str | None
) -> set[str]:
    pattern = compile_remove_pattern(token_remove_pattern)
    kept = {pad_token}
    unk_id = unknown_token_id(tokenizer)
    if unk_id is not None:
        kept.add(tokenizer.id_to_token(unk_id))
    special = {token["content"] for token in spec["added_tokens"] if token["special"]}
    matching = {token for token in tokenizer.get_vocab(with_added_tokens=True) if pattern and pattern.match(token)}
    if pattern is not None and len(matching - kept) == len(set(tokenizer.get_vocab()) - kept):
        raise VocabularyError(
            f"token_remove_pattern {token_remove_pattern!r} removes every token; narrow it, or pass None."
        )
    return (special | matching) - kept


def _prune(spec: _Spec, tokenizer: Tokenizer, removed: set[str]) -> _Spec:
    """The tokenizer without some tokens, ids renumbered without gaps in their old order."""
    model = dict(spec["model"])
    if model["type"] == "Unigram":
        # <unk> moves when the special tokens before it go, and its id has to move along.
        unknown = None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]
        model["vocab"] = [entry for entry in model["vocab"] if entry[0] not in removed]
        pieces = [piece for piece, _ in model["vocab"]]
        model["unk_id"] = None if unknown is None else pieces.index(unknown)
    else:
        # Added tokens go into the vocabulary at their place, or those after them would change their rank.
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


def _possible_merges(model: _Spec) -> list[Any]:
    """The merges whose two sides and outcome are still pieces."""
    prefix = model.get("continuing_subword_prefix") or ""
    possible = []
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        if {left, right, left + right.removeprefix(prefix)} <= model["vocab"].keys():
            possible.append(merge)
    return possible


def _added_token(word: str, token_id: int, spec: _Spec, normalized: bool) -> _Spec:
    return {
        "id": token_id,
        "content": word,
        "single_word": True,  # or "ice cream" would be found in "nice creamy"
        "lstrip": _sees_spaces(spec),
        "rstrip": False,
        "normalized": normalized,
        "special": False,
    }


def _join_words(spec: _Spec, pruned: Tokenizer, words: list[str]) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer with the words after the teacher's pieces, and the words that got a row, with their ranks."""
    pieces: dict[str, int] = pruned.get_vocab(with_added_tokens=True)
    as_piece = _single_pieces(pruned, _lead(spec), words)
    # Where spaces are part of pieces, a word has one piece after a space, and others after a bracket.
    anywhere = [_single_pieces(pruned, opening, words) for opening in ("", "(")]
    words = [word for word in words if not (word in as_piece and all(word in found for found in anywhere))]
    logger.info("%d of the words join the teacher's pieces; the others are among them already.", len(words))
    if not words:
        return pruned, {}
    normalized = not _marks_spaces(pruned.normalizer)

    def build(words: list[str]) -> Tokenizer:
        ids = dict(pieces)
        for word in words:
            ids.setdefault(word, len(ids))
        added = [_added_token(word, ids[word], spec, normalized) for word in words]
        return Tokenizer.from_str(json.dumps({**spec, "added_tokens": [*spec["added_tokens"], *added]}))

    spec = _without_spaces_after_words(spec)
    static, words = _build_with(words, build)
    words = [word for word in words if word not in pieces]
    return static, {word: as_piece.get(word, len(pieces) + i) for i, word in enumerate(words)}


def _without_spaces_after_words(spec: _Spec) -> _Spec:
    """The tokenizer as XLM-R has it, told apart from one that sees a space wherever a text is cut.

    It splits at white space and writes a mark before every part. A passed word cuts the text too, and the comma after
    it would become a marked comma, another piece. Marking spaces instead of parts comes to the same elsewhere.
    """
    parts = _parts(spec["pre_tokenizer"], "pretokenizers")
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
            "normalizers": [*_parts(spec["normalizer"], "normalizers"), *single_spaces],
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


def _word_level(
    spec: _Spec, words: list[str], reader: _TeacherReader, normalizer: normalizers.Normalizer | None
) -> StaticVocabulary:
    """Only the words: their ids are their ranks, and the unknown token comes last."""
    unknown = reader.unknown_token or "[UNK]"
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
        added = [_added_token(word, ids[word], spec, normalized=True) for word in words if is_phrase(word)]
        model = {"type": "WordLevel", "vocab": ids, "unk_token": unknown}
        return Tokenizer.from_str(json.dumps({**spec, "added_tokens": added, "model": model}))

    static, words = _build_with(words, build)
    sequences = reader.read(words)
    check_tokenizer(static, len(sequences) + 1)
    return StaticVocabulary(static, sequences, list(range(len(sequences))), reader.n_special)


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
