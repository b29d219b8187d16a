"""The constraints file pins all that pyproject.toml asks for, at versions it accepts."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from m2v_core import cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = sorted({*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())})
PIN_LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(None, PIN_LINES))}


@pytest.mark.parametrize("requirement", [Requirement(line) for line in REQUIREMENTS], ids=str)
def test_requirement_is_pinned(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    assert requirement.specifier.contains(specifier.version)


def test_torch_is_pinned_exactly():
    # `make setup` installs it first, by this very line.
    assert str(PINS["torch"]) == "torch==2.13.0"


def test_m2v_is_the_command():
    assert EntryPoint("m2v", PROJECT["scripts"]["m2v"], "console_scripts").load() is cli.main
