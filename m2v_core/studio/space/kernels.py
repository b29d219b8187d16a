"""Compilation of the kernels on a Space that contains only their source code.

A Space installs requirements.txt before its files are copied, so pip can't build this package. `m2v space build`
includes the compiled module if possible; otherwise the app compiles it before its first import.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path

logger = logging.getLogger(__name__)

MODULE = Path("m2v_core", "native", "extension.abi3.so")
_SECONDS_TO_COMPILE = 300


def compile_kernels(folder: Path) -> None:
    """Compile the kernels of the Space in `folder` unless they exist.

    Failures are logged, not raised: without kernels the app falls back to NumPy.
    """
    module = folder / MODULE
    if module.exists():
        return
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        logger.warning("The kernels are not compiled because there is no C compiler.")
        return
    started = time.monotonic()
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        (extension,) = project["tool"]["setuptools"]["ext-modules"]
        # Compiled to a temporary folder and renamed, so that no process imports an incomplete module.
        with tempfile.TemporaryDirectory(dir=module.parent) as scratch:
            output = Path(scratch, module.name)
            include = f"-I{sysconfig.get_path('include')}"
            options = [*extension["extra-compile-args"], "-fPIC", "-shared", include, "-o", str(output)]
            command = [compiler, *options, *extension["sources"]]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS_TO_COMPILE)
            output.replace(module)
    except (OSError, subprocess.SubprocessError) as error:
        details = getattr(error, "stderr", None) or ""
        logger.warning("The kernels can't be compiled: %s %s", error, details.strip())
        return
    logger.info("The kernels were compiled in %.0f s.", time.monotonic() - started)
