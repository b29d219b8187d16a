"""The m2v command: a sequence of commands, and the behavior shared by all commands."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

import m2v_core
from m2v_core import StaticModel
from m2v_core.cli import console
from m2v_core.errors import Cancelled
from m2v_core.progress import Progress
from tests.core.cli.commands import BUNDLED, OFFLINE, in_terminal, m2v, m2v_process, names


def test_readme_flow(tmp_path):
    """Distill the bundled teacher, inspect the model, encode a file, each in its own process."""
    (tmp_path / "vocab.txt").write_text("apple\nnew york\nturquoise\n", encoding="utf-8")
    (tmp_path / "texts.txt").write_bytes(b"\xef\xbb\xbfnew york\r\n\r\nan apple\r\n")
    out = tmp_path / "out"

    distilled = m2v_process(
        *("distill", "--model-name", BUNDLED, "--vocabulary-path", tmp_path / "vocab.txt", "--device", "cpu"),
        *("--recipe", "fast", "--save-path", out),
    )
    assert distilled.returncode == 0, distilled.stderr
    facts = dict(line.split(maxsplit=1) for line in distilled.stdout.splitlines())
    assert facts.keys() == {"vocabulary", "rows", "dim", "size", "time", "path"}
    assert facts["vocabulary"] == "3 entries, 3 rows"
    assert facts["dim"] == "256"
    assert facts["path"] == str(out)
    assert "bundled" in distilled.stderr

    described = m2v_process("info", out, "--json")
    assert described.returncode == 0, described.stderr
    info = json.loads(described.stdout)
    assert info["name"] == "out"
    assert info["teacher"] == BUNDLED
    assert info["recipe"] == "fast"
    assert info["precision"] == "float16"
    assert info["tokenizer"] == "WordPiece"
    assert info["normalize"] is True
    assert info["max_length"] == 512
    assert f"{info['rows']:,}" == facts["rows"]
    assert info["rows"] > 29_000
    assert info["size_bytes"] == sum(path.stat().st_size for path in out.rglob("*"))

    encoded = m2v_process(
        *("encode", "--model", out, "--input", tmp_path / "texts.txt", "--output", tmp_path / "vectors.npy")
    )
    assert encoded.returncode == 0, encoded.stderr
    assert encoded.stdout.split()[:4] == ["rows", "3", "dim", "256"]
    embeddings = np.load(tmp_path / "vectors.npy")
    expected = StaticModel.from_pretrained(out).encode(["new york", "", "an apple"])
    np.testing.assert_array_equal(embeddings, expected)
    assert names(tmp_path)[:1] + names(tmp_path)[-3:] == ["out", "texts.txt", "vectors.npy", "vocab.txt"]


def test_version():
    done = m2v("--version")
    assert (done.exit_code, done.stdout) == (0, f"m2v {m2v_core.__version__}\n")


def test_help_without_arguments():
    done = m2v()
    assert done.exit_code == 2
    assert "distill" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        "distill",
        "distill --model-name some/teacher",
        "distill --model-name some/teacher --save-path out --pca-dims many",
        "distill --model-name some/teacher --save-path out --sif-coefficient tiny",
        "distill --model-name some/teacher --save-path out --weighting heavy",
        "distill --model-name some/teacher --save-path out --pooling max",
        "distill --model-name some/teacher --save-path out --quantize-to int4",
        "distill --model-name some/teacher --save-path out --recipe secret",
        "distill --model-name some/teacher --save-path out --no-such-option",
        "encode --model out",
        "encode --model out --input texts.txt --output new.npy --dtype int4",
        "encode --model out --input texts.txt --output new.npy --on-error ignore",
        "encode --model out --input texts.txt --output new.npy --input-format xml",
        "info",
        "fly",
    ],
)
def test_usage_error(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = m2v(*arguments.split())
    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert names(tmp_path) == []


def test_error_is_red_on_a_terminal(tmp_path):
    output, code = in_terminal("info", tmp_path / "absent")
    assert code == 1
    assert "\x1b[31m\x1b[1mError: " in output


def test_no_color_is_respected(monkeypatch, tmp_path):
    monkeypatch.setitem(OFFLINE, "NO_COLOR", "1")
    output, code = in_terminal("info", tmp_path / "absent")
    assert code == 1
    assert output.startswith("Error: ")


def test_debug_shows_the_traceback(tmp_path):
    done = m2v("info", tmp_path, M2V_DEBUG="1")
    assert isinstance(done.exception, m2v_core.M2VError)
    assert done.exception.__traceback__ is not None


def test_long_paths_are_not_truncated(model_folder, tmp_path):
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    done = m2v("info", folder / "absent")
    assert str(folder / "absent") in done.stderr


def test_warnings_are_lines_and_only_during_the_command(model_folder, monkeypatch):
    original = StaticModel.from_pretrained

    def from_pretrained(path):
        warnings.warn("Lone\nsurrogates", stacklevel=2)
        return original(path)

    monkeypatch.setattr(StaticModel, "from_pretrained", from_pretrained)
    before = warnings.showwarning
    done = m2v("info", model_folder)
    assert done.stderr == "Warning: Lone surrogates\n"
    assert warnings.showwarning is before


def test_progress_shows_stage_speed_and_remaining_time(capsys):
    with pytest.raises(Cancelled), console.progress_bars("tokens") as show:
        show(Progress("load", 0, 0, 0.0, None))
        show(Progress("encode", 250, 1000, 12_345.6, 75.2))
        show(Progress("calibrate", 1, 2, 0.1, 10.0))
        raise Cancelled("half way")
    shown = capsys.readouterr().err
    assert "\r" not in shown and "\x1b" not in shown
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines] == ["Loading", "Encoding", "Calibrating"]
    assert [line.split("%")[0].split()[-1] for line in lines] == ["100", "100", "50"]
    assert lines[1].endswith("12,346 tokens/s")
    assert lines[2].endswith("0:10 left")


def test_warnings_are_printed_above_the_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    with console.progress_bars("tokens") as show:
        show(Progress("encode", 250, 1000, 12_345.6, 75.2))
        console.print_message("Warning: [OOV] is a token", fg="yellow")
    lines = capsys.readouterr().err.split("\n")
    drawn = [text.rstrip() for text in lines[0].split("\r")]
    assert drawn == ["", "Encoding             ━━━━━", "", "\x1b[33mWarning: [OOV] is a token\x1b[0m"]
    assert lines[1:] == ["\rEncoding             ━━━━━             \rEncoding             ━━━━━━━━━━━━━━━━━━", ""]


@pytest.mark.parametrize("arguments", ["--help", "--version", "info MODEL", "encode --model MODEL FILES"])
def test_only_distilling_imports_torch(arguments, model_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("the cat\n", encoding="utf-8")
    files = f"--input {tmp_path}/texts.txt --output {tmp_path}/vectors.npy"
    code = (
        "import sys; from m2v_core.cli import app; app(standalone_mode=False); "
        "sys.exit(sorted({'torch', 'transformers', 'gradio', 'sklearn'} & set(sys.modules)) or None)"
    )
    words = arguments.replace("MODEL", str(model_folder)).replace("FILES", files).split()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
