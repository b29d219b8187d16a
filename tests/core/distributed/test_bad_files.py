"""Invalid files and folders in runs over many files: each error names the cause."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

import pyarrow
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from m2v_core import cli
from m2v_core.distributed.run import encode_files
from m2v_core.errors import InputError, M2VError, NotFoundError, SaveError
from tests.core.distributed.files import check_complete, entries_of, rows_of, write_folder

N_FILES, N_ROWS = 4, 50
BAD = "02.parquet"


def with_null(path):
    table = pyarrow.table({"id": [100, 101, 102], "text": ["the", None, "fox"]})
    parquet.write_table(table, path)


def without_column(path):
    parquet.write_table(pyarrow.table({"id": [1], "body": ["the"], "n": ["x"]}), path)


def corrupt(path):
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def of_other_type(path):
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "text": ["the", "fox"]}), path)


def with_one_more(path):
    parquet.write_table(pyarrow.table({"id": [7], "text": ["fox"], "extra": [1]}), path)


FAULTS = {
    with_null: "row 2, has null instead of a text under 'text'",
    without_column: "no column 'text'",
    corrupt: "damaged, or was changed",
    cut: "can't be read as Parquet",
    of_other_type: "has a column 'id' of string, but the previous files have a column 'id' of int64",
    with_one_more: "has a column 'extra' of int64, but the previous files have no column 'extra'",
}


@pytest.fixture
def pattern(tmp_path):
    return write_folder(tmp_path / "texts", N_FILES, N_ROWS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_bad_file_among_many(fault, pattern, model_folder, tmp_path):
    bad, output = pattern.parent / BAD, tmp_path / "vectors"
    fault(bad)
    with pytest.raises(InputError) as raised:
        encode_files(model_folder, pattern, output, workers=1)
    assert str(bad) in str(raised.value)
    assert FAULTS[fault] in str(raised.value)
    assert BAD not in [path.name for path in output.iterdir()]


def test_an_invalid_file_is_skipped_and_added_once_corrected(model, model_folder, tmp_path):
    n_files, output = len(FAULTS) + 2, tmp_path / "vectors"
    pattern = write_folder(tmp_path / "texts", n_files, N_ROWS)
    bad = {pattern.parent / f"{i:02}.parquet": fault for i, fault in enumerate(FAULTS, 1)}
    for path, fault in bad.items():
        fault(path)
    encoded = encode_files(model_folder, pattern, output, workers=1, on_error="skip")
    assert {path: next(m for f, m in FAULTS.items() if m in reason) for path, reason in encoded.failed.items()} == {
        str(path): FAULTS[fault] for path, fault in bad.items() if fault is not with_null
    }
    assert all(path in reason for path, reason in encoded.failed.items())
    assert (encoded.n_files, encoded.n_skipped) == (3, 1)
    assert FAULTS[with_null] in encoded.problems[0]
    ends = [*range(N_ROWS), *range((n_files - 1) * N_ROWS, n_files * N_ROWS)]
    assert rows_of(output)["id"].to_pylist() == sorted([*ends, 100, 102])

    write_folder(pattern.parent, n_files, N_ROWS)
    assert encode_files(model_folder, pattern, output, workers=1).n_files == n_files
    check_complete(output, n_files, N_ROWS, model)


def test_the_first_file_may_be_invalid(pattern, model_folder, tmp_path):
    cut(pattern.parent / "00.parquet")
    with pytest.raises(InputError, match=r"00\.parquet can't be read as Parquet"):
        encode_files(model_folder, pattern, tmp_path / "a", workers=1)
    assert not (tmp_path / "a").exists()
    encoded = encode_files(model_folder, pattern, tmp_path / "a", workers=1, on_error="skip")
    assert (encoded.n_files, len(encoded.failed)) == (N_FILES - 1, 1)


@pytest.mark.parametrize("keep_columns", [True, False])
def test_all_files_are_invalid(keep_columns, pattern, model_folder, tmp_path):
    for path in pattern.parent.iterdir():
        cut(path)
    with pytest.raises(
        InputError, match=f"None of the {N_FILES} files can be used. The first: .*can't be read as Parquet"
    ):
        encode_files(model_folder, pattern, tmp_path / "a", workers=1, on_error="skip", keep_columns=keep_columns)


def test_columns_may_differ_if_none_is_kept(pattern, model_folder, tmp_path):
    with_one_more(pattern.parent / BAD)
    encoded = encode_files(model_folder, pattern, tmp_path / "a", workers=1, keep_columns=False)
    assert encoded.n_texts == (N_FILES - 1) * N_ROWS + 1
    assert parquet.read_table(tmp_path / "a").column_names == ["embedding"]


def test_a_folder_of_other_files(pattern, model_folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").touch()
    for restart in (False, True):
        with pytest.raises(SaveError, match="full is not empty, and its files were not written by this command"):
            encode_files(model_folder, pattern, tmp_path / "full", restart=restart)
        with pytest.raises(SaveError, match="is not empty"):  # the folder of the texts
            encode_files(model_folder, pattern, pattern.parent, restart=restart)
    with pytest.raises(SaveError, match="file is a file"):
        encode_files(model_folder, pattern, tmp_path / "file")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    assert len(list(pattern.parent.iterdir())) == N_FILES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float16"}, "other settings: dtype"),
        ({"normalize": False}, "other settings: normalize"),
        ({"embedding_column": "v"}, "other settings: embedding column"),
        ({"keep_columns": False}, "other settings: kept columns"),
    ],
)
def test_a_folder_with_other_settings(arguments, message, pattern, model_folder, tmp_path):
    encode_files(model_folder, pattern, tmp_path / "a", workers=1, on_error="skip")
    before = entries_of(tmp_path / "a")
    with pytest.raises(SaveError, match=message):
        encode_files(model_folder, pattern, tmp_path / "a", **arguments)
    assert entries_of(tmp_path / "a") == before


def test_two_concurrent_runs(pattern, model_folder, tmp_path):
    with pytest.raises(SaveError, match="Another run is writing to"):
        encode_files(
            model_folder,
            pattern,
            tmp_path / "a",
            workers=1,
            progress=lambda event: encode_files(model_folder, pattern, tmp_path / "a", workers=1),
        )


def test_a_run_killed_while_it_created_the_folder(pattern, model, model_folder, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "_manifest.jsonl").write_bytes(b'{"m2v_mani')
    with pytest.raises(SaveError, match="--restart"):
        encode_files(model_folder, pattern, tmp_path / "a", workers=1)
    encode_files(model_folder, pattern, tmp_path / "a", workers=1, restart=True)
    check_complete(tmp_path / "a", N_FILES, N_ROWS, model)


def test_no_space_left(model, model_folder, tmp_path):
    n_rows = 3000
    pattern, output = write_folder(tmp_path / "texts", N_FILES, n_rows), tmp_path / "vectors"
    arguments = ["encode", "--model", model_folder, "--input", pattern, "--output", output, "--on-error", "skip"]
    command = [sys.executable, "-m", "m2v_core", *map(str, arguments), "--workers", "2"]

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1 and "File too large" in lines[0] and ".parquet" in lines[0] and "over" in lines[0]
    assert "Traceback" not in done.stderr
    assert entries_of(output) == []
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_complete(output, N_FILES, n_rows, model)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": "absent/*.parquet"}, NotFoundError, "No input file at absent"),
        ({"inputs": "file:///absent/*.parquet"}, NotFoundError, "No input file at file:///absent"),
        ({"inputs": "nowhere://x/*.parquet"}, InputError, "Protocol not known: nowhere"),
        ({"model": "absent"}, M2VError, "absent"),
        ({"workers": 0}, InputError, "workers must be at least 1, not 0"),
        ({"engine": "spark"}, InputError, "engine must be one of processes, ray, not 'spark'"),
        ({"address": "auto"}, InputError, "engine='ray'"),
        ({"column": "body"}, InputError, "no column 'body'"),
        ({"embedding_column": "id"}, InputError, "already has a column 'id'"),
        ({"max_length": 0}, InputError, "max_length"),
    ],
)
def test_invalid_arguments(arguments, error, message, pattern, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"model": model_folder, "inputs": pattern} | arguments
    with pytest.raises(error, match=message):
        encode_files(given.pop("model"), given.pop("inputs"), tmp_path / "a", **given)
    assert not (tmp_path / "a").exists() or entries_of(tmp_path / "a") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--overwrite"], "--overwrite is for a single file"),
        (["--output", "vectors.npy"], "vectors.npy is a file name. Pass a folder"),
        (["--address", "auto"], "engine"),
    ],
)
def test_options_that_exclude_each_other(arguments, message, pattern, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["encode", "--model", str(model_folder), "--input", str(pattern), "--output", "out", *arguments]
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_skipped_files_and_rows_cause_warnings(pattern, model_folder, tmp_path):
    with_null(pattern.parent / "01.parquet")
    cut(pattern.parent / BAD)
    given = ["encode", "--model", model_folder, "--input", pattern, "--output", tmp_path / "a", "--on-error", "skip"]
    done = CliRunner().invoke(cli.app, [*map(str, given), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert f"Warning: A file was skipped: {pattern.parent / BAD} can't be read as Parquet" in done.stderr
    assert "Warning: 1 rows were skipped. First: " in done.stderr
    assert done.stdout.split()[:4] == ["files", "3", "rows", f"{2 * N_ROWS + 2}"]


def test_a_file_that_is_deleted_during_the_run(pattern, model_folder, tmp_path):
    gone = pattern.parent / BAD
    with pytest.raises(NotFoundError, match=BAD):
        encode_files(
            model_folder, pattern, tmp_path / "a", workers=1, progress=lambda event: gone.unlink(missing_ok=True)
        )
    write_folder(pattern.parent, 1, N_ROWS, start=2)
    encoded = encode_files(
        *(model_folder, pattern, tmp_path / "a"),
        workers=1,
        on_error="skip",
        progress=lambda event: gone.unlink(missing_ok=True),
    )
    assert (encoded.n_files, list(encoded.failed)) == (N_FILES - 1, [str(gone)])


def test_a_single_file_may_have_the_name_of_a_pattern(model_folder, tmp_path):
    (tmp_path / "texts[1].txt").write_text("the fox\n")
    given = ["encode", "--model", model_folder, "--input", tmp_path / "texts[1].txt", "--output", tmp_path / "v.npy"]
    done = CliRunner().invoke(cli.app, list(map(str, given)))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "v.npy").is_file()


def test_empty_files(model_folder, tmp_path):
    pattern = write_folder(tmp_path / "texts", 2, 0)
    assert encode_files(model_folder, pattern, tmp_path / "a", workers=1).n_texts == 0
    assert len(rows_of(tmp_path / "a")) == 0
