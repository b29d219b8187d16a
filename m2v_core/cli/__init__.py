"""The `m2v` command: distil, encode, search, measure, look at a model, publish it, start the app.

Options carry the names of the arguments they become. Results go to standard output; progress, warnings and
errors to standard error. What a command needs of the core is imported inside it, so that `m2v --help` loads
no NumPy, and only what runs a teacher loads torch.
"""

from __future__ import annotations

import os
from typing import Any

import click

from m2v_core._version import __version__
from m2v_core.cli import distilling, encoding, evaluating, measuring, publishing, searching, starting, training
from m2v_core.cli.console import errors_as_lines
from m2v_core.native.cpus import TEACHER_ENVIRONMENT

# Read by huggingface_hub, transformers, datasets and tqdm when they are imported: the only bars are the command's own.
_LIBRARIES_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")


def main() -> None:
    """Run the `m2v` command."""
    os.environ.setdefault("GOMP_SPINCOUNT", TEACHER_ENVIRONMENT["GOMP_SPINCOUNT"])  # before anything loads torch
    for name in _LIBRARIES_BARS:
        os.environ.setdefault(name, "1")
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    app(prog_name="m2v", color=False if is_plain else None)


class _Group(click.Group):
    """Lists its commands in the order in which they were added, and prints their errors as lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        with errors_as_lines():
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, message="m2v %(version)s", help="Show the version.")
def app() -> None:
    """Turn any Sentence Transformer into a small, fast static embedding model.

    An error is one line; set M2V_DEBUG=1 to see where it came from.
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
