"""The teachers used by the other tests are what they claim to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from tests import teachers


def test_a_teacher_opens_as_a_sentence_transformer(teacher_folder: Path):
    sentences = ["Hello, world!", "two sentences", "C++ don't co-op"]
    teacher = SentenceTransformer(str(teacher_folder), device="cpu")
    embeddings = teacher.encode(sentences)
    assert embeddings.shape == (3, 48)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 0.05


def test_the_tokenizer_is_sound(teacher_folder: Path):
    tokenizer = Tokenizer.from_file(str(teacher_folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    for token in json.loads((teacher_folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]:
        assert tokenizer.token_to_id(token["content"]) == token["id"]
    assert all(tokenizer.id_to_token(token_id) == token for token, token_id in vocabulary.items())


def test_transformers_and_tokenizer_json_agree(teacher_folder: Path):
    tokenizer = Tokenizer.from_file(str(teacher_folder / "tokenizer.json"))
    opened = SentenceTransformer(str(teacher_folder), device="cpu").tokenizer
    for text in [*teachers.corpus_sentences(100, skip=teachers.TRAINING_SENTENCES), *teachers.udhr_paragraphs()]:
        assert opened(text, truncation=False)["input_ids"] == tokenizer.encode(text).ids


def test_a_teacher_is_the_same_in_every_run(family: str, teacher_folder: Path, tmp_path: Path):
    teachers.tokenizer_json.cache_clear()
    again = teachers.build_teacher(family, tmp_path)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (again / name).read_bytes() == (teacher_folder / name).read_bytes()
