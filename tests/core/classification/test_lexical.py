"""The head on tokens, compared with scikit-learn on embeddings and counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from m2v_core.classification import StaticClassifier, regression
from m2v_core.classification.labels import checked_labels
from m2v_core.classification.regression import TOKEN_SHARE, TOKEN_STRENGTHS, fitted_head, row_counts
from tests.core.classification.texts import labeled, many_labeled, model
from tests.static_models import TEXTS as ANY_TEXTS

FORMS = {
    "float32": {},
    "float16": {"dtype": "float16"},
    "int8": {"dtype": "int8"},
    "shared rows": {"n_clusters": 60},
    "not normalized": {"normalize": False},
}
NEW_TEXTS, NEW_LABELS = labeled(200, 4, seed=1)
# Two dimensions are too few for four topics, but the tokens distinguish them.
NARROW = model().compressed(dimensionality=2)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20)
@given(texts=st.lists(st.sampled_from([*ANY_TEXTS, "", "\U0001f984", "sea sea shells"]), max_size=8))
def test_counts_times_the_table_are_embeddings(form, texts):
    start = model(**FORMS[form])
    found = row_counts(start, texts) @ start.token_embeddings.astype(np.float32)
    np.testing.assert_allclose(found, start.encode(texts), atol=2e-5)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_it_equals_the_regression_of_scikit_learn(n_labels):
    """Compares with dense features computed here, and with sums over the words of each text."""
    texts, labels = labeled(150, n_labels)
    start = model()
    learned = checked_labels(labels, len(texts))
    embeddings, counts = start.encode(texts), row_counts(start, texts)
    fitted = fitted_head(start, embeddings, counts, learned, 0.1, balanced=True)
    ours = StaticClassifier(*fitted.merge_into(start, fitted.inputs(embeddings, counts)))
    assert ours.model.dim == start.dim + (1 if n_labels == 2 else 3)

    table = start.token_embeddings.astype(float)

    def words_of(texts):
        counts = np.zeros((len(texts), len(table)))
        for row, ids in zip(counts, start.tokenize(texts), strict=True):
            np.add.at(row, ids, 1)
            row /= max(np.linalg.norm(row @ table), 1e-12)
        return counts * np.linalg.norm(table, axis=1)

    words = words_of(texts)
    words_share = TOKEN_SHARE * np.sqrt(start.dim / np.square(words).sum(axis=1).mean())
    scaler = StandardScaler().fit(start.encode(texts))

    def features_of(texts):
        return np.concatenate([scaler.transform(start.encode(texts)), words_share * words_of(texts)], axis=1)

    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000, tol=1e-8)
    theirs = regression.fit(features_of(texts), labels)
    new_texts, _ = labeled(60, n_labels, seed=1)
    np.testing.assert_allclose(ours.predict_proba(new_texts), theirs.predict_proba(features_of(new_texts)), atol=5e-3)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_saved_with_the_table(form, tmp_path):
    start = model(**FORMS[form]).compressed(dimensionality=2)
    before = start.token_embeddings.copy()
    found = StaticClassifier(start).fit(*labeled(200, 4))
    assert found.training.reads_tokens and found.model.dim == start.dim + 4
    np.testing.assert_array_equal(start.token_embeddings, before)
    found.save_pretrained(tmp_path / "found")
    loaded = StaticClassifier.from_pretrained(tmp_path / "found")
    np.testing.assert_allclose(loaded.predict_proba(NEW_TEXTS), found.predict_proba(NEW_TEXTS), atol=1e-6)
    assert loaded.training == found.training
    embeddings, longer = start.encode(NEW_TEXTS), found.model.encode(NEW_TEXTS)
    if start.normalize:
        np.testing.assert_allclose(longer[:, : start.dim], embeddings, atol=2e-2)


def test_it_is_better_than_embeddings_alone():
    texts, labels = labeled(200, 4)
    alone = StaticClassifier(NARROW).fit(texts, labels, read_tokens=False)
    both = StaticClassifier(NARROW).fit(texts, labels)
    assert alone.model is NARROW and not alone.training.reads_tokens
    assert both.training.strength in TOKEN_STRENGTHS
    assert both.evaluate(NEW_TEXTS, NEW_LABELS).accuracy > alone.evaluate(NEW_TEXTS, NEW_LABELS).accuracy + 0.2


def test_several_labels():
    texts, labels = many_labeled(200)
    new_texts, new_labels = many_labeled(200, seed=1)
    alone = StaticClassifier(NARROW).fit(texts, labels, read_tokens=False)
    both = StaticClassifier(NARROW).fit(texts, labels)
    assert both.training.reads_tokens and both.model.dim == NARROW.dim + 3
    assert both.evaluate(new_texts, new_labels).macro_f1 > alone.evaluate(new_texts, new_labels).macro_f1


@pytest.mark.parametrize("n_labels", [2, 4])
def test_training_again_removes_the_previous_labels(n_labels, tmp_path):
    texts, labels = labeled(200, 4)
    first = labels if n_labels == 4 else [str(label in ("sea", "fox")) for label in labels]
    found = StaticClassifier(NARROW).fit(texts, first)
    assert found.training.reads_tokens
    found.save_pretrained(tmp_path / "found")
    for again in (found, StaticClassifier.from_pretrained(tmp_path / "found")):
        again.fit(*labeled(200, 4))
        fresh = StaticClassifier(NARROW).fit(*labeled(200, 4))
        assert again.model.dim == NARROW.dim + 4
        np.testing.assert_allclose(again.predict_proba(NEW_TEXTS), fresh.predict_proba(NEW_TEXTS), atol=1e-5)


def test_conditions_for_not_using_tokens(monkeypatch):
    few = StaticClassifier(NARROW).fit(*labeled(90, 3))
    assert not few.training.reads_tokens and few.model is NARROW
    monkeypatch.setattr(regression, "MAX_WORK", 500)
    much = StaticClassifier(NARROW).fit(*labeled(200, 3))
    assert not much.training.reads_tokens and much.model is NARROW


def test_texts_of_unknown_tokens():
    found = StaticClassifier(NARROW).fit(["\U0001f984"] * 200, ["a", "b"] * 100)
    assert np.isfinite(found.predict_proba(["\U0001f984", "sea", ""])).all()
