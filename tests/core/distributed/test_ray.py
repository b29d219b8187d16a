"""Encoding many files on Ray, the real engine, with two simulated nodes, and killed processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from functools import partial

import pytest

from m2v_core import StaticModel
from m2v_core.bulk.inputs import find_inputs
from m2v_core.bulk.options import EncodeOptions, model_fingerprint
from m2v_core.distributed.ray_engine import FileActor
from m2v_core.distributed.run import encode_files
from m2v_core.distributed.shards import Job, Shard, ShardEncoder
from m2v_core.errors import InputError, M2VError
from tests.core.distributed.files import actors, check_complete, entries_of, rows_of, write_folder
from tests.core.distributed.test_files import seconds

ray = pytest.importorskip("ray", reason="pip install 'm2v-studio[ray]'")
pytest.importorskip("ray.data", reason="pip install 'm2v-studio[ray]'")

N_FILES, N_ROWS = 12, 25_000


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("texts"), N_FILES, N_ROWS)


def command(cluster, model, pattern, output, *arguments):
    return [
        *(sys.executable, "-m", "m2v_core", "encode", "--model", str(model), "--input", str(pattern)),
        *("--output", str(output), "--engine", "ray", "--address", cluster.address, *arguments),
    ]


def test_killed_drivers_resume_and_files_of_killed_actors_are_retried(cluster, pattern, model, model_folder, tmp_path):
    output = tmp_path / "vectors"
    given = command(cluster, model_folder, pattern, output)
    process = subprocess.Popen(given, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in seconds():
        assert process.poll() is None
        if len(entries_of(output)) >= 2:
            break
    process.kill()
    process.wait()
    before = {entry["output"]: (output / entry["output"]).stat().st_mtime_ns for entry in entries_of(output)}
    assert 2 <= len(before) < N_FILES

    known = {actor.pid for actor in actors()}
    process = subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in seconds():
        assert process.poll() is None
        fresh = [actor for actor in actors() if actor.pid not in known]
        # One on each node: their parent processes differ.
        if len({actor.info["ppid"] for actor in fresh}) == 2 and any(output.glob("*.parquet*.part")):
            break
    assert len(entries_of(output)) < N_FILES
    fresh[0].kill()
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"resumed    after {len(before)} files" in out
    check_complete(output, N_FILES, N_ROWS, model)
    assert {name: (output / name).stat().st_mtime_ns for name in before} == before


def test_two_nodes_and_bad_input(cluster, model, model_folder, tmp_path):
    ray.init(address=cluster.address, log_to_driver=False)
    assert len({node["NodeID"] for node in ray.nodes() if node["Alive"]}) == 2
    pattern, output = write_folder(tmp_path / "texts", 4, 300), tmp_path / "vectors"
    bad = pattern.parent / "02.parquet"
    bad.write_bytes(bad.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"02\.parquet can't be read as Parquet"):
        encode_files(model_folder, pattern, output, engine="ray")
    encoded = encode_files(model_folder, pattern, output, engine="ray", on_error="skip")
    assert (encoded.n_files, list(encoded.failed)) == (3, [str(bad)])
    assert rows_of(output).num_rows == 900
    write_folder(tmp_path / "texts", 1, 300, start=2)
    # One engine resumes what another left unfinished, because the folder has the same format.
    assert encode_files(model_folder, pattern, output, workers=1).n_files_resumed == 3
    check_complete(output, 4, 300, model)
    assert ray.is_initialized()  # an existing connection is kept
    with pytest.raises(InputError, match="already connected to a Ray cluster; the address 'auto' can't be used"):
        encode_files(model_folder, pattern, tmp_path / "b", engine="ray", address="auto")
    ray.shutdown()


def test_a_file_that_kills_its_actors_is_given_up(model_folder, tmp_path):
    (file,) = find_inputs(write_folder(tmp_path, 1, 5))
    job = Job(
        str(model_folder),
        model_fingerprint(StaticModel.from_pretrained(model_folder)),
        str(tmp_path),
        EncodeOptions(),
        None,
        n_cores=1_000,
    )
    batch = {"shard": [json.dumps(asdict(Shard(file, "out.parquet")))]}
    (tmp_path / "_attempts-out.parquet").write_bytes(b"xx")  # left by two killed actors
    (text,) = FileActor(partial(ShardEncoder, job), job.folder)(batch)["outcome"]
    assert json.loads(text)["entry"]["n_texts"] == 5
    (tmp_path / "_attempts-out.parquet").write_bytes(b"xxx")
    (text,) = FileActor(partial(ShardEncoder, job), job.folder)(batch)["outcome"]
    outcome = json.loads(text)
    assert outcome["entry"] is None and outcome["is_input_error"]
    assert f"{file.path}: its worker died 3 times" in outcome["message"]


def test_a_missing_cluster(pattern, model_folder, tmp_path):
    with pytest.raises(M2VError, match=r"No Ray cluster responds at 127\.0\.0\.1:1 \(.*refused"):
        encode_files(model_folder, pattern, tmp_path / "a", engine="ray", address="127.0.0.1:1")
