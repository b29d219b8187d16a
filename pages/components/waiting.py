"""A sign of life for work that can't be counted: a bar that moves, the time so far, and what it took the last time."""

from __future__ import annotations

import contextvars
import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from pages.components import format_seconds
from pages.html import Markup, render

_BEFORE_SECONDS = 0.3  # what is over by then needs no sign
_TICK_SECONDS = 1.0

Result = TypeVar("Result")

_last_seconds: dict[str, float] = {}


def following(
    work: Callable[[], Result], what: str, kind: str, shown: Callable[[Markup], Any]
) -> Generator[Any, None, Result]:
    """What a page shows while work goes on, once a second; returns the result, or raises what the work raised.

    The work goes on to its end when nobody looks any more.

    Args:
        work: What is to be done, in a thread of its own.
        what: What people call it: "Opening the model".
        kind: Work of one kind takes about as long each time.
        shown: Makes of the sign's HTML the values that a handler yields.
    """
    began = time.monotonic()
    pool = ThreadPoolExecutor(1, thread_name_prefix="following")
    future = pool.submit(contextvars.copy_context().run, work)
    pool.shutdown(wait=False)  # nothing more will come, and whoever leaves the page does not wait
    is_over = wait([future], _BEFORE_SECONDS).done
    while not is_over:
        yield shown(waiting_html(what, time.monotonic() - began, _last_seconds.get(kind)))
        is_over = wait([future], _TICK_SECONDS).done
    result = future.result()
    _last_seconds[kind] = time.monotonic() - began
    return result


def waiting_html(what: str, seconds: float, last_seconds: float | None = None) -> Markup:
    """A bar that moves and claims no share, with the time so far."""
    last = f" · {format_seconds(last_seconds)} the last time" if last_seconds is not None else ""
    return bar_html(what, f"{format_seconds(seconds)}{last}", None)


def bar_html(what: str, numbers: str, share: float | None) -> Markup:
    """A bar under what is done and how far it is, as HTML.

    Args:
        what: What is done.
        numbers: What stands at the right.
        share: How much of it is done, 0 to 1; None where that isn't known.
    """
    percent = math.floor(100 * (share or 0.0))
    return render("bar.html", what=what, numbers=numbers, percent=percent, is_known=share is not None)
