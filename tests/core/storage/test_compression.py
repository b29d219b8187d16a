from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m2v_core.errors import InputError, MissingExtraError, ModelFormatError
from m2v_core.model import StaticModel
from m2v_core.storage.compression import checked_table, quantize, quantize_vocabulary, truncate
from tests.static_models import DIM, TEXTS, TOKENIZERS, random_table, static_model

finite = st.floats(-1e4, 1e4, width=32)
tables = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=finite)


def meaning(table, weights, mapping=None):
    """The vector of each token, (n_vocabulary, dim) float64."""
    rows = table if mapping is None else table[mapping]
    return rows.astype(np.float64) * (1.0 if weights is None else weights.astype(np.float64)[:, None])


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@settings(deadline=None)
@given(tables, st.booleans())
def test_int8_is_within_half_a_level_of_each_row(table, is_weighted):
    old_weights = np.linspace(0.5, 2, len(table), dtype=np.float32) if is_weighted else None
    levels, weights = quantize(table, old_weights, None, "int8")
    assert levels.dtype == np.int8
    assert weights.dtype == np.float32
    assert abs(levels.astype(int)).max(initial=0) <= 127
    before = meaning(table, old_weights)
    half_levels = np.abs(before).max(axis=1, keepdims=True) / 127 / 2
    assert (np.abs(meaning(levels, weights) - before) <= half_levels * 1.001 + 1e-30).all()


def test_int8_keeps_directions_where_one_scale_for_all_would_not():
    table = random_table(500, dim=256)
    levels, weights = quantize(table, None, None, "int8")
    assert cosines(meaning(levels, weights), table).min() >= 0.9999
    crude = np.rint(table / np.abs(table).max() * 127)
    assert cosines(crude[:100], table[:100]).min() < 0.95


def test_the_scale_of_shared_rows_goes_to_every_token():
    table, mapping = random_table(4), np.array([3, 0, 0, 2, 1, 3], dtype=np.int32)
    weights = np.arange(1, 7, dtype=np.float32)
    levels, scaled = quantize(table, weights, mapping, "int8")
    np.testing.assert_allclose(scaled, weights * (np.abs(table).max(axis=1) / 127)[mapping], rtol=1e-6)
    assert cosines(meaning(levels, scaled, mapping), meaning(table, weights, mapping)).min() > 0.999
    for dtype in ("float32", "float16"):
        back, kept = quantize(levels, scaled, mapping, dtype)
        np.testing.assert_array_equal(meaning(back, kept, mapping), meaning(levels, scaled, mapping))


def test_int8_can_be_converted_back_with_its_weights():
    table = random_table(50)
    levels, weights = quantize(table, None, None, "int8")
    back, none_left = quantize(levels, weights, None, "float32")
    assert none_left is None
    np.testing.assert_allclose(back, meaning(levels, weights), rtol=1e-6)


def test_int8_without_weights_needs_no_scale():
    plain = np.array([[127, -3], [0, 64]], dtype=np.int8)
    back, weights = quantize(plain, None, None, "float16")
    assert weights is None
    np.testing.assert_array_equal(back, plain)
    tokenizer = TOKENIZERS["WordLevel"]()
    model = StaticModel(plain[:1].repeat(tokenizer.get_vocab_size(), axis=0), tokenizer)
    np.testing.assert_allclose(model.encode("the"), plain[0] / np.linalg.norm(plain[0].astype(float)), rtol=1e-6)


def test_zero_rows_stay_zero():
    table = random_table(3)
    table[1] = 0
    levels, weights = quantize(table, None, None, "int8")
    assert not levels[1].any()
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_table_in_the_requested_format_is_not_changed(dtype):
    table, weights = random_table(5).astype(dtype), np.ones(5, np.float32)
    kept, kept_weights = quantize(table, weights, None, dtype)
    np.testing.assert_array_equal(kept, table)
    assert kept_weights is weights
    assert quantize(table[:, ::2], None, None, dtype)[0].flags.c_contiguous


def test_float64_is_rejected_with_a_reason():
    with pytest.raises(InputError, match=r"float64 .* other readers .* 'float32'"):
        quantize(random_table(3), None, None, "float64")


def test_an_unknown_format_is_rejected_with_the_allowed_values():
    with pytest.raises(InputError, match="'float32', 'float16', 'int8', not 'int4'"):
        static_model().compressed(quantize_to="int4")


def test_float16_that_would_overflow_is_rejected():
    with pytest.raises(InputError, match=r"65504.*7e\+04"):
        quantize(np.array([[70_000.0]], np.float32), None, None, "float16")
    table, _ = quantize(np.array([[-65_504.0]], np.float32), None, None, "float16")
    assert np.isfinite(table).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_truncation_keeps_the_first_dimensions(dtype):
    table = random_table(5).astype(dtype)
    short = truncate(table, 3)
    np.testing.assert_array_equal(short, table[:, :3])
    assert short.dtype == dtype
    assert short.flags.c_contiguous


@pytest.mark.parametrize("dimensionality", [0, -1, DIM + 1, 2.0, "3", True])
def test_a_width_out_of_range_is_rejected(dimensionality):
    with pytest.raises(InputError, match=f"1 to {DIM}, not {dimensionality!r}"):
        static_model().compressed(dimensionality=dimensionality)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_shared_rows_stand_for_their_tokens(dtype):
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((5, 16))
    groups = rng.integers(0, 5, 80)
    lengths = rng.uniform(1, 50, 80)
    table = (directions[groups] + 0.01 * rng.standard_normal((80, 16))) * lengths[:, None]
    table, old_weights = quantize(table.astype(np.float32), None, None, dtype)
    centroids, mapping, weights = quantize_vocabulary(table, old_weights, 5, seed=3)
    assert centroids.shape == (5, 16)
    assert centroids.dtype == ("float32" if dtype == "int8" else dtype)
    assert (mapping.dtype, weights.dtype) == (np.int32, np.float32)
    after, before = meaning(centroids, weights, mapping), meaning(table, old_weights)
    assert cosines(after, before).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1), rtol=0.02)


def test_given_weights_do_not_affect_the_clusters():
    table, weights = random_table(40), np.linspace(1, 9, 40, dtype=np.float32)
    _, mapping, kept = quantize_vocabulary(table, weights, 6)
    np.testing.assert_array_equal(kept, weights)
    np.testing.assert_array_equal(mapping, quantize_vocabulary(table, np.ones(40, np.float32), 6)[1])


def test_as_many_clusters_as_rows_lose_nothing():
    table = random_table(12)
    centroids, mapping, weights = quantize_vocabulary(table, None, 12)
    np.testing.assert_allclose(meaning(centroids, weights, mapping), table, rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_clusters():
    table = random_table(60)
    one, again, other = (quantize_vocabulary(table, None, 7, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("n_clusters", [0, -5, 61, 2.5, "9", True])
def test_a_number_of_clusters_out_of_range_is_rejected(n_clusters):
    with pytest.raises(InputError, match=f"1 to 60, .*not {n_clusters!r}"):
        quantize_vocabulary(random_table(60), None, n_clusters)


def test_a_vocabulary_is_quantized_only_once():
    with pytest.raises(InputError, match="already quantized to 9 rows"):
        static_model(n_clusters=9).compressed(vocabulary_quantization=5)


def test_without_scikit_learn_the_error_names_the_command_in_the_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        quantize_vocabulary(random_table(5), None, 2)


def test_scikit_learn_is_loaded_only_when_needed():
    code = "import sys, m2v_core.model; sys.exit('sklearn' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_compressed_models_agree_with_the_full_one(kind, dtype):
    full = static_model(kind)
    compressed = full.compressed(quantize_to=dtype)
    assert compressed.token_embeddings.dtype == dtype
    similarity = np.diag(StaticModel.similarity(full.encode(TEXTS[:5]), compressed.encode(TEXTS[:5])))
    assert similarity.min() > 0.999
    assert full.token_embeddings.dtype == np.float32


def test_all_compressions_together():
    model = static_model(dtype="int8").compressed("int8", dimensionality=6, vocabulary_quantization=15)
    assert model.token_embeddings.shape == (15, 6)
    assert model.token_embeddings.dtype == np.int8
    assert model.token_mapping.max() < 15
    norms = np.linalg.norm(model.encode(TEXTS[:4]), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_the_number_format_survives_other_compression():
    for dtype in ("float32", "float16", "int8"):
        model = static_model(dtype=dtype)
        assert model.compressed(dimensionality=5).token_embeddings.dtype == dtype
        assert model.compressed(vocabulary_quantization=5).token_embeddings.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
@pytest.mark.parametrize("row", [0, 1_234, 2_999])
def test_the_first_row_that_is_not_finite_is_named_in_the_error(dtype, value, row):
    table = np.full((3_000, 100), np.finfo(dtype).min, dtype)
    table[::2] = np.finfo(dtype).max
    assert checked_table(table) is table
    table[row, 57] = table[2_999, 3] = value
    with pytest.raises(ModelFormatError, match=f"first in row {row:,}\\."):
        checked_table(table)
    with pytest.raises(ModelFormatError, match="first in row 0\\."):
        checked_table(table[::-1, 1::2])  # not contiguous


@settings(max_examples=200)
@given(hnp.arrays(np.float16, (2, 3), elements=st.floats(width=16)))
def test_float16_is_checked_bit_by_bit(table):
    if np.isfinite(table).all():
        checked_table(table)
    else:
        with pytest.raises(ModelFormatError):
            checked_table(table)
