"""`m2v app`."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec

import click

from m2v_core.errors import MissingExtraError


@click.command("app")
def start_app() -> None:
    """Start the app on http://127.0.0.1:7860.

    GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change the address.
    """
    from m2v_core.studio.space.settings import APP_FOLDER

    if find_spec("gradio") is None:
        raise MissingExtraError("gradio", "app")
    sys.path.insert(0, str(APP_FOLDER))
    runpy.run_path(str(APP_FOLDER / "app.py"), run_name="__main__")
