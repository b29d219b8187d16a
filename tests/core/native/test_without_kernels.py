"""Without the extension, encoding and calibration give the same results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = (
    "tests/core/test_model.py",
    "tests/core/encoder/test_stream.py",
    "tests/core/exploration/test_explanation.py",
    "tests/core/distillation/test_calibration.py",
    "tests/core/bulk/test_run.py",
    "tests/core/classification/test_classifier.py",
    "tests/contracts/test_encoding_model2vec.py",
    "tests/contracts/test_layouts.py",
)


@pytest.mark.slow
def test_everything_works_on_numpy():
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "--without-kernels", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
