"""Compare: the speed of models and their teacher on the machine that runs this app."""

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
    """Build the page in the current Blocks context."""
    page_head(
        "Compare",
        "Compare the speed of your models and their teacher on the same texts. Every number below was measured on this "
        "machine.",
    )
    offered: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    with gr.Row(elem_classes="m2v-columns"):
        with gr.Column(scale=7, elem_classes="m2v-form"):
            with gr.Column(elem_classes="m2v-card"):
                offered["empty"] = message_box()
                models = gr.CheckboxGroup([], label="Models", visible=False, elem_classes="m2v-choices m2v-models")
                with_teacher = gr.Checkbox(True, label="Include the teacher, and measure fidelity to it")
                teacher = teacher_picker()
            with gr.Accordion("Advanced settings", open=False, elem_classes="m2v-card m2v-advanced"):
                texts = build_texts_form(
                    load_texts, "Texts", f"One text per line; fidelity requires {MIN_FIDELITY_TEXTS}"
                )
                with gr.Row():
                    rounds = gr.Slider(
                        3, 15, DEFAULT_ROUNDS, step=1, label="Rounds", info="Each round has different texts."
                    )
                    seconds = gr.Slider(
                        5,
                        120,
                        DEFAULT_SECONDS,
                        step=5,
                        label="Seconds per encoder",
                        info="Slow encoders encode fewer texts.",
                    )
                with_peer = gr.Checkbox(False, label="Also measure each model in the model2vec package")
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
    teacher_values = {"teacher": teacher, "proposed": proposed}
    offered |= {"models": models, "listed": listed, **teacher_values}
    on(current_page().load, offer, panel.owner, {"owner": panel.owner, **offered})
    # Models may be added or deleted in other tabs.
    on(timer.tick, refresh, [panel.owner, models, listed, teacher, proposed], offered)
    on(models.input, propose_teacher, [panel.owner, models, teacher, proposed], teacher_values, latest=True)
    on(with_teacher.change, lambda is_on: gr.Dropdown(visible=is_on), with_teacher, teacher)
    on(panel.done_id.change, show, [panel.owner, panel.done_id], shown)


def offer(owner: str | None, request: gr.Request) -> Values:
    """Update the page when it opens, selecting the current model or that of `?model=ID` in the URL."""
    owner = known_owner(owner)
    return {"owner": owner, **_offered(owner, pick_linked(owner, request))}


@shows_errors("Your models can't be shown", lambda message: {"empty": message})
def _offered(owner: str, message: str) -> Values:
    contents = model_library().contents(owner)
    boxes, ticked = _ticked_box(contents, [])
    teacher = _teacher(ticked[0]) if ticked else BUNDLED_TEACHER
    listed = _entries(contents.offered)
    shown = {"models": boxes, "empty": message or _messages(contents), "listed": listed}
    return {**shown, "teacher": teacher, "proposed": teacher}


@shows_errors("Your models can't be shown", lambda message: {"empty": message})
def refresh(
    owner: str | None,
    chosen: Sequence[str],
    listed: list[tuple[str, str]],
    teacher: str | None,
    proposed: str,
) -> Values:
    """Update the list of models on a timer tick.

    The selection is updated only if necessary, as the user may change it at the same time.
    """
    contents = model_library().contents(known_owner(owner))
    entries = _entries(contents.offered)
    if entries == listed:
        return {}
    shown = {"empty": _messages(contents), "listed": entries}
    # The first model of the user replaces the demo model in the selection.
    is_demo_alone = contents.demo is not None and listed == _entries([contents.demo])
    if listed and not is_demo_alone and {model.id for model in contents.offered} >= set(chosen):
        return {"models": gr.CheckboxGroup(choices=entries, visible=True), **shown}
    boxes, ticked = _ticked_box(contents, [] if is_demo_alone else chosen)
    return {"models": boxes, **shown, **_proposal(ticked, teacher, proposed)}


def _ticked_box(contents: Contents, chosen: Sequence[str]) -> tuple[Any, list[ModelRecord]]:
    """Return the list of models and the selected ones: those chosen, else the current model."""
    models = contents.offered
    ticked = [model for model in models if model.id in chosen]
    if not ticked and contents.picked:
        ticked = [contents.picked]
    value = [model.id for model in ticked]
    return gr.CheckboxGroup(choices=_entries(models), value=value, visible=bool(models)), ticked


def _messages(contents: Contents) -> Markup:
    empty = Markup() if contents.offered else empty_html(False, contents.is_demo_pending)
    return empty + refused_html(contents.refused)


def _entries(models: Sequence[ModelRecord]) -> list[tuple[str, str]]:
    return [(f"{model.name}\n{_details(model)} · {model.n_tokens:,} tokens", model.id) for model in models]


def _details(model: ModelRecord) -> str:
    return " · ".join(filter(None, [recipe_name(model), f"{model.dim:,} dim {model.dtype}"]))


def _teacher(model: ModelRecord) -> str:
    return model.teacher or BUNDLED_TEACHER


def propose_teacher(owner: str | None, chosen: Sequence[str], teacher: str | None, proposed: str) -> Values:
    """Propose the teacher of the first selected model."""
    try:
        models = model_library().contents(known_owner(owner)).offered
    except M2VError:  # `submit` reports the error
        return {}
    return _proposal([model for model in models if model.id in chosen], teacher, proposed)


def _proposal(ticked: Sequence[ModelRecord], teacher: str | None, proposed: str) -> Values:
    """Propose the teacher of the first model, unless the user has chosen another one."""
    is_custom = bool((teacher or "").strip()) and teacher != proposed
    if is_custom or not ticked:
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
    """Submit a speed comparison of the selected models, and return the job's id.

    Raises:
        M2VError: No model or too many are selected, texts or the teacher are missing, or the queue is full.
    """
    models, folders = [], []
    for model in model_library().contents(owner).offered:
        if model.id in chosen:
            with suppress(NotFoundError):  # it may have been deleted in another tab
                folders.append(str(model_library().folder(model.id, owner)))
                models.append(model)
    if not models:
        raise InputError("No model is selected. Select one, or distill one first.")
    allowed = current_limits().speed_models
    if len(models) > allowed:
        raise InputError(f"{len(models)} models are selected; the limit here is {allowed}. Deselect some.")
    parameters: dict[str, Any] = {
        "models": [{"name": name, "path": path} for name, path in zip(unique_names(models), folders, strict=True)],
        "teacher": checked_teacher(teacher) if with_teacher else None,
        "with_peer": with_peer,
        "rounds": int(rounds),
        "seconds": float(seconds),
    }
    texts: dict[str, list[str]] = {}
    if source != "sample":
        texts["texts"] = load_texts(source, own_texts, upload, column, int(rounds))
    more = f" and {len(models) - 1} more" if len(models) > 1 else ""
    return job_store().submit(JobSpec("speed", parameters, texts, f"speed of {models[0].name}{more}"), owner)


def unique_names(models: Sequence[ModelRecord]) -> list[str]:
    """Return a unique name for each model, adding its details and then a number where necessary."""
    n_called = Counter(model.name for model in models)
    names = [model.name if n_called[model.name] == 1 else f"{model.name} · {_details(model)}" for model in models]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def load_texts(
    source: TextSource, own_texts: str, upload: str | None, column: str | None = None, rounds: int = 0
) -> list[str]:
    """Call `read_texts`, and validate the number of texts.

    Raises:
        M2VError: The file is missing or invalid, or there are too few texts for the rounds, or too many.
    """
    texts = read_texts(source, own_texts, upload, column, current_limits().speed_texts)
    if len(texts) <= rounds:
        raise InputError(
            f"{len(texts)} distinct texts are too few for {rounds} rounds without repetition. Use several hundred, or "
            "choose the bundled sample."
        )
    return texts


def _unshown(message: str) -> Values:
    return {"measured": gr.Column(visible=bool(message)), "numbers": message, "charts": gr.Row(visible=False)}


@shows_errors("This measurement can't be shown", _unshown)
def show(owner: str | None, job_id: str) -> Values:
    """Show a finished comparison."""
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
