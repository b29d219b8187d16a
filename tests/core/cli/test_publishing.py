"""`m2v push` and `m2v export` on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

from tests.core.cli.commands import m2v, names


def test_push_without_an_account(session_hub, model_folder):
    done = m2v("push", model_folder, "tester/refused")
    assert done.exit_code == 1
    assert "401" in done.stderr
    assert "Sign in" in done.stderr
    assert not session_hub.has("model", "tester/refused")


def test_push_uses_the_saved_token(session_hub, model_folder):
    env = os.environ | {"HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}
    command = [sys.executable, "-m", "m2v_core", "push", str(model_folder), "pushed-by-command", "--license", "mit"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "verified   True" in done.stdout
    assert session_hub.repo("tester/pushed-by-command").private
    assert b"license: mit" in session_hub.files("tester/pushed-by-command")["README.md"]
    again = subprocess.run(command, capture_output=True, text=True, env=env)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize("format", ["onnx", "word2vec", "zip"])
def test_export(format, model_folder, tmp_path):
    output = tmp_path / {"onnx": "out", "word2vec": "out.txt", "zip": "out.zip"}[format]
    result = m2v("export", model_folder, "--format", format, "--output", output)
    assert result.exit_code == 0, result.output
    assert dict(line.split(maxsplit=1) for line in result.stdout.splitlines())["path"] == str(output)
    if format == "onnx":
        files = ["README.md", "config.json", "onnx", "onnx/model.onnx", "tokenizer.json", "tokenizer_config.json"]
        assert names(output) == files
    elif format == "word2vec":
        first, *lines = output.read_text().splitlines()
        assert first == "3 3"
        assert [line.split(" ")[0] for line in lines] == ["the", "cat", "sat"]
    else:
        with zipfile.ZipFile(output) as archive:
            assert "out/model.safetensors" in archive.namelist()
    assert m2v("export", model_folder, "--format", format, "--output", tmp_path / "new" / output.name).exit_code == 0
    written = output.read_bytes() if output.is_file() else (output / "config.json").read_bytes()
    again = m2v("export", model_folder, "--format", format, "--output", output)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    assert (output.read_bytes() if output.is_file() else (output / "config.json").read_bytes()) == written
    assert m2v("export", model_folder, "--format", format, "--output", output, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("format", "output", "message"),
    [
        ("onnx", "file.txt", "file.txt is a file"),
        ("zip", "folder", "folder is a folder"),
        ("word2vec", "file.txt/vectors.txt", "file.txt is not a writable folder"),
    ],
)
def test_invalid_output_of_export(format, output, message, model_folder, tmp_path):
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    result = m2v("export", model_folder, "--format", format, "--output", tmp_path / output)
    assert result.exit_code == 1
    assert message in result.stderr
    assert names(tmp_path) == ["file.txt", "folder"]


def test_only_models_are_exported(tmp_path):
    """Other folders are rejected."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"x")
    result = m2v("export", tmp_path / "photos", "--format", "zip", "--output", tmp_path / "out.zip")
    assert result.exit_code == 1
    assert "contains no static model" in result.stderr
    assert not (tmp_path / "out.zip").exists()
