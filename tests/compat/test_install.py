"""`install()` and `python -m m2v_core.compat`, each in its own process, because they change what is imported."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m2v_core.compat.model2vec import StaticModel
from tests.static_models import TEXTS, static_model
from tests.test_imports import ROOT

SUBMODULES = (
    "distill distill.distillation inference inference.mlp model onnx quantization tokenizer train types version"
)


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd)


def lines_of(code: str) -> list[str]:
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_install_imports_little_can_be_repeated_and_works_before_any_import():
    code = """
import sys, m2v_core.compat
m2v_core.compat.install(); m2v_core.compat.install()
from importlib.util import find_spec
print(find_spec("model2vec").origin)
finders = [finder for finder in sys.meta_path if "compat" in repr(finder)]
print(sorted({"numpy", "torch", "model2vec"} & set(sys.modules)), len(finders))
"""
    origin, rest = lines_of(code)
    assert Path(origin) == ROOT / "m2v_core" / "compat" / "model2vec" / "__init__.py"
    assert rest == "[] 1"


def test_every_module_is_provided_by_this_library():
    code = f"""
import m2v_core.compat; m2v_core.compat.install()
from importlib import import_module, reload
from importlib.util import find_spec
import model2vec
for name in {SUBMODULES.split()!r}:
    theirs, ours = import_module("model2vec." + name), import_module("m2v_core.compat.model2vec." + name)
    assert theirs is ours, name
    assert find_spec("model2vec." + name) is ours.__spec__ and ours.__spec__.name == ours.__name__, name
from model2vec import train
assert train is import_module("m2v_core.compat.model2vec.train")
assert find_spec("model2vec.nowhere") is None
try:
    import model2vec.nowhere
except ModuleNotFoundError as error:
    print(error)
"""
    assert lines_of(code) == ["No module named 'model2vec.nowhere'"]


@pytest.mark.parametrize("statement", ["import model2vec", "from model2vec import distill, inference"])
def test_encoding_distilling_and_predicting_import_no_torch(statement):
    code = f"import m2v_core.compat; m2v_core.compat.install(); {statement}; import sys; print('torch' in sys.modules)"
    assert lines_of(code) == ["False"]


def test_after_the_real_package_it_is_rejected():
    pytest.importorskip("model2vec")
    code = """
import model2vec, m2v_core.compat
try:
    m2v_core.compat.install()
except ValueError as error:
    print(error)
assert "m2v_core" not in model2vec.StaticModel.__module__
"""
    (message,) = lines_of(code)
    assert "model2vec was imported before install()" in message
    assert "Call m2v_core.compat.install() before the first import of model2vec" in message


def test_keybert_and_bertopic_recognize_the_model():
    # Both packages check this for the model that they receive.
    assert "model2vec" in str(type(StaticModel.of(static_model())))


def test_a_pickled_model_loads_in_a_process_without_install(tmp_path):
    model = StaticModel.of(static_model())
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    code = (
        "import pickle, sys; model = pickle.load(open('model.pickle', 'rb')); print(model.encode('the sea').tolist())"
    )
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.array(json.loads(done.stdout), np.float32), model.encode("the sea"))


SCRIPT = """
import sys
from neighbor import TEXT
from model2vec import StaticModel
model = StaticModel.from_pretrained(sys.argv[1])
print(__name__, StaticModel.__module__, sys.argv[1:], model.encode(TEXT).shape)
"""


@pytest.mark.parametrize("form", ["script", "module"])
def test_a_script_and_a_module_run(form, tmp_path):
    StaticModel.of(static_model()).save_pretrained(tmp_path / "model")
    (tmp_path / "neighbor.py").write_text(f"TEXT = {TEXTS[0]!r}")
    (tmp_path / "script.py").write_text(SCRIPT)
    target = [str(tmp_path / "script.py")] if form == "script" else ["-m", "script"]
    folder = str(tmp_path / "model")
    done = run("-m", "m2v_core.compat", *target, folder, "--flag", cwd=ROOT if form == "script" else tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"__main__ m2v_core.compat.model2vec.model {[folder, '--flag']} (24,)\n"


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--help"]])
def test_without_a_script_the_usage_is_printed(arguments):
    done = run("-m", "m2v_core.compat", *arguments)
    assert done.returncode == 1
    assert done.stderr == "usage: python -m m2v_core.compat [-m] script_or_module [arguments]\n"
