"""What the box of teachers offers: the well-known ones, and what the Hub finds while one types."""

from __future__ import annotations

import functools
import time
from typing import Any

import gradio as gr
from gradio.context import Context

from m2v_core.errors import M2VError
from m2v_core.persistence.hub_account import is_reachable
from m2v_core.persistence.hub_info import FoundTeacher, search_teachers
from pages.components import TEACHER_CHOICES
from pages.components.preflight_card import short_count

_MIN_CHARS = 3
_MAX_FOUND = 8
_KEPT_SECONDS = 60.0
_reached: list[tuple[float, bool]] = []


def connect_search(teacher: gr.Dropdown) -> None:
    """Let the box offer what the Hub has; without the Hub, what comes along."""
    page = Context.root_block
    assert page is not None  # components can't be made outside one
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # With the Hub there is nothing to change; and a change would disturb who types already.
    page.load(lambda: gr.skip() if has_hub() else gr.Dropdown(choices=offered()), None, teacher, **quiet)
    # Not "always_last", which now and then loses the last key.
    teacher.key_up(search, None, teacher, trigger_mode="multiple", **quiet)


def has_hub() -> bool:
    """Whether the Hub answers; asked at most once a minute."""
    now = time.monotonic()
    if not _reached or now - _reached[0][0] > _KEPT_SECONDS:
        _reached[:] = [(now, is_reachable())]
    return _reached[0][1]


def offered() -> list[tuple[str, str]]:
    """The teachers to begin with; the bundled one alone where the Hub can't be reached."""
    return TEACHER_CHOICES if has_hub() else TEACHER_CHOICES[:1]


@functools.lru_cache(maxsize=500)
def _found(query: str) -> list[FoundTeacher]:
    return search_teachers(query, _MAX_FOUND)


def search(typed: gr.KeyUpData) -> Any:
    """The box with what fits the text in it."""
    query = str(typed.input_value or "").strip()
    if not query:
        return gr.Dropdown(choices=offered())
    # Every answer redraws the list, so none is given where there is nothing to find.
    if len(query) < _MIN_CHARS or "·" in query or not has_hub():
        return gr.skip()
    try:
        found = _found(query.lower())
    except M2VError:  # whoever knows the name can type it all the same
        found = []
    known = [(label, name) for label, name in TEACHER_CHOICES if query.lower() in label.lower()]
    names = {name for _, name in known}
    more = [
        (f"{teacher.repo_id} · {short_count(teacher.downloads)} downloads a month", teacher.repo_id)
        for teacher in found
        if teacher.repo_id not in names
    ]
    return gr.Dropdown(choices=[*known, *more] or offered())
