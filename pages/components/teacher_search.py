"""Suggestions of the teacher field: popular teachers, and results of a Hub search while the user types."""

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
_MAX_SUGGESTIONS = 8
_CACHE_SECONDS = 60.0
_last_check: list[tuple[float, bool]] = []
_check_lock = threading.Lock()


def connect_search(teacher: gr.Dropdown) -> None:
    """Connect the Hub search to a `teacher_picker`."""
    # Not "always_last", which occasionally loses the last key.
    on(teacher.key_up, search, gr.State([""]), teacher, trigger_mode="multiple")


def has_hub() -> bool:
    """Whether the Hub is reachable, checked at most once a minute and by one thread; others use the last result.

    A firewall that drops packets delays each check by seconds, and every key triggers a search.
    """
    now = time.monotonic()
    if (not _last_check or now - _last_check[0][0] > _CACHE_SECONDS) and _check_lock.acquire(blocking=False):
        try:
            _last_check[:] = [(now, is_reachable())]
        finally:
            _check_lock.release()
    return bool(_last_check) and _last_check[0][1]


@functools.lru_cache(maxsize=500)
def _found(query: str) -> list[FoundTeacher]:
    return search_teachers(query, _MAX_SUGGESTIONS)


# Errors are not shown, as a name can also be entered without suggestions.
@shows_errors("", lambda _: gr.skip())
def search(newest: list[str], typed: gr.KeyUpData) -> Any:
    """Update the suggestions: matches first, then popular and most downloaded teachers.

    The number of suggestions is constant, because Gradio does not update an open list that gets shorter.

    Args:
        newest: A list with one item, the last text of this session. Searches overlap, and an older one may finish last.
        typed: The text in the field.
    """
    newest[0] = str(typed.input_value or "").strip().lower()
    if not has_hub():
        return gr.skip()
    query = newest[0]  # may be newer than `typed`, as searches run concurrently
    # Every update redraws the list, so it is skipped if there is nothing to search for.
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
    return gr.Dropdown(choices=[(label, name) for name, label in labels.items()][:_MAX_SUGGESTIONS])


def _choice(teacher: FoundTeacher) -> tuple[str, str]:
    return f"{teacher.repo_id} · {short_count(teacher.downloads)} downloads per month", teacher.repo_id
