"""The constraints files pin all that pyproject.toml asks for: at versions it accepts, and at the oldest ones."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from m2v_core import cli
from tests.test_imports import PACKAGES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = {*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())}
REQUIREMENTS = sorted(line for line in LINES if Requirement(line).name != PROJECT["name"])


def read_pins(file: str) -> dict[str, Requirement]:
    lines = filter(None, (ROOT / file).read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


PINS, LOWEST_PINS = read_pins("constraints.txt"), read_pins("constraints-lowest.txt")


@pytest.mark.parametrize("requirement", [Requirement(line) for line in REQUIREMENTS], ids=str)
def test_requirement_is_pinned(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    assert requirement.specifier.contains(specifier.version)


@pytest.mark.parametrize("requirement", [Requirement(line) for line in REQUIREMENTS], ids=str)
def test_the_lowest_constraints_pin_the_oldest_release_allowed(requirement):
    (pin,) = LOWEST_PINS[canonicalize_name(requirement.name)].specifier
    (floor,) = (specifier for specifier in requirement.specifier if specifier.operator in (">=", "=="))
    assert Version(pin.version) == Version(floor.version)


def test_torch_is_pinned_exactly():
    # `make setup` installs it first, by this very line.
    assert str(PINS["torch"]) == "torch==2.13.0"


def test_m2v_is_the_command():
    assert EntryPoint("m2v", PROJECT["scripts"]["m2v"], "console_scripts").load() is cli.main


def test_every_import_is_a_declared_dependency():
    """What each room may import is in `tests/test_imports.py`; all of it must be installable by the extras.

    But for adapters to other packages: only programs that have the package import one.
    """
    declared = {canonicalize_name(Requirement(line).name) for line in LINES}
    imported = {name for room, names in PACKAGES.items() if room != "integrations" for name in names}
    of_module = packages_distributions()
    missing = {
        module: of_module.get(module, [])
        for module in imported
        if not {canonicalize_name(name) for name in of_module.get(module, [])} & declared
    }
    assert missing == {}
