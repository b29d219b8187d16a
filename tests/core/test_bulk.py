"""Encoding a file of texts into a NumPy file."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from m2v_core import bulk
from m2v_core.errors import Cancelled, InputError, NotFoundError, SaveError


class LengthEncoder:
    """Stands in for a model: a text's embedding is its length, twice."""

    dim = 2

    def encode(self, texts):
        return np.array([[len(text)] * 2 for text in texts], dtype=np.float32)


def encode(content, tmp_path, **arguments):
    """What the array holds after encoding a file of these bytes, and the number of texts returned."""
    (tmp_path / "texts.txt").write_bytes(content)
    output = tmp_path / "vectors.npy"
    n_texts = bulk.encode_file(LengthEncoder(), tmp_path / "texts.txt", output, **arguments)
    embeddings = np.load(output)
    assert embeddings.shape == (n_texts, 2)
    assert embeddings.dtype == np.float32
    return embeddings[:, 0].tolist()


@pytest.mark.parametrize(
    ("content", "lengths"),
    [
        (b"", []),
        (b"\n", [0]),
        (b"one", [3]),
        (b"one\n", [3]),
        (b"one\n\nthree\n", [3, 0, 5]),
        (b"one\r\n\r\nthree\r\n", [3, 0, 5]),
        (b"\xef\xbb\xbfone\n", [3]),
        ("caf\u00e9\n".encode(), [4]),
        # Of the characters that str.splitlines cuts at, only two end a line of a file.
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\rg\n".encode(), [13]),
    ],
)
def test_each_line_has_its_row(content, lengths, tmp_path):
    assert encode(content, tmp_path) == lengths


def test_blocks_are_joined_in_order(monkeypatch, tmp_path):
    monkeypatch.setattr(bulk, "TEXTS_PER_BLOCK", 3)
    events = []
    content = "\n".join("x" * length for length in range(8)).encode()
    assert encode(content, tmp_path, progress=events.append) == list(range(8))
    assert [(event.stage, event.done, event.total) for event in events] == [
        ("encode", done, 8) for done in (0, 3, 6, 8)
    ]


def test_missing_folders_are_made(tmp_path):
    (tmp_path / "texts.txt").write_text("one\n")
    bulk.encode_file(LengthEncoder(), tmp_path / "texts.txt", tmp_path / "new" / "folder" / "vectors.npy")
    assert np.load(tmp_path / "new" / "folder" / "vectors.npy").shape == (1, 2)


def test_an_array_is_replaced(tmp_path):
    assert encode(b"one\n", tmp_path) == [3]
    assert encode(b"three\n", tmp_path) == [5]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: None, NotFoundError, "Check the path"),
        (lambda path: path.mkdir(), InputError, "can't be read"),
        (lambda path: path.write_bytes("ok\n\u00e9t\u00e9".encode("utf-16")), InputError, "not UTF-8"),
        (lambda path: path.write_bytes(b"ok\n" * 2000 + b"\xff\n"), InputError, "not UTF-8"),
    ],
    ids=["missing", "folder", "utf-16", "broken far down"],
)
def test_unusable_input(make, error, message, tmp_path):
    make(tmp_path / "texts.txt")
    with pytest.raises(error, match=message):
        bulk.encode_file(LengthEncoder(), tmp_path / "texts.txt", tmp_path / "vectors.npy")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["texts.txt"])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("texts.txt", "no NumPy file"),
        ("folder", "no NumPy file"),
        ("texts.txt/vectors.npy", "Could not write"),
    ],
)
def test_unusable_output_stays_as_it_was(output, message, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SaveError, match=message):
        bulk.encode_file(LengthEncoder(), texts, tmp_path / output)
    assert texts.read_text() == "one\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "texts.txt"]


class FailingEncoder(LengthEncoder):
    def __init__(self, fail):
        self.fail = fail

    def encode(self, texts):
        self.fail()
        return super().encode(texts)


def interrupt():
    raise KeyboardInterrupt


def fill_the_disk():
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("fail", [interrupt, fill_the_disk])
def test_failure_leaves_what_stood_there(fail, tmp_path):
    assert encode(b"one\n", tmp_path) == [3]
    before = (tmp_path / "vectors.npy").read_bytes()
    with pytest.raises((KeyboardInterrupt, SaveError)) as raised:
        bulk.encode_file(FailingEncoder(fail), tmp_path / "texts.txt", tmp_path / "vectors.npy")
    assert raised.type is not SaveError or "No space left" in str(raised.value)
    assert (tmp_path / "vectors.npy").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt", "vectors.npy"]


def test_cancel_leaves_nothing(tmp_path):
    cancel = threading.Event()
    (tmp_path / "texts.txt").write_text("one\n")
    with pytest.raises(Cancelled):
        bulk.encode_file(FailingEncoder(cancel.set), tmp_path / "texts.txt", tmp_path / "vectors.npy", cancel=cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_a_file_that_changes_meanwhile_is_refused(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n")
    with pytest.raises(InputError, match="changed"):
        bulk.encode_file(
            LengthEncoder(),
            texts,
            tmp_path / "vectors.npy",
            progress=lambda event: texts.write_text("one\ntwo\n"),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]
