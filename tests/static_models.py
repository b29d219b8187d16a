"""Small static models of every tokenizer family, and a slow reference encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from m2v_core.model import StaticModel

LINES = (
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Static embeddings are fast: one row a token, and the mean of the rows!",
    "In 1984 the café on the corner sold naïve résumés for 3.50 euros.",
    "She sells sea shells by the sea shore; the shells she sells are sea shells.",
    "A sentence about nothing in particular, written to be read by nobody.",
    "Rivers run to the sea, and yet the sea is never full.",
)
TEXTS = (
    *LINES,
    "the",
    "",
    "   ",
    "THE Fox",
    "unbelievable words nobody has listed",
    "\U0001f984",
    "the \U0001f984 fox",
    "\u4e2d\u6587 and English",
    "tab\tnew\nline",
    " ".join(LINES * 9),
)
DIM = 24


def wordpiece() -> Tokenizer:
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = sorted({word for line in LINES for word, _ in pre_tokenizer.pre_tokenize_str(line.lower())})
    letters = sorted(set("".join(words)))
    pieces = dict.fromkeys(["[PAD]", "[UNK]", *letters, *(f"##{letter}" for letter in letters), *words])
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def unigram() -> Tokenizer:
    pre_tokenizer = pre_tokenizers.Metaspace()
    words = sorted({word for line in LINES for word, _ in pre_tokenizer.pre_tokenize_str(line)})
    letters = sorted(set("".join(words)))
    pieces = dict.fromkeys(["<s>", "<pad>", "<unk>", *letters, *words])
    tokenizer = Tokenizer(models.Unigram([(piece, -float(len(pieces))) for piece in pieces], unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def byte_level_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def word_level() -> Tokenizer:
    pre_tokenizer = pre_tokenizers.Whitespace()
    words = sorted({word for line in LINES for word, _ in pre_tokenizer.pre_tokenize_str(line)})
    vocabulary = {word: token_id for token_id, word in enumerate([*words, "[UNK]"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "WordPiece": wordpiece,
    "Unigram": unigram,
    "byte-level BPE": byte_level_bpe,
    "WordLevel": word_level,
}


def random_table(n_rows: int, dim: int = DIM) -> np.ndarray:
    """(n_rows, dim) float32, with row lengths that differ by a factor of 100, like those of weighted rows."""
    rng = np.random.default_rng(n_rows)
    lengths = np.logspace(-1, 1, n_rows)
    return (rng.standard_normal((n_rows, dim)) * lengths[:, None]).astype(np.float32)


def static_model(
    kind: str = "WordPiece", *, dtype: str = "float32", n_clusters: int | None = None, **arguments: Any
) -> StaticModel:
    """A model with random rows, shared between tokens if `n_clusters` is given."""
    tokenizer = TOKENIZERS[kind]()
    model = StaticModel(random_table(tokenizer.get_vocab_size()), tokenizer, **arguments)
    return model.compressed(quantize_to=dtype, vocabulary_quantization=n_clusters)


def slow_embedding(model: StaticModel, text: str, max_length: int | None = 512) -> np.ndarray:
    """Compute an embedding step by step by its definition, (dim,) float64."""
    tokenizer = Tokenizer.from_str(model.tokenizer.to_str())
    if max_length is not None:
        median_token_length = sorted(map(len, model.tokens))
        middle = len(median_token_length) // 2
        if len(median_token_length) % 2:
            median = median_token_length[middle]
        else:
            median = (median_token_length[middle - 1] + median_token_length[middle]) // 2
        text = text[: max_length * median]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if max_length is not None:
        ids = ids[:max_length]
    total, count = np.zeros(model.dim), 0
    for token_id in ids:
        if token_id == model.unk_token_id:
            continue
        row = token_id if model.token_mapping is None else model.token_mapping[token_id]
        weight = 1.0 if model.weights is None else float(model.weights[token_id])
        total += weight * model.token_embeddings[row].astype(np.float64)
        count += 1
    mean = total / count if count else total
    norm = np.linalg.norm(mean)
    return mean / norm if model.normalize and norm > 0 else mean
