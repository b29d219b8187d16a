"""Classifiers on disk and on the Hub: round trips, and files that are rejected unread."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from m2v_core.classification import StaticClassifier
from m2v_core.classification.head import Head, Layer
from m2v_core.classification.storage import load_head, to_safetensors
from m2v_core.errors import ModelFormatError, NotFoundError
from m2v_core.model import StaticModel
from m2v_core.storage.formats import HEAD, SKOPS_HEAD
from tests.core.classification.texts import labeled, many_labeled, model
from tests.hub.server import LoopbackHub, User

MODEL = model()
TEXTS, LABELS = labeled()
EMBEDDINGS = MODEL.encode(TEXTS)
NEW_TEXTS, _ = labeled(40, seed=1)
ADA = "hf_ada"
ROOT = Path(__file__).parents[3]


class Foreign:
    """An untrusted type."""

    def __init__(self):
        self.value = 1


@pytest.fixture(scope="module")
def classifier():
    return StaticClassifier(MODEL).fit(TEXTS, LABELS, read_tokens=False)


@pytest.fixture
def folder(classifier, tmp_path):
    classifier.save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


@st.composite
def heads(draw):
    names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
    kinds = st.one_of(
        st.lists(names.filter(str.strip), min_size=2, max_size=5, unique=True),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=5, unique=True),
    )
    classes = np.array(sorted(draw(kinds)))
    widths = [MODEL.dim, *draw(st.lists(st.integers(1, 6), max_size=2)), len(classes)]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    layers = tuple(
        Layer(rng.normal(size=(wide, narrow)).astype(np.float32), rng.normal(size=wide).astype(np.float32))
        for narrow, wide in itertools.pairwise(widths)
    )
    return Head(layers, classes, draw(st.booleans()))


@given(heads())
@settings(max_examples=30, deadline=None)
def test_every_head_round_trips(tmp_path_factory, head):
    path = tmp_path_factory.mktemp("heads") / "classifier"
    saved = StaticClassifier(MODEL, head)
    saved.save_pretrained(path)
    expected, embeddings = saved.predict_proba(NEW_TEXTS), MODEL.encode(NEW_TEXTS)
    for name in (HEAD, SKOPS_HEAD):
        loaded = StaticClassifier.from_pretrained(path)
        assert loaded.classes_.tolist() == head.classes.tolist()
        assert loaded.is_multi_label == head.is_multi_label
        np.testing.assert_allclose(loaded.predict_proba(NEW_TEXTS), expected, atol=1e-6)
        (path / name).unlink()  # the other one is enough
        if name == HEAD:
            pipeline = skops.io.load(path / SKOPS_HEAD)
            np.testing.assert_allclose(pipeline.predict_proba(embeddings), expected, atol=1e-5)
            if not head.is_multi_label:
                assert pipeline.predict(embeddings).tolist() == saved.predict(NEW_TEXTS).tolist()
    shutil.rmtree(path)


def test_training_facts_round_trip(classifier, folder):
    loaded = StaticClassifier.from_pretrained(folder)
    assert loaded.training == classifier.training
    assert loaded.predict(NEW_TEXTS).tolist() == classifier.predict(NEW_TEXTS).tolist()


def test_the_card_contains_instructions_for_classifying(folder):
    card = (folder / "README.md").read_text()
    assert "Labels, one per text: `fox`, `rows`, `sea`" in card
    assert "texts held out from training" in card
    assert 'StaticClassifier.from_pretrained("classifier")' in card
    assert "- text-classification" in card
    MODEL.save_pretrained(folder.parent / "model")
    assert "m2v train my-model --data train.tsv --output my-classifier\n```" in card
    assert "StaticClassifier" not in (folder.parent / "model" / "README.md").read_text()


def test_labels_cannot_break_out_of_the_card(tmp_path):
    layer = Layer(np.zeros((2, MODEL.dim), np.float32), np.zeros(2, np.float32))
    StaticClassifier(MODEL, Head((layer,), np.array(["a`b\n# c", "{name}"]), True)).save_pretrained(tmp_path / "x")
    assert "- Labels, any number per text: `a'b # c`, `{name}`\n" in (tmp_path / "x" / "README.md").read_text()


def test_the_model_of_a_classifier_stays_a_model(folder, tmp_path):
    np.testing.assert_array_equal(StaticModel.from_pretrained(folder).encode(NEW_TEXTS), MODEL.encode(NEW_TEXTS))
    StaticClassifier.from_pretrained(folder).model.save_pretrained(tmp_path / "alone")
    assert "head_config" not in json.loads((tmp_path / "alone" / "config.json").read_text())


def test_saving_without_skops_removes_an_older_file(classifier, folder):
    classifier.save_pretrained(folder, with_skops=False)
    assert not (folder / SKOPS_HEAD).exists()
    assert (
        StaticClassifier.from_pretrained(folder).predict(NEW_TEXTS).tolist() == classifier.predict(NEW_TEXTS).tolist()
    )


def in_skops(estimator, folder):
    (folder / HEAD).unlink(missing_ok=True)
    skops.io.dump(estimator, folder / SKOPS_HEAD)
    return folder


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression(C=10)),
        make_pipeline(StandardScaler(with_mean=False), StandardScaler(with_std=False), LogisticRegression()),
        make_pipeline(StandardScaler(), MLPClassifier((8, 5), max_iter=40, random_state=0)),
        MLPClassifier((8,), max_iter=40, solver="sgd", random_state=0),
    ],
    ids=["regression", "scaled regression", "two scalers", "scaled network", "network"],
)
@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_models_trained_with_scikit_learn_are_supported(estimator, n_labels, folder):
    texts, labels = labeled(80, n_labels)
    estimator.fit(MODEL.encode(texts), labels)
    loaded = StaticClassifier.from_pretrained(in_skops(estimator, folder))
    expected = estimator.predict_proba(MODEL.encode(NEW_TEXTS))
    np.testing.assert_allclose(loaded.predict_proba(NEW_TEXTS), expected, atol=1e-5)
    assert loaded.classes_.tolist() == estimator.classes_.tolist()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_network_with_several_labels_is_supported(folder):
    texts, labels = many_labeled(60)
    members = np.array([[topic in names for topic in ("sea", "fox", "rows")] for names in labels])
    network = MLPClassifier((8,), max_iter=30, random_state=0).fit(MODEL.encode(texts), members)
    loaded = StaticClassifier.from_pretrained(in_skops(network, folder))
    assert loaded.is_multi_label
    np.testing.assert_allclose(loaded.predict_proba(texts), network.predict_proba(MODEL.encode(texts)), atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (make_pipeline(FunctionTransformer(Foreign), LogisticRegression()), "untrusted types.*test_storage.Foreign"),
        (
            make_pipeline(FunctionTransformer(np.save), LogisticRegression()),
            "untrusted types.*numpy.*save|FunctionTransf",
        ),
        (make_pipeline(MinMaxScaler(), LogisticRegression()), "step MinMaxScaler; .*only StandardScaler"),
        (RandomForestClassifier(2), "ends in RandomForestClassifier|untrusted types"),
        (OneVsRestClassifier(LogisticRegression()), "ends in OneVsRestClassifier"),
        (MLPRegressor(hidden_layer_sizes=(2,), max_iter=5), "head of a regression"),
        (MLPClassifier((2,), activation="tanh", max_iter=5), "with relu"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "was not trained"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_heads_are_rejected_by_name(estimator, message, folder):
    if "not trained" not in message and "Foreign" not in message and "save" not in message:
        estimator.fit(EMBEDDINGS, np.arange(len(TEXTS)) % 2 if "regression" in message else LABELS)
    with pytest.raises(ModelFormatError, match=message):
        StaticClassifier.from_pretrained(in_skops(estimator, folder))


def test_untrusted_types_are_never_instantiated(folder, monkeypatch):
    made = []
    monkeypatch.setattr(Foreign, "__new__", lambda cls, *_: made.append(cls) or object.__new__(cls))
    (folder / HEAD).unlink()
    skops.io.dump(Foreign(), folder / SKOPS_HEAD)
    made.clear()
    with pytest.raises(ModelFormatError, match="Foreign"):
        StaticClassifier.from_pretrained(folder)
    assert made == []


def rewrite_config(folder, **head):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["head_config"] |= head
    path.write_text(json.dumps(config))


def test_folder_without_a_head_is_rejected(tmp_path):
    MODEL.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelFormatError, match=r"neither head.safetensors nor pipeline.skops.*m2v train"):
        StaticClassifier.from_pretrained(tmp_path / "model")
    with pytest.raises(NotFoundError):
        StaticClassifier.from_pretrained(tmp_path / "no where")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"activation": "identity"}, "regression"),
        ({"activation": "tanh"}, "does not describe the head"),
        ({"n_layers": "1"}, "does not describe the head"),
        ({"n_layers": 0}, "no layers"),
        ({"n_layers": 2}, r"no tensor 'head.1.weight', but head.0"),
        ({"classes": None}, "does not describe the head"),
        ({"classes": ["a", "b"]}, "3 outputs and the labels"),
        ({"classes": ["a", "a", "b"]}, "3 outputs and the labels"),
        ({"classes": [1.5, 2.5, 3.5]}, "neither text nor whole numbers"),
        ({"classes": ["a", ["b"], "c"]}, "neither text nor whole numbers"),
        ({"classes": ["a", 1, "c"]}, "neither text nor whole numbers"),
        ({"classes": [1, 2, 2**70]}, "neither text nor whole numbers"),
        ({"classes": [["a"], ["b"], ["c"]]}, "neither text nor whole numbers"),
    ],
)
def test_an_invalid_config_is_rejected(head, message, folder):
    rewrite_config(folder, **head)
    with pytest.raises(ModelFormatError, match=message):
        StaticClassifier.from_pretrained(folder)


def test_damaged_heads_are_rejected(classifier, folder):
    tensors = load_file(folder / HEAD)
    for broken, message in (
        ({"head.0.weight": tensors["head.0.weight"]}, "no tensor 'head.0.bias'"),
        (tensors | {"head.0.bias": tensors["head.0.bias"] * np.float32(np.nan)}, "NaN"),
        (tensors | {"head.0.bias": tensors["head.0.bias"][:2]}, "shape"),
        (tensors | {"head.0.weight": tensors["head.0.weight"].ravel()}, "shape"),
    ):
        save_file(broken, folder / HEAD)
        with pytest.raises(ModelFormatError, match=message):
            StaticClassifier.from_pretrained(folder)
    (folder / HEAD).write_bytes(to_safetensors(classifier.head)[:-20])
    with pytest.raises(ModelFormatError, match="truncated or damaged"):
        StaticClassifier.from_pretrained(folder)
    (folder / HEAD).unlink()
    whole = (folder / SKOPS_HEAD).read_bytes()
    for content in (b"", b"\x80\x04K\x01.", whole[:200], whole[: len(whole) // 2]):
        (folder / SKOPS_HEAD).write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"pipeline.skops can't be read"):
            load_head(folder, {})


def test_push_and_load_from_the_hub(classifier, monkeypatch, session_hub: LoopbackHub):
    monkeypatch.setitem(session_hub.users, ADA, User("ada"))
    done = classifier.push_to_hub("ada/topics", token=ADA, endpoint=session_hub.url)
    assert done.verified
    loaded = StaticClassifier.from_pretrained("ada/topics", token=ADA, endpoint=session_hub.url)
    assert loaded.predict(NEW_TEXTS).tolist() == classifier.predict(NEW_TEXTS).tolist()


def test_predicting_only_needs_the_base_install(folder, classifier):
    blocked = ["sklearn", "skops", "torch", "scipy", "transformers", "gradio"]
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from m2v_core.classification import StaticClassifier
from m2v_core.errors import MissingExtraError
classifier = StaticClassifier.from_pretrained({str(folder)!r})
print(*classifier.predict({NEW_TEXTS[:3]!r}))
classifier.save_pretrained({str(folder.parent / "again")!r}, with_skops=False)
for act in (
    lambda: classifier.save_pretrained({str(folder.parent / "third")!r}),
    lambda: classifier.fit(["sea", "shore", "fox", "dog"], ["a", "a", "b", "b"]),
):
    try:
        act()
    except MissingExtraError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].split() == classifier.predict(NEW_TEXTS[:3]).tolist()
    assert said[1:] == [
        f"{package} is not installed; run: pip install 'm2v-studio[train]'" for package in ("skops", "scikit-learn")
    ]
    assert not (folder.parent / "third").exists()
