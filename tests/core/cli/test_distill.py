"""`m2v distill` on the command line."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import time
from typing import get_args, get_type_hints

import pytest

from m2v_core import StaticModel, cli
from m2v_core.cli import distilling
from m2v_core.cli.console import STAGES
from m2v_core.distillation import pipeline
from m2v_core.errors import Cancelled
from m2v_core.storage import compression
from tests.core.cli.commands import BUNDLED, OFFLINE, assert_one_error_line, in_terminal, m2v, names

DISTILL_OPTIONS = {option.name: option for option in cli.app.commands["distill"].params}
DISTILL_ARGUMENTS = inspect.signature(pipeline.distill).parameters


@pytest.mark.parametrize("name", sorted(DISTILL_ARGUMENTS.keys() - {"reader", "progress", "cancel"}))
def test_every_argument_of_distill_is_an_option(name):
    option, argument = DISTILL_OPTIONS[name], DISTILL_ARGUMENTS[name]
    assert option.opts == [f"--{name.replace('_', '-')}"]
    if argument.default is inspect.Parameter.empty:
        assert option.required
    else:
        assert option.to_info_dict()["default"] == argument.default


@pytest.mark.parametrize("name", ["weighting", "pooling", "recipe", "quantize_to"])
def test_choices_equal_those_of_distill(name):
    allowed = compression.DTYPES if name == "quantize_to" else get_args(get_type_hints(pipeline.distill)[name])
    assert DISTILL_OPTIONS[name].type.choices == tuple(allowed)


def test_every_option_of_distill_is_passed_on(monkeypatch, model_folder, tmp_path):
    passed = {}

    def distill(model_name, **arguments):
        passed.update(arguments, model_name=model_name)
        return StaticModel.from_pretrained(model_folder)

    monkeypatch.setattr(pipeline, "distill", distill)
    (tmp_path / "words.csv").write_text("id,word,count\n1,apple,9\n2,pear,8\n3,apple,7\n", encoding="utf-8")
    expected = {
        "model_name": "some/teacher",
        "device": "cpu",
        "pca_dims": 0.9,
        "apply_zipf": False,
        "use_subword": False,
        "sif_coefficient": 1e-3,
        "weighting": "zipf",
        "token_remove_pattern": None,
        "pooling": "first",
        "quantize_to": "int8",
        "vocabulary_quantization": 100,
        "trust_remote_code": True,
        "recipe": "model2vec",
    }
    arguments = ["--vocabulary-path", tmp_path / "words.csv", "--vocabulary-column", "word"]
    for name, value in expected.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        else:
            arguments += [f"--{option}", "" if value is None else value]
    done = m2v("distill", *arguments, "--save-path", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "1 duplicate (line 4)" in done.stderr
    assert passed.keys() == DISTILL_ARGUMENTS.keys()
    assert passed | expected | {"vocabulary": {"apple": 9, "pear": 8}} == passed
    arguments = ["--vocabulary", "auto:en", "--vocabulary-size", "40MB", "--save-path", tmp_path / "other"]
    assert m2v("distill", "--model-name", "some/teacher", *arguments).exit_code == 0
    assert (passed["vocabulary"], passed["vocabulary_size"]) == ("auto:en", "40MB")


@pytest.mark.parametrize(
    ("text", "value"),
    [("128", 128), ("0.5", 0.5), ("1.0", 1.0), ("auto", "auto"), ("none", None), ("-3", -3)],
)
def test_pca_dims_are_parsed(text, value):
    parsed = distilling._parse_pca_dims(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model-name no-such/teacher", "no-such/teacher"),
        ("--model-name EMPTY", "no valid config.json"),
        ("--vocabulary-path absent.txt", "absent.txt"),
        ("--vocabulary-path EMPTY", "can't be read"),
        ("--vocabulary-path blank.txt", "is empty"),
        ("--vocabulary-path binary.txt", "binary.txt is binary"),
        ("--no-use-subword", "vocabulary"),
        ("--vocabulary auto:tlh", "no language 'tlh'; use one of ar, bg,"),
        ("--vocabulary auto:corpus", "no corpus"),
        ("--vocabulary words.txt", "use --vocabulary-path"),
        ("--vocabulary auto --vocabulary-path blank.txt", "one vocabulary"),
        ("--vocabulary auto --vocabulary-size many", "vocabulary_size is 'many'"),
        ("--vocabulary-size 7", "vocabulary_size is 7"),
        ("--pca-dims 0", "pca_dims"),
        ("--device abacus", "abacus"),
        ("--pooling pooler --model-name DECODER", "pooler"),
        ("--token-remove-pattern [", "token_remove_pattern"),
        ("--save-path blank.txt", "is a file"),
        ("--save-path blank.txt/model", "not a writable folder"),
        ("--save-path .", "without a model"),
        ("--save-path MODEL", "--overwrite"),
    ],
)
def test_invalid_input_of_distill(arguments, message, teacher, build_teacher_once, model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blank.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"a\0b")
    (tmp_path / "empty").mkdir()
    before = names(tmp_path), names(model_folder)
    places = {"EMPTY": "empty", "MODEL": str(model_folder)}
    if "DECODER" in arguments:
        places["DECODER"] = str(build_teacher_once("decoder"))
    given = [places.get(argument, argument) for argument in arguments.split()]
    for option, default in (("--model-name", teacher), ("--save-path", "out")):
        if option not in given:
            given += [option, default]
    done = m2v("distill", *given, HF_HUB_OFFLINE="1")
    assert_one_error_line(done, message)
    assert (names(tmp_path), names(model_folder)) == before


def test_overwrite_replaces_a_model(teacher, model_folder, tmp_path):
    out = tmp_path / "out"
    StaticModel.from_pretrained(model_folder).save_pretrained(out)
    arguments = ["distill", "--model-name", teacher, "--pca-dims", 8, "--save-path", out]
    assert_one_error_line(m2v(*arguments), "--overwrite")
    assert StaticModel.from_pretrained(out).dim == 3
    done = m2v(*arguments, "--overwrite")
    assert done.exit_code == 0, done.output
    assert StaticModel.from_pretrained(out).dim == 8


def test_an_empty_folder_can_be_used(teacher, tmp_path):
    done = m2v("distill", "--model-name", teacher, "--recipe", "fast", "--pca-dims", 8, "--save-path", tmp_path)
    assert done.exit_code == 0, done.output
    assert StaticModel.from_pretrained(tmp_path).dim == 8


def test_progress_bars_of_other_libraries_are_disabled(teacher, tmp_path):
    arguments = ["distill", "--model-name", teacher, "--recipe", "fast", "--pca-dims", 8, "--save-path", tmp_path]
    env = {name: value for name, value in OFFLINE.items() if "PROGRESS_BARS" not in name}  # set by the tests
    command = [sys.executable, "-m", "m2v_core", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "Loading the teacher" in done.stderr
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if "%" in line]
    assert all(line.startswith(tuple(STAGES.values())) for line in lines), done.stderr


def test_ctrl_c_while_distilling_leaves_no_files(tmp_path):
    shown, code = in_terminal(
        "distill", "--model-name", BUNDLED, "--save-path", tmp_path / "out", interrupt_at="tokens/s"
    )
    assert code == 130, shown
    assert "Cancelled; nothing was written." in shown
    assert "Traceback" not in shown
    assert "Loading the teacher" in shown
    assert " left" in shown
    assert "Reducing dimensions" not in shown
    assert names(tmp_path) == []


def test_interrupt_that_a_library_swallows_still_cancels(monkeypatch, tmp_path):
    def distill(model_name, progress, cancel, **arguments):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            pass
        if cancel.is_set():
            raise Cancelled("between two batches")

    monkeypatch.setattr(pipeline, "distill", distill)
    before = signal.getsignal(signal.SIGINT)
    done = m2v("distill", "--model-name", "some/teacher", "--save-path", tmp_path / "out")
    assert done.exit_code == 130
    assert "Cancelled; nothing was written." in done.stderr
    assert signal.getsignal(signal.SIGINT) is before
    assert names(tmp_path) == []


def test_distilling_without_torch_names_the_remedy(tmp_path):
    code = "import sys; sys.modules['torch'] = None; from m2v_core.cli import main; main()"
    arguments = ["distill", "--model-name", BUNDLED, "--save-path", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=OFFLINE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: torch is not installed; run: pip install 'm2v-studio[distill]'"
