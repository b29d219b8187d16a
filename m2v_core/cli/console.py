"""Shared by all commands: results, messages, progress bars, error handling, Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from m2v_core.errors import Cancelled, M2VError, SaveError
from m2v_core.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from m2v_core.evaluation.report import Sheet
    from m2v_core.model import StaticModel

AT_LEAST_1 = click.IntRange(min=1)
DTYPES = click.Choice(["float32", "float16", "int8"])
PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

INTERRUPTED = 130  # 128 + SIGINT: exit code of a command that was interrupted by Ctrl-C
STAGES = {
    "start": "Starting",
    "download": "Downloading the teacher",
    "load": "Loading the teacher",
    "scan": "Reading the columns",
    "encode": "Encoding",
    "index": "Indexing",
    "pooling": "Choosing the pooling",
    "bags": "Reading word bags",
    "dictionary": "Reading dictionary",
    "corpus": "Reading the corpus",
    "prepare": "Preparing the fit",
    "reduce": "Reducing dimensions",
    "calibrate": "Calibrating",
    "descend": "Refining",
    "finish": "Building the model",
    "save": "Saving",
    "connect": "Connecting to the Hub",
    "upload": "Uploading",
    "verify": "Checking",
    "open": "Opening the encoders",
    "benchmark": "Running MTEB",
    "warm": "Warming up",
    "measure": "Measuring",
    "head": "Training the head",
    "tune": "Fine-tuning",
    "frontier": "Smaller versions",
}

_BAR_WIDTH = 20  # so that a line fits into 80 columns
_SECONDS_BETWEEN_DRAWINGS = 0.1
_drawn = ""  # the current line of the terminal while a stage runs


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """Convert errors to a line and an exit code, and warnings to lines; the only place that does so."""
    logger = logging.getLogger("m2v_core")
    handler = _LogLines(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print_message(f"Warning: {message}", fg="yellow")
            yield
    except (KeyboardInterrupt, Cancelled):
        stop("Cancelled; nothing was written.")
    except M2VError as error:
        if os.environ.get("M2V_DEBUG") == "1":
            raise
        print_message(f"Error: {error}", fg="red", bold=True)
        raise click.exceptions.Exit(1) from None
    finally:
        logger.removeHandler(handler)


@contextmanager
def cancelled_by_interrupt() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets, in addition to raising KeyboardInterrupt.

    The exception interrupts an import or a download immediately; the event stops the work if a library swallowed it.
    """
    cancel = threading.Event()

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        cancel.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bars(unit: str) -> Iterator[ProgressCallback]:
    """Yield a callback that shows a progress bar per stage; `unit` is the unit of the stages "encode" and "index".

    Terminals show the line while the stage runs; otherwise it is printed when the stage ends.
    """
    latest: Progress | None = None
    drawn_at = 0.0

    def end_line(is_done: bool) -> None:
        if latest is not None:
            stage = replace(latest, done=1, total=1, eta_seconds=None, left_seconds=None) if is_done else latest
            _draw(_bar_text(stage, unit), end="\n")

    def show(event: Progress) -> None:
        nonlocal latest, drawn_at
        is_new = latest is None or event.stage != latest.stage
        if is_new:
            end_line(is_done=True)
        latest = event
        if is_new or time.monotonic() - drawn_at >= _SECONDS_BETWEEN_DRAWINGS:
            drawn_at = time.monotonic()
            _draw(_bar_text(event, unit))

    is_done = False
    try:
        yield show
        is_done = True
    finally:
        end_line(is_done)


def _bar_text(event: Progress, unit: str) -> str:
    share = min(event.done / event.total, 1.0) if event.total else 0.0
    line = f"{STAGES.get(event.stage, event.stage):<20} {'━' * round(share * _BAR_WIDTH):<{_BAR_WIDTH}} {share:>4.0%}"
    if event.stage in ("encode", "index") and event.rate > 0:
        line += f"  {event.rate:,.0f} {unit}/s"
    left = event.eta_seconds if event.left_seconds is None else event.left_seconds  # of the stage, or of the whole run
    return line if left is None else f"{line}  {clock_text(left)} left"


def _draw(line: str, end: str = "") -> None:
    """Replace the current line of a terminal; without a terminal, only print final lines."""
    global _drawn
    if sys.stderr.isatty():
        line = line[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r{line:<{len(_drawn)}}{end}")
        _drawn = "" if end else line
    elif end:
        sys.stderr.write(line + end)
    sys.stderr.flush()


def load_model(model: str) -> StaticModel:
    """Load a model from a folder or a Hub repository."""
    from m2v_core.model import StaticModel

    return StaticModel.from_pretrained(model)


def check_model_folder(path: Path, overwrite: bool) -> None:
    """Check before the work that the result can be written.

    Raises:
        SaveError: `path` exists and must not be replaced, or is not writable.
    """
    from m2v_core.storage.formats import is_model_folder

    if path.is_file():
        raise SaveError(f"{path} is a file. Choose a folder that doesn't exist yet.")
    if path.is_dir() and any(path.iterdir()):
        if not is_model_folder(path):
            raise SaveError(f"{path} is a folder without a model. Choose a folder that doesn't exist yet.")
        if not overwrite:
            raise SaveError(f"{path} already contains a model. Choose another folder, or add --overwrite.")
    check_output(path)


def check_output(path: Path | None) -> None:
    """Check before the work that a path can be created, with missing folders.

    Raises:
        SaveError: The nearest existing folder is not writable.
    """
    if path is None:
        return
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SaveError(f"{path} can't be created: {parent} is not a writable folder.")


def write_result(text: str, path: Path | None) -> None:
    """Write a command's result to a file, or to standard output if `path` is None.

    Raises:
        SaveError: The file can't be written.
    """
    if path is None:
        click.echo(text, nl=False)
        return
    from m2v_core.storage.atomic import saving

    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(click.unstyle(text), encoding="utf-8")


def print_facts(**facts: object) -> None:
    """Print one line per fact, with its name; None is shown as a dash."""
    for name, value in facts.items():
        click.echo(f"{click.style(f'{name:<10}', dim=True)} {'-' if value is None else value}")


def print_json(data: object) -> None:
    """Print one JSON object on several lines."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def table_text(sheet: Sheet) -> str:
    """Format a table with aligned columns and, on a terminal, dim headings."""
    headings, rows = sheet.to_text().split("\n", 1)
    return f"{click.style(headings, dim=True)}\n{rows}"


def print_message(message: str, **style: Any) -> None:
    """Print one line on standard error, above the progress bar if there is one."""
    bar = _drawn
    if bar:
        _draw("", end="\r")
    click.secho(" ".join(message.splitlines()), err=True, **style)
    if bar:
        _draw(bar)


def stop(message: str) -> NoReturn:
    """Exit a command that was interrupted."""
    print_message(message, fg="yellow")
    raise click.exceptions.Exit(INTERRUPTED) from None


def clock_text(seconds: float) -> str:
    """Format minutes and seconds: "2:05"."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"


def folder_bytes(folder: Path) -> int:
    """Total size of all files in a folder in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def size_text(n_bytes: int) -> str:
    """Format a size: "15.1 MB", "802.0 kB"."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.1f} kB"


class _LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_message(f"Warning: {record.getMessage()}", fg="yellow")


def teacher_folder(name: str) -> Path:
    """Return the folder of a trusted teacher, as an argument of `open_encoder`; imports torch when called."""
    from m2v_core.distillation.teacher.teacher import trusted_folder

    return trusted_folder(name)


def teacher_device(device: str | None) -> Callable[[], str]:
    """Return a function that resolves `--device` when a teacher is opened, because that imports torch."""

    def resolve() -> str:
        from m2v_core.distillation.teacher.teacher import resolve_device

        return resolve_device(device)

    return resolve
