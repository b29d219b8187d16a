"""The model picker; a model selected on one page is selected on all of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from m2v_core.distillation.teacher.bundled import is_installed
from m2v_core.errors import NotFoundError
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.model import StaticModel
from m2v_core.studio.library import DemoModel, Library, ModelRecord, Refusal
from m2v_core.studio.space.settings import current_limits
from pages.components import (
    BUNDLED_TEACHER,
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
Offer = Callable[..., Values]
"""`picker_values`, with or without the demo model."""
_RECIPES = {value: label.partition("\n")[0] for label, value in RECIPES}


@functools.cache
def model_library() -> Library:
    """Return the app's library, with the limits of `spaces.yaml` and, unless `M2V_STUDIO_DEMO=0`, the demo model."""
    limits = current_limits()
    has_demo = os.environ.get("M2V_STUDIO_DEMO") != "0"
    return Library(
        data_folder() / "models",
        jobs=job_store(),
        demo=DemoModel(data_folder() / "demo", BUNDLED_TEACHER) if has_demo else None,
        max_models_per_owner=limits.models_per_person,
        max_model_bytes=limits.model_bytes,
        max_bytes=limits.library_bytes,
        keep_seconds=days(limits.models_kept_days),
    )


def make_demo() -> None:
    """Make the demo model in the background, unless it exists, is turned off, or its teacher is not installed."""
    demo = model_library().demo
    if demo is not None and is_installed():
        demo.make_in_background(job_store().is_idle)


def picked_model(owner: str | None, model_id: str | None) -> StaticModel:
    """Return the model that is selected in a page's picker, with a cache of recently used ones.

    Raises:
        NotFoundError: No model is selected, or it is another owner's.
        ModelFormatError: Its files are damaged.
    """
    return model_library().load(*checked_pick(owner, model_id))


def picked_words(owner: str | None, model_id: str | None) -> WordNeighbors:
    """Return the searchable vocabulary of that model, with a cache of the last few.

    Raises:
        NotFoundError: No model is selected, or it is another owner's.
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
        owner: The owner of the models; pass it to every handler.
        model_id: The dropdown; its value is the id of the selected model, None without one. Its `change` event
            fires when another model is selected, and when the page has opened.
    """

    owner: gr.BrowserState
    model_id: gr.Dropdown


def build_model_picker(owner: gr.BrowserState | None = None, with_demo: bool = True) -> ModelPicker:
    """Add a picker to the current Blocks context, with its events.

    Args:
        owner: The page's owner, if another component has created it.
        with_demo: Whether to offer the demo model.
    """
    owner = owner or owner_state()
    box = gr.Dropdown(
        [],
        value=None,
        label="Model",
        visible=False,
        # Other tabs add and delete models; access is checked when a model is loaded.
        allow_custom_value=True,
        elem_classes="m2v-model",
    )
    empty = message_box()
    timer = gr.Timer(_TICK_SECONDS, active=False)
    n_offered = gr.State(0)
    shown = {"model_id": box, "message": empty, "timer": timer, "n_offered": n_offered}
    offer = functools.partial(picker_values, with_demo=with_demo)

    def attach_page(owner: str | None, request: gr.Request) -> Values:  # Gradio finds no request in a partial
        return attach(owner, request, offer)

    on(current_page().load, attach_page, owner, {"owner": owner, **shown})
    on([timer.tick, box.focus], functools.partial(refresh, offer=offer), [owner, box, n_offered], shown)
    on(box.blur, functools.partial(shorten, offer=offer), [owner, box, n_offered], shown)
    on(box.input, pick, [owner, box], empty)
    return ModelPicker(owner, box)


def picker_values(owner: str, model_id: str | None, message: str = "", with_demo: bool = True) -> Values:
    """Return the picker's values, keeping `model_id` selected if possible."""
    contents = model_library().contents(owner)
    offered = contents.offered if with_demo else contents.models
    picked = contents.picked if contents.picked in offered else next(iter(offered), None)
    demo_id = contents.demo.id if contents.demo else None
    # The user's first model replaces the demo model.
    if model_id == demo_id or model_id not in {record.id for record in offered}:
        model_id = picked.id if picked else None
    choices = [(choice_label(record), record.id) for record in offered]
    is_busy = any(job.kind == "distill" and not job.is_finished for job in job_store().list_jobs(owner))
    is_demo_pending = with_demo and contents.is_demo_pending
    if not contents.models and not message and (is_busy or not offered):
        message = empty_html(is_busy, is_demo_pending)
    return {
        "model_id": gr.Dropdown(choices=choices, value=model_id, visible=bool(offered)),
        "message": message + refused_html(contents.refused),
        "timer": gr.Timer(active=is_busy or is_demo_pending),
        "n_offered": len(offered),
    }


def attach(owner: str | None, request: gr.Request, offer: Offer = picker_values) -> Values:
    """Return the picker's values when its page opens; `?model=ID` in the URL selects that model."""
    owner = known_owner(owner)
    return {"owner": owner, **offer(owner, None, pick_linked(owner, request))}


@shows_errors("This model can't be shown")
def pick_linked(owner: str, request: gr.Request) -> str:
    """Select the model in the page's URL, if any; return the error message, or an empty string."""
    if wanted := str(request.query_params.get("model", "")):
        model_library().pick(wanted, owner)
    return ""


def refresh(owner: str | None, model_id: str | None, n_offered: int, offer: Offer = picker_values) -> Values:
    """Update the picker when models may have been added.

    If models were deleted, nothing changes until `shorten`: in an open list, Gradio keeps showing removed entries.
    """
    values = offer(known_owner(owner), model_id)
    return {} if values["n_offered"] < n_offered else values


def shorten(owner: str | None, model_id: str | None, n_offered: int, offer: Offer = picker_values) -> Values:
    """Update the picker when models were deleted and its list is closed."""
    values = offer(known_owner(owner), model_id)
    return values if values["n_offered"] < n_offered else {}


@shows_errors("This model can't be selected")
def pick(owner: str | None, model_id: str | None) -> str:
    """Select a model; return the error message, or an empty string."""
    model_library().pick(*checked_pick(owner, model_id))
    return ""


def choice_label(record: ModelRecord) -> str:
    """Return a model in one line: "minilm-l6-256 · Fast · 256 dimensions · float16 · 15.7 MB"."""
    return " · ".join([record.name, *details(record)])


def details(record: ModelRecord) -> list[str]:
    """Return what distinguishes models with the same name: recipe, own words, dimensions, precision, size."""
    return [*recipe_parts(record), f"{record.dim:,} dimensions", record.dtype, format_bytes(record.n_bytes)]


def recipe_parts(record: ModelRecord) -> list[str]:
    """Return the name of the recipe, if known, and whether the model was distilled with the user's own words."""
    return [*filter(None, [recipe_name(record), "own words" if "use_subword" in record.recipe else ""])]


def recipe_name(record: ModelRecord) -> str:
    """Return the name of a model's recipe as the pages show it; empty if unknown."""
    recipe = record.recipe.get("recipe")
    return _RECIPES.get(recipe, recipe) if isinstance(recipe, str) else ""


def refused_html(refusals: Sequence[Refusal]) -> Markup:
    """List finished models that the library rejected, with reasons and instructions; empty if there are none."""
    if not refusals:
        return Markup()
    names = ", ".join(refusal.name for refusal in refusals)
    paragraphs = list(dict.fromkeys(refusal.reason for refusal in refusals))
    if any(refusal.is_for_room for refusal in refusals):
        kept_days = current_limits().jobs_kept_days
        until = f" Its run is kept for {kept_days} days." if kept_days else ""
        paragraphs.append(
            "Download the ZIP of a model that you don't need here, and delete the model on the Library page. "
            f"The finished model is then added automatically.{until}"
        )
    return notice("error", f"Not in your library: {names}", paragraphs)


def empty_html(is_busy: bool, is_demo_pending: bool = False) -> Markup:
    """Return instructions for an owner without models.

    Args:
        is_busy: Whether one of the owner's models is being made.
        is_demo_pending: Whether the demo model is being made.
    """
    if is_busy:
        return notice("info", "Your first model is being made", ["It is selected here when it is ready."])
    if is_demo_pending:
        return notice("info", "The demo model is being made", ["It appears here when it is ready."])
    return Markup(
        '<div class="m2v-notice m2v-info" role="status"><strong>No model yet</strong>'
        '<p class="m2v-next"><a href="distill">Distill your first model</a>, which takes a minute or two, '
        'or <a href="library">open an existing one</a>.</p></div>'
    )


def checked_pick(owner: str | None, model_id: str | None) -> tuple[str, str]:
    """Validate a selection, as API clients may send anything; return the ids of the model and its owner.

    Raises:
        NotFoundError: No model is selected.
    """
    if not (isinstance(owner, str) and isinstance(model_id, str) and owner and model_id):
        raise NotFoundError("No model is selected. Select one above; if there is none, distill or open one first.")
    return model_id, owner
