"""Heads for labels, numbers, similarities and pairs in `m2v_core.compat`, compared with those of the real model2vec."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from m2v_core.classification import StaticClassifier
from m2v_core.compat.model2vec import StaticModel, inference
from m2v_core.compat.model2vec.onnx import export_model_to_onnx
from m2v_core.errors import InputError, ModelFormatError, NotFoundError
from tests.core.classification.texts import TOPICS, labeled, many_labeled, model

torch = pytest.importorskip("torch")
model2vec = pytest.importorskip("model2vec")
their_train = pytest.importorskip("model2vec.train")
their_inference = pytest.importorskip("model2vec.inference")

from m2v_core.compat.model2vec import train  # noqa: E402

TEXTS, LABELS = labeled(150)
NEW_TEXTS, NEW_LABELS = labeled(90, seed=1)
CENTERS = {topic: np.eye(5, dtype=np.float32)[number] for number, topic in enumerate(TOPICS)}


def vectors(labels: list[str]) -> np.ndarray:
    """A vector for each label, with a little noise."""
    rng = np.random.default_rng(len(labels))
    return np.stack([CENTERS[label] for label in labels]) + rng.normal(0, 0.05, (len(labels), 5)).astype(np.float32)


def others_of(labels: list[str]) -> list[str]:
    """A text with only words of the label's topic, for each label."""
    return [" ".join(np.random.default_rng(number).permutation(TOPICS[label])) for number, label in enumerate(labels)]


LEARNED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "labels": ("StaticModelForClassification", (TEXTS, LABELS)),
    "many labels": ("StaticModelForClassification", many_labeled(150)),
    "numbers": ("StaticModelForRegression", (TEXTS, vectors(LABELS))),
    "similarities": ("StaticModelForSimilarity", (TEXTS, torch.from_numpy(vectors(LABELS)))),
    "pairs": ("StaticModelForPairSimilarity", (TEXTS, others_of(LABELS))),
}


def trained(package: ModuleType, kind: str, static_model: Any, **arguments: Any) -> Any:
    name, data = LEARNED[kind]
    trainable = getattr(package, name).from_static_model(model=static_model, hidden_dim=16)
    schedule = {"max_epochs": 25, "learning_rate": 0.01, "device": "cpu", "early_stopping_patience": None}
    return trainable.fit(*data, **schedule | arguments)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Limits torch to one thread, because threads slow down such small training."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def static_models(tmp_path_factory) -> tuple[StaticModel, Any]:
    folder = tmp_path_factory.mktemp("model")
    model(normalize=False).save_pretrained(folder)
    return StaticModel.from_pretrained(folder), model2vec.StaticModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def pipelines(static_models) -> dict[str, tuple[Any, Any]]:
    """Our and model2vec's pipeline of each kind."""
    return {
        kind: (
            trained(train, kind, static_models[0]).to_pipeline(),
            trained(their_train, kind, static_models[1]).to_pipeline(),
        )
        for kind in LEARNED
    }


def plain(predictions: Any) -> Any:
    return [list(np.atleast_1d(each)) for each in predictions]


def assert_agree(one: Any, other: Any) -> None:
    first, second = one.predict(NEW_TEXTS), other.predict(NEW_TEXTS)
    if one.classes_ is None:
        assert other.classes_ is None
        np.testing.assert_allclose(first, second, atol=1e-5)
    else:
        assert one.classes_.tolist() == other.classes_.tolist()
        assert plain(first) == plain(second)
        np.testing.assert_allclose(one.predict_proba(NEW_TEXTS), other.predict_proba(NEW_TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", LEARNED)
def test_model2vec_loads_models_trained_here(kind, pipelines, tmp_path):
    ours, _ = pipelines[kind]
    ours.save_pretrained(tmp_path)
    assert_agree(their_inference.StaticModelPipeline.from_pretrained(tmp_path), ours)
    assert_agree(inference.StaticModelPipeline.from_pretrained(tmp_path), ours)


@pytest.mark.parametrize("kind", LEARNED)
def test_models_trained_by_model2vec_load_here(kind, pipelines, tmp_path):
    _, theirs = pipelines[kind]
    theirs.save_pretrained(str(tmp_path))
    assert_agree(inference.StaticModelPipeline.from_pretrained(tmp_path), theirs)


def quality(kind: str, pipeline: Any) -> float:
    """Quality of a pipeline on new texts, up to 1."""
    if kind == "labels":
        return pipeline.evaluate(NEW_TEXTS, NEW_LABELS)["accuracy"]
    if kind == "many labels":
        texts, labels = many_labeled(90, seed=1)
        return pipeline.evaluate(texts, labels)["macro avg"]["f1-score"]
    found = pipeline.predict(NEW_TEXTS)
    if kind == "numbers":
        return 1 - float(np.square(found - vectors(NEW_LABELS)).mean() / vectors(NEW_LABELS).var())
    if kind == "similarities":
        wanted = vectors(NEW_LABELS)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        return float(((found * wanted).sum(axis=1) / lengths).mean())
    nearest = (found @ pipeline.predict(others_of(list(TOPICS)[:3])).T).argmax(axis=1)
    return float(np.mean([list(TOPICS)[number] == label for number, label in zip(nearest, NEW_LABELS, strict=True)]))


@pytest.mark.parametrize("kind", LEARNED)
def test_trained_models_are_as_good_as_those_of_model2vec(kind, pipelines):
    ours, theirs = (quality(kind, pipeline) for pipeline in pipelines[kind])
    assert ours > 0.5
    assert ours > theirs - 0.1


def test_a_trainable_model_predicts_the_same_as_its_pipeline(static_models):
    for kind in ("labels", "many labels"):
        trainable = trained(train, kind, static_models[0], max_epochs=2)
        assert_agree(trainable.to_pipeline(), _WithArrays(trainable))
        assert trainable.evaluate(*LEARNED[kind][1]) == trainable.to_pipeline().evaluate(*LEARNED[kind][1])
    regressor = trained(train, "numbers", static_models[0], max_epochs=2)
    np.testing.assert_allclose(regressor.encode(NEW_TEXTS), regressor.to_pipeline().predict(NEW_TEXTS), atol=1e-5)


class _WithArrays:
    """A trainable model whose `classes_` is an array."""

    def __init__(self, trainable: Any) -> None:
        self.predict, self.predict_proba, self.classes_ = trainable.predict, trainable.predict_proba, trainable.classes


def test_training_is_deterministic_and_starts_over(static_models):
    first = trained(train, "labels", static_models[0], max_epochs=2)
    again = trained(train, "labels", static_models[0], max_epochs=2)
    expected = first.predict_proba(NEW_TEXTS)
    np.testing.assert_array_equal(again.predict_proba(NEW_TEXTS), expected)
    again.fit(TEXTS, LABELS, max_epochs=1, random_seed=5)
    again.fit(TEXTS, LABELS, max_epochs=2, learning_rate=0.01, device="cpu")
    np.testing.assert_array_equal(again.predict_proba(NEW_TEXTS), expected)


def test_shared_rows_and_weights_are_kept(static_models):
    shared = static_models[0].compressed(vocabulary_quantization=20)
    trainable = trained(train, "labels", shared, max_epochs=2)
    found = trainable.to_static_model()
    assert len(found.embedding) == 20
    assert not np.array_equal(found.weights, shared.weights)
    frozen = train.StaticModelForClassification.from_static_model(model=shared, freeze=True, freeze_weights=True)
    frozen.fit(TEXTS, LABELS, max_epochs=2, device="cpu")
    np.testing.assert_array_equal(frozen.to_static_model().embedding, shared.embedding)
    np.testing.assert_array_equal(frozen.to_static_model().weights, shared.weights)


def test_class_weights_change_the_predictions(static_models):
    texts = [*TEXTS[:60], *[text for text, label in zip(TEXTS, LABELS, strict=True) if label == "sea"]]
    labels = [*LABELS[:60], *["sea"] * (len(texts) - 60)]
    shares = []
    for weight in ({"sea": 0.01, "fox": 1.0, "rows": 1.0}, None, {"sea": 100.0, "fox": 1.0, "rows": 1.0}):
        trainable = train.StaticModelForClassification.from_static_model(model=static_models[0])
        trainable.fit(texts, labels, class_weight=weight, max_epochs=5, device="cpu")
        shares.append(np.mean(trainable.predict(NEW_TEXTS) == "sea"))
    assert shares[0] < shares[1] < shares[2]


def test_only_label_heads_load_as_classifiers(pipelines, tmp_path):
    pipelines["labels"][0].save_pretrained(tmp_path / "labels")
    classifier = StaticClassifier.from_pretrained(tmp_path / "labels")
    assert classifier.predict(NEW_TEXTS).tolist() == pipelines["labels"][0].predict(NEW_TEXTS).tolist()
    pipelines["numbers"][0].save_pretrained(tmp_path / "numbers")
    with pytest.raises(ModelFormatError, match="StaticModelPipeline"):
        StaticClassifier.from_pretrained(tmp_path / "numbers")


def test_models_of_compat_are_models_of_this_library(static_models):
    classifier = StaticClassifier(static_models[0]).fit(TEXTS, LABELS)
    assert type(classifier.model) is StaticModel
    assert classifier.training.reads_tokens
    assert classifier.evaluate(NEW_TEXTS, NEW_LABELS).accuracy > 0.9


@pytest.mark.parametrize("kind", [*LEARNED, "no layers"])
def test_onnx_returns_the_same_as_the_pipeline(kind, pipelines, static_models, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if kind == "no layers":
        pipeline = train.StaticModelForPairSimilarity.from_static_model(
            model=static_models[0], n_layers=0
        ).to_pipeline()
    else:
        pipeline = pipelines[kind][0]
    export_model_to_onnx(pipeline, tmp_path / "new")
    tokenizer = Tokenizer.from_file(str(tmp_path / "new" / "tokenizer.json"))
    encodings = tokenizer.encode_batch(NEW_TEXTS)
    inputs = {
        "input_ids": np.array([encoding.ids for encoding in encodings]),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
    }
    first, *_ = onnxruntime.InferenceSession(tmp_path / "new" / "model.onnx").run(None, inputs)
    expected = pipeline.predict if pipeline.classes_ is None else pipeline.predict_proba
    np.testing.assert_allclose(first, expected(NEW_TEXTS), atol=1e-5)


def test_a_report_equals_that_of_model2vec(pipelines):
    for kind, labels in (("labels", NEW_LABELS), ("many labels", many_labeled(90, seed=1)[1])):
        texts = NEW_TEXTS if kind == "labels" else many_labeled(90, seed=1)[0]
        predictions = pipelines[kind][0].predict(texts)
        ours = inference.evaluate_single_or_multi_label(predictions, labels)
        theirs = their_inference.evaluate_single_or_multi_label(predictions, labels)
        assert list(ours) == list(theirs)
        for name, scores in theirs.items():
            assert ours[name] == pytest.approx(scores), name


def test_a_pipeline_is_published_on_the_hub(session_hub, pipelines):
    pipelines["numbers"][0].push_to_hub("tester/numbers", token="hf_loopback")
    assert_agree(inference.StaticModelPipeline.from_pretrained("tester/numbers"), pipelines["numbers"][0])
    static = StaticModel.of(model())
    static.push_to_hub("tester/plain", token="hf_loopback")
    with pytest.raises(NotFoundError, match="contains no head.safetensors"):
        inference.StaticModelPipeline.from_pretrained("tester/plain")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": TEXTS[:3]}, "X and y must have the same length, but have 3 and 150"),
        ({"X": "one text"}, "X must be a list"),
        ({"X": [*TEXTS[:-1], 5]}, r"All texts in X must be strings, but text 149"),
        ({"y": [1.5] * 150}, "labels must be text or whole numbers"),
        ({"X_val": TEXTS}, "X_val and y_val, or neither"),
        ({"X_val": TEXTS[:1], "y_val": ["sky"]}, "not in y: 'sky'"),
        ({"X_val": TEXTS[:1], "y_val": [["sea"]]}, "multi-label"),
        ({"token_dropout": 1}, "token_dropout"),
        ({"focal_gamma": -1}, "focal_gamma"),
        ({"class_weight": {"sea": 1.0}}, "class_weight must have a weight for each"),
        ({"X": TEXTS[:1], "y": LABELS[:1]}, "two texts or more"),
    ],
)
def test_invalid_input_is_rejected(arguments, message, static_models):
    trainable = train.StaticModelForClassification.from_static_model(model=static_models[0])
    with pytest.raises(InputError, match=message):
        trainable.fit(**{"X": TEXTS, "y": LABELS, "max_epochs": 1} | arguments)


@pytest.mark.parametrize(("activation", "classes"), [("softmax", None), ("sigmoid", None), ("identity", ["a", "b"])])
def test_classes_must_match_the_activation(activation, classes):
    layer = inference.mlp.Layer(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    with pytest.raises(InputError, match="Pass classes with softmax"):
        inference.mlp.MLPHead([layer], activation, classes)
