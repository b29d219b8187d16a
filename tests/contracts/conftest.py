"""The npm package for the tests of ONNX folders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = "@huggingface/transformers@4.3.1"
NODE_FOLDER = Path(__file__).parents[2] / "build" / "transformers_js"
SECONDS_TO_INSTALL = 180


@pytest.fixture(scope="session")
def transformers_js() -> Path:
    """The package's folder; installed once into the checkout's build folder."""
    folder = NODE_FOLDER / "node_modules" / "@huggingface" / "transformers"
    if shutil.which("node") is None:
        pytest.skip("node is not installed, so transformers.js can't run")
    if (folder / "package.json").is_file():
        return folder
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so transformers.js can't be fetched")
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    # Install scripts would download the GPU libraries of onnxruntime, which are not needed here.
    options = ["--prefix", str(NODE_FOLDER), "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
    try:
        subprocess.run(
            ["npm", "install", *options, PACKAGE],
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_INSTALL,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(NODE_FOLDER, ignore_errors=True)
        pytest.skip(f"npm could not fetch {PACKAGE}: {error.stderr or error}")
    return folder
