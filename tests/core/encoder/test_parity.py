"""Every path returns the ids that the tokenizer returns for whole texts, whatever is in the cache."""

from __future__ import annotations

import contextlib
import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2v_core.encoder.engine import Engine
from m2v_core.model import StaticModel
from tests.core.encoder import forms
from tests.core.encoder.paths import PATHS, engine, judged
from tests.static_models import TEXTS, random_table, slow_embedding

EVERY_TEXT = (*TEXTS, *forms.PHRASES, *forms.SPECIAL, " ".join(forms.ODD), "".join(forms.ODD), " ".join(forms.SPACES))
PHRASED = (
    "new york city hello new york ice cream\tICE \xad CREAM ice\u200bcream, ice  cream ice \x01 cream new  york  city"
)


@pytest.fixture(scope="module", params=forms.CHUNKABLE)
def form(request: pytest.FixtureRequest) -> str:
    """Each form of a tokenizer in turn."""
    return request.param


@cache
def warm_engine(form: str, path: str) -> Engine:
    """An engine whose cache contains the chunks of all texts so far."""
    return engine(path, forms.tokenizer(form))


def test_every_form_is_processed_chunk_by_chunk(form):
    assert warm_engine(form, "subwords").plain_path_reason is None


@settings(deadline=None, max_examples=40)
@given(
    blocks=st.lists(st.lists(forms.texts, min_size=1, max_size=5), min_size=1, max_size=2),
    max_length=st.none() | st.integers(1, 12),
)
def test_ids_are_those_of_whole_texts(form, blocks, max_length):
    tokenizer = forms.tokenizer(form)
    for path in PATHS:
        for reader in (engine(path, tokenizer), warm_engine(form, path)):
            for block in (*blocks, blocks[0]):
                expected = [judged(tokenizer, text, max_length) for text in block]
                assert reader.token_ids(block, max_length) == expected, path


@pytest.mark.parametrize("path", PATHS)
def test_every_limit_truncates_where_the_tokenizer_does(form, path):
    tokenizer = forms.tokenizer(form)
    reader = engine(path, tokenizer)
    texts = [*TEXTS[:3], PHRASED, "the [MASK]<mask> ice \u0301cream  <s>\n\nnew york.city </s>\r\n unbelievable"]
    for max_length in (*range(1, 33), 10**6, 10**30):
        assert reader.token_ids(texts, max_length) == [judged(tokenizer, text, max_length) for text in texts]


@pytest.mark.parametrize("path", PATHS)
def test_long_and_odd_texts(form, path):
    tokenizer = forms.tokenizer(form)
    reader = engine(path, tokenizer)
    texts = [*forms.LONG_TEXTS, *EVERY_TEXT, *(f"a {odd} b{odd} {odd}c" for odd in (*forms.ODD, *forms.WIDE_SPACES))]
    expected = [judged(tokenizer, text) for text in texts]
    assert reader.token_ids(texts, None) == expected
    assert reader.token_ids(texts[::-1], None) == expected[::-1]
    assert [reader.token_ids([text], None)[0] for text in texts[-100:]] == expected[-100:]


@pytest.mark.parametrize("path", PATHS)
def test_cached_ids_do_not_depend_on_position(form, path):
    """A chunk has the same ids at every position."""
    tokenizer = forms.tokenizer(form)
    chunks = ["a", "\n", "\ufffd", "\xad", "\u0301b", "ice", "cream", "<mask>", "\u2581", "\t.", "'s"]
    alone = [*chunks, *(f" {chunk}" for chunk in chunks), *(f"{chunk} " for chunk in chunks)]
    together = [f"{one} {other}" for one in chunks for other in chunks]
    together += [f"a {one} {other}b" for one in chunks for other in chunks]
    for first, second in ((alone, together), (together, alone)):
        reader = engine(path, tokenizer)
        reader.token_ids(first, None)
        assert reader.token_ids(second, None) == [judged(tokenizer, text) for text in second]


@cache
def model_of(form: str, path: str) -> StaticModel:
    """A model of the form that uses only this path."""
    tokenizer = forms.tokenizer(form)
    rows = random_table(tokenizer.get_vocab_size(with_added_tokens=True), 5)
    model = StaticModel(rows, tokenizer, normalize=False)
    own = model._engine
    model._engine = PATHS[path](own._table, own._tokenizer, own._characters_per_token)
    return model


@settings(deadline=None, max_examples=10)
@given(texts=st.lists(forms.texts, min_size=2, max_size=5), max_length=st.none() | st.integers(1, 9))
def test_a_model_encodes_what_it_tokenizes(form, texts, max_length):
    for path in PATHS:
        model = model_of(form, path)
        embeddings = model.encode(texts, max_length=max_length)
        expected = [slow_embedding(model, text, max_length) for text in texts]
        np.testing.assert_allclose(embeddings, expected, rtol=1e-6, atol=2e-6)
        ids = model.tokenize(texts, max_length=max_length)
        for rows, ids_of_text in zip(model.encode_as_sequence(texts, max_length=max_length), ids, strict=True):
            np.testing.assert_array_equal(rows, model.token_embeddings[ids_of_text].reshape(-1, 5))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("\ud800", "\ufffd"),
        ("a \udfff b", "a \ufffd b"),
        ("\ud83e\udd84 fox", "\U0001f984 fox"),
        ("\udd84\ud83e", "\ufffd\ufffd"),
        ("x" * 9 + "\ud800", "x" * 9 + "\ufffd"),
    ],
)
def test_lone_surrogates(form, path, text, read_as):
    tokenizer = forms.tokenizer(form)
    reader = engine(path, tokenizer)
    texts = ["the fox", text, "", f"{text} {text}"]
    for _ in "cold", "warm":
        is_lost = "\ufffd" in read_as  # joining a pair does not warn
        with pytest.warns(UserWarning, match=r"U\+FFFD") if is_lost else contextlib.nullcontext():
            ids = reader.token_ids(texts, None)
        assert ids == [judged(tokenizer, t.replace(text, read_as)) for t in texts]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.token_ids(["the fox", read_as], None)
