"""`m2v app`."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from m2v_core.errors import MissingExtraError, NotFoundError


@click.command("app")
def start_app() -> None:
    """Start the app on http://127.0.0.1:7860.

    GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change the address.
    """
    checkout = Path(__file__).parents[2]
    script = checkout / "app.py"
    if not script.is_file():
        raise NotFoundError("The app is not part of the installed package. Run `m2v app` or `make app` in a checkout.")
    if find_spec("gradio") is None:
        raise MissingExtraError("gradio", "app")
    sys.path.insert(0, str(checkout))
    runpy.run_path(str(script), run_name="__main__")
