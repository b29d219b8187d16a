"""The name of a new model: the field, suggestions and validation."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from m2v_core.hub.push import check_model_name
from pages.components import html, shows_errors


def build_name_box() -> tuple[gr.Textbox, gr.HTML]:
    """Add a field and its validation message to the current Blocks context."""
    name = gr.Textbox(
        label="Name", info="Used in your library, in the ZIP and on the Hub.", max_lines=1, max_length=200
    )
    return name, html(css="m2v-status")


class Suggestion(NamedTuple):
    """A suggested name.

    Attributes:
        name: The name; empty for none.
        basis: The teacher and settings that it was built from.
    """

    name: str = ""
    basis: tuple[str | None, ...] = ()


def propose(name: str, proposed: Suggestion, suggested: Suggestion) -> list[Any]:
    """Update the field and the suggestion, keeping a name that the user entered."""
    value: dict[str, Any] = {"value": proposed.name} if not name or name == suggested.name else {}
    return [gr.Textbox(placeholder=proposed.name, **value), proposed]


def chosen_name(name: str | None, suggested: Suggestion, basis: tuple[str | None, ...]) -> str:
    """The name in the field; empty if it was suggested for another teacher or other settings, as it is outdated."""
    name = (name or "").strip()
    return "" if name == suggested.name and suggested.basis != basis else name


@shows_errors("This name can't be used")
def rule_html(name: str) -> str:
    """Show why a name is invalid; empty if it is valid."""
    if name and name.strip():
        check_model_name(name.strip())
    return ""
