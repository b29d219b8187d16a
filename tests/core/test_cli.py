"""The m2v command, run as people run it."""

from __future__ import annotations

import errno
import inspect
import json
import os
import pty
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from typing import get_args, get_type_hints

import numpy as np
import pytest
import typer
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

import m2v_core
from m2v_core import StaticModel, cli, compression
from m2v_core.bulk import readers, run
from m2v_core.bulk.formats import DType, InputFormat
from m2v_core.cli import console, distilling, encoding, starting
from m2v_core.distillation import pipeline
from m2v_core.errors import Cancelled
from m2v_core.progress import Progress

BUNDLED = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE = os.environ | {"HF_HUB_OFFLINE": "1"}


def m2v(*arguments, **env):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env=env)


def m2v_process(*arguments):
    command = [sys.executable, "-m", "m2v_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=OFFLINE)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A model of four tokens, three dimensions wide."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2, "sat": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model = StaticModel(
        table,
        tokenizer,
        max_length=64,
        base_model_name="some/teacher",
        config={"m2v": {"recipe": "model2vec"}},
    )
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save_pretrained(folder)
    return folder


def test_readme_flow(tmp_path):
    """Distil the bundled teacher, look at the model, encode a file: each a process of its own."""
    (tmp_path / "vocab.txt").write_text("apple\nnew york\nturquoise\n", encoding="utf-8")
    (tmp_path / "texts.txt").write_bytes(b"\xef\xbb\xbfnew york\r\n\r\nan apple\r\n")
    out = tmp_path / "out"

    distilled = m2v_process(
        *("distill", "--model-name", BUNDLED, "--vocabulary-path", tmp_path / "vocab.txt", "--device", "cpu"),
        *("--recipe", "fast", "--save-path", out),
    )
    assert distilled.returncode == 0, distilled.stderr
    facts = dict(line.split(maxsplit=1) for line in distilled.stdout.splitlines())
    assert facts.keys() == {"rows", "dim", "size", "time", "path"}
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


DISTILL_OPTIONS = {option.name: option for option in typer.main.get_command(cli.app).commands["distill"].params}
DISTILL_ARGUMENTS = inspect.signature(pipeline.distill).parameters


@pytest.mark.parametrize("name", DISTILL_ARGUMENTS.keys() - {"vocabulary", "progress", "cancel"})
def test_every_argument_of_distill_is_an_option(name):
    option, argument = DISTILL_OPTIONS[name], DISTILL_ARGUMENTS[name]
    assert option.opts == [f"--{name.replace('_', '-')}"]
    if argument.default is inspect.Parameter.empty:
        assert option.required
    else:
        assert option.default == (str(argument.default) if name == "pca_dims" else argument.default)


@pytest.mark.parametrize("name", ["weighting", "pooling", "recipe", "quantize_to"])
def test_choices_are_those_of_distill(name):
    allowed = compression.DTYPES if name == "quantize_to" else get_args(get_type_hints(pipeline.distill)[name])
    assert get_args(get_type_hints(distilling.distill)[name]) == tuple(allowed)


def test_every_option_of_distill_arrives(monkeypatch, model_folder, tmp_path):
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
    assert passed | expected | {"vocabulary": ["apple", "pear"]} == passed


@pytest.mark.parametrize(
    ("text", "value"),
    [("128", 128), ("0.5", 0.5), ("1.0", 1.0), ("auto", "auto"), ("none", None), ("-3", -3)],
)
def test_pca_dims_are_read(text, value):
    parsed = distilling._parse_pca_dims(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.fixture
def teacher(build_teacher_once):
    return build_teacher_once("wordpiece")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model-name no-such/teacher", "no-such/teacher"),
        ("--model-name EMPTY", "no config.json"),
        ("--vocabulary-path absent.txt", "absent.txt"),
        ("--vocabulary-path EMPTY", "can't be read"),
        ("--vocabulary-path blank.txt", "is empty"),
        ("--vocabulary-path binary.txt", "NUL"),
        ("--no-use-subword", "vocabulary"),
        ("--pca-dims 0", "pca_dims"),
        ("--device abacus", "abacus"),
        ("--pooling pooler --model-name DECODER", "pooler"),
        ("--token-remove-pattern [", "token_remove_pattern"),
        ("--save-path blank.txt", "is a file"),
        ("--save-path blank.txt/model", "no folder"),
        ("--save-path .", "holds no model"),
        ("--save-path MODEL", "--overwrite"),
    ],
)
def test_bad_input_of_distill(arguments, message, teacher, build_teacher_once, model_folder, monkeypatch, tmp_path):
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


def assert_one_error_line(done, message):
    assert done.exit_code == 1, done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.output
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("encode --model absent --input texts.txt --output new.npy", "absent"),
        ("encode --model empty --input texts.txt --output new.npy", "empty"),
        ("encode --model broken --input texts.txt --output new.npy", "broken"),
        ("encode --model MODEL --input absent.txt --output new.npy", "absent.txt"),
        ("encode --model MODEL --input empty --output new.npy", "is the name of a file"),
        ("encode --model MODEL --input empty --output new", "No file of texts at empty"),
        ("encode --model MODEL --input utf16.txt --output new.npy", "not UTF-8"),
        ("encode --model MODEL --input texts.txt --output empty", "ends in one of"),
        ("encode --model MODEL --input texts.txt --output texts.txt", "ends in one of"),
        ("encode --model MODEL --input texts.txt --output texts.txt/new.npy", "Could not write"),
        ("encode --model MODEL --input texts.txt --output old.npy", "--overwrite"),
        ("encode --model MODEL --input texts.txt --output new.npy --column body", "no column 'body'"),
        ("encode --model MODEL --input texts.txt --output new.npy --on-error skip", "may be left out"),
        ("encode --model MODEL --input texts.txt --output new.npy --input-format jsonl", "texts.txt, line 1"),
        ("encode --model MODEL --input texts.txt --output new.npy --max-length 0", "max_length"),
        ("info absent", "absent"),
        ("info empty", "empty"),
        ("info broken", "broken"),
        ("info texts.txt", "texts.txt"),
    ],
)
def test_bad_input_of_encode_and_info(arguments, message, model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("the cat\n", encoding="utf-8")
    (tmp_path / "utf16.txt").write_text("the cat\n", encoding="utf-16")
    (tmp_path / "old.npy").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for path in model_folder.iterdir():
        (tmp_path / "broken" / path.name).write_bytes(path.read_bytes()[:40])
    before = names(tmp_path)
    done = m2v(*[str(model_folder) if word == "MODEL" else word for word in arguments.split()], HF_HUB_OFFLINE="1")
    assert_one_error_line(done, message)
    assert names(tmp_path) == before


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
    assert "\x1b[1;31mError: " in output


def test_debug_shows_where_an_error_came_from(tmp_path):
    done = m2v("info", tmp_path, M2V_DEBUG="1")
    assert isinstance(done.exception, m2v_core.M2VError)
    assert done.exception.__traceback__ is not None


def test_overwrite_replaces_a_model(teacher, model_folder, tmp_path):
    out = tmp_path / "out"
    StaticModel.from_pretrained(model_folder).save_pretrained(out)
    arguments = ["distill", "--model-name", teacher, "--pca-dims", 8, "--save-path", out]
    assert_one_error_line(m2v(*arguments), "--overwrite")
    assert StaticModel.from_pretrained(out).dim == 3
    done = m2v(*arguments, "--overwrite")
    assert done.exit_code == 0, done.output
    assert StaticModel.from_pretrained(out).dim == 8


def test_an_empty_folder_may_be_filled(teacher, tmp_path):
    done = m2v("distill", "--model-name", teacher, "--pca-dims", 8, "--save-path", tmp_path)
    assert done.exit_code == 0, done.output
    assert StaticModel.from_pretrained(tmp_path).dim == 8


def in_terminal(*arguments, interrupt_at=None):
    """What a command shows on a terminal, and its exit code.

    Args:
        arguments: Of m2v.
        interrupt_at: Press Ctrl-C when this text has been shown.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-m", "m2v_core", *map(str, arguments)], OFFLINE)
    shown, is_pressed = b"", False
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError as error:  # how Linux says that the other side is closed
            assert error.errno == errno.EIO
            break
        if not read:
            break
        shown += read
        if interrupt_at is not None and not is_pressed and interrupt_at.encode() in shown:
            os.write(terminal, b"\x03")
            is_pressed = True
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(status)


def test_ctrl_c_while_distilling_leaves_nothing(tmp_path):
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


def test_ctrl_c_while_encoding_leaves_nothing(model_folder, monkeypatch, tmp_path):
    (tmp_path / "texts.txt").write_text("the cat\n", encoding="utf-8")
    monkeypatch.setattr(run.NpyWriter, "write", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
    done = m2v(
        *(
            "encode",
            "--model",
            model_folder,
            "--input",
            tmp_path / "texts.txt",
            "--output",
            tmp_path / "new.npy",
        )
    )
    assert done.exit_code == 130
    assert names(tmp_path) == ["texts.txt"]


ENCODE_OPTIONS = {option.name: option for option in typer.main.get_command(cli.app).commands["encode"].params}
ENCODE_ARGUMENTS = inspect.signature(run.encode_file).parameters


@pytest.mark.parametrize("name", ENCODE_ARGUMENTS.keys() - {"progress", "cancel"})
def test_every_argument_of_encode_file_is_an_option(name):
    argument, option = ENCODE_ARGUMENTS[name], ENCODE_OPTIONS[name]
    if argument.default is inspect.Parameter.empty:
        assert option.required
    else:
        assert option.default == (None if name == "max_length" else argument.default)


@pytest.mark.parametrize(
    ("name", "allowed"), [("input_format", InputFormat), ("dtype", DType), ("on_error", readers.OnError)]
)
def test_choices_are_those_of_encode_file(name, allowed):
    offered = get_type_hints(encoding.encode)[name]
    assert offered in (allowed, allowed | None)


def test_every_option_of_encode_arrives(model_folder, monkeypatch, tmp_path):
    passed = {}

    def encode_file(model, *paths, **arguments):
        passed.update(arguments, paths=paths)
        return run.Encoded(7, 3, 1, ("in.csv, line 3 has 1 cells.",))

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
            "--restart",
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
        "restart": True,
    }
    assert "1 rows were left out. The first: in.csv, line 3 has 1 cells." in done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert (facts["rows"], facts["resumed"]) == ("7", "after 3")


def test_stdin_is_encoded(model_folder, tmp_path):
    command = [sys.executable, "-m", "m2v_core", "encode", "--model", model_folder, "--input", "-"]
    command += ["--output", tmp_path / "out.npy"]
    done = subprocess.run(command, input=b"the cat\nsat\n", capture_output=True, env=OFFLINE)
    assert done.returncode == 0, done.stderr
    expected = StaticModel.from_pretrained(model_folder).encode(["the cat", "sat"])
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_ctrl_c_while_encoding_says_how_to_go_on(model_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 5)
    monkeypatch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    (tmp_path / "texts.txt").write_text("the cat\n" * 20, encoding="utf-8")
    arguments = ["encode", "--model", model_folder, "--input", tmp_path / "texts.txt", "--output", tmp_path / "new.npy"]
    save = run.Checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(
            run.Checkpoint, "save", lambda *arguments: save(*arguments) or os.kill(os.getpid(), signal.SIGINT)
        )
        done = m2v(*arguments)
    assert done.exit_code == 130
    assert "Stopped after 5 texts; the same command goes on from there." in done.stderr
    assert names(tmp_path) == ["new.npy.part", "new.npy.part.json", "texts.txt"]
    done = m2v(*arguments)
    assert done.exit_code == 0, done.output
    assert "resumed    after 5" in done.stdout
    assert np.load(tmp_path / "new.npy").shape == (20, 3)


def test_progress_shows_stage_speed_and_time_left(capsys):
    with pytest.raises(Cancelled), console.progress_bars("tokens") as show:
        show(Progress("load", 0, 0, 0.0, None))
        show(Progress("encode", 250, 1000, 12_345.6, 75.2))
        show(Progress("calibrate", 1, 2, 0.1, 10.0))
        raise Cancelled("half way")
    lines = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    assert [line.split()[0] for line in lines] == ["Loading", "Encoding", "Calibrating"]
    assert [line.split("%")[0].split()[-1] for line in lines] == ["100", "100", "50"]
    assert lines[1].endswith("12,346 tokens/s")
    assert lines[2].endswith("0:10 left")


def test_encode_of_an_empty_file_warns(model_folder, tmp_path):
    (tmp_path / "texts.txt").touch()
    done = m2v(
        *(
            "encode",
            "--model",
            model_folder,
            "--input",
            tmp_path / "texts.txt",
            "--output",
            tmp_path / "new.npy",
        )
    )
    assert done.exit_code == 0
    assert "Warning: " in done.stderr
    assert np.load(tmp_path / "new.npy").shape == (0, 3)


def test_warnings_are_lines_and_stay_with_the_command(model_folder, monkeypatch):
    original = StaticModel.from_pretrained

    def from_pretrained(path):
        warnings.warn("Lone\nsurrogates", stacklevel=2)
        return original(path)

    monkeypatch.setattr(StaticModel, "from_pretrained", from_pretrained)
    before = warnings.showwarning
    done = m2v("info", model_folder)
    assert done.stderr == "Warning: Lone surrogates\n"
    assert warnings.showwarning is before


def test_info_for_people(model_folder):
    done = m2v("info", model_folder)
    assert done.exit_code == 0, done.output
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["name"] == "small"
    assert facts["teacher"] == "some/teacher"
    assert facts["rows"] == "4"
    assert facts["dim"] == "3"
    assert facts["precision"] == "float32"
    assert facts["tokenizer"] == "WordLevel"
    assert facts["max_length"] == "64"
    assert facts["encoder"] == "chunk by chunk"
    assert facts["size"].endswith("kB")


def test_info_of_a_model_that_says_little(model_folder, tmp_path):
    known = StaticModel.from_pretrained(model_folder)
    StaticModel(known.token_embeddings, known.tokenizer, config={"m2v": "something else"}).save_pretrained(tmp_path)
    info = json.loads(m2v("info", tmp_path, "--json").stdout)
    assert (info["teacher"], info["recipe"]) == (None, None)
    facts = dict(line.split(maxsplit=1) for line in m2v("info", tmp_path).stdout.splitlines())
    assert (facts["teacher"], facts["recipe"]) == ("-", "-")


def test_info_says_why_texts_are_read_whole(model_folder, tmp_path):
    known = StaticModel.from_pretrained(model_folder)
    known.tokenizer.pre_tokenizer = pre_tokenizers.Digits()
    StaticModel(known.token_embeddings, known.tokenizer).save_pretrained(tmp_path)
    expected = "whole texts, because its pre-tokenizer Digits does not surely cut at white space"
    assert json.loads(m2v("info", tmp_path, "--json").stdout)["encoder"] == expected
    facts = dict(line.split(maxsplit=1) for line in m2v("info", tmp_path).stdout.splitlines())
    assert facts["encoder"] == expected


def test_long_paths_are_not_cut(model_folder, tmp_path):
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    done = m2v("info", folder / "absent")
    assert str(folder / "absent") in done.stderr


def test_version():
    done = m2v("--version")
    assert (done.exit_code, done.stdout) == (0, f"m2v {m2v_core.__version__}\n")


def test_help_without_arguments():
    done = m2v()
    assert done.exit_code == 2
    assert "distill" in done.output


@pytest.mark.parametrize("arguments", ["--help", "--version", "info MODEL", "encode --model MODEL FILES"])
def test_no_torch_but_to_distil(arguments, model_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("the cat\n", encoding="utf-8")
    files = f"--input {tmp_path}/texts.txt --output {tmp_path}/vectors.npy"
    code = (
        "import sys; from m2v_core.cli import app; app(standalone_mode=False); "
        "sys.exit(sorted({'torch', 'transformers', 'gradio', 'sklearn'} & set(sys.modules)) or None)"
    )
    words = arguments.replace("MODEL", str(model_folder)).replace("FILES", files).split()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_distilling_without_torch_names_the_remedy(tmp_path):
    code = "import sys; sys.modules['torch'] = None; from m2v_core.cli import main; main()"
    arguments = ["distill", "--model-name", BUNDLED, "--save-path", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=OFFLINE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: torch is not installed; run: pip install 'm2v-studio[distill]'"


def test_app_is_refused_outside_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(starting, "__file__", str(tmp_path / "m2v_core" / "cli" / "starting.py"))
    assert_one_error_line(m2v("app"), "make app")


def test_app_runs_the_checkout(monkeypatch, tmp_path):
    (tmp_path / "neighbour.py").write_text("GREETING = 'hello'\n", encoding="utf-8")
    script = "if __name__ == '__main__':\n    from neighbour import GREETING\n    print(GREETING)\n"
    (tmp_path / "app.py").write_text(script, encoding="utf-8")
    monkeypatch.setattr(starting, "__file__", str(tmp_path / "m2v_core" / "cli" / "starting.py"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    done = m2v("app")
    assert (done.exit_code, done.stdout) == (0, "hello\n")


def test_app_without_gradio_names_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "app.py").touch()
    monkeypatch.setattr(starting, "__file__", str(tmp_path / "m2v_core" / "cli" / "starting.py"))
    monkeypatch.setattr(starting, "find_spec", lambda name: None)
    assert_one_error_line(m2v("app"), "pip install 'm2v-studio[app]'")


def test_preflight(session_hub, tmp_path):
    done = m2v("preflight", BUNDLED)
    assert done.exit_code == 0, done.output
    for said in ("bundled", "apache-2.0", "WordPiece, 30,522 pieces", "29,525", "15.1 MB", "on two cores"):
        assert said in done.output
    done = m2v("preflight", BUNDLED, "--pca-dims", "64", "--quantize-to", "int8", "--json")
    facts = json.loads(done.stdout)
    assert (facts["n_rows"], facts["dim"], facts["n_bytes"]) == (29525, 64, 29525 * (64 + 4))
    assert facts["problems"] == []
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}')
    done = m2v("preflight", tmp_path)
    assert done.exit_code == 1
    assert "code of its own" in done.stderr


def test_push_without_an_account(session_hub, model_folder):
    done = m2v("push", model_folder, "tester/refused")
    assert done.exit_code == 1
    assert "401" in done.stderr
    assert "Sign in" in done.stderr
    assert not session_hub.has("model", "tester/refused")


def test_push_uses_the_token_that_is_logged_in(session_hub, model_folder):
    env = os.environ | {"HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}
    command = [sys.executable, "-m", "m2v_core", "push", str(model_folder), "pushed-by-command", "--license", "mit"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "verified   True" in done.stdout
    assert session_hub.repo("tester/pushed-by-command").private
    assert b"license: mit" in session_hub.files("tester/pushed-by-command")["README.md"]
    again = subprocess.run(command, capture_output=True, text=True, env=env)
    assert again.returncode == 1
    assert "exists already" in again.stderr
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
        ("word2vec", "nowhere/vectors.txt", "Make it first"),
    ],
)
def test_bad_output_of_export(format, output, message, model_folder, tmp_path):
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    result = m2v("export", model_folder, "--format", format, "--output", tmp_path / output)
    assert result.exit_code == 1
    assert message in result.stderr
    assert names(tmp_path) == ["file.txt", "folder"]


def test_only_models_are_exported(tmp_path):
    """Not whatever folder one happens to name."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"x")
    result = m2v("export", tmp_path / "photos", "--format", "zip", "--output", tmp_path / "out.zip")
    assert result.exit_code == 1
    assert "holds no static model" in result.stderr
    assert not (tmp_path / "out.zip").exists()
