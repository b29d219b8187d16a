"""The extension module: argument validation, and the library without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m2v_core import native
from m2v_core.native import kernels
from tests.static_models import static_model

N_VOCABULARY, DIM = 5, 3
TABLE = np.arange(N_VOCABULARY * DIM, dtype=np.float32).reshape(N_VOCABULARY, DIM)

WITHOUT_KERNELS = """
import logging, sys
logging.basicConfig(format="%(message)s")
sys.modules["m2v_core.native.extension"] = None
from m2v_core import StaticModel, native
model = StaticModel.from_pretrained(sys.argv[1])
print(model.encoder_path)
print(native.kernels_in_use())
print(model.encode(["the sea and the fox"] * 300).sum(axis=0).tolist())
"""


def encoder_of(table=TABLE, mapping=None, weights=None, n_vocabulary=N_VOCABULARY, unknown=-1, *instructions):
    return kernels.Encoder(table, mapping, weights, n_vocabulary, unknown, False, True, *instructions)


def pool(encoder, texts, embeddings, known, *, start=0, stop=None, max_tokens=9, max_characters=99):
    stop = len(texts) if stop is None else stop
    return encoder.pool(texts, start, stop, max_tokens, max_characters, known, None, None, True, embeddings)


def test_the_library_works_without_the_extension_and_warns(tmp_path: Path):
    model = static_model("WordPiece")
    model.save_pretrained(tmp_path)
    command = [sys.executable, "-c", WITHOUT_KERNELS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    path, in_use, sums = done.stdout.splitlines()
    assert path == "whole texts, because the compiled kernels are not installed"
    assert in_use.startswith("not installed; to encode many times faster, install a C compiler")
    assert done.stderr.count("slower NumPy path") == 1
    expected = model.encode(["the sea and the fox"] * 300).sum(axis=0)
    np.testing.assert_allclose(eval(sums), expected, atol=1e-4)


def test_kernels_in_use_returns_the_instruction_set():
    assert native.kernels_in_use() == kernels.available_instructions[-1]
    assert kernels.available_instructions[0] == "plain C"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TABLE.astype(np.float64),), "token_embeddings must be an array of format feb, not d"),
        ((TABLE[0],), "must be of shape"),
        ((TABLE[:4],), "a row for each token"),
        ((TABLE, np.zeros(4, np.int32)), "mapping must have 5 items, not 4"),
        ((TABLE, np.zeros(5, np.int64)), "mapping must be an array of format i"),
        ((TABLE, None, np.zeros(6, np.float32)), "weights must have 5 items, not 6"),
        ((TABLE, None, None, 5, 5), "unknown must be a token"),
        ((TABLE, None, None, 5, -1, "MMX"), "one of available_instructions"),
    ],
)
def test_an_encoder_validates_its_arrays(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        encoder_of(*arguments)


def test_a_table_that_is_not_aligned_is_rejected():
    memory = np.zeros(TABLE.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(np.float32).reshape(TABLE.shape)
    with pytest.raises((TypeError, ValueError), match="=f|aligned"):
        encoder_of(unaligned)


def test_a_mapping_that_points_outside_the_table_is_detected_before_it_is_used():
    known = kernels.ChunkTable(N_VOCABULARY)
    known.add(b"fox", [3], 0)
    for row in (5, -1, 2**31 - 1, -(2**31)):
        mapping = np.zeros(N_VOCABULARY, np.int32)
        encoder = encoder_of(TABLE, mapping)
        mapping[3] = row  # like a mapped file that changes
        with pytest.raises(ValueError, match="mapping points outside the table"):
            pool(encoder, ["fox"], np.empty((1, DIM), np.float32), known)


def test_token_ids_outside_the_vocabulary_are_rejected():
    extra = pool(encoder_of(), ["new"], np.empty((1, DIM), np.float32), kernels.ChunkTable(N_VOCABULARY))[0]
    assert extra.awaiting() == ["new"]
    for wrong in (N_VOCABULARY, -1, 2**40):
        with pytest.raises(ValueError, match="token id must be from 0 to 4"):
            extra.fill([[wrong]], [0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop": 2}, "texts must be a list"),
        ({"start": 1}, "embeddings must have 0 items"),
        ({"max_tokens": 0}, "max_tokens must be from 1"),
        ({"known": kernels.ChunkTable(6)}, "another vocabulary"),
        ({"known": None}, "must be of class ChunkTable"),
        ({"embeddings": np.empty((1, DIM), np.float64)}, "embeddings must be an array of format f"),
        ({"embeddings": np.empty((2, DIM), np.float32)}, "embeddings must have 3 items, not 6"),
        ({"texts": ("a",)}, "texts must be a list"),
        ({"texts": [b"a"]}, "."),
    ],
)
def test_a_call_validates_its_arguments(changes, message):
    given = {
        "texts": ["a"],
        "embeddings": np.empty((1, DIM), np.float32),
        "known": kernels.ChunkTable(N_VOCABULARY),
        **changes,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        pool(encoder_of(), **given)


def test_read_only_embeddings_are_rejected():
    embeddings = np.empty((1, DIM), np.float32)
    embeddings.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match="read-only|not writable"):
        pool(encoder_of(), ["a"], embeddings, kernels.ChunkTable(N_VOCABULARY))


def test_a_matrix_that_points_outside_the_table_is_rejected():
    table, products = np.ones((2, 3), np.float32), np.empty((2, 3), np.float32)
    starts, values = np.array([0, 1], np.int32), np.ones(1, np.float32)
    kernels.multiply_by_gram(starts, np.array([1], np.int32), values, table, products)
    for columns in ([2], [-1]):
        with pytest.raises(ValueError, match="sparse matrix"):
            kernels.multiply_by_gram(starts, np.array(columns, np.int32), values, table, products)
    for wrong in ([0, 2], [1, 1], [0]):
        with pytest.raises(ValueError, match="sparse matrix"):
            kernels.multiply_by_gram(np.array(wrong, np.int32), np.array([1], np.int32), values, table, products)


def test_parts_cover_all_texts_and_are_bounded():
    texts = ["x" * n for n in (0, 5, 100, 3, 0, 7)] * 50
    ends = kernels.parts(texts, 50, 4, 10, 200, 20)
    assert ends[-1] == len(texts)
    for start, end in zip([0, *ends], ends, strict=False):
        assert 0 < end - start <= 20
        assert sum(min(len(text), 50) for text in texts[start : end - 1]) < 200
    assert kernels.parts([], 50, 4, 10, 200, 20) == []
