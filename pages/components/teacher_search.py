"""What the box of teachers offers: the well-known ones, and what the Hub finds while one types."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import gradio as gr

from m2v_core.hub.account import is_reachable
from m2v_core.hub.info import FoundTeacher, search_teachers
from pages.components import TEACHER_CHOICES, on, shows_errors
from pages.components.preflight_card import short_count

_MIN_CHARS = 3
_MAX_OFFERED = 8
_KEPT_SECONDS = 60.0
_reached: list[tuple[float, bool]] = []
_asking = threading.Lock()


def connect_search(teacher: gr.Dropdown) -> None:
    """Let a `teacher_picker` offer what the Hub has."""
    # Not "always_last", which now and then loses the last key.
    on(teacher.key_up, search, gr.State([""]), teacher, trigger_mode="multiple")


def has_hub() -> bool:
    """Whether the Hub answers; asked at most once a minute, and by one at a time: the others go by what was last known.

    A firewall that says nothing holds whoever asks for seconds, and every key asks.
    """
    now = time.monotonic()
    if (not _reached or now - _reached[0][0] > _KEPT_SECONDS) and _asking.acquire(blocking=False):
        try:
            _reached[:] = [(now, is_reachable())]
        finally:
            _asking.release()
    return bool(_reached) and _reached[0][1]


@functools.lru_cache(maxsize=500)
def _found(query: str) -> list[FoundTeacher]:
    return search_teachers(query, _MAX_OFFERED)


# A list has no place for a message, and people who know the name can type it anyway.
@shows_errors("", lambda _: gr.skip())
def search(newest: list[str], typed: gr.KeyUpData) -> Any:
    """The box with what fits the text in it, then the well-known and the most downloaded.

    As many as ever: of an open list that gets shorter Gradio goes on showing what is gone, and nothing new.

    Args:
        newest: A list with one item, the last text of this session. Searches overlap, and an older one may finish last.
        typed: The text in the box.
    """
    newest[0] = str(typed.input_value or "").strip().lower()
    if not has_hub():
        return gr.skip()
    query = newest[0]  # may be newer than `typed`: other searches don't wait while this one checks the Hub
    # Every answer redraws the list, so none is given where there is nothing to find.
    if 0 < len(query) < _MIN_CHARS or "·" in query:
        return gr.skip()
    popular = _found("")
    found = _found(query)
    if newest[0] != query:
        return gr.skip()
    known = [choice for choice in TEACHER_CHOICES if query in choice[0].lower()]
    labels: dict[str, str] = {}
    for label, name in [*known, *map(_choice, found), *TEACHER_CHOICES, *map(_choice, popular)]:
        labels.setdefault(name, label)
    return gr.Dropdown(choices=[(label, name) for name, label in labels.items()][:_MAX_OFFERED])


def _choice(teacher: FoundTeacher) -> tuple[str, str]:
    return f"{teacher.repo_id} · {short_count(teacher.downloads)} downloads a month", teacher.repo_id
