"""A Space runs on the compiled kernels wherever it can: with their module, or with a compiler."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from m2v_core import native
from m2v_core.studio.space.build import CHECKOUT, build_space
from m2v_core.studio.space.kernels import MODULE, compile_kernels
from tests.space.starting import running_space

pytestmark = pytest.mark.slow

NO_COMPILER = "/nonexistent/cc"
KERNELS_OF = "from m2v_core import native; print(native.__file__, native.kernels_in_use(), sep='\\n')"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "space"
    build_space(folder)
    return folder


@pytest.fixture
def space(rendered: Path, tmp_path: Path) -> Path:
    """A Space as it is rendered on a system other than that of the Hub: without the compiled module."""
    folder = tmp_path / "space"
    shutil.copytree(rendered, folder, ignore=shutil.ignore_patterns(MODULE.name))
    return folder


def kernels_of(space: Path) -> str:
    command = [sys.executable, "-c", KERNELS_OF]
    done = subprocess.run(command, cwd=space, capture_output=True, text=True, check=True)
    file, kernels = done.stdout.splitlines()
    assert Path(file).is_relative_to(space)
    return kernels


@pytest.mark.parametrize(
    ("has_module", "has_compiler", "message"),
    [
        (True, False, None),
        (False, True, "The kernels were compiled in "),
        (False, False, "The kernels are not compiled because there is no C compiler."),
    ],
)
def test_which_path_a_space_takes(
    has_module: bool, has_compiler: bool, message: str | None, rendered: Path, space: Path, tmp_path: Path
) -> None:
    if has_module:
        shutil.copy(rendered / MODULE, space / MODULE)
    variables = {} if has_compiler else {"CC": NO_COMPILER}
    with running_space(space, sys.executable, tmp_path / "home", **variables) as (_, process, log):
        loaded = {mapped.path for mapped in process.memory_maps()}
        text = log.read_text()
    assert (str(space / MODULE) in loaded) == (has_module or has_compiler)
    assert ("slower NumPy path" in text) == (not has_module and not has_compiler)
    assert ("The kernels" in text) == (message is not None)
    assert message is None or message in text


def test_kernels_are_compiled_once(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_kernels(space)
    assert kernels_of(space) == native.kernels_in_use()
    beside = {path.name for path in (space / MODULE).parent.iterdir()} - {"__pycache__"}
    assert beside == {path.name for path in (CHECKOUT / MODULE).parent.iterdir()} - {"__pycache__"} | {MODULE.name}
    before = (space / MODULE).stat()
    monkeypatch.setenv("CC", "false")
    compile_kernels(space)
    assert (space / MODULE).stat() == before


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo no such option >&2; exit 1", "no such option"), ("exit 0", "No such file"), (None, "no C compiler")],
)
def test_what_can_not_be_compiled_is_logged(
    script: str | None,
    reason: str,
    space: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    compiler = tmp_path / "cc"
    if script is not None:
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    before = sorted(space.rglob("*"))
    with caplog.at_level(logging.INFO):
        compile_kernels(space)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()
    assert sorted(space.rglob("*")) == before


def test_a_module_older_than_its_sources_is_left_out(rendered: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(rendered, checkout)
    shutil.copy(CHECKOUT / "constraints.txt", checkout)
    source = next(checkout.glob("m2v_core/native/src/*.c"))
    os.utime(checkout / MODULE, (source.stat().st_mtime + 1000,) * 2)
    assert MODULE.as_posix() in build_space(tmp_path / "current", checkout=checkout)
    os.utime(source, (source.stat().st_mtime + 2000,) * 2)
    assert MODULE.as_posix() not in build_space(tmp_path / "stale", checkout=checkout)
