"""Killed, cancelled and failed runs leave no incomplete output; and constant memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from m2v_core import StaticModel
from m2v_core.bulk import readers, run
from m2v_core.bulk.run import encode_file
from m2v_core.errors import Cancelled, SaveError
from tests.core.bulk.files import names, read_embeddings, write_texts

WORDS = ["the", "quick", "brown", "fox", "sells", "sea", "shells", "\u4e2d\u6587", "\U0001f984", "na\u00efve"]
N_TEXTS = 300

# Small blocks, slow enough to be killed in between.
SLOW_RUN = """
import sys, time
from m2v_core import StaticModel
from m2v_core.bulk import readers, run
readers.ROWS_PER_BLOCK = 7
model, source, output = sys.argv[1:]
def wait(event):
    if event.done:
        print(event.done, flush=True)
    time.sleep(0.01)
run.encode_file(StaticModel.from_pretrained(model), source, output, overwrite=True, progress=wait)
"""


def texts_of(n, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(12))) for _ in range(n)]


@pytest.fixture(scope="module")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "ending"), [("text", ".npy"), ("jsonl", ".parquet"), ("parquet", ".parquet"), ("tsv", ".jsonl")]
)
@pytest.mark.parametrize("was_there", [False, True])
def test_a_killed_run_repeated_gives_the_same_bytes(was_there, kind, ending, model_folder, monkeypatch, tmp_path):
    texts = texts_of(N_TEXTS)
    path = write_texts(tmp_path, kind, texts)
    output = tmp_path / f"vectors{ending}"
    if was_there:
        output.write_bytes(b"old")
    command = [sys.executable, "-c", SLOW_RUN, str(model_folder), str(path), str(output)]
    draw = random.Random(f"{kind}{ending}")
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline(), "failed before it could be killed"
            time.sleep(draw.random() * 0.05)
            process.kill()
        assert process.returncode == -signal.SIGKILL, "finished before it could be killed"
        assert output.exists() == was_there
        assert not was_there or output.read_bytes() == b"old"

    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    model = StaticModel.from_pretrained(model_folder)
    assert encode_file(model, path, output, overwrite=was_there).n_texts == N_TEXTS
    whole = tmp_path / f"whole{ending}"
    encode_file(model, path, whole)
    assert output.read_bytes() == whole.read_bytes()
    embeddings, _ = read_embeddings(output)
    np.testing.assert_array_equal(embeddings.astype(np.float32), model.encode(texts))
    assert names(tmp_path) == sorted([path.name, output.name, whole.name])


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".jsonl"])
def test_a_cancelled_run_leaves_no_files(ending, model, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    path = write_texts(tmp_path, "csv", texts_of(50))
    cancel, output = threading.Event(), tmp_path / f"out{ending}"
    with pytest.raises(Cancelled):
        encode_file(model, path, output, progress=lambda event: event.done == 21 and cancel.set(), cancel=cancel)
    assert names(tmp_path) == [path.name]
    encode_file(model, path, output)
    np.testing.assert_array_equal(read_embeddings(output)[0].astype(np.float32), model.encode(texts_of(50)))


def test_a_disk_error_leaves_no_files(model, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    path = write_texts(tmp_path, "text", texts_of(50))
    write, n_writes = run.NpyWriter.write, []

    def fill_the_disk(self, block, embeddings):
        n_writes.append(1)
        if len(n_writes) == 4:
            raise OSError(28, os.strerror(28))
        write(self, block, embeddings)

    with monkeypatch.context() as patch:
        patch.setattr(run.NpyWriter, "write", fill_the_disk)
        with pytest.raises(SaveError, match="No space left"):
            encode_file(model, path, tmp_path / "out.npy")
    assert names(tmp_path) == [path.name]
    encode_file(model, path, tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.encode(texts_of(50)))


def test_two_runs_with_the_same_output(model, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    path = write_texts(tmp_path, "text", texts_of(50))
    refused = []

    def concurrent_run(event):
        if event.done == 7:
            with pytest.raises(SaveError, match="Another run") as raised:
                encode_file(model, path, tmp_path / "out.npy")
            refused.append(raised)

    encode_file(model, path, tmp_path / "out.npy", progress=concurrent_run)
    assert len(refused) == 1
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.encode(texts_of(50)))
    assert names(tmp_path) == ["out.npy", path.name]


# Small blocks, because memory pools only reach their full size after some twenty blocks.
MEASURED_RUN = """
import pathlib, re, sys
from m2v_core import StaticModel
from m2v_core.bulk import readers, run
readers.ROWS_PER_BLOCK = 2_048
model, source, output = sys.argv[1:]
n_texts = run.encode_file(StaticModel.from_pretrained(model), source, output).n_texts
# ru_maxrss would include the test process, from which this process was forked.
print(n_texts, re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("kind", "ending"), [("text", ".npy"), ("jsonl", ".parquet"), ("parquet", ".jsonl")])
def test_memory_does_not_grow_with_the_file(kind, ending, model_folder, monkeypatch, tmp_path):
    peaks = []
    for n_texts in (80_000, 480_000):
        path = write_texts(tmp_path, kind, texts_of(4_000) * (n_texts // 4_000))
        output = tmp_path / f"vectors{n_texts}{ending}"
        command = [sys.executable, "-c", MEASURED_RUN, str(model_folder), str(path), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        n_encoded, peak_kb = map(int, done.stdout.split())
        assert n_encoded == n_texts
        peaks.append(peak_kb * 1024)
    # Keeping the larger file's texts or embeddings in memory would take 30 MB or more.
    assert output.stat().st_size > 30_000_000
    assert peaks[1] - peaks[0] < 15_000_000, peaks
