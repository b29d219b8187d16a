"""The `m2v` command: distil, encode, search, measure, look at a model, publish it, start the app.

Options carry the names of the arguments they become. Results go to standard output; progress, warnings and
errors to standard error. What a command needs of the core is imported inside it, so that `m2v --help` loads
no NumPy, and only what runs a teacher loads torch.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from m2v_core import __version__
from m2v_core.cli import distilling, encoding, evaluating, measuring, publishing, searching, starting, training
from m2v_core.cli.console import results
from m2v_core.cpus import TEACHER_ENVIRONMENT

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its tables cut long option names off at 80 columns
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the `m2v` command."""
    os.environ.setdefault("GOMP_SPINCOUNT", TEACHER_ENVIRONMENT["GOMP_SPINCOUNT"])  # before anything loads torch
    app(prog_name="m2v")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        results.print(f"m2v {__version__}")
        raise typer.Exit


@app.callback()
def _m2v(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn any Sentence Transformer into a small, fast static embedding model.

    An error is one line; set M2V_DEBUG=1 to see where it came from.
    """


app.command()(distilling.distill)
app.command()(distilling.preflight)
app.command()(encoding.encode)
app.command()(searching.index)
app.command()(searching.search)
app.command()(encoding.info)
app.command()(measuring.speed)
app.command("eval")(evaluating.evaluate)
app.command()(evaluating.frontier)
app.command()(training.train)
app.command()(training.predict)
app.command()(publishing.push)
app.command()(publishing.export)
app.command("app")(starting.start_app)

space = typer.Typer(no_args_is_help=True, help="Render and deploy the app as a Space of the Hub.")
space.command("build")(publishing.build_space)
space.command("push")(publishing.push_space)
app.add_typer(space, name="space")
