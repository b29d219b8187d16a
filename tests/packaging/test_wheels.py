"""The wheel and the sdist: what is in them, and how they install and encode with and without a C compiler."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from m2v_core import native
from m2v_core.distillation.calibration.dictionary import FILE
from m2v_core.studio.space.kernels import MODULE
from tests.packaging.conftest import Environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENCODE = Path(__file__).parent / "encode.py"
(EXTENSION,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["ext-modules"]
MAX_SDIST_BYTES = 2_000_000
MAX_DICTIONARY_BYTES = 1_500_000
MAX_PACKAGE_BYTES = 2_200_000
# Of the base install, beside these packages and what they need.
MAX_BASE_BYTES = 5_000_000
LARGE = ("numpy", "tokenizers", "huggingface-hub")


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (path,) = built.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("environment"))
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    requirements = map(Requirement, metadata.get_all("Requires-Dist", []))
    needed = [str(requirement) for requirement in requirements if requirement.marker is None]
    environment.pip("install", "-c", ROOT / "constraints.txt", *needed, variables=os.environ | {"PYTHONPATH": ""})
    return environment


def test_sdist_holds_what_it_is_built_from_and_no_more(sdist: Path):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*EXTENSION["sources"], *EXTENSION["depends"], "pyproject.toml", "LICENSE"} <= names
    tops = {name.partition("/")[0] for name in names if name}
    assert tops == {
        *("LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "app.py", "m2v_core", "m2v_studio.egg-info", "pages"),
        *("pyproject.toml", "setup.cfg", "setup.py", "spaces.yaml"),
    }
    assert sdist.stat().st_size < MAX_SDIST_BYTES


def test_wheel_holds_the_package_with_its_kernels_for_every_python(wheel: Path):
    assert re.fullmatch(r"m2v_studio-.+-cp311-abi3-.+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for suffix in ("py", "pyi", "typed", "xz", "wordnet")
        for path in ROOT.glob(f"m2v_core/**/*.{suffix}")
    }
    app = {path.relative_to(ROOT) for path in ROOT.glob("pages/**/*") if path.is_file() and path.suffix != ".pyc"}
    app |= {Path("app.py"), Path("spaces.yaml")}
    assert names == sources | {MODULE.as_posix()} | {f"m2v_core/_app/{path.as_posix()}" for path in app}


def test_wheel_encodes_with_its_kernels_where_no_compiler_is(wheel: Path, environment: Environment, tmp_path: Path):
    environment.pip("install", "--no-deps", "--force-reinstall", wheel, variables=environment.variables)
    assert shutil.which("cc", path=environment.variables_without_compiler["PATH"]) is None
    done = environment.run("python", ENCODE, "--save", tmp_path / "model")
    results = json.loads(done.stdout)
    assert Path(results["package"]).is_relative_to(environment.site_packages)
    assert results["kernels"] == native.kernels_in_use()
    assert results["beside"] == []
    assert done.stderr == ""
    assert results["kernels"] in environment.run("m2v", "info", tmp_path / "model").stdout


def test_sdist_installs_without_a_compiler_and_says_how_to_get_the_kernels(
    sdist: Path, environment: Environment, tmp_path: Path
):
    environment.pip(
        "install", "--no-deps", "--force-reinstall", sdist, variables=environment.variables_without_compiler
    )
    done = environment.run("python", ENCODE, "--without-kernels", "--save", tmp_path / "model")
    assert done.stderr.count("slower NumPy path") == 1
    advice = json.loads(done.stdout)["kernels"]
    shown = environment.run("m2v", "info", tmp_path / "model")
    assert " ".join(advice.split()) in " ".join(shown.stdout.split())
    assert shown.stderr.count("slower NumPy path") == 1

    # Following the advice helps, though pip has cached the wheel that it built without a compiler.
    command = re.search(r"`pip (install .*) m2v-studio`", advice)[1].split()
    environment.pip(*command, sdist, variables=environment.variables)
    assert json.loads(environment.run("python", ENCODE).stdout)["kernels"] == native.kernels_in_use()


def test_base_install_is_small(wheel: Path, environment: Environment):
    environment.pip("install", "--no-deps", "--force-reinstall", wheel, variables=environment.variables)
    installed = {canonicalize_name(each.name): each for each in distributions(path=[str(environment.site_packages)])}
    large = set()
    waiting = [Requirement(name) for name in LARGE]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in installed and name not in large:
            large.add(name)
            needed = map(Requirement, installed[name].requires or ())
            waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    sizes = {name: installed_bytes(each) for name, each in installed.items() if name not in large}
    dictionary = FILE.stat().st_size
    assert dictionary <= MAX_DICTIONARY_BYTES
    assert sizes["m2v-studio"] - dictionary <= MAX_PACKAGE_BYTES
    assert sum(sizes.values()) - dictionary <= MAX_BASE_BYTES, sizes


def installed_bytes(distribution: Distribution) -> int:
    """The size of its files, without bytecode."""
    paths = [Path(distribution.locate_file(file)) for file in distribution.files or ()]
    return sum(path.stat().st_size for path in paths if path.suffix != ".pyc")


def test_editable_install_compiles_the_kernels_in_place():
    assert native.kernels is not None
    assert Path(native.kernels.__file__) == ROOT / MODULE
