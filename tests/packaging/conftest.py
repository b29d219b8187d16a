"""The package as it is built, and environments to install it into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from m2v_core.studio.space.kernels import MODULE

ROOT = Path(__file__).parents[2]


class Environment:
    """A virtual environment with the dependencies of the base install and no compiler on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self.variables = {
            name: value for name, value in os.environ.items() if name not in ("CC", "PYTHONPATH", "PIP_NO_CACHE_DIR")
        } | {"PIP_CACHE_DIR": str(folder / "cache")}
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)

    @property
    def variables_without_compiler(self) -> dict[str, str]:
        return self.variables | {"PATH": str(self.python.parent), "CC": "/nonexistent/cc"}

    @property
    def site_packages(self) -> Path:
        (folder,) = self.python.parent.parent.glob("lib/python*/site-packages")
        return folder

    def pip(self, *arguments: str | Path, variables: dict[str, str]) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.python, *arguments]
        if arguments[0] == "install":
            command.append("--no-compile")  # the few modules that are imported are compiled then
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=self.python.parent)
        if done.returncode and "NewConnectionError" in done.stderr:
            pytest.skip(f"the packages can't be fetched here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """The output of a program of the environment."""
        done = subprocess.run(
            [self.python.parent / command[0], *command[1:]],
            capture_output=True,
            text=True,
            env=self.variables_without_compiler,
            cwd=self.python.parent,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel built from it, as `make wheel` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    # A copy, because setuptools writes beside what it builds, and another worker may be building too.
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("m2v_core", "pages", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", MODULE.name))
    for name in ("LICENSE", "MANIFEST.in", "README.md", "app.py", "pyproject.toml", "setup.py", "spaces.yaml"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--outdir", folder, copy]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path
