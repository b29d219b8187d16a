"""Encoding a stream of texts in blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from m2v_core.encoder import stream
from m2v_core.errors import InputError
from tests.static_models import TEXTS, static_model


@pytest.fixture(scope="module")
def model():
    return static_model()


@pytest.mark.parametrize("make", [list, tuple, iter, lambda texts: (text for text in texts), dict.fromkeys])
@pytest.mark.parametrize("block_size", [1, 4, len(TEXTS), 1000])
def test_blocks_are_those_of_encode(make, block_size, model):
    texts = make(TEXTS)
    if isinstance(texts, dict):
        texts = texts.keys()
    blocks = list(model.encode_stream(texts, block_size=block_size))
    sizes = [len(block) for block in blocks]
    assert sizes[:-1] == [block_size] * (len(blocks) - 1)
    assert 1 <= sizes[-1] <= block_size
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(blocks), model.encode(list(TEXTS)))


def test_options_are_passed_on(model):
    (block,) = model.encode_stream(TEXTS, 3, normalize=False)
    np.testing.assert_array_equal(block, model.encode(list(TEXTS), 3, normalize=False))
    (block,) = model.encode_stream(TEXTS, None)
    np.testing.assert_array_equal(block, model.encode(list(TEXTS), None))


def test_no_texts_yield_no_block(model):
    assert list(model.encode_stream([])) == []


def test_an_endless_stream_is_read_lazily(model):
    n_read = 0

    def endless():
        nonlocal n_read
        for text in itertools.cycle(TEXTS):
            n_read += 1
            yield text

    blocks = model.encode_stream(endless(), block_size=10)
    assert n_read == 0
    assert [len(block) for block in itertools.islice(blocks, 3)] == [10, 10, 10]
    assert n_read == 30


def test_long_texts_are_put_into_smaller_blocks(model, monkeypatch):
    monkeypatch.setattr(stream, "_CHARACTERS_PER_BLOCK", 100)
    assert [len(block) for block in model.encode_stream(["the " * 20] * 5)] == [2, 2, 1]


def test_line_ends_of_a_file_are_removed(tmp_path):
    model = static_model("byte-level BPE")  # where a line end is a token
    (tmp_path / "texts.txt").write_bytes("the fox\r\n\nna\u00efve\u2028sea".encode())
    with (tmp_path / "texts.txt").open(encoding="utf-8", newline="\n") as file:
        (block,) = model.encode_stream(file)
    np.testing.assert_array_equal(block, model.encode(["the fox", "", "na\u00efve\u2028sea"]))


@pytest.mark.parametrize("sentences", ["a text", b"bytes", {"a": 1}, 7, None])
def test_invalid_sentences_are_rejected_immediately(sentences, model):
    with pytest.raises(InputError, match="iterable of texts"):
        model.encode_stream(sentences)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"block_size": 0}, "block_size"), ({"block_size": True}, "block_size"), ({"max_length": 0}, "max_length")],
)
def test_arguments_out_of_range_are_rejected_immediately(arguments, message, model):
    with pytest.raises(InputError, match=message):
        model.encode_stream([], **arguments)


def test_an_item_in_mid_stream_that_is_not_a_text(model):
    blocks = model.encode_stream(["the", "fox", None], block_size=2)
    assert next(blocks).shape == (2, model.dim)
    with pytest.raises(InputError, match="text 2 "):
        next(blocks)
