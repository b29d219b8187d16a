"""Indeterminate progress bars with the elapsed time and the duration of the last run."""

from __future__ import annotations

import contextvars
import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from pages.components import format_seconds
from pages.html import Markup, render

_DELAY_SECONDS = 0.3  # shorter work has no progress bar
_TICK_SECONDS = 1.0

Result = TypeVar("Result")

_last_seconds: dict[str, float] = {}


def following(
    work: Callable[[], Result], what: str, kind: str, shown: Callable[[Markup], Any]
) -> Generator[Any, None, Result]:
    """Run work in a thread and yield a progress bar once per second; return its result or raise its error.

    The work continues if the user leaves the page.

    Args:
        work: The function to run.
        what: Label for users, such as "Opening the model".
        kind: Key for the duration of the last run.
        shown: Converts the progress bar's HTML to the values that a handler yields.
    """
    started = time.monotonic()
    pool = ThreadPoolExecutor(1, thread_name_prefix="following")
    future = pool.submit(contextvars.copy_context().run, work)
    pool.shutdown(wait=False)
    is_over = wait([future], _DELAY_SECONDS).done
    while not is_over:
        yield shown(waiting_html(what, time.monotonic() - started, _last_seconds.get(kind)))
        is_over = wait([future], _TICK_SECONDS).done
    result = future.result()
    _last_seconds[kind] = time.monotonic() - started
    return result


def waiting_html(what: str, seconds: float, last_seconds: float | None = None) -> Markup:
    """Render an indeterminate progress bar with the elapsed time."""
    last = f" · last time {format_seconds(last_seconds)}" if last_seconds is not None else ""
    return bar_html(what, f"{format_seconds(seconds)}{last}", None)


def bar_html(what: str, numbers: str, share: float | None) -> Markup:
    """Render a progress bar.

    Args:
        what: Label of the work.
        numbers: Text on the right.
        share: Completed share, 0 to 1; None if unknown.
    """
    percent = math.floor(100 * (share or 0.0))
    return render("bar.html", what=what, numbers=numbers, percent=percent, is_known=share is not None)
