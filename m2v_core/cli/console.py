"""What every command shares: results, messages, bars, errors as lines, Ctrl-C."""

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

INTERRUPTED = 130  # 128 + SIGINT: what a shell expects of a command that Ctrl-C ended
STAGES = {
    "start": "Starting",
    "download": "Fetching the teacher",
    "load": "Loading the teacher",
    "scan": "Reading the columns",
    "encode": "Encoding",
    "index": "Indexing",
    "read": "Reading sentences",
    "reduce": "Reducing dimensions",
    "calibrate": "Calibrating",
    "finish": "Building the model",
    "save": "Saving",
    "connect": "Asking the Hub",
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

_BAR_WIDTH = 20  # a line fits in 80 columns
_SECONDS_BETWEEN_DRAWINGS = 0.1
_drawn = ""  # the line that the terminal shows, while its stage runs


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """The one place where an error becomes a line and an exit code, and a warning a line."""
    logger = logging.getLogger("m2v_core")
    handler = _LogLines(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(f"Warning: {message}", fg="yellow")
            yield
    except (KeyboardInterrupt, Cancelled):
        stop("Cancelled; nothing was written.")
    except M2VError as error:
        if os.environ.get("M2V_DEBUG") == "1":
            raise
        say(f"Error: {error}", fg="red", bold=True)
        raise click.exceptions.Exit(1) from None
    finally:
        logger.removeHandler(handler)


@contextmanager
def cancelled_by_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, beside raising KeyboardInterrupt.

    The exception ends an import or a download at once; the event ends the work where a library swallowed it.
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
    """A line with a bar for each stage; `unit` is what the stages "encode" and "index" count.

    A terminal shows the line while its stage runs; elsewhere it is printed when its stage ends.
    """
    latest: Progress | None = None
    drawn_at = 0.0

    def end_line(is_done: bool) -> None:
        if latest is not None:
            stage = replace(latest, done=1, total=1, eta_seconds=None) if is_done else latest
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
    return line if event.eta_seconds is None else f"{line}  {clock_text(event.eta_seconds)} left"


def _draw(line: str, end: str = "") -> None:
    """Replace the line that a terminal shows last; elsewhere print those that are final."""
    global _drawn
    if sys.stderr.isatty():
        line = line[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r{line:<{len(_drawn)}}{end}")
        _drawn = "" if end else line
    elif end:
        sys.stderr.write(line + end)
    sys.stderr.flush()


def load_model(model: str) -> StaticModel:
    """The model in a folder or a Hub repository."""
    from m2v_core.model import StaticModel

    return StaticModel.from_pretrained(model)


def check_model_folder(path: Path, overwrite: bool) -> None:
    """Refuse before the work what can't be written after it.

    Raises:
        SaveError: Something stands at `path` that must stay, or nothing can be written there.
    """
    from m2v_core.storage.formats import is_model_folder

    if path.is_file():
        raise SaveError(f"{path} is a file. Name a folder that doesn't exist yet.")
    if path.is_dir() and any(path.iterdir()):
        if not is_model_folder(path):
            raise SaveError(f"{path} is a folder that holds no model. Name one that doesn't exist yet.")
        if not overwrite:
            raise SaveError(f"{path} holds a model already. Name another folder, or add --overwrite.")
    check_output(path)


def check_output(path: Path | None) -> None:
    """Refuse a path that can't be created, before any work. Missing folders are created with it.

    Raises:
        SaveError: The nearest folder that exists is none to write to.
    """
    if path is None:
        return
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SaveError(f"{path} can't be made: {parent} is no folder that you may write to.")


def write_result(text: str, path: Path | None) -> None:
    """A command's result, in a file, or on standard output without one.

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
    """One line a fact, its name before it; None is a dash."""
    for name, value in facts.items():
        click.echo(f"{click.style(f'{name:<10}', dim=True)} {'-' if value is None else value}")


def print_json(data: object) -> None:
    """One JSON object, over many lines."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def table_text(sheet: Sheet) -> str:
    """A table in columns of equal width, its headings dim on a terminal."""
    headings, rows = sheet.to_text().split("\n", 1)
    return f"{click.style(headings, dim=True)}\n{rows}"


def say(message: str, **style: Any) -> None:
    """One line on standard error, above the bar if there is one."""
    bar = _drawn
    if bar:
        _draw("", end="\r")
    click.secho(" ".join(message.splitlines()), err=True, **style)
    if bar:
        _draw(bar)


def stop(message: str) -> NoReturn:
    """End a command that was interrupted."""
    say(message, fg="yellow")
    raise click.exceptions.Exit(INTERRUPTED) from None


def clock_text(seconds: float) -> str:
    """Minutes and seconds: "2:05"."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def size_text(n_bytes: int) -> str:
    """A size as people read it: "15.1 MB", "802.0 kB"."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.1f} kB"


class _LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"Warning: {record.getMessage()}", fg="yellow")


def teacher_folder(name: str) -> Path:
    """The folder of a teacher that may be run: the argument of `open_encoder`, which loads torch when it is called."""
    from m2v_core.distillation.teacher.teacher import trusted_folder

    return trusted_folder(name)


def teacher_device(device: str | None) -> Callable[[], str]:
    """The device that `--device` means, found when a teacher is opened: finding it loads torch."""

    def resolve() -> str:
        from m2v_core.distillation.teacher.teacher import resolve_device

        return resolve_device(device)

    return resolve
