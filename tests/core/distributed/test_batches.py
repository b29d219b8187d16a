"""The callable for engines with Arrow tables."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from m2v_core.bulk.run import encode_file
from m2v_core.distributed.batches import BatchEncoder
from m2v_core.errors import InputError, NotFoundError
from tests.core.distributed.files import vectors_of
from tests.static_models import DIM, TEXTS, static_model

TABLE = pyarrow.table({"id": range(len(TEXTS)), "text": list(TEXTS), "tag": ["x"] * len(TEXTS)})
NUMBERS = {"float32": pyarrow.float32(), "float16": pyarrow.float16(), "int8": pyarrow.int8()}


@pytest.mark.parametrize("dtype", NUMBERS)
def test_columns_are_kept_and_vectors_added(dtype, model, model_folder):
    found = BatchEncoder(model_folder, dtype=dtype)(TABLE)
    added = ["embedding", "embedding_scale"] if dtype == "int8" else ["embedding"]
    assert found.column_names == ["id", "text", "tag", *added]
    assert found.select(["id", "text", "tag"]).equals(TABLE)
    assert found.schema.field("embedding").type == pyarrow.list_(NUMBERS[dtype], DIM)
    vectors, expected = vectors_of(found), model.encode(list(TEXTS))
    if dtype == "int8":
        scales = found["embedding_scale"].to_numpy()
        assert found.schema.field("embedding_scale").type == pyarrow.float32()
        # At most half a level, in units of each row's own scale.
        assert np.abs(vectors - expected / scales[:, None]).max() <= 0.5 + 1e-4
        assert (np.abs(vectors).max(axis=1)[expected.any(axis=1)] == 127).all()
    else:
        np.testing.assert_array_equal(vectors, expected.astype(dtype))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_the_same_as_encoding_a_file(dtype, model, model_folder, tmp_path):
    parquet.write_table(TABLE, tmp_path / "texts.parquet")
    encode_file(model, tmp_path / "texts.parquet", tmp_path / "vectors.parquet", dtype=dtype)
    assert parquet.read_table(tmp_path / "vectors.parquet").equals(BatchEncoder(model_folder, dtype=dtype)(TABLE))


def test_a_pickle_contains_only_the_name_of_the_model(model_folder):
    encode_batch = BatchEncoder(model_folder, "text", max_length=3, normalize=False)
    expected = encode_batch(TABLE)  # the model is now loaded, and must not be pickled
    pickled = pickle.dumps(encode_batch)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)(TABLE).equals(expected)
    np.testing.assert_array_equal(
        vectors_of(expected), static_model().encode(list(TEXTS), max_length=3, normalize=False)
    )


@pytest.mark.parametrize("kind", [pyarrow.large_string(), pyarrow.string_view(), pyarrow.dictionary("int32", "string")])
def test_every_kind_of_strings(kind, model, model_folder):
    table = pyarrow.table({"body": pyarrow.array(list(TEXTS)).cast(kind)})
    found = BatchEncoder(model_folder)(table)
    np.testing.assert_array_equal(vectors_of(found), model.encode(list(TEXTS)))
    assert found.schema.field("body").type == kind


@pytest.fixture(scope="module")
def encoders(model_folder):
    return BatchEncoder(model_folder), BatchEncoder(model_folder, on_error="skip")


TEXT_LISTS = st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=12), max_size=12)


@given(texts=TEXT_LISTS, cut=st.integers(0, 12))
@settings(deadline=None, max_examples=50)
def test_any_batches_give_the_same_rows_as_the_whole_table(texts, cut, encoders, model):
    table = pyarrow.table({"id": pyarrow.array(range(len(texts)), "int64"), "text": pyarrow.array(texts, "string")})
    parts = [encoders[1](table.slice(0, cut)), encoders[1](table.slice(cut))]
    kept = [(i, text) for i, text in enumerate(texts) if text is not None]
    joined = pyarrow.concat_tables(parts)
    assert joined["id"].to_pylist() == [i for i, _ in kept]
    expected = np.array([model.encode(text) for _, text in kept], np.float32).reshape(-1, DIM)
    np.testing.assert_allclose(vectors_of(joined), expected, atol=1e-6)
    if len(kept) < len(texts):
        with pytest.raises(InputError, match=f"row {texts.index(None) + 1}, has null instead of a text under 'text'"):
            encoders[0](table)


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        (pyarrow.table({"a": ["x"], "b": ["y"]}), {}, "no column 'text'"),
        (pyarrow.table({"text": ["x"]}), {"column": "body"}, "no column 'body'"),
        (pyarrow.table({"text": [1]}), {}, "contains int64, not strings"),
        (pyarrow.table({"text": ["x"], "embedding": [1]}), {}, "already has a column 'embedding'"),
        (
            pyarrow.table({"text": ["x"], "v_scale": [1]}),
            {"embedding_column": "v", "dtype": "int8"},
            "already has a column 'v_scale'",
        ),
        (pyarrow.table({"text": ["x"]}), {"max_length": 0}, "max_length"),
    ],
)
def test_invalid_tables(table, arguments, message, model_folder):
    with pytest.raises(InputError, match=message):
        BatchEncoder(model_folder, **arguments)(table)


def test_arguments_that_are_not_allowed(model_folder, tmp_path):
    with pytest.raises(InputError, match="dtype must be one of float32, float16, int8, not 'int4'"):
        BatchEncoder(model_folder, dtype="int4")
    with pytest.raises(InputError, match="on_error must be one of fail, skip"):
        BatchEncoder(model_folder, on_error="ignore")
    with pytest.raises(NotFoundError):
        BatchEncoder(tmp_path / "absent")(TABLE)
