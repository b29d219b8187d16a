"""The box that picks one of the models distilled here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from m2v_core.errors import NotFoundError
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.jobs import Job
from pages.components import format_bytes, job_store, known_owner, owner_state
from pages.components.job_panel import finished_model


@dataclass(frozen=True)
class ModelPicker:
    """The picker's components.

    Attributes:
        owner: Whose models are offered; pass it to every handler.
        model_id: The box; its value is the id of the picked model, None for none. Its `change` event tells a page
            that another model is picked, and once after opening that one is picked at all.
        empty: Says what to do first while there is no model.
    """

    owner: gr.BrowserState
    model_id: gr.Dropdown
    empty: gr.HTML


def build_model_picker() -> ModelPicker:
    """A new picker in the current Blocks context, alive at once."""
    owner = owner_state()
    box = gr.Dropdown(
        [],
        value=None,
        label="Model",
        visible=False,
        allow_custom_value=True,
        elem_classes="m2v-model",
    )
    empty = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
    page = Context.root_block
    assert page is not None  # components can't be made outside one
    page.load(attach, owner, [owner, box, empty], show_progress="hidden", api_visibility="private")
    return ModelPicker(owner, box, empty)


def attach(owner: str | None, request: gr.Request) -> list[Any]:
    """What the picker shows when the page opens: owner, box, message. `?model=ID` in the address picks that one."""
    owner = known_owner(owner)
    jobs = [job for job in job_store().list_jobs(owner) if job.kind == "distill" and job.state == "done"]
    ids = [job.id for job in jobs]
    wanted = str(request.query_params.get("model", ""))
    picked = wanted if wanted in ids else next(iter(ids), None)
    box = gr.Dropdown(choices=[(_label(job), job.id) for job in jobs], value=picked, visible=bool(jobs))
    return [owner, box, "" if jobs else empty_html()]


def picked_words(owner: str | None, model_id: str | None) -> WordNeighbors:
    """The vocabulary of a picked model, ready to be searched; the last few stay in memory.

    Raises:
        NotFoundError: None is picked, or it isn't this owner's.
    """
    if not owner or not model_id:
        raise NotFoundError("No model is picked. Pick one above; if there is none, distill one first.")
    return finished_model(owner, model_id)


def empty_html() -> str:
    """What to do first, when there is no model."""
    return (
        '<div class="m2v-notice m2v-info" role="status"><strong>No model yet</strong>'
        '<p><a href="distill">Distill your first one</a>. It takes about a minute, and then you can look at it '
        "here.</p></div>"
    )


def _label(job: Job) -> str:
    return f"{job.title} · {job.outcome['dim']:,} dimensions · {format_bytes(int(job.outcome['n_bytes']))}"
