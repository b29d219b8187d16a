"""The box that picks a model: once picked, it is picked on every page."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from m2v_core.errors import NotFoundError
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.model import StaticModel
from m2v_core.studio.library import Library, ModelRecord, Refusal
from m2v_core.studio.space.settings import current_limits
from pages.components import (
    Values,
    data_folder,
    days,
    format_bytes,
    job_store,
    known_owner,
    message_box,
    notice,
    on,
    owner_state,
    shows_errors,
)
from pages.components.distill_settings import RECIPES
from pages.gradio_patches import current_page
from pages.html import Markup

_TICK_SECONDS = 2.0
_RECIPES = {value: label.partition("\n")[0] for label, value in RECIPES}


@functools.cache
def model_library() -> Library:
    """The app's one library, with the limits of `spaces.yaml`."""
    limits = current_limits()
    return Library(
        data_folder() / "models",
        jobs=job_store(),
        max_models_per_owner=limits.models_per_person,
        max_model_bytes=limits.model_bytes,
        max_bytes=limits.library_bytes,
        keep_seconds=days(limits.models_kept_days),
    )


def picked_model(owner: str | None, model_id: str | None) -> StaticModel:
    """The model that a page's picker shows; the last few stay in memory.

    Raises:
        NotFoundError: None is picked, or it isn't this owner's.
        ModelFormatError: Its files are damaged.
    """
    return model_library().load(*checked_pick(owner, model_id))


def picked_words(owner: str | None, model_id: str | None) -> WordNeighbors:
    """The vocabulary of that model, ready to be searched; the last few stay in memory.

    Raises:
        NotFoundError: None is picked, or it isn't this owner's.
        ModelFormatError: Its files are damaged.
    """
    return _words(picked_model(owner, model_id))


@functools.lru_cache(maxsize=4)
def _words(model: StaticModel) -> WordNeighbors:
    return WordNeighbors(model)


@dataclass(frozen=True)
class ModelPicker:
    """The picker's components.

    Attributes:
        owner: Whose models are offered; pass it to every handler.
        model_id: The box; its value is the id of the picked model, None for none. Its `change` event tells a
            page that another model is picked, and once after opening that one is picked at all.
    """

    owner: gr.BrowserState
    model_id: gr.Dropdown


def build_model_picker(owner: gr.BrowserState | None = None) -> ModelPicker:
    """A new picker in the current Blocks context, alive at once.

    Args:
        owner: The page's own, when it has one already, such as a job panel's.
    """
    owner = owner or owner_state()
    box = gr.Dropdown(
        [],
        value=None,
        label="Model",
        visible=False,
        # Choices come and go in other tabs; who may use which model is checked where it is loaded.
        allow_custom_value=True,
        elem_classes="m2v-model",
    )
    empty = message_box()
    timer = gr.Timer(_TICK_SECONDS, active=False)
    n_offered = gr.State(0)
    shown = {"model_id": box, "message": empty, "timer": timer, "n_offered": n_offered}
    on(current_page().load, attach, owner, {"owner": owner, **shown})
    on([timer.tick, box.focus], refresh, [owner, box, n_offered], shown)
    on(box.blur, shorten, [owner, box, n_offered], shown)
    on(box.input, pick, [owner, box], empty)
    return ModelPicker(owner, box)


def attach(owner: str | None, request: gr.Request) -> Values:
    """What a page's picker shows when the page opens.

    `?model=ID` in the page's address picks that model, here and everywhere.
    """
    owner = known_owner(owner)
    return {"owner": owner, **_values(owner, None, pick_linked(owner, request))}


@shows_errors("This model can't be shown")
def pick_linked(owner: str, request: gr.Request) -> str:
    """Pick the model that the page's address names, if any; what there is to say if that fails."""
    if wanted := str(request.query_params.get("model", "")):
        model_library().pick(wanted, owner)
    return ""


def refresh(owner: str | None, model_id: str | None, n_offered: int) -> Values:
    """What the picker shows a while later: a distillation may have finished meanwhile.

    Nothing changes where fewer are left than it offers: its list may be open, and of an open list that gets shorter
    Gradio goes on showing what is gone. That is for `shorten`, once the list is closed.
    """
    values = _values(known_owner(owner), model_id, "")
    return {} if values["n_offered"] < n_offered else values


def shorten(owner: str | None, model_id: str | None, n_offered: int) -> Values:
    """What the picker shows where fewer models are left than it offers."""
    values = _values(known_owner(owner), model_id, "")
    return values if values["n_offered"] < n_offered else {}


@shows_errors("This model can't be picked")
def pick(owner: str | None, model_id: str | None) -> str:
    """Remember what was picked; what there is to say if that fails."""
    model_library().pick(*checked_pick(owner, model_id))
    return ""


def choice_label(record: ModelRecord) -> str:
    """A model in one line: "minilm-l6-256 · Fast · 256 dimensions · float16 · 15.7 MB"."""
    return " · ".join([record.name, *details(record)])


def details(record: ModelRecord) -> list[str]:
    """What tells a model from others of its name: recipe, own words, dimensions, precision, size."""
    of_recipe = [recipe_name(record), "own words" if "use_subword" in record.recipe else ""]
    numbers = [f"{record.dim:,} dimensions", record.dtype, format_bytes(record.n_bytes)]
    return [*filter(None, of_recipe), *numbers]


def recipe_name(record: ModelRecord) -> str:
    """What people call a model's recipe; empty where it is not known."""
    recipe = record.recipe.get("recipe")
    return _RECIPES.get(recipe, recipe) if isinstance(recipe, str) else ""


def _values(owner: str, model_id: str | None, message: str) -> Values:
    contents = model_library().contents(owner)
    records = contents.models
    if model_id not in {record.id for record in records}:
        model_id = contents.picked.id if contents.picked else None
    box = gr.Dropdown(
        choices=[(choice_label(record), record.id) for record in records], value=model_id, visible=bool(records)
    )
    is_busy = any(job.kind == "distill" and not job.is_finished for job in job_store().list_jobs(owner))
    if not records and not message:
        message = empty_html(is_busy)
    message += refused_html(contents.refused)
    return {"model_id": box, "message": message, "timer": gr.Timer(active=is_busy), "n_offered": len(records)}


def refused_html(refusals: Sequence[Refusal]) -> Markup:
    """Which finished models are not in the library, why, and what to do; empty without any."""
    if not refusals:
        return Markup()
    names = ", ".join(refusal.name for refusal in refusals)
    paragraphs = list(dict.fromkeys(refusal.reason for refusal in refusals))
    if any(refusal.is_for_room for refusal in refusals):
        kept_days = current_limits().jobs_kept_days
        until = f"; until then its run keeps it, for {kept_days} days" if kept_days else ""
        paragraphs.append(
            "Download the ZIP of a model you can do without, and delete that one on the Library page. "
            f"Then what was made comes in by itself{until}."
        )
    return notice("error", f"Not in your library: {names}", paragraphs)


def empty_html(is_busy: bool) -> Markup:
    """What to do first, when there is no model."""
    if is_busy:
        return notice("info", "Your first model is being made", ["It appears here when it is ready."])
    return Markup(
        '<div class="m2v-notice m2v-info" role="status"><strong>No model yet</strong>'
        '<p class="m2v-next"><a href="distill">Distill your first one</a>, which takes a minute or two, '
        'or <a href="library">open one you have</a>.</p></div>'
    )


def checked_pick(owner: str | None, model_id: str | None) -> tuple[str, str]:
    """Model and owner, for the library to find; from the API anything may come.

    Raises:
        NotFoundError: None is picked.
    """
    if not (isinstance(owner, str) and isinstance(model_id, str) and owner and model_id):
        raise NotFoundError("No model is picked. Pick one above; if there is none, distill or open one first.")
    return model_id, owner
