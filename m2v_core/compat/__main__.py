"""`python -m m2v_core.compat script.py ...` or `-m module ...`: runs code for model2vec with this library."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from m2v_core.compat import install


def main() -> None:
    """Install the modules, then run the script or module with the remaining arguments."""
    arguments = sys.argv[1:]
    is_module = arguments[:1] == ["-m"]
    if len(arguments) <= is_module or (arguments[0].startswith("-") and not is_module):
        sys.exit("usage: python -m m2v_core.compat [-m] script_or_module [arguments]")
    target = arguments[is_module]
    sys.argv = arguments[is_module:]
    install()
    if is_module:
        sys.path[0] = ""
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(target).resolve().parent)
        runpy.run_path(target, run_name="__main__")


if __name__ == "__main__":  # spawned processes import it under another name
    main()
