"""Compare: how fast models are, side by side with their teacher, on the machine that runs this app."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS
from m2v_core.evaluation.speed import DEFAULT_ROUNDS, DEFAULT_SECONDS, SpeedComparison
from m2v_core.studio.jobs import JobSpec
from m2v_core.studio.library import Contents, ModelRecord
from m2v_core.studio.space.settings import current_limits
from pages import figures
from pages.components import (
    BUNDLED_TEACHER,
    Values,
    checked_teacher,
    figure_box,
    html,
    job_store,
    known_owner,
    message_box,
    on,
    page_head,
    shows_errors,
    teacher_picker,
)
from pages.components.job_panel import build_job_panel, find_job
from pages.components.measurements import conditions_html, numbers_html
from pages.components.model_picker import empty_html, model_library, pick_linked, recipe_name, refused_html
from pages.components.own_texts import TextSource, build_texts_form, read_texts
from pages.gradio_patches import current_page
from pages.html import Markup

_TICK_SECONDS = 3.0


def build() -> None:
    """The page, in the current Blocks context."""
    page_head(
        "Compare",
        "How fast is it, really? Models and their teacher read the same texts on this machine, in turn. Every number "
        "below was measured here.",
    )
    offered: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    with gr.Row(elem_classes="m2v-columns"):
        with gr.Column(scale=7, elem_classes="m2v-form"):
            with gr.Column(elem_classes="m2v-card"):
                offered["empty"] = message_box()
                models = gr.CheckboxGroup([], label="Models", visible=False, elem_classes="m2v-choices m2v-models")
                with_teacher = gr.Checkbox(True, label="Measure the teacher too, and each model's fidelity to it")
                teacher = teacher_picker()
            with gr.Accordion("Advanced settings", open=False, elem_classes="m2v-card m2v-advanced"):
                texts = build_texts_form(
                    usable_texts, "What they read", f"One text on each line; fidelity takes {MIN_FIDELITY_TEXTS}"
                )
                with gr.Row():
                    rounds = gr.Slider(3, 15, DEFAULT_ROUNDS, step=1, label="Rounds", info="Each with other texts.")
                    seconds = gr.Slider(
                        5, 120, DEFAULT_SECONDS, step=5, label="Seconds for each", info="Slow ones read less."
                    )
                with_peer = gr.Checkbox(False, label="Run each model in the model2vec package too")
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            panel = build_job_panel("Measure", kind="speed")
    with gr.Column(visible=False, elem_classes="m2v-measured") as shown["measured"]:
        shown["numbers"] = html()
        with gr.Row(elem_classes="m2v-columns m2v-figures") as shown["charts"]:
            with gr.Column(elem_classes="m2v-card"):
                shown["bars"] = figure_box()
                shown["conditions"] = html()
            with gr.Column(elem_classes="m2v-card"):
                shown["bubbles"] = figure_box()

    panel.connect(submit, [models, with_teacher, teacher, *texts, rounds, seconds, with_peer])
    listed, proposed, timer = gr.State([]), gr.State(BUNDLED_TEACHER), gr.Timer(_TICK_SECONDS)
    theirs = {"teacher": teacher, "proposed": proposed}
    offered |= {"models": models, "listed": listed, **theirs}
    on(current_page().load, offer, panel.owner, {"owner": panel.owner, **offered})
    # Models come and go in other tabs.
    on(timer.tick, refresh, [panel.owner, models, listed, teacher, proposed], offered)
    on(models.input, their_teacher, [panel.owner, models, teacher, proposed], theirs, latest=True)
    on(with_teacher.change, lambda is_on: gr.Dropdown(visible=is_on), with_teacher, teacher)
    on(panel.done_id.change, show, [panel.owner, panel.done_id], shown)


def offer(owner: str | None, request: gr.Request) -> Values:
    """What the page shows when it opens.

    The model that is picked everywhere is ticked; `?model=ID` in the page's address picks another.
    """
    owner = known_owner(owner)
    return {"owner": owner, **_offered(owner, pick_linked(owner, request))}


@shows_errors("Your models can't be shown", lambda message: {"empty": message})
def _offered(owner: str, message: str) -> Values:
    contents = model_library().contents(owner)
    boxes, ticked = _ticked_box(contents, [])
    teacher = _teacher(ticked[0]) if ticked else BUNDLED_TEACHER
    said = message or _said(contents)
    listed = _entries(contents.models)
    return {"models": boxes, "empty": said, "listed": listed, "teacher": teacher, "proposed": teacher}


@shows_errors("Your models can't be shown", lambda message: {"empty": message})
def refresh(
    owner: str | None,
    chosen: Sequence[str],
    listed: list[tuple[str, str]],
    teacher: str | None,
    proposed: str,
) -> Values:
    """What the page shows a while later, by name, without the owner.

    What is ticked is written only where it must be: another tick may come meanwhile, and must stay.
    """
    contents = model_library().contents(known_owner(owner))
    entries = _entries(contents.models)
    if entries == listed:
        return {}
    shown = {"empty": _said(contents), "listed": entries}
    if listed and {model.id for model in contents.models} >= set(chosen):
        return {"models": gr.CheckboxGroup(choices=entries, visible=True), **shown}
    boxes, ticked = _ticked_box(contents, chosen)
    return {"models": boxes, **shown, **_proposal(ticked, teacher, proposed)}


def _ticked_box(contents: Contents, chosen: Sequence[str]) -> tuple[Any, list[ModelRecord]]:
    """The box of models and those ticked in it: those chosen, else the one that is picked everywhere."""
    models = contents.models
    ticked = [model for model in models if model.id in chosen]
    if not ticked and contents.picked:
        ticked = [contents.picked]
    value = [model.id for model in ticked]
    return gr.CheckboxGroup(choices=_entries(models), value=value, visible=bool(models)), ticked


def _said(contents: Contents) -> Markup:
    return (Markup() if contents.models else empty_html(is_busy=False)) + refused_html(contents.refused)


def _entries(models: Sequence[ModelRecord]) -> list[tuple[str, str]]:
    return [(f"{model.name}\n{_details(model)} · {model.n_tokens:,} tokens", model.id) for model in models]


def _details(model: ModelRecord) -> str:
    return " · ".join(filter(None, [recipe_name(model), f"{model.dim:,} dim {model.dtype}"]))


def _teacher(model: ModelRecord) -> str:
    return model.teacher or BUNDLED_TEACHER


def their_teacher(owner: str | None, chosen: Sequence[str], teacher: str | None, proposed: str) -> Values:
    """The teacher of the first model that is chosen, and the same as what was proposed."""
    try:
        models = model_library().list_models(known_owner(owner))
    except M2VError:  # `submit` meets it again, and says so
        return {}
    return _proposal([model for model in models if model.id in chosen], teacher, proposed)


def _proposal(ticked: Sequence[ModelRecord], teacher: str | None, proposed: str) -> Values:
    """The teacher of the first model; nothing where people have chosen another than the one proposed."""
    is_their_own = bool((teacher or "").strip()) and teacher != proposed
    if is_their_own or not ticked:
        return {}
    return {"teacher": _teacher(ticked[0]), "proposed": _teacher(ticked[0])}


def submit(
    owner: str,
    chosen: Sequence[str],
    with_teacher: bool,
    teacher: str | None,
    source: TextSource,
    own_texts: str,
    upload: str | None,
    column: str | None,
    rounds: float,
    seconds: float,
    with_peer: bool,
) -> str:
    """The id of a new job that measures the chosen models.

    Raises:
        M2VError: No model, too many, no texts, no teacher, or the queue is full.
    """
    models, folders = [], []
    for model in model_library().list_models(owner):
        if model.id in chosen:
            with suppress(NotFoundError):  # deleted meanwhile, in another tab
                folders.append(str(model_library().folder(model.id, owner)))
                models.append(model)
    if not models:
        raise InputError("No model is chosen. Tick one; if there is none yet, distill one first.")
    allowed = current_limits().speed_models
    if len(models) > allowed:
        raise InputError(f"{len(models)} models are chosen; {allowed} can be measured at once. Untick some.")
    parameters: dict[str, Any] = {
        "models": [{"name": name, "path": path} for name, path in zip(unique_names(models), folders, strict=True)],
        "teacher": checked_teacher(teacher) if with_teacher else None,
        "with_peer": with_peer,
        "rounds": int(rounds),
        "seconds": float(seconds),
    }
    texts: dict[str, list[str]] = {}
    if source != "sample":
        texts["texts"] = usable_texts(source, own_texts, upload, column, int(rounds))
    more = f" and {len(models) - 1} more" if len(models) > 1 else ""
    return job_store().submit(JobSpec("speed", parameters, texts, f"speed of {models[0].name}{more}"), owner)


def unique_names(models: Sequence[ModelRecord]) -> list[str]:
    """A name for each: its own, with its details where two are called the same, numbered where these agree too."""
    n_called = Counter(model.name for model in models)
    names = [model.name if n_called[model.name] == 1 else f"{model.name} · {_details(model)}" for model in models]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def usable_texts(
    source: TextSource, own_texts: str, upload: str | None, column: str | None = None, rounds: int = 0
) -> list[str]:
    """As `read_texts`.

    Raises:
        M2VError: There is no file, it can't be read, or they are too few for the rounds, or too many.
    """
    texts = read_texts(source, own_texts, upload, column, current_limits().speed_texts)
    if len(texts) <= rounds:
        raise InputError(
            f"{len(texts)} different texts are too few for {rounds} rounds, which never read a text twice. "
            "Give some hundreds, or choose our sample."
        )
    return texts


def _unshown(message: str) -> Values:
    return {"measured": gr.Column(visible=bool(message)), "numbers": message, "charts": gr.Row(visible=False)}


@shows_errors("This measurement can't be shown", _unshown)
def show(owner: str | None, job_id: str) -> Values:
    """What the page shows of a finished measurement."""
    job = find_job(owner, job_id)
    if job is None or job.state != "done":
        return _unshown("")
    comparison = SpeedComparison.from_json(job.outcome)
    return {
        "measured": gr.Column(visible=True),
        "numbers": numbers_html(comparison),
        "charts": gr.Row(visible=True),
        "bars": figures.speed_bars(comparison),
        "conditions": conditions_html(comparison),
        "bubbles": figures.speed_bubbles(comparison),
    }
