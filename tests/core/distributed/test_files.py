"""Encoding many files in processes: no row is lost or duplicated, whatever is killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import psutil
import pytest
from pyarrow import parquet

from m2v_core.bulk.run import encode_file
from m2v_core.distributed.run import encode_files
from m2v_core.errors import Cancelled
from tests.core.bulk.files import write_texts
from tests.core.distributed.files import check_complete, entries_of, rows_of, texts_of, vectors_of, write_folder
from tests.hub.server import LoopbackHub

N_FILES, N_ROWS = 5, 400
N_LONG, N_LONG_ROWS = 10, 25_000  # long enough to be killed in between
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1"}


def command(model, pattern, output, *arguments):
    return [
        *(sys.executable, "-m", "m2v_core", "encode", "--model", str(model), "--input", str(pattern)),
        *("--output", str(output), "--workers", "2", *map(str, arguments)),
    ]


def seconds(limit=300.0):
    """Yield once per poll, and fail after the limit."""
    until = time.monotonic() + limit
    for i in itertools.count():
        assert time.monotonic() < until, "it took too long"
        yield i
        time.sleep(0.005)


def children(process):
    found = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):  # a process that has been killed
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.fixture
def pattern(tmp_path):
    return write_folder(tmp_path / "texts", N_FILES, N_ROWS)


@pytest.fixture(scope="module")
def long_pattern(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("long"), N_LONG, N_LONG_ROWS)


def test_every_row_once(pattern, model, model_folder, tmp_path):
    output, events = tmp_path / "vectors", []
    encoded = encode_files(model_folder, pattern, output, workers=2, progress=events.append)
    assert (encoded.n_files, encoded.n_texts, encoded.n_skipped) == (N_FILES, N_FILES * N_ROWS, 0)
    assert (encoded.n_files_resumed, encoded.failed, encoded.dim) == (0, {}, model.dim)
    check_complete(output, N_FILES, N_ROWS, model)
    assert [event.stage for event in events] == ["encode"] * len(events)
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert (events[-1].done, events[-1].total) == (N_FILES * N_ROWS, N_FILES * N_ROWS)
    # Each file equals the output of encode_file, byte for byte.
    encode_file(model, pattern.parent / "03.parquet", tmp_path / "one.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (output / "03.parquet").read_bytes()


def test_finished_files_are_skipped(pattern, model, model_folder, tmp_path):
    output = tmp_path / "vectors"
    encode_files(model_folder, pattern, output, workers=1)
    before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    again = encode_files(model_folder, pattern, output)
    assert (again.n_files, again.n_files_resumed, again.n_texts_resumed) == (N_FILES, N_FILES, N_FILES * N_ROWS)
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir()} == before

    write_folder(pattern.parent, 1, N_ROWS, start=N_FILES)  # one more file is added,
    (output / "01.parquet").unlink()  # one is deleted,
    with (output / "_manifest.jsonl").open("ab") as file:  # and the machine crashed while writing a line
        file.write(b'{"input": "')
    again = encode_files(model_folder, pattern, output, workers=1)
    assert (again.n_files, again.n_files_resumed) == (N_FILES + 1, N_FILES - 1)
    check_complete(output, N_FILES + 1, N_ROWS, model)
    after = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"01.parquet", "_manifest.jsonl"}


def test_a_changed_input_is_encoded_again(pattern, model, model_folder, tmp_path):
    output = tmp_path / "vectors"
    write_folder(pattern.parent, 1, 7, start=2)
    encode_files(model_folder, pattern, output, workers=1)
    assert parquet.read_metadata(output / "02.parquet").num_rows == 7
    write_folder(pattern.parent, 1, N_ROWS, start=2)
    assert encode_files(model_folder, pattern, output, workers=1).n_files_resumed == N_FILES - 1
    check_complete(output, N_FILES, N_ROWS, model)


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
def test_other_kinds_of_files(kind, model, model_folder, tmp_path):
    for i, part in enumerate(("a", "b")):
        (tmp_path / "texts" / part).mkdir(parents=True)
        write_texts(tmp_path / "texts" / part, kind, texts_of(20, i))
    (tmp_path / "texts" / ".hidden.csv").touch()
    (tmp_path / "texts" / "README.md").touch()
    output = tmp_path / "vectors"
    encode_files(model_folder, tmp_path / "texts", output, workers=1, dtype="float16", keep_columns=kind != "csv")
    # Both inputs have the same name; no output may replace the other.
    outputs = [entry["output"] for entry in entries_of(output)]
    assert len(set(outputs)) == 2 and all(name.endswith(".parquet") for name in outputs)
    for i, entry in enumerate(sorted(entries_of(output), key=lambda entry: entry["input"])):
        table = parquet.read_table(output / entry["output"])
        np.testing.assert_array_equal(vectors_of(table), model.encode(texts_of(20, i)).astype(np.float16))
        assert ("text" in table.column_names) == (kind != "csv")


@pytest.mark.parametrize("is_zip", [False, True])
def test_inputs_that_fsspec_supports(is_zip, pattern, model, model_folder, tmp_path):
    output, url = tmp_path / "vectors", f"file://{pattern}"
    if is_zip:
        with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
            for path in pattern.parent.iterdir():
                archive.write(path, f"deep/{path.name}")
        url = f"zip://deep/*.parquet::file://{tmp_path / 'texts.zip'}"
    assert encode_files(model_folder, url, output, workers=2).n_files == N_FILES
    check_complete(output, N_FILES, N_ROWS, model)
    assert encode_files(model_folder, url, output).n_files_resumed == N_FILES


def test_a_dataset_on_the_hub(pattern, model, model_folder, tmp_path):
    output, url = tmp_path / "vectors", "hf://datasets/ada/texts/*.parquet"
    with LoopbackHub() as hub:
        hub.add("ada/texts", pattern.parent, kind="dataset")
        environment = os.environ | hub.environment(tmp_path)
        for message in (f"files      {N_FILES}", f"resumed    after {N_FILES} files"):
            done = subprocess.run(
                command(model_folder, url, output), env=environment, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stderr
            assert message in done.stdout
    check_complete(output, N_FILES, N_ROWS, model)


def test_a_killed_worker_costs_a_retry(long_pattern, model, model_folder, tmp_path):
    output = tmp_path / "vectors"
    process = subprocess.Popen(command(model_folder, long_pattern, output), env=ENVIRONMENT, stderr=subprocess.PIPE)
    for _ in seconds():
        assert process.poll() is None
        if any(output.glob("*.parquet*.part")) and len(children(process)) == 2:
            break
    (victim, _) = children(process)
    victim.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([victim], 10)[0]
    assert len(entries_of(output)) < N_LONG, "finished before it could be killed"
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    check_complete(output, N_LONG, N_LONG_ROWS, model)


def test_a_file_that_kills_its_workers_is_named_in_the_error(long_pattern, model_folder, tmp_path):
    output, killed = tmp_path / "vectors", 0
    process = subprocess.Popen(
        [*command(model_folder, long_pattern, output), "--workers", "1", "--on-error", "skip"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    victims = set()
    while killed < 3:
        for _ in seconds():
            fresh = [child for child in children(process) if child.pid not in victims]
            if fresh and any(output.glob("00.parquet.part")):
                break
        victims.add(fresh[0].pid)
        fresh[0].send_signal(signal.SIGKILL)
        killed += 1
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert (
        f"{long_pattern.parent / '00.parquet'}: its worker died 3 times, the last time by signal 9 (SIGKILL)" in errors
    )
    assert [entry["output"] for entry in entries_of(output)] == [f"{i:02}.parquet" for i in range(1, N_LONG)]


def test_a_killed_run_resumes(long_pattern, model, model_folder, tmp_path):
    output = tmp_path / "vectors"
    process = subprocess.Popen(command(model_folder, long_pattern, output), env=ENVIRONMENT)
    for _ in seconds():
        assert process.poll() is None
        if entries_of(output) and any(output.glob("*.parquet*.part")):
            break
    workers = children(process)
    process.kill()
    process.wait()
    n_finished = len(entries_of(output))
    assert 0 < n_finished < N_LONG
    before = {entry["output"]: (output / entry["output"]).stat().st_mtime_ns for entry in entries_of(output)}
    done = subprocess.run(command(model_folder, long_pattern, output), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"resumed    after {n_finished} files" in done.stdout
    check_complete(output, N_LONG, N_LONG_ROWS, model)
    assert {name: (output / name).stat().st_mtime_ns for name in before} == before
    assert not psutil.wait_procs(workers, 10)[1], "workers outlived their driver"


@pytest.mark.parametrize("sign", ["worker", "output"])
def test_ctrl_c_leaves_complete_files_and_no_worker(long_pattern, model, model_folder, tmp_path, sign):
    output = tmp_path / "vectors"
    process = subprocess.Popen(
        command(model_folder, long_pattern, output), env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True
    )
    for _ in seconds():
        assert process.poll() is None
        if children(process) if sign == "worker" else any(output.glob("*.parquet*.part")):
            break
    workers = children(process)
    os.killpg(process.pid, signal.SIGINT)  # like a terminal, also to the workers
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"Stopped. Finished files are kept in {output}. Rerun the same command" in " ".join(errors.decode().split())
    assert b"Traceback" not in errors
    assert not psutil.wait_procs(workers, 10)[1]
    encode_files(model_folder, long_pattern, output, workers=2)
    check_complete(output, N_LONG, N_LONG_ROWS, model)


def test_cancel(pattern, model, model_folder, tmp_path):
    cancel, output = threading.Event(), tmp_path / "vectors"
    with pytest.raises(Cancelled):
        encode_files(
            model_folder,
            pattern,
            output,
            workers=1,
            cancel=cancel,
            progress=lambda event: entries_of(output) and cancel.set(),
        )
    assert 0 < len(entries_of(output)) < N_FILES
    encode_files(model_folder, pattern, output, workers=1)
    check_complete(output, N_FILES, N_ROWS, model)


def test_a_worker_limits_its_threads(model_folder):
    code = (
        "import os, sys\n"
        "from m2v_core.native.cpus import limit_cpus, n_usable_cpus\n"
        "limit_cpus(1)\n"
        "import pyarrow\n"
        "from m2v_core import StaticModel\n"
        "from m2v_core.encoder import chunked\n"
        "StaticModel.from_pretrained(sys.argv[1]).encode(['the fox'] * 50_000)\n"
        "print(n_usable_cpus(), pyarrow.cpu_count(), os.environ['RAYON_NUM_THREADS'])\n"
        "print(chunked._threads.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", code, model_folder], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1", "1", "0"], done.stderr


def test_restart_starts_over(pattern, model, model_folder, tmp_path):
    output = tmp_path / "vectors"
    encode_files(model_folder, pattern, output, workers=1, dtype="int8")
    (pattern.parent / "00.parquet").rename(tmp_path / "away.parquet")
    encode_files(model_folder, pattern, output, workers=1, dtype="float32", restart=True)
    assert rows_of(output)["id"].to_pylist() == list(range(N_ROWS, N_FILES * N_ROWS))
    head = json.loads((output / "_manifest.jsonl").read_bytes().splitlines()[0])
    assert head["settings"]["dtype"] == "float32"
