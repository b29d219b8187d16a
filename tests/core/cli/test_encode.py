"""`m2v encode` on the command line."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from pyarrow import parquet

from m2v_core import StaticModel, cli
from m2v_core.bulk import readers, run
from m2v_core.bulk.formats import DType, InputFormat
from tests.core.cli.commands import OFFLINE, assert_one_error_line, m2v, names

ENCODE_OPTIONS = {option.name: option for option in cli.app.commands["encode"].params}
ENCODE_ARGUMENTS = inspect.signature(run.encode_file).parameters


def encode_texts(model_folder, folder):
    """Encode `texts.txt` to `new.npy` in the same folder."""
    return m2v("encode", "--model", model_folder, "--input", folder / "texts.txt", "--output", folder / "new.npy")


@pytest.mark.parametrize("name", sorted(ENCODE_ARGUMENTS.keys() - {"progress", "cancel", "model_name"}))
def test_every_argument_of_encode_file_is_an_option(name):
    argument, option = ENCODE_ARGUMENTS[name], ENCODE_OPTIONS[name]
    if argument.default is inspect.Parameter.empty:
        assert option.required
    else:
        assert option.to_info_dict()["default"] == (None if name == "max_length" else argument.default)


@pytest.mark.parametrize(
    ("name", "allowed"), [("input_format", InputFormat), ("dtype", DType), ("on_error", readers.OnError)]
)
def test_choices_equal_those_of_encode_file(name, allowed):
    assert ENCODE_OPTIONS[name].type.choices == get_args(allowed)


def test_every_option_of_encode_is_passed_on(model_folder, monkeypatch, tmp_path):
    passed = {}

    def encode_file(model, *paths, **arguments):
        passed.update(arguments, paths=paths)
        return run.Encoded(7, 1, ("in.csv, line 3 has 1 cells.",))

    monkeypatch.setattr(run, "encode_file", encode_file)
    done = m2v(
        *("encode", "--model", model_folder, "--input", "-", "--output", tmp_path / "out.parquet"),
        *("--column", "body", "--input-format", "csv", "--no-keep-columns", "--embedding-column", "v"),
        *(
            "--dtype",
            "float16",
            "--max-length",
            "9",
            "--no-normalize",
            "--on-error",
            "skip",
            "--overwrite",
        ),
    )
    assert done.exit_code == 0, done.output
    del passed["progress"], passed["cancel"]
    assert passed == {
        "paths": ("-", tmp_path / "out.parquet"),
        "column": "body",
        "input_format": "csv",
        "keep_columns": False,
        "embedding_column": "v",
        "dtype": "float16",
        "max_length": 9,
        "normalize": False,
        "on_error": "skip",
        "overwrite": True,
        "model_name": str(model_folder),
    }
    assert "1 rows were skipped. First: in.csv, line 3 has 1 cells." in done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["rows"] == "7"


def test_stdin_is_encoded(model_folder, tmp_path):
    command = [sys.executable, "-m", "m2v_core", "encode", "--model", model_folder, "--input", "-"]
    command += ["--output", tmp_path / "out.npy"]
    done = subprocess.run(command, input=b"the cat\nsat\n", capture_output=True, env=OFFLINE)
    assert done.returncode == 0, done.stderr
    expected = StaticModel.from_pretrained(model_folder).encode(["the cat", "sat"])
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_encode_of_an_empty_file_warns(model_folder, tmp_path):
    (tmp_path / "texts.txt").touch()
    done = encode_texts(model_folder, tmp_path)
    assert done.exit_code == 0
    assert "Warning: " in done.stderr
    assert np.load(tmp_path / "new.npy").shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("encode --model absent --input texts.txt --output new.npy", "absent"),
        ("encode --model empty --input texts.txt --output new.npy", "empty"),
        ("encode --model broken --input texts.txt --output new.npy", "broken"),
        ("encode --model MODEL --input absent.txt --output new.npy", "absent.txt"),
        ("encode --model MODEL --input empty --output new.npy", "is a file name"),
        ("encode --model MODEL --input empty --output new", "No input file at empty"),
        ("encode --model MODEL --input gbk.txt --output new.npy", "not UTF-8 in line 1 (byte 0)"),
        ("encode --model MODEL --input - --output empty", "Pass a file"),
        ("encode --model MODEL --input texts.txt --output texts.txt", "is not an output format"),
        ("encode --model MODEL --input texts.txt --output texts.txt/new.npy", "Could not write"),
        ("encode --model MODEL --input texts.txt --output old.npy", "--overwrite"),
        ("encode --model MODEL --input texts.txt --output new.npy --column body", "no column 'body'"),
        ("encode --model MODEL --input texts.txt --output new.npy --on-error skip", "may be skipped"),
        ("encode --model MODEL --input texts.txt --output new.npy --input-format jsonl", "texts.txt, line 1"),
        ("encode --model MODEL --input texts.txt --output new.npy --max-length 0", "max_length"),
        ("info absent", "absent"),
        ("info empty", "empty"),
        ("info broken", "broken"),
        ("info texts.txt", "texts.txt"),
    ],
)
def test_invalid_input_of_encode_and_info(arguments, message, model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("the cat\n", encoding="utf-8")
    (tmp_path / "gbk.txt").write_text("\u4f60\u597d\n", encoding="gbk")
    (tmp_path / "old.npy").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for path in model_folder.iterdir():
        (tmp_path / "broken" / path.name).write_bytes(path.read_bytes()[:40])
    before = names(tmp_path)
    done = m2v(*[str(model_folder) if word == "MODEL" else word for word in arguments.split()], HF_HUB_OFFLINE="1")
    assert_one_error_line(done, message)
    assert names(tmp_path) == before


def test_ctrl_c_while_encoding_leaves_no_files(model_folder, monkeypatch, tmp_path):
    (tmp_path / "texts.txt").write_text("the cat\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(run.NpyWriter, "write", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        done = encode_texts(model_folder, tmp_path)
    assert done.exit_code == 130
    said = " ".join(done.stderr.split())
    assert f"Stopped; {tmp_path / 'new.npy'} was not written. The same command starts over." in said
    assert names(tmp_path) == ["texts.txt"]
    assert encode_texts(model_folder, tmp_path).exit_code == 0


@pytest.mark.parametrize("output", ["vectors/", "there", "there/", "new"])
def test_one_file_is_encoded_into_a_folder(output, model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("the cat\na dog\n", encoding="utf-8")
    (tmp_path / "there").mkdir()
    done = m2v("encode", "--model", model_folder, "--input", "texts.txt", "--output", output, "--workers", "1")
    assert done.exit_code == 0, done.stderr
    [written] = (tmp_path / output).glob("*.parquet")
    assert written.name.startswith("texts")
    assert parquet.read_table(written)["text"].to_pylist() == ["the cat", "a dog"]


def test_search_finds_the_model_of_a_single_file(model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("the cat\nsat\n", encoding="utf-8")
    model = os.path.relpath(model_folder)  # also found from other folders
    done = m2v("encode", "--model", model, "--input", "texts.txt", "--output", "vectors.parquet")
    assert done.exit_code == 0, done.stderr
    monkeypatch.chdir(model_folder)
    assert m2v("index", tmp_path / "vectors.parquet").exit_code == 0
    done = m2v("search", tmp_path / "vectors.parquet", "sat", "-k", "1")
    assert done.exit_code == 0 and "sat  " in done.stdout


def test_texts_of_another_language_cause_a_warning(model_folder, tmp_path):
    notes = ["我最喜欢在下雨天听歌", "今天的天气很好", "我们去公园散步"]
    (tmp_path / "texts.txt").write_text("\n".join(notes), encoding="utf-8")
    done = encode_texts(model_folder, tmp_path)
    assert done.exit_code == 0
    assert re.search(r"was not made for the texts in .*texts\.txt: 100% of the tokens are unknown", done.stderr)
    (tmp_path / "texts.txt").write_text("the cat sat\n", encoding="utf-8")
    (tmp_path / "new.npy").unlink()
    assert "not made for" not in encode_texts(model_folder, tmp_path).stderr

    (tmp_path / "many").mkdir()
    for number, note in enumerate(notes):
        (tmp_path / "many" / f"{number}.txt").write_text(note, encoding="utf-8")
    done = m2v("encode", "--model", model_folder, "--input", tmp_path / "many", "--output", tmp_path / "vectors")
    assert done.exit_code == 0
    assert done.stderr.count("not made for") == 1
    assert "not made for the query" in m2v("search", tmp_path / "vectors", notes[0], "--model", model_folder).stderr
