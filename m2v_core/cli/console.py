"""What every command shares: results, messages, bars, errors as lines, Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from m2v_core.errors import Cancelled, M2VError, SaveError
from m2v_core.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from m2v_core.model import StaticModel

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

results = Console(highlight=False, soft_wrap=True)
messages = Console(highlight=False, soft_wrap=True, stderr=True)


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """The one place where an error becomes a line and an exit code, and a warning a line."""
    logger = logging.getLogger("m2v_core")
    handler = _LogLines(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(f"Warning: {message}", style="yellow")
            yield
    except (KeyboardInterrupt, Cancelled):
        say("Cancelled; nothing was written.", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    except M2VError as error:
        if os.environ.get("M2V_DEBUG") == "1":
            raise
        say(f"Error: {error}", style="bold red")
        raise typer.Exit(1) from None
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
    """A bar for each stage; `unit` is what the stages "encode" and "index" count."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[speed]}  {task.fields[left]}"),
    )
    with Bars(*columns, console=messages) as shown:
        tasks: dict[str, TaskID] = {}

        def finish() -> None:
            for task in shown.tasks:
                shown.update(task.id, total=1, completed=1, left="")

        def show(event: Progress) -> None:
            if event.stage not in tasks:
                finish()
                tasks[event.stage] = shown.add_task(STAGES.get(event.stage, event.stage), speed="", left="")
            is_counted = event.stage in ("encode", "index") and event.rate > 0
            shown.update(
                tasks[event.stage],
                total=event.total or None,
                completed=event.done,
                speed=f"{event.rate:,.0f} {unit}/s" if is_counted else "",
                left="" if event.eta_seconds is None else f"{clock_text(event.eta_seconds)} left",
            )

        yield show
        finish()


def load_model(model: str) -> StaticModel:
    """The model in a folder or a Hub repository."""
    from m2v_core.model import StaticModel

    return StaticModel.from_pretrained(model)


def check_model_folder(path: Path, overwrite: bool) -> None:
    """Refuse before the work what can't be written after it.

    Raises:
        SaveError: Something stands at `path` that must stay, or nothing can be written there.
    """
    from m2v_core.persistence.formats import is_model_folder

    if path.is_file():
        raise SaveError(f"{path} is a file. Name a folder that doesn't exist yet.")
    if path.is_dir() and any(path.iterdir()):
        if not is_model_folder(path):
            raise SaveError(f"{path} is a folder that holds no model. Name one that doesn't exist yet.")
        if not overwrite:
            raise SaveError(f"{path} holds a model already. Name another folder, or add --overwrite.")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SaveError(f"{path} can't be made: {parent} is no folder that you may write to.")


def check_output(path: Path | None) -> None:
    """Refuse before the work a file that has no folder.

    Raises:
        SaveError: There is none.
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise SaveError(f"{path} can't be written: there is no folder {path.absolute().parent}. Make it first.")


def write_result(text: str, path: Path | None) -> None:
    """A command's result, in a file, or on standard output without one.

    Raises:
        SaveError: The file can't be written.
    """
    if path is None:
        results.out(text, end="", highlight=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SaveError(f"{path} can't be written: {error.strerror or error}.") from error


def print_facts(**facts: object) -> None:
    """One line a fact, its name before it; None is a dash."""
    for name, value in facts.items():
        results.print(Text.assemble((f"{name:<10}", "dim"), f" {'-' if value is None else value}"))


def say(message: str, style: str) -> None:
    """One line on standard error."""
    messages.print(Text(" ".join(message.splitlines()), style=style))


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
        say(f"Warning: {record.getMessage()}", style="yellow")
