"""Invalid and outdated indexes are never searched; building the index again repairs it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from m2v_core import StaticModel
from m2v_core.distributed.run import encode_files
from m2v_core.errors import Cancelled, InputError, M2VError, NotFoundError, SaveError
from m2v_core.exploration.index.building import build_index
from m2v_core.exploration.index.searching import VectorSearch, search_texts
from tests.core.distributed.files import write_folder
from tests.core.exploration.index.oracle import check_hits, clustered, vectors_of, write_vectors
from tests.static_models import random_table, static_model


def check_search(folder, model):
    for query in ("the fox", "sea"):
        (hits,) = search_texts(VectorSearch(folder), model, [query])
        check_hits(hits, model.encode([query])[0], folder, 10, atol=2e-3)


@pytest.mark.parametrize("engine", ["usearch", "faiss"])
def test_new_files_are_added(engine, model, model_folder, encoded_once, tmp_path):
    if engine == "faiss":
        pytest.importorskip("faiss", reason="pip install 'm2v-studio[faiss]'")
    texts = tmp_path / "texts"
    shutil.copytree(encoded_once / "texts", texts)
    vectors = shutil.copytree(encoded_once / "vectors", tmp_path / "vectors")
    # The inputs keep their timestamps, so that only their folder differs.
    manifest = vectors / "_manifest.jsonl"
    manifest.write_text(manifest.read_text().replace(str(encoded_once), str(tmp_path)))
    assert build_index(vectors, engine=engine, threads=1).n_added == 360
    before = (vectors / f"_index.{engine}").read_bytes()
    assert build_index(vectors).n_added == 0
    assert (vectors / f"_index.{engine}").read_bytes() == before

    parquet.write_table(pyarrow.table({"id": [1000], "text": ["the sea fox"]}), texts / "-first.parquet")
    encode_files(model_folder, texts, vectors, workers=1)
    with pytest.raises(InputError, match=f"Vectors were added to {vectors} after .* m2v index {vectors}"):
        VectorSearch(vectors)
    assert VectorSearch(vectors, exact=True).vectors.n_rows == 361
    built = build_index(vectors)
    assert (built.n_added, built.n_rows, built.record.engine) == (1, 361, engine)
    check_search(vectors, model)
    (hits,) = search_texts(VectorSearch(vectors), model, ["the sea fox"], 1)
    assert (hits[0].file, hits[0].columns["id"]) == ("-first.parquet", 1000)

    write_folder(texts, 1, 100)  # overwrites the file 00.parquet
    encode_files(model_folder, texts, vectors, workers=1)
    with pytest.raises(InputError, match="Vectors changed in"):
        VectorSearch(vectors)
    assert build_index(vectors).n_added == 341
    check_search(vectors, model)


def test_other_settings_invalidate_the_index(tmp_path):
    rows = clustered(50, 8)
    folder = write_vectors(tmp_path / "v", [rows], max_length=511)
    build_index(folder)
    manifest = folder / "_manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("511", "512"))  # as after a restarted run
    with pytest.raises(InputError, match="Vectors changed in"):
        VectorSearch(folder)
    assert build_index(folder).n_added == 50


def test_what_is_kept_and_what_is_rebuilt(vectors):
    assert build_index(vectors).record.dtype == "float16"
    assert build_index(vectors, dtype="int8").n_added == 360
    assert build_index(vectors).record.dtype == "int8"
    assert build_index(vectors, restart=True).n_added == 360
    assert sorted(path.name for path in vectors.iterdir() if path.suffix != ".parquet") == [
        "_index.copies.npy",
        "_index.json",
        "_index.usearch",
        "_manifest.jsonl",
    ]
    # Readers of Parquet folders ignore the index.
    assert parquet.read_table(vectors).num_rows == 360


def test_one_engine_replaces_another(vectors, model):
    pytest.importorskip("faiss", reason="pip install 'm2v-studio[faiss]'")
    build_index(vectors)
    assert build_index(vectors, engine="faiss").path.name == "_index.faiss"
    assert not (vectors / "_index.usearch").exists()
    check_search(vectors, model)


def test_both_engines_work_in_one_process_in_any_order(vectors):
    pytest.importorskip("faiss", reason="pip install 'm2v-studio[faiss]'")
    for first in ("usearch.index", "faiss", "torch"):
        code = (
            f"import sys, {first}, usearch.index\n"
            "from m2v_core.exploration.index.building import build_index\n"
            "from m2v_core.exploration.index.searching import VectorSearch\n"
            "for engine in ('faiss', 'usearch'):\n"
            "    build_index(sys.argv[1], engine=engine)\n"
            "    search = VectorSearch(sys.argv[1])\n"
            "    print(len(search.search(search.load_model().encode(['the fox']))[0]))\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(vectors)], capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()) == (0, ["10", "10"]), done.stderr


def cut(folder):
    path = folder / "_index.usearch"
    path.write_bytes(path.read_bytes()[:-100])


def emptied(folder):
    (folder / "_index.usearch").write_bytes(b"")


def gone(folder):
    (folder / "_index.usearch").unlink()


def flipped(folder):
    path = folder / "_index.usearch"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def of_others(folder):
    """The state after a process is killed between writing the index and its record."""
    other = write_vectors(folder.parent / "other", [clustered(360, 24)])
    build_index(other)
    shutil.copy(other / "_index.usearch", folder)


def without_copies(folder):
    (folder / "_index.copies.npy").unlink()


def with_other_copies(folder):
    np.save(folder / "_index.copies.npy", np.zeros((3, 2), np.int64))


def with_what_is_no_list(folder):
    np.save(folder / "_index.copies.npy", np.zeros(3))


DAMAGES = [cut, emptied, gone, flipped, of_others, without_copies, with_other_copies, with_what_is_no_list]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_index_is_rejected_and_repaired(damage, vectors, model):
    build_index(vectors)
    damage(vectors)
    with pytest.raises(InputError, match=f"_index.usearch can't be used: .* m2v index {vectors}"):
        VectorSearch(vectors)
    assert VectorSearch(vectors, exact=True).is_exact
    assert build_index(vectors).n_added == 360
    check_search(vectors, model)


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"m2v_index": 2}', '{"m2v_index": 1, "files": [{}]}', "\0"])
def test_an_invalid_record_means_no_index(record, vectors, model):
    build_index(vectors)
    (vectors / "_index.json").write_text(record)
    assert VectorSearch(vectors).is_exact
    build_index(vectors)
    assert not VectorSearch(vectors).is_exact
    check_search(vectors, model)


def test_a_killed_build_leaves_no_index(vectors, model):
    code = (
        "import os, sys; from m2v_core.exploration.index.building import build_index\n"
        "build_index(sys.argv[1], progress=lambda event: event.done and os.kill(os.getpid(), 9))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(vectors)])
    assert done.returncode == -signal.SIGKILL
    assert (vectors / "_index.usearch.part").exists()
    assert VectorSearch(vectors).is_exact
    build_index(vectors)
    assert not (vectors / "_index.usearch.part").exists()
    check_search(vectors, model)


def test_cancelled_and_concurrent_builds(vectors, model):
    build_index(vectors)
    before = sorted((path.name, path.read_bytes()) for path in vectors.iterdir())
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        build_index(vectors, restart=True, progress=lambda event: cancel.set(), cancel=cancel)
    assert sorted((path.name, path.read_bytes()) for path in vectors.iterdir()) == before
    with pytest.raises(SaveError, match=r"Another process is building .*_index\.usearch"):
        build_index(vectors, restart=True, progress=lambda event: build_index(vectors, restart=True))
    check_search(vectors, model)


def test_no_space_left(tmp_path):
    folder = write_vectors(tmp_path / "v", [clustered(2_000, 64)])
    command = [sys.executable, "-m", "m2v_core", "index", str(folder)]

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert f"Could not write {folder / '_index.usearch'}" in line and "bytes are free" in line
    assert sorted(path.name for path in folder.iterdir()) == ["000.parquet", "_manifest.jsonl"]


def test_a_folder_that_can_not_be_written(vectors):
    (vectors / "_index.usearch.part").mkdir()
    with pytest.raises(SaveError, match="Could not write .*_index.usearch: Is a directory"):
        build_index(vectors)


def other_model(dim=24):
    model = static_model()
    return StaticModel(random_table(len(model.tokens) + 1, dim)[:-1], model.tokenizer)


def test_the_model_must_be_that_of_the_vectors(vectors, model_folder, tmp_path):
    other_model().save_pretrained(tmp_path / "other")
    other_model(16).save_pretrained(tmp_path / "narrow")
    for is_indexed in (False, True):
        search = VectorSearch(vectors)
        assert search.model_name == str(model_folder)
        assert search.load_model().dim == 24
        with pytest.raises(InputError, match=f"other is not the model .* were computed by {model_folder}"):
            search.load_model(str(tmp_path / "other"))
        with pytest.raises(InputError, match="16 dimensions, but the vectors have 24"):
            search.load_model(str(tmp_path / "narrow"))
        with pytest.raises(NotFoundError):
            search.load_model(str(tmp_path / "absent"))
        if not is_indexed:
            with pytest.raises(InputError, match="other is not the model"):
                build_index(vectors, model=str(tmp_path / "other"))
            build_index(vectors)


def test_a_model_that_was_moved(vectors, model_folder, tmp_path):
    manifest = vectors / "_manifest.jsonl"
    manifest.write_text(manifest.read_text().replace(str(model_folder), "/absent/model"))
    with pytest.raises(NotFoundError, match=r"/absent/model, does not exist. .*--model"):
        VectorSearch(vectors).load_model()
    assert VectorSearch(vectors).load_model(str(model_folder)).dim == 24
    build_index(vectors)
    build_index(vectors, model=str(model_folder))  # only rewrites the record
    assert VectorSearch(vectors).load_model().dim == 24


def test_a_folder_of_an_older_version_records_no_model(vectors, model_folder):
    head, *lines = (vectors / "_manifest.jsonl").read_text().splitlines(keepends=True)
    value = json.loads(head)
    del value["model"]
    (vectors / "_manifest.jsonl").write_text(json.dumps(value) + "\n" + "".join(lines))
    with pytest.raises(NotFoundError, match="is not recorded"):
        VectorSearch(vectors).load_model()
    assert VectorSearch(vectors).load_model(str(model_folder)).dim == 24


def without_file(folder):
    (folder / "01.parquet").unlink()


def with_longer_file(folder):
    with (folder / "01.parquet").open("ab") as file:
        file.write(b"x")


def with_corrupt_file(folder):
    path = folder / "01.parquet"
    content = bytearray(path.read_bytes())
    content[10:-2000] = os.urandom(len(content) - 2010)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_file, "01.parquet is missing"),
        (with_longer_file, "01.parquet has changed in size"),
        (with_corrupt_file, "01.parquet is damaged"),
    ],
)
@pytest.mark.parametrize("is_indexed", [True, False])
def test_damaged_vectors(damage, message, is_indexed, vectors):
    if is_indexed:
        build_index(vectors)
    damage(vectors)
    with pytest.raises(InputError, match=message):
        search = VectorSearch(vectors)
        search.search(np.ones((1, 24), np.float32), 360)
    with pytest.raises(InputError, match=message):
        build_index(vectors, restart=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_with_nan_or_infinity(value, tmp_path):
    rows = clustered(50, 8)
    rows[33, 5] = value
    folder = write_vectors(tmp_path / "v", [rows[:20], rows[20:]])
    for call in (build_index, lambda path: VectorSearch(path).search(rows[:1])):
        with pytest.raises(InputError, match=r"001\.parquet contains something other than vectors of 8 numbers"):
            call(folder)


def test_a_null_vector(tmp_path):
    kind = pyarrow.list_(pyarrow.float32(), 2)
    parquet.write_table(pyarrow.table({"embedding": pyarrow.array([[1, 2], None], kind)}), tmp_path / "vectors.parquet")
    # pyarrow before 26 rejects them itself.
    with pytest.raises(
        InputError, match="other than vectors of 2 numbers in rows 0 to 1|Expected all lists to be of size=2"
    ):
        build_index(tmp_path / "vectors.parquet")


def test_paths_without_vectors(tmp_path, encoded_once):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    write_vectors(tmp_path / "begun", [])
    cases = {
        tmp_path / "absent": (NotFoundError, "absent does not exist"),
        tmp_path / "empty": (NotFoundError, "empty is not a folder of embeddings"),
        tmp_path / "begun": (NotFoundError, "begun contains no finished files yet"),
        tmp_path / "notes.txt": (NotFoundError, "notes.txt is neither a folder nor a Parquet file"),
        tmp_path / "broken.parquet": (InputError, "can't be read as Parquet"),
        encoded_once / "texts": (NotFoundError, "texts is not a folder of embeddings"),
        encoded_once / "texts" / "00.parquet": (InputError, "has no column of vectors"),
    }
    for path, (error, message) in cases.items():
        for call in (VectorSearch, build_index):
            with pytest.raises(error, match=message):
                call(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "annoy"}, "engine must be one of usearch, faiss, not 'annoy'"),
        ({"dtype": "int4"}, "dtype must be one of float32, float16, int8, not 'int4'"),
        ({"engine": "faiss", "dtype": "int8"}, "A faiss index supports float32 or float16, not int8"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"model": "/absent"}, "absent"),
    ],
)
def test_invalid_arguments(arguments, message, vectors):
    with pytest.raises(M2VError, match=message):
        build_index(vectors, **arguments)


def test_the_oracle_reads_the_vectors_in_the_files(vectors, model):
    table = parquet.read_table(vectors / "01.parquet")
    np.testing.assert_allclose(vectors_of(table), model.encode(table["text"].to_pylist()), atol=1e-6)
