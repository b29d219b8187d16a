"""Classifiers in ONNX, comparing onnxruntime with `predict_proba`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from m2v_core.classification import StaticClassifier
from m2v_core.classification.head import Head, Layer
from m2v_core.errors import InputError
from tests.core.classification.texts import labeled, many_labeled, model
from tests.core.cli.commands import m2v
from tests.core.storage.test_onnx import Exported

TEXTS = [*labeled(40, seed=1)[0], "sea fox rows", "\U0001f984 the", "", "unbelievable words nobody has listed"]


def deep() -> StaticClassifier:
    """A head with three layers, like those of model2vec, with numbers as labels."""
    rng = np.random.default_rng(0)
    widths = [24, 7, 5, 3]
    layers = [
        Layer(rng.normal(size=(out, inner)).astype(np.float32), rng.normal(size=out).astype(np.float32))
        for inner, out in itertools.pairwise(widths)
    ]
    return StaticClassifier(model(normalize=False), Head(tuple(layers), np.array([10, 20, 30]), False))


CLASSIFIERS = {
    "one of two": lambda: StaticClassifier(model(dtype="float16")).fit(*labeled(90, 2)),
    "one of three": lambda: StaticClassifier(model(dtype="int8", n_clusters=30)).fit(*labeled(90, 3)),
    "several": lambda: StaticClassifier(model()).fit(*many_labeled()),
    "deep": deep,
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_runtime_returns_the_same_as_predict_proba(tmp_path: Path, name: str) -> None:
    classifier = CLASSIFIERS[name]()
    classifier.export(tmp_path / "out", "onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "out" / "onnx" / "model.onnx"), full_check=True)
    found = Exported(tmp_path / "out").run(TEXTS)
    expected = classifier.predict_proba(TEXTS)
    assert len(np.unique(expected.argmax(axis=1))) > 1
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(found["embeddings"], classifier.model.encode(TEXTS), atol=2e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    labels = [config["id2label"][str(number)] for number in range(expected.shape[1])]
    assert labels == [str(label) for label in classifier.classes_]
    assert (config["problem_type"] == "multi_label_classification") == classifier.is_multi_label
    # The only output of model2vec's own export is `probabilities`.
    assert Exported(tmp_path / "out").session.get_outputs()[0].name == "probabilities"


def test_command(tmp_path: Path) -> None:
    classifier = CLASSIFIERS["one of three"]()
    classifier.save_pretrained(tmp_path / "saved", with_skops=False)
    done = m2v("export", tmp_path / "saved", "--format", "onnx", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = Exported(tmp_path / "out").run(TEXTS)["probabilities"]
    np.testing.assert_allclose(found, classifier.predict_proba(TEXTS), atol=1e-5)


def test_the_card_contains_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = CLASSIFIERS["several"]()
    classifier.export(tmp_path / "out", "onnx")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path / "out")
    found: dict = {}
    exec(card.partition("```python\n")[2].partition("```")[0], found)
    expected = classifier.predict_proba(["A first sentence.", "A second one."])
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_unsupported_exports(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'word2vec'; use 'onnx'"):
        deep().export(tmp_path / "out", "word2vec")
    with pytest.raises(InputError, match="not been trained"):
        StaticClassifier(model()).export(tmp_path / "out", "onnx")
    assert not any(tmp_path.iterdir())
