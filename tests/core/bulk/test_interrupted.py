"""Runs that are killed, cancelled or refused go on where they stopped; and memory that doesn't grow."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from m2v_core import StaticModel
from m2v_core.bulk import readers, run
from m2v_core.bulk.run import encode_file
from m2v_core.errors import Cancelled, SaveError
from tests.core.bulk.files import read_embeddings, write_texts
from tests.static_models import static_model

WORDS = ["the", "quick", "brown", "fox", "sells", "sea", "shells", "\u4e2d\u6587", "\U0001f984", "na\u00efve"]
N_TEXTS = 300

# Small blocks, a checkpoint after each, and time to be killed in.
SLOW_RUN = """
import sys, time
from m2v_core import StaticModel
from m2v_core.bulk import readers, run
readers.ROWS_PER_BLOCK = 7
run.SECONDS_BETWEEN_CHECKPOINTS = 0
model, source, output = sys.argv[1:]
run.encode_file(StaticModel.from_pretrained(model), source, output, progress=lambda event: time.sleep(0.01))
"""


def texts_of(n, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(12))) for _ in range(n)]


@pytest.fixture(scope="module")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save_pretrained(folder)
    return folder


def state_of(output):
    try:
        return json.loads(Path(f"{output}.part.json").read_text())["progressed"]
    except (OSError, ValueError):
        return None


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("text", ".npy"),
        ("csv", ".parquet"),
        ("jsonl", ".parquet"),
        ("parquet", ".parquet"),
        ("parquet", ".npy"),
        ("tsv", ".jsonl"),
        ("jsonl", ".jsonl"),
    ],
)
def test_killed_and_resumed_to_the_same_bytes(kind, ending, model_folder, monkeypatch, tmp_path):
    texts = texts_of(N_TEXTS)
    path = write_texts(tmp_path, kind, texts)
    output = tmp_path / f"vectors{ending}"
    command = [sys.executable, "-c", SLOW_RUN, str(model_folder), str(path), str(output)]
    draw = random.Random(f"{kind}{ending}")
    before = 0
    for _ in range(2):
        process = subprocess.Popen(command)
        while (state_of(output) or {"n_texts": 0})["n_texts"] <= before:
            assert process.poll() is None, "finished or failed before it could be killed"
            time.sleep(0.001)
        time.sleep(draw.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        before = state_of(output)["n_texts"]
        assert before < N_TEXTS
        assert not output.exists()

    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    model = StaticModel.from_pretrained(model_folder)
    encoded = encode_file(model, path, output)
    assert (encoded.n_texts, encoded.n_resumed) == (N_TEXTS, before)
    assert before > 0
    whole = tmp_path / f"whole{ending}"
    assert encode_file(model, path, whole).n_resumed == 0
    assert output.read_bytes() == whole.read_bytes()
    embeddings, _ = read_embeddings(output)
    np.testing.assert_array_equal(embeddings.astype(np.float32), model.encode(texts))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, output.name, whole.name])


@pytest.fixture
def stopped(model, monkeypatch, tmp_path):
    """A run from text to NumPy, cancelled in its fourth block: its input and its output."""
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    monkeypatch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    path = write_texts(tmp_path, "csv", texts_of(50))
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        encode_file(
            model, path, tmp_path / "out.npy", progress=lambda event: event.done == 21 and cancel.set(), cancel=cancel
        )
    assert state_of(tmp_path / "out.npy")["n_texts"] == 28
    return path, tmp_path / "out.npy"


def test_a_cancelled_run_goes_on(stopped, model):
    path, output = stopped
    events = []
    encoded = encode_file(model, path, output, progress=events.append)
    assert (encoded.n_texts, encoded.n_resumed) == (50, 28)
    assert (events[0].done, events[-1].done) == (28, 50)
    np.testing.assert_array_equal(np.load(output), model.encode(texts_of(50)))


def test_bytes_after_the_last_checkpoint_are_cut(stopped, model):
    path, output = stopped
    with Path(f"{output}.part").open("ab") as part:
        part.write(b"half a block")
    encode_file(model, path, output)
    np.testing.assert_array_equal(np.load(output), model.encode(texts_of(50)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "tag"}, "changed: column"),
        ({"dtype": "float16"}, "changed: dtype"),
        ({"max_length": 3}, "changed: max_length"),
        ({"normalize": False}, "changed: normalize"),
        ({"model": static_model(dtype="float16")}, "changed: model"),
        ({"model": static_model("Unigram")}, "changed: model"),
        ({"input": b"\n"}, "changed: input"),
    ],
)
def test_what_changed_since_is_named(arguments, message, stopped, model):
    path, output = stopped
    arguments = {"model": model, **arguments}
    if "input" in arguments:
        path.write_bytes(path.read_bytes() + arguments.pop("input"))
    before = Path(f"{output}.part").read_bytes()
    with pytest.raises(SaveError, match=message) as raised:
        encode_file(input_path=path, output_path=output, **arguments)
    assert "after 28 texts" in str(raised.value)
    assert "--restart" in str(raised.value)
    assert Path(f"{output}.part").read_bytes() == before
    assert encode_file(input_path=path, output_path=output, restart=True, **arguments).n_resumed == 0
    assert sorted(file.name for file in output.parent.iterdir()) == [output.name, path.name]


def test_arguments_spelled_out_change_nothing(stopped, model):
    path, output = stopped
    encoded = encode_file(model, path, output, column="text", max_length=model.max_length, normalize=model.normalize)
    assert encoded.n_resumed == 28


@pytest.mark.parametrize("lost", ["part", "part.json"])
def test_half_of_what_was_left_is_worth_nothing(lost, stopped, model):
    path, output = stopped
    Path(f"{output}.{lost}").unlink()
    assert encode_file(model, path, output).n_resumed == 0
    np.testing.assert_array_equal(np.load(output), model.encode(texts_of(50)))


def test_an_error_of_the_disk_keeps_what_was_written(model, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    monkeypatch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", 0)
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
    assert encode_file(model, path, tmp_path / "out.npy").n_resumed == 21
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.encode(texts_of(50)))


def test_two_runs_of_one_output(model, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 7)
    path = write_texts(tmp_path, "text", texts_of(50))
    refused = []

    def meanwhile(event):
        if event.done == 7:
            with pytest.raises(SaveError, match="Another run") as raised:
                encode_file(model, path, tmp_path / "out.npy")
            refused.append(raised)

    encode_file(model, path, tmp_path / "out.npy", progress=meanwhile)
    assert len(refused) == 1
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.encode(texts_of(50)))


# Blocks are small because the pools of memory take some twenty blocks to reach their full size.
MEASURED_RUN = """
import pathlib, re, sys
from m2v_core import StaticModel
from m2v_core.bulk import readers, run
readers.ROWS_PER_BLOCK = 2_048
model, source, output = sys.argv[1:]
n_texts = run.encode_file(StaticModel.from_pretrained(model), source, output).n_texts
# ru_maxrss would be that of the test run, which this process began as a copy of.
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
    # Holding the larger file's texts or embeddings would take 30 MB or more.
    assert output.stat().st_size > 30_000_000
    assert peaks[1] - peaks[0] < 15_000_000, peaks
