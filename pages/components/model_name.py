"""The name of a model before it is made: a field, what fills it, and the rule."""

from __future__ import annotations

from typing import Any

import gradio as gr

from m2v_core.hub.push import check_model_name
from pages.components import html, shows_errors


def build_name_box() -> tuple[gr.Textbox, gr.HTML]:
    """A new field in the current Blocks context, and what is said of the name while it is typed."""
    name = gr.Textbox(label="Name", info="In your library, in the ZIP and on the Hub.", max_lines=1, max_length=200)
    return name, html(css="m2v-status")


def propose(name: str, proposed: str, suggested: str) -> list[Any]:
    """The name, and what was suggested for it; a name that somebody typed stays."""
    value: dict[str, Any] = {"value": proposed} if not name or name == suggested else {}
    return [gr.Textbox(placeholder=proposed, **value), proposed]


@shows_errors("This name can't be used")
def rule_html(name: str) -> str:
    """Why a name can't be used, as HTML; empty for one that can."""
    if name and name.strip():
        check_model_name(name.strip())
    return ""
