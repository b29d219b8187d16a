"""model2vec's pipeline loads our classifiers with the same results, and the other way round."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from m2v_core.classification import StaticClassifier
from m2v_core.storage.formats import HEAD
from tests.core.classification.texts import labeled, many_labeled, model

inference = pytest.importorskip("model2vec.inference", reason="pip install 'm2v-studio[dev]'")
mlp = pytest.importorskip("model2vec.inference.mlp")

NEW_TEXTS = [*labeled(40, seed=1)[0], "sea fox rows", ""]
FORMS = {"one of two": 2, "one of three": 3, "several": None}


@pytest.fixture(params=FORMS)
def classifier(request):
    n_labels = FORMS[request.param]
    texts, labels = many_labeled() if n_labels is None else labeled(90, n_labels)
    return StaticClassifier(model()).fit(texts, labels)


def plain(predictions):
    return [list(np.atleast_1d(prediction)) for prediction in predictions]


def assert_agree(theirs, ours):
    np.testing.assert_allclose(theirs.predict_proba(NEW_TEXTS), ours.predict_proba(NEW_TEXTS), atol=1e-5)
    assert plain(theirs.predict(NEW_TEXTS)) == plain(ours.predict(NEW_TEXTS))
    assert theirs.classes_.tolist() == ours.classes_.tolist()


@pytest.mark.parametrize("form", ["safetensors", "skops"])
def test_model2vec_loads_saved_classifiers(form, classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    if form == "skops":
        (tmp_path / HEAD).unlink()
        with pytest.warns(UserWarning, match="legacy"):
            theirs = inference.StaticModelPipeline.from_pretrained(tmp_path)
    else:
        theirs = inference.StaticModelPipeline.from_pretrained(tmp_path)
    assert_agree(theirs, classifier)


def test_fine_tuned_classifiers(tmp_path):
    classifier = StaticClassifier(model(dtype="int8")).fit(*labeled(90), fine_tune=True, max_epochs=3)
    assert classifier.training.n_epochs
    classifier.save_pretrained(tmp_path)
    theirs = inference.StaticModelPipeline.from_pretrained(tmp_path)
    np.testing.assert_allclose(theirs.predict_proba(NEW_TEXTS), classifier.predict_proba(NEW_TEXTS), atol=2e-3)
    assert plain(theirs.predict(NEW_TEXTS)) == plain(classifier.predict(NEW_TEXTS))


def test_classifiers_saved_by_model2vec_load_here(classifier, tmp_path):
    classifier.save_pretrained(tmp_path / "ours")
    theirs = inference.StaticModelPipeline.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    assert_agree(theirs, StaticClassifier.from_pretrained(tmp_path / "theirs"))


def test_a_deep_head_loads_here(tmp_path):
    model().save_pretrained(tmp_path / "model")
    static_model = pytest.importorskip("model2vec").StaticModel.from_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    widths = [static_model.dim, 7, 5, 3]
    layers = [
        mlp.Layer(rng.normal(size=(wide, narrow)).astype(np.float32), rng.normal(size=wide).astype(np.float32))
        for narrow, wide in itertools.pairwise(widths)
    ]
    head = mlp.MLPHead(layers, mlp.Activation.SOFTMAX, np.array([10, 20, 30]))
    theirs = inference.StaticModelPipeline(static_model, head)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    assert_agree(theirs, StaticClassifier.from_pretrained(tmp_path / "theirs"))
