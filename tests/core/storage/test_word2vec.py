"""Word vectors as text, read by gensim and, if installed, by spaCy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from m2v_core.errors import InputError, SaveError
from m2v_core.storage.export import write_word2vec
from tests.static_models import TOKENIZERS, static_model

WORDS = [
    "the",
    "new york",
    "new_york",
    "new\u00a0york",
    "_",
    "a\tb\nc\rd",
    "caf\u00e9",
    "\u4e2d\u6587",
    "#",
    '"',
    "0.5",
    "\U0001f984",
]
SPELLED = [
    "the",
    "new_york_",
    "new_york",
    "new_york__",
    "_",
    "a_b_c_d",
    "caf\u00e9",
    "\u4e2d\u6587",
    "#",
    '"',
    "0.5",
    "\U0001f984",
]


def vectors_of(words: list[str]) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((len(words), 5)) * 1e-3).astype(np.float32)


def test_gensim_reads_every_word(tmp_path: Path) -> None:
    path = write_word2vec(WORDS, vectors_of(WORDS), tmp_path / "vectors.txt")
    found = KeyedVectors.load_word2vec_format(path)
    assert found.index_to_key == SPELLED
    np.testing.assert_allclose(found.vectors, vectors_of(WORDS), rtol=6e-7)


def test_spacy_reads_every_word(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed: pip install spacy", exc_type=ImportError)
    path = write_word2vec(WORDS, vectors_of(WORDS), tmp_path / "vectors.txt")
    command = [sys.executable, "-m", "spacy", "init", "vectors", "en", str(path), str(tmp_path / "spacy")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    vocabulary = spacy.load(tmp_path / "spacy").vocab
    for word, vector in zip(SPELLED, vectors_of(WORDS), strict=True):
        np.testing.assert_allclose(vocabulary.get_vector(word), vector, rtol=6e-7)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(("dtype", "n_clusters"), [("float32", None), ("int8", None), ("float16", 30)])
def test_words_have_the_vectors_of_the_model(tmp_path: Path, kind: str, dtype: str, n_clusters: int | None) -> None:
    model = static_model(kind, dtype=dtype, n_clusters=n_clusters, normalize=False)
    model.export(tmp_path / "vectors.txt", "word2vec")
    found = KeyedVectors.load_word2vec_format(tmp_path / "vectors.txt")
    # As single tokens, inside a text with a space before each word.
    words = [word for word in ("sea", "shells", "fox", "the") if word in found]
    assert len(words) >= 2
    for word in words:
        pieces = model.encode_as_sequence(f"x {word}")
        np.testing.assert_allclose(found[word], pieces[-1], rtol=2e-6)
    assert not any("##" in word or "\u2581" in word or "\u0120" in word for word in found.index_to_key)
    assert not {"[UNK]", "<unk>"} & set(found.index_to_key)


def test_special_tokens_are_not_words(tmp_path: Path) -> None:
    model = static_model("WordPiece")
    model.tokenizer.add_special_tokens(["[PAD]"])  # as in teachers' tokenizers
    model.export(tmp_path / "vectors.txt", "word2vec")
    found = KeyedVectors.load_word2vec_format(tmp_path / "vectors.txt")
    assert "the" in found and "[PAD]" not in found


def test_a_vocabulary_without_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no whole words"):
        write_word2vec([], np.zeros((0, 3), np.float32), tmp_path / "vectors.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    path = write_word2vec(["a"], np.ones((1, 3), np.float32), tmp_path / "new" / "vectors.txt")
    assert KeyedVectors.load_word2vec_format(path).key_to_index == {"a": 0}
    with pytest.raises(SaveError, match="vectors.txt"):
        write_word2vec(["a"], np.ones((1, 3), np.float32), path / "vectors.txt")
