"""Training and applying a classifier, compared with scikit-learn."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, classification_report
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

from m2v_core.classification import StaticClassifier
from m2v_core.classification.head import Head, Layer
from m2v_core.classification.labels import checked_labels, held_out_split
from m2v_core.classification.regression import STRENGTHS
from m2v_core.errors import Cancelled, InputError
from m2v_core.progress import Progress
from tests.core.classification.texts import labeled, many_labeled, model

MODEL = model()
TEXTS, LABELS = labeled()
NEW_TEXTS, NEW_LABELS = labeled(60, seed=1)


@pytest.fixture(scope="module")
def fitted():
    return StaticClassifier(MODEL).fit(TEXTS, LABELS)


@pytest.mark.parametrize("class_weight", ["balanced", None])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_probabilities_are_those_of_scikit_learn(n_labels, class_weight):
    texts, labels = labeled(121, n_labels)
    texts, labels = texts[:-30] + texts[-30::2], labels[:-30] + labels[-30::2]  # uneven class sizes
    ours = StaticClassifier(MODEL).fit(texts, labels, class_weight=class_weight, read_tokens=False)
    regression = LogisticRegression(C=ours.training.strength, class_weight=class_weight, max_iter=2000)
    theirs = make_pipeline(StandardScaler(), regression).fit(MODEL.encode(texts), labels)
    assert list(ours.classes_) == list(theirs.classes_)
    np.testing.assert_allclose(ours.predict_proba(NEW_TEXTS), theirs.predict_proba(MODEL.encode(NEW_TEXTS)), atol=2e-5)
    assert list(ours.predict(NEW_TEXTS)) == list(theirs.predict(MODEL.encode(NEW_TEXTS)))


def test_several_labels_use_one_regression_each():
    texts, labels = many_labeled()
    ours = StaticClassifier(MODEL).fit(texts, labels, read_tokens=False)
    binarizer = MultiLabelBinarizer()
    regression = OneVsRestClassifier(LogisticRegression(C=ours.training.strength, max_iter=2000))
    theirs = make_pipeline(StandardScaler(), regression).fit(MODEL.encode(texts), binarizer.fit_transform(labels))
    assert ours.is_multi_label
    assert list(ours.classes_) == list(binarizer.classes_)
    new_texts, _ = many_labeled(40, seed=1)
    probabilities = theirs.predict_proba(MODEL.encode(new_texts))
    np.testing.assert_allclose(ours.predict_proba(new_texts), probabilities, atol=2e-5)
    for threshold in (0.5, 0.2):
        found = [set(names) for names in ours.predict(new_texts, threshold)]
        assert found == [set(binarizer.classes_[row > threshold]) for row in probabilities]


def test_it_predicts_the_training_labels(fitted):
    assert fitted.evaluate(NEW_TEXTS, NEW_LABELS).accuracy > 0.85
    assert fitted.training.strength in STRENGTHS
    assert fitted.training.n_held_out == 12
    assert 0.5 < fitted.training.accuracy <= 1


def test_the_same_call_gives_the_same_head():
    first, second = (StaticClassifier(MODEL).fit(TEXTS, LABELS, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.head.layers[0].weight, second.head.layers[0].weight)
    assert first.training == second.training


def test_one_text_gives_one_row(fitted):
    assert fitted.predict("sea shells").tolist() == ["sea"]
    assert fitted.predict_proba("sea shells").shape == (1, 3)
    assert fitted.predict([]).shape == (0,)
    assert fitted.predict_proba([]).shape == (0, 3)


def test_labels_keep_their_type():
    numbers = [{"sea": 3, "fox": -1, "rows": 7}[label] for label in LABELS]
    for given_as in (numbers, np.array(numbers), np.array(numbers, dtype=np.int8)):
        found = StaticClassifier(MODEL).fit(TEXTS, given_as)
        assert found.classes_.tolist() == [-1, 3, 7]
        assert found.predict(TEXTS[:1]).dtype.kind == "i"


def test_a_rare_label_is_predicted_with_balanced_weights():
    texts, labels = labeled(400, 2)
    rare = [number for number, label in enumerate(labels) if label == "fox"][10:]
    texts = [text for number, text in enumerate(texts) if number not in rare]
    labels = [label for number, label in enumerate(labels) if number not in rare]
    new_texts, new_labels = labeled(200, 2, seed=1)
    recall = {}
    for weight in ("auto", None):
        report = StaticClassifier(MODEL).fit(texts, labels, class_weight=weight).evaluate(new_texts, new_labels)
        recall[weight] = next(label.recall for label in report.labels if label.label == "fox")
    assert recall["auto"] > 0.8 > recall[None]


def test_validation_data_replaces_held_out_texts():
    found = StaticClassifier(MODEL).fit(TEXTS, LABELS, validation_data=(NEW_TEXTS, NEW_LABELS))
    assert (found.training.n_texts, found.training.n_held_out) == (120, 60)
    assert found.training.accuracy == found.evaluate(NEW_TEXTS, NEW_LABELS).accuracy


def test_two_texts_per_label_are_enough():
    found = StaticClassifier(MODEL).fit(["sea shells", "shore", "lazy dog", "quick fox"], ["a", "a", "b", "b"])
    assert found.predict(["sea", "fox"]).tolist() == ["a", "b"]


def test_report_is_that_of_scikit_learn(fitted):
    truth = [*NEW_LABELS[:-3], "never learned", "never learned", "sea"]
    report = fitted.evaluate(NEW_TEXTS, truth)
    predicted = fitted.predict(NEW_TEXTS)
    expected = classification_report(truth, predicted, output_dict=True, zero_division=0)
    assert report.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert report.macro_f1 == pytest.approx(expected["macro avg"]["f1-score"])
    for score in report.labels:
        theirs = expected[score.label]
        found = (score.precision, score.recall, score.f1, score.n_texts)
        assert found == pytest.approx(tuple(theirs[key] for key in ("precision", "recall", "f1-score", "support")))


def test_report_on_several_labels_is_that_of_scikit_learn():
    texts, labels = many_labeled()
    found = StaticClassifier(MODEL).fit(texts, labels)
    new_texts, new_labels = many_labeled(40, seed=1)
    binarizer = MultiLabelBinarizer().fit(labels)
    truth, predicted = binarizer.transform(new_labels), binarizer.transform(found.predict(new_texts))
    expected = classification_report(truth, predicted, output_dict=True, zero_division=0)
    report = found.evaluate(new_texts, new_labels)
    assert report.macro_f1 == pytest.approx(expected["macro avg"]["f1-score"])
    assert report.accuracy == pytest.approx(accuracy_score(truth, predicted))


@given(st.lists(st.frozensets(st.sampled_from("abcdef")), min_size=4, max_size=40), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_training_texts_include_each_label_and_its_absence(labels, seed):
    counts = Counter(label for names in labels for label in names)
    keep = {label for label, count in counts.items() if 2 <= count < len(labels)}
    labels = [sorted(names & keep) for names in labels]
    if not keep:
        return
    members = checked_labels(labels, len(labels)).members
    train, held_out = held_out_split(members, 0.2, seed)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    assert members[train].any(axis=0).all()
    assert not members[train].all(axis=0).any()
    assert len(train) == len({*train.tolist()})


def test_the_same_share_of_each_label_is_held_out():
    labels = ["a"] * 200 + ["b"] * 40 + ["c"] * 2
    _, held_out = held_out_split(checked_labels(labels, len(labels)).members, 0.1, 0)
    assert Counter(np.array(labels)[held_out].tolist()) == {"a": 20, "b": 4, "c": 1}


FOUR = ["sea", "shore", "dog", "fox"]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "no training texts"),
        (FOUR, ["a"] * 4, "Every text has the label 'a'"),
        (FOUR, ["a", "a", "b", "a"], "only one text has: 'b' .*number 2"),
        ([*FOUR[:3], " "], ["a", "a", "b", "b"], "1 of the 4 texts are empty, first text 3"),
        (FOUR, ["a", "b"], "4 texts and 2 labels"),
        (FOUR, ["a", "a", "b", float("nan")], "text number 3 .* is missing"),
        (FOUR, ["a", "a", "b", None], "text number 3 .* is missing"),
        (FOUR, ["a", "a", "b", np.float64("nan")], "text number 3 .* is missing"),
        (FOUR, [1.0, 1.0, 2.0, 2.0], "number 0 .* is 1.0; labels must be text or whole numbers"),
        (FOUR, [True, True, False, False], "is True"),
        (FOUR, ["a", "a", 1, 1], "all whole numbers: label 1 of text number 2"),
        (FOUR, ["a", "a", ["b"], ["b"]], "all single or all lists: number 0 is 'a', number 2"),
        (FOUR, ["a", "a", "", ""], "visible character"),
        (FOUR, ["a", "a", "b\0", "b\0"], "visible character"),
        (FOUR, ["a", "a", "\ud800", "\ud800"], "lone surrogate"),
        (FOUR, [1, 1, 2**63, 2**63], "64 bits"),
        (FOUR, "aabb", "not str"),
        (FOUR, [["a"], ["a", "a"], ["b"], ["b"]], "number 1 has a label twice"),
        (FOUR, np.eye(4, 3, dtype=int), "twice"),
        (FOUR, [[], [], [], []], "No text has a label"),
        (FOUR, [["a", "b"], ["a", "b"], ["a"], ["a"]], "Every text has the label 'a'"),
        ([1, 2, 3, 4], ["a", "a", "b", "b"], "must be a string"),
    ],
)
def test_invalid_training_data_is_rejected(texts, labels, message):
    classifier = StaticClassifier(MODEL)
    with pytest.raises(InputError, match=message):
        classifier.fit(texts, labels)
    with pytest.raises(InputError, match="not been trained"):
        classifier.predict(["sea"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 0.0}, "validation must be"),
        ({"validation": float("nan")}, "validation must be"),
        ({"class_weight": "even"}, "class_weight"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"seed": -1}, "seed"),
        ({"validation_data": (["sea"], ["crow"])}, "validation_data: .*'crow'"),
        ({"validation_data": (["sea"], [["sea"]])}, "both be single labels or both be lists"),
        ({"validation_data": ([], [])}, "contains no texts"),
        ({"validation_data": ["sea"]}, "two lists"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(InputError, match=message):
        StaticClassifier(MODEL).fit(TEXTS, LABELS, **arguments)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "no texts"),
        (["sea"], ["sea", "fox"], "1 texts and 2 labels"),
        (["sea"], [["sea"]], "predicts one label per text, but the labels passed are lists"),
        (["sea"], [1], "labels are str.*but 1 is int"),
    ],
)
def test_invalid_evaluation_data_is_rejected(fitted, texts, labels, message):
    with pytest.raises(InputError, match=message):
        fitted.evaluate(texts, labels)


def test_other_invalid_input(fitted):
    with pytest.raises(InputError, match="threshold"):
        fitted.predict(["sea"], threshold=float("nan"))
    with pytest.raises(InputError, match="width 3, but the model's have 24"):
        StaticClassifier(
            MODEL, Head((Layer(np.zeros((2, 3), np.float32), np.zeros(2, np.float32)),), np.array(["a", "b"]), False)
        )


@pytest.mark.parametrize("fine_tune", [False, True])
def test_progress_and_cancel(fine_tune):
    events: list[Progress] = []
    StaticClassifier(MODEL).fit(TEXTS, LABELS, fine_tune=fine_tune, max_epochs=2, progress=events.append)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["encode", "head", "tune"][: 2 + fine_tune]
    for stage in stages[:2]:
        last = [event for event in events if event.stage == stage][-1]
        assert last.done == last.total > 0

    cancel = threading.Event()
    classifier = StaticClassifier(MODEL).fit(TEXTS, LABELS)
    before = classifier.head

    def stop(event: Progress) -> None:
        if event.stage == stages[-1] and event.done:
            cancel.set()

    with pytest.raises(Cancelled):
        classifier.fit(NEW_TEXTS, NEW_LABELS, fine_tune=fine_tune, progress=stop, cancel=cancel)
    assert classifier.head is before
