"""The façade: short, honest and light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import m2v_core


def test_all_is_short_sorted_and_complete():
    exported = m2v_core.__all__
    assert len(exported) <= 12
    assert exported == sorted(set(exported))
    assert set(exported) <= set(dir(m2v_core))


@pytest.mark.parametrize("name", m2v_core.__all__)
def test_exported_name_resolves(name):
    exported = getattr(m2v_core, name)
    assert exported.__name__.rpartition(".")[2] == name  # `distill` is a module that can be called
    assert exported.__doc__


@pytest.mark.parametrize("name", ["Student", "model_", "_private"])
def test_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(m2v_core, name)


HEAVY = ("torch", "transformers", "sentence_transformers", "numba", "gradio", "sklearn", "scipy", "pandas", "pyarrow")


@pytest.mark.parametrize(
    "statement", ["import m2v_core", "from m2v_core import StaticModel", "import m2v_core.cli, m2v_core.bulk.run"]
)
def test_import_is_light(statement):
    code = f"import sys; {statement}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
