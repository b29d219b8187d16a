"""The `m2v` command: distill, encode, search, evaluate, inspect and publish models, and start the app.

Options have the names of the corresponding arguments. Results go to standard output; progress, warnings and errors go
to standard error. Commands import the core inside functions, so that `m2v --help` does not import NumPy, and only
commands that run a teacher import torch.
"""

from __future__ import annotations

import os
from typing import Any

import click

from m2v_core._version import __version__
from m2v_core.cli import distilling, encoding, evaluating, measuring, publishing, searching, starting, training
from m2v_core.cli.console import errors_as_lines
from m2v_core.native.cpus import TEACHER_ENVIRONMENT

# Environment variables for huggingface_hub, transformers, datasets and tqdm: only the command's own progress bars.
_LIBRARIES_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")


def main() -> None:
    """Run the `m2v` command."""
    os.environ.setdefault("GOMP_SPINCOUNT", TEACHER_ENVIRONMENT["GOMP_SPINCOUNT"])  # before torch is imported
    for name in _LIBRARIES_BARS:
        os.environ.setdefault(name, "1")
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    app(prog_name="m2v", color=False if is_plain else None)


class _Group(click.Group):
    """Lists commands in the order in which they were added, and prints their errors as single lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        with errors_as_lines():
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, message="m2v %(version)s", help="Show the version.")
def app() -> None:
    """Turn any Sentence Transformer into a small, fast static embedding model.

    An error is one line; set M2V_DEBUG=1 for the traceback.
    """


for command in (
    distilling.distill,
    distilling.preflight,
    encoding.encode,
    searching.index,
    searching.search,
    encoding.info,
    measuring.speed,
    evaluating.evaluate,
    evaluating.frontier,
    training.train,
    training.predict,
    publishing.push,
    publishing.export,
    starting.start_app,
    publishing.space,
):
    app.add_command(command)
