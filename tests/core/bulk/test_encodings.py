"""Files in other encodings than UTF-8 give the same result as in UTF-8, or are rejected."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc

import numpy as np
import pytest

from m2v_core.bulk import readers
from m2v_core.bulk.labeled import read_labeled
from m2v_core.bulk.run import encode_file, read_texts
from m2v_core.errors import InputError
from tests.core.bulk.files import ENDINGS, OUTPUTS, read_embeddings, write_texts
from tests.static_models import LINES

TEXTS = [*LINES, "caf\u00e9 na\u00efve", "r\u00e9sum\u00e9s \u2013 \u201cquoted\u201d, \u20ac 3"] * 3


def recoded(path, encoding):
    content = path.read_bytes().decode()
    if path.suffix == ".jsonl":
        content = "".join(json.dumps(json.loads(line), ensure_ascii=False) + "\n" for line in content.splitlines())
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
@pytest.mark.parametrize("kind", sorted(ENDINGS.keys() - {"parquet"}))
def test_other_encodings(kind, encoding, model, tmp_path, caplog):
    path = recoded(write_texts(tmp_path, kind, TEXTS), encoding)
    expected = model.encode(TEXTS)
    for ending in OUTPUTS:
        encode_file(model, path, tmp_path / f"out{ending}")
        embeddings, rows = read_embeddings(tmp_path / f"out{ending}")
        np.testing.assert_allclose(embeddings, expected, atol=1e-6)
        assert rows is None or [row["text"] for row in rows] == TEXTS
    assert read_texts(path) == TEXTS
    is_guessed = encoding in ("utf-16-le", "cp1252")
    shown = encoding.replace("cp12", "Windows-12")
    assert (f"{path} is not valid UTF-8 and was read as {shown}. " in caplog.text) == is_guessed
    assert bool(caplog.text) == is_guessed


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", "pairs.tsv"])
def test_labeled_texts(ending, encoding, tmp_path):
    path = tmp_path / f"in{ending}"
    pairs = [("caf\u00e9", "the caf\u00e9 on the corner"), ("sea", "na\u00efve sea")]
    mark = "," if ending == ".csv" else "\t"
    lines = [f"{label}{mark}{text}" for label, text in pairs]
    if ending == ".jsonl":
        lines = [json.dumps({"label": label, "text": text}, ensure_ascii=False) for label, text in pairs]
    elif ending != "pairs.tsv":
        lines = [f"label{mark}text", *lines]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    found = read_labeled(path)
    assert list(zip(found.labels, found.texts, strict=True)) == pairs


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_stdin(encoding, model, tmp_path, monkeypatch):
    content = io.BufferedReader(io.BytesIO("".join(f"{text}\n" for text in TEXTS).encode(encoding)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content, encoding="utf-8"))
    encode_file(model, "-", tmp_path / "out.jsonl")
    assert [row["text"] for row in read_embeddings(tmp_path / "out.jsonl")[1]] == TEXTS


def test_an_invalid_byte_after_the_sample(model, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "SAMPLE_BYTES", 1000)
    path = tmp_path / "in.txt"
    path.write_bytes(b"the sea\n" * 999 + b"caf\xe9\n")
    with pytest.raises(InputError, match=r"begins as UTF-8 but is not UTF-8 in line 1,000 \(byte 7,995\)"):
        encode_file(model, path, tmp_path / "out.npy")
    path.write_bytes("东京的天气很好，我们去公园散步\n".encode("gb18030") * 3000 + b"\x81\xff\n")
    with pytest.raises(InputError, match=r"gb18030, but damaged in line 3,001 \(byte 93,000\)"):
        encode_file(model, path, tmp_path / "out.npy")


def test_memory_does_not_grow_with_a_file_in_utf16(model, tmp_path):
    peaks = []
    for n_lines in (40_000, 160_000):
        path = tmp_path / f"{n_lines}.txt"
        path.write_bytes(("the sea is never full, and rivers run \n" * n_lines).encode("utf-16"))
        reader = readers.TextReader(path, readers.Wanted(with_rows=False))
        tracemalloc.start()
        assert sum(len(block.texts) for block in reader.blocks()) == n_lines
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
