"""Encodes a corpus in the compiled loops, compared with the real model2vec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from m2v_core.encoder import chunked
from m2v_core.model import StaticModel
from tests.static_models import random_table
from tests.teachers import corpus_sentences, tokenizer_json, udhr_paragraphs

model2vec = pytest.importorskip("model2vec")

FAMILIES = ("wordpiece", "wordpiece-cased", "unigram", "bytelevel", "decoder", "modernbert-like")


def texts_of_corpus(step: int) -> list[str]:
    """English sentences, paragraphs in many languages, long concatenated documents, and texts without words."""
    sentences = [*corpus_sentences(5_000)[::step], *udhr_paragraphs()]
    documents = ["\n".join(sentences[start : start + 60]) for start in range(0, len(sentences), len(sentences) // 12)]
    return [*sentences, *documents, "", "  \t", "\U0001f984"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_corpus_has_the_same_embeddings_as_in_model2vec(family, tmp_path: Path, monkeypatch):
    tokenizer = Tokenizer.from_str(tokenizer_json(family))
    rows = random_table(tokenizer.get_vocab_size(), 64).astype(np.float16)
    StaticModel(rows, tokenizer).save_pretrained(tmp_path)
    ours, theirs = StaticModel.from_pretrained(tmp_path), model2vec.StaticModel.from_pretrained(tmp_path)
    texts = texts_of_corpus(1 if family == "wordpiece" else 4)
    assert len(texts) > 1_500
    monkeypatch.setattr(chunked, "CHARACTERS_BEFORE_SUBWORDS", 1)
    expected = theirs.encode(texts)
    for _ in "cold", "warm":
        np.testing.assert_allclose(ours.encode(texts), expected, rtol=0, atol=2e-3)
    is_whole = family == "modernbert-like"
    assert ours.encoder_path.startswith("whole texts" if is_whole else "chunk by chunk")
    assert (ours._engine._reader is None) == is_whole
