"""Fine-tuning: which rows change, and that the saved model equals the trained one."""

from __future__ import annotations

import numpy as np
import pytest

from m2v_core.classification import StaticClassifier, finetuning
from m2v_core.classification.finetuning import Bags, full_table
from tests.core.classification.texts import labeled, many_labeled, model
from tests.static_models import TEXTS as ANY_TEXTS

TEXTS, LABELS = labeled(200, 4)
NEW_TEXTS, NEW_LABELS = labeled(200, 4, seed=1)
# Two dimensions are too few for four topics unless the table is trained.
NARROW = model().compressed(dimensionality=2)
FORMS = {
    "float32": {},
    "float16": {"dtype": "float16"},
    "int8": {"dtype": "int8"},
    "shared rows": {"n_clusters": 60},
    "not normalized": {"normalize": False},
}


def test_it_is_better_than_the_frozen_table():
    frozen = StaticClassifier(NARROW).fit(TEXTS, LABELS, read_tokens=False)
    tuned = StaticClassifier(NARROW).fit(TEXTS, LABELS, fine_tune=True)
    assert tuned.training.n_epochs > 0
    assert frozen.training.n_epochs is None
    assert tuned.evaluate(NEW_TEXTS, NEW_LABELS).accuracy > frozen.evaluate(NEW_TEXTS, NEW_LABELS).accuracy + 0.05


@pytest.mark.parametrize("form", FORMS)
def test_the_saved_model_equals_the_trained_one(form, tmp_path):
    start = model(**FORMS[form])
    tuned = StaticClassifier(start).fit(TEXTS, LABELS, fine_tune=True, max_epochs=3)
    assert tuned.training.n_epochs > 0
    assert tuned.model is not start
    tuned.save_pretrained(tmp_path / "tuned")
    loaded = StaticClassifier.from_pretrained(tmp_path / "tuned")
    np.testing.assert_allclose(loaded.predict_proba(NEW_TEXTS), tuned.predict_proba(NEW_TEXTS), atol=1e-6)
    assert loaded.training == tuned.training


def test_rows_of_tokens_that_do_not_occur_are_unchanged():
    start = model()
    tuned = StaticClassifier(start).fit(TEXTS, LABELS, fine_tune=True, max_epochs=3).model
    used = sorted({token for ids in start.tokenize(TEXTS) for token in ids})
    unused = sorted(set(range(len(start.tokens))) - set(used))
    assert unused
    np.testing.assert_array_equal(tuned.token_embeddings[unused], start.token_embeddings[unused])
    assert (tuned.token_embeddings[used] != start.token_embeddings[used]).any(axis=1).mean() > 0.5


@pytest.mark.parametrize("form", FORMS)
def test_torch_computes_the_same_embeddings_as_the_model(form):
    import torch

    start = model(**FORMS[form])
    ids = [np.array(of_text, dtype=np.int64) for of_text in start.tokenize(ANY_TEXTS, start.max_length)]
    embeddings = finetuning._embeddings(torch.from_numpy(full_table(start)), Bags.of(ids), start.normalize, None)
    np.testing.assert_allclose(embeddings.numpy(), start.encode(ANY_TEXTS), atol=2e-5)


def test_the_same_seed_gives_the_same_table():
    first, second, other = (
        StaticClassifier(NARROW).fit(TEXTS, LABELS, fine_tune=True, max_epochs=4, seed=seed).model.token_embeddings
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_several_labels():
    texts, labels = many_labeled(200)
    new_texts, new_labels = many_labeled(200, seed=1)
    frozen = StaticClassifier(NARROW).fit(texts, labels, read_tokens=False)
    tuned = StaticClassifier(NARROW).fit(texts, labels, fine_tune=True)
    assert tuned.evaluate(new_texts, new_labels).macro_f1 > frozen.evaluate(new_texts, new_labels).macro_f1


def test_texts_of_unknown_tokens_do_not_change_the_table():
    start = model()
    tuned = StaticClassifier(start).fit(["\U0001f984"] * 8, ["a", "b"] * 4, fine_tune=True)
    assert tuned.training.n_epochs == 0
    assert tuned.model is start
