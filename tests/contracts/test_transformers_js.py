"""ONNX folders in transformers.js: the real npm package, local files only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from m2v_core.classification import StaticClassifier
from m2v_core.model import StaticModel
from tests.core.classification.texts import labeled, many_labeled
from tests.static_models import LINES, TEXTS, random_table, static_model


def words_only() -> StaticModel:
    """A model of whole words only, which splits like models distilled without subwords."""
    splitter = pre_tokenizers.BertPreTokenizer()
    words = sorted({word for line in LINES for word, _ in splitter.pre_tokenize_str(line.lower())})
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*words, "[UNK]"])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = splitter
    return StaticModel(random_table(len(words) + 1), tokenizer)


MODELS = {
    "WordPiece": lambda: static_model("WordPiece", dtype="float16"),
    "Unigram": lambda: static_model("Unigram", dtype="int8"),
    "BPE": lambda: static_model("byte-level BPE", dtype="float16", n_clusters=30),
    "words": words_only,
    "unnormalized": lambda: static_model("WordPiece", normalize=False),
}


def run_node(package: Path, folder: Path, texts: list[str]) -> Any:
    script = Path(__file__).with_name("transformers_js.mjs")
    command = ["node", str(script), str(package), str(folder.parent), folder.name]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", MODELS)
def test_the_pipeline_returns_the_same_as_encode(transformers_js: Path, tmp_path: Path, name: str) -> None:
    model = MODELS[name]()
    model.export(tmp_path / name, "onnx")
    texts = [text[: model.max_characters] for text in TEXTS]
    found = run_node(transformers_js, tmp_path / name, texts)

    expected = model.encode(texts)
    np.testing.assert_allclose(found["sentence_embedding"], expected, atol=1e-5)
    np.testing.assert_allclose(found["embeddings"], expected, atol=1e-5)
    np.testing.assert_allclose(found["typed"], expected, atol=1e-5)
    assert not np.any(found["empty"])
    # A text without known tokens has a zero embedding: the pipeline divides zero by zero.
    known = expected.any(axis=1)
    assert known.any()
    pooled = np.array(found["pooled"], dtype=float)
    np.testing.assert_allclose(pooled[known], model.encode(texts, normalize=True)[known], atol=1e-5)
    assert np.isnan(pooled[~known]).all()


@pytest.mark.parametrize("labeled_texts", [labeled(90), many_labeled()], ids=["one of three", "several"])
def test_the_pipeline_equals_predict_proba(transformers_js: Path, tmp_path: Path, labeled_texts: Any) -> None:
    classifier = StaticClassifier(static_model()).fit(*labeled_texts)
    classifier.export(tmp_path / "classifier", "onnx")
    texts = [text[: classifier.model.max_characters] for text in TEXTS]
    found = run_node(transformers_js, tmp_path / "classifier", texts)
    by_label = [{answer["label"]: answer["score"] for answer in answers} for answers in found]
    probabilities = [[scores[label] for label in classifier.classes_] for scores in by_label]
    np.testing.assert_allclose(probabilities, classifier.predict_proba(texts), atol=1e-5)
