"""The rendered Space in an empty environment, as the Hub runs it: installed, started, asked, weighed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from m2v_core.studio.space.build import build_space
from tests.space.starting import running_space

pytestmark = pytest.mark.slow

PAGES = ("", "distill", "explore", "compare", "evaluate", "publish", "library")
OWN_TOOLS = {"pip", "setuptools", "wheel"}
MAX_IDLE_BYTES = 2 * 2**30
# Far beyond what it takes, for a busy machine is no failure of the Space.
SECONDS_TO_INSTALL = 1200
CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Path]:
    """The rendered Space, beside an environment that holds its requirements and nothing else."""
    root = tmp_path / "deployed"
    build_space(root / "space")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "env"], check=True)
    command = [sys.executable, "-m", "pip", "--python", str(root / "env" / "bin" / "python"), "install", "--quiet"]
    # To compile all modules would take a minute; the few that are imported are compiled then.
    command += ["--no-compile", "-r", str(root / "space" / "requirements.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_INSTALL, env=CLEAN)
    if done.returncode and any(word in done.stderr for word in ("Could not fetch URL", "NewConnectionError")):
        pytest.skip(f"the packages can't be fetched here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    yield root / "space"
    shutil.rmtree(root, ignore_errors=True)  # a gigabyte


def test_the_rendered_space_installs_starts_and_answers(space: Path) -> None:
    """One test, so that its environment is built once, however many processes run the tests."""
    assert unlisted_packages(space) == set()
    python, home = space.parent / "env" / "bin" / "python", space.parent / "home"
    with running_space(space, python, home) as (address, process, log):
        for page in PAGES:
            with urllib.request.urlopen(f"{address}/{page}", timeout=60) as answer:
                text = answer.read().decode()
            assert answer.status == 200 and "M2V Studio" in text and "hf_the_owner" not in text
        time.sleep(3)  # what starts in the background has started
        used = {each.pid: each.memory_info().rss for each in [process, *process.children(recursive=True)]}
        print(f"idle: {sum(used.values()) / 2**20:.0f} MiB in {len(used)} processes")  # noqa: T201
        assert sum(used.values()) < MAX_IDLE_BYTES
        assert "hf_the_owner" not in log.read_text()


def unlisted_packages(space: Path) -> set[str]:
    """Installed packages that the requirements don't list: pip would install them in any version."""
    lines = (space / "requirements.txt").read_text().splitlines()
    listed = {canonicalize_name(Requirement(line).name) for line in lines}
    command = [sys.executable, "-m", "pip", "--python", str(space.parent / "env" / "bin" / "python")]
    frozen = subprocess.run(
        [*command, "list", "--format=freeze"], check=True, capture_output=True, text=True, env=CLEAN
    )
    installed = {canonicalize_name(line.partition("==")[0]) for line in frozen.stdout.split()}
    # The libraries that torch needs differ between its builds.
    return {name for name in installed - listed - OWN_TOOLS if not name.startswith(("nvidia-", "cuda-", "triton"))}
