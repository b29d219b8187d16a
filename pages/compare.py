"""Compare: how fast models are, side by side with their teacher, on the machine that runs this app."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from m2v_core.distillation.vocabulary import open_vocabulary
from m2v_core.encoder.texts import well_formed
from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.evaluation.speed import DEFAULT_ROUNDS, DEFAULT_SECONDS, SpeedComparison
from m2v_core.studio.jobs import JobSpec
from m2v_core.studio.space.settings import current_limits
from pages import figures
from pages.components import (
    BUNDLED_TEACHER,
    Values,
    by_name,
    checked_teacher,
    job_store,
    known_owner,
    notice,
    shows_errors,
    teacher_picker,
)
from pages.components.job_panel import build_job_panel, find_job
from pages.components.measurements import conditions_html, numbers_html
from pages.components.model_picker import empty_html, model_library, pick_linked, recipe_name, refused_html
from pages.gradio_patches import current_page
from pages.html import Markup

TextSource = Literal["sample", "own", "upload"]

_TICK_SECONDS = 3.0
_FILE_SUFFIXES = [".txt", ".csv", ".tsv"]


def build() -> None:
    """The page, in the current Blocks context."""
    gr.HTML(
        '<header class="m2v-head"><h1>Compare</h1><p>How fast is it, really? Models and their teacher read the same '
        "texts on this machine, in turn. Every number below was measured here.</p></header>",
        apply_default_css=False,
    )
    with gr.Row(elem_classes="m2v-columns"):
        with gr.Column(scale=7, elem_classes="m2v-form"):
            with gr.Column(elem_classes="m2v-card"):
                empty = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
                models = gr.CheckboxGroup([], label="Models", visible=False, elem_classes="m2v-choices m2v-models")
                with_teacher = gr.Checkbox(True, label="Measure the teacher too, and each model's fidelity to it")
                teacher = teacher_picker()
            with gr.Accordion("Advanced settings", open=False, elem_classes="m2v-card m2v-advanced"):
                source = gr.Radio(
                    [("Our sample", "sample"), ("Paste mine", "own"), ("Upload mine", "upload")],
                    value="sample",
                    label="What they read",
                    elem_classes="m2v-switch",
                )
                own_texts = gr.Textbox(
                    lines=6,
                    max_lines=12,
                    visible=False,
                    label="One text on each line, better some hundreds",
                    elem_classes="m2v-paste",
                )
                with gr.Column(visible=False, elem_classes="m2v-words") as upload_box:
                    upload = gr.File(
                        file_types=_FILE_SUFFIXES,
                        label="Text with one entry a line, or a CSV or TSV table",
                        height=120,
                        elem_classes="m2v-upload",
                    )
                    upload_report = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
                with gr.Row():
                    rounds = gr.Slider(3, 15, DEFAULT_ROUNDS, step=1, label="Rounds", info="Each with other texts.")
                    seconds = gr.Slider(
                        5, 120, DEFAULT_SECONDS, step=5, label="Seconds for each", info="Slow ones read less."
                    )
                with_peer = gr.Checkbox(False, label="Run each model in the model2vec package too")
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            panel = build_job_panel("Measure", kind="speed")
    with gr.Column(visible=False, elem_classes="m2v-measured") as measured:
        numbers = gr.HTML("", apply_default_css=False)
        with gr.Row(elem_classes="m2v-columns m2v-figures") as charts:
            with gr.Column(elem_classes="m2v-card"):
                bars = gr.Plot(show_label=False, container=False, elem_classes="m2v-figure")
                conditions = gr.HTML("", apply_default_css=False)
            with gr.Column(elem_classes="m2v-card"):
                bubbles = gr.Plot(show_label=False, container=False, elem_classes="m2v-figure")

    panel.connect(submit, [models, with_teacher, teacher, source, own_texts, upload, rounds, seconds, with_peer])
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    listed, proposed, timer = gr.State([]), gr.State(BUNDLED_TEACHER), gr.Timer(_TICK_SECONDS)
    offered = {"models": models, "empty": empty, "listed": listed, "teacher": teacher, "proposed": proposed}
    current_page().load(**by_name(offer, {"owner": panel.owner, **offered}), inputs=panel.owner, **quiet)
    # Models come and go in other tabs.
    timer.tick(**by_name(refresh, offered), inputs=[panel.owner, models, listed, teacher, proposed], **quiet)
    models.input(
        **by_name(their_teacher, {"teacher": teacher, "proposed": proposed}),
        inputs=[panel.owner, models, teacher, proposed],
        trigger_mode="always_last",
        **quiet,
    )
    with_teacher.change(lambda is_on: gr.Dropdown(visible=is_on), with_teacher, teacher, **quiet)
    source.change(
        lambda chosen: (gr.Textbox(visible=chosen == "own"), gr.Column(visible=chosen == "upload")),
        source,
        [own_texts, upload_box],
        **quiet,
    )
    gr.on([upload.upload, upload.clear], judge_file, upload, upload_report, **quiet)
    shown = {
        "measured": measured,
        "numbers": numbers,
        "charts": charts,
        "bars": bars,
        "conditions": conditions,
        "bubbles": bubbles,
    }
    panel.done_id.change(**by_name(show, shown), inputs=[panel.owner, panel.done_id], **quiet)


@dataclass(frozen=True)
class MeasurableModel:
    """A model that can be measured.

    Attributes:
        id: What the page calls it by.
        name: What people call it.
        details: Its recipe, dimensions and precision, which tell it from others of that name.
        n_tokens: Entries of its vocabulary.
        folder: Where it lies on the server.
        teacher: What it was distilled from.
    """

    id: str
    name: str
    details: str
    n_tokens: int
    folder: str
    teacher: str


def measurable_models(owner: str) -> list[MeasurableModel]:
    """This owner's models, the newest first."""
    library, models = model_library(), []
    for record in library.list_models(owner):
        with suppress(NotFoundError):  # deleted meanwhile, in another tab
            models.append(
                MeasurableModel(
                    id=record.id,
                    name=record.name,
                    details=" · ".join(filter(None, [recipe_name(record), f"{record.dim:,} dim {record.dtype}"])),
                    n_tokens=record.n_tokens,
                    folder=str(library.folder(record.id, owner)),
                    teacher=record.teacher or BUNDLED_TEACHER,
                )
            )
    return models


def offer(owner: str | None, request: gr.Request) -> Values:
    """What the page shows when it opens.

    The model that is picked everywhere is ticked; `?model=ID` in the page's address picks another.
    """
    owner = known_owner(owner)
    return {"owner": owner, **_offered(owner, pick_linked(owner, request))}


@shows_errors("Your models can't be shown", lambda message: {"empty": message})
def _offered(owner: str, message: str) -> Values:
    models = measurable_models(owner)
    boxes, ticked = _ticked_box(owner, models, [])
    teacher = ticked[0].teacher if ticked else BUNDLED_TEACHER
    said = message or _said(owner, models)
    return {"models": boxes, "empty": said, "listed": _entries(models), "teacher": teacher, "proposed": teacher}


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
    owner = known_owner(owner)
    models = measurable_models(owner)
    entries = _entries(models)
    if entries == listed:
        return {}
    said = _said(owner, models)
    if listed and {model.id for model in models} >= set(chosen):
        return {"models": gr.CheckboxGroup(choices=entries, visible=True), "empty": said, "listed": entries}
    boxes, ticked = _ticked_box(owner, models, chosen)
    return {"models": boxes, "empty": said, "listed": entries, **_proposal(ticked, teacher, proposed)}


def _ticked_box(
    owner: str, models: Sequence[MeasurableModel], chosen: Sequence[str]
) -> tuple[Any, list[MeasurableModel]]:
    """The box of models and those ticked in it: those chosen, else the one that is picked everywhere."""
    ticked = [model for model in models if model.id in chosen]
    if not ticked and (picked := model_library().picked(owner)):
        ticked = [model for model in models if model.id == picked.id]
    value = [model.id for model in ticked]
    return gr.CheckboxGroup(choices=_entries(models), value=value, visible=bool(models)), ticked


def _said(owner: str, models: Sequence[MeasurableModel]) -> Markup:
    return (Markup() if models else empty_html(is_busy=False)) + refused_html(model_library().contents(owner).refused)


def _entries(models: Sequence[MeasurableModel]) -> list[tuple[str, str]]:
    return [(f"{model.name}\n{model.details} · {model.n_tokens:,} tokens", model.id) for model in models]


def their_teacher(owner: str | None, chosen: Sequence[str], teacher: str | None, proposed: str) -> Values:
    """The teacher of the first model that is chosen, and the same as what was proposed."""
    try:
        models = measurable_models(known_owner(owner))
    except M2VError:  # `submit` meets it again, and says so
        return {}
    return _proposal([model for model in models if model.id in chosen], teacher, proposed)


def _proposal(ticked: Sequence[MeasurableModel], teacher: str | None, proposed: str) -> Values:
    """The teacher of the first model; nothing where people have chosen another than the one proposed."""
    is_their_own = bool((teacher or "").strip()) and teacher != proposed
    if is_their_own or not ticked:
        return {}
    return {"teacher": ticked[0].teacher, "proposed": ticked[0].teacher}


def submit(
    owner: str,
    chosen: Sequence[str],
    with_teacher: bool,
    teacher: str | None,
    source: TextSource,
    own_texts: str,
    upload: str | None,
    rounds: float,
    seconds: float,
    with_peer: bool,
) -> str:
    """The id of a new job that measures the chosen models.

    Raises:
        M2VError: No model, too many, no texts, no teacher, or the queue is full.
    """
    models = [model for model in measurable_models(owner) if model.id in chosen]
    if not models:
        raise InputError("No model is chosen. Tick one; if there is none yet, distill one first.")
    allowed = current_limits().speed_models
    if len(models) > allowed:
        raise InputError(f"{len(models)} models are chosen; {allowed} can be measured at once. Untick some.")
    parameters: dict[str, Any] = {
        "models": [
            {"name": name, "path": model.folder} for name, model in zip(unique_names(models), models, strict=True)
        ],
        "teacher": checked_teacher(teacher) if with_teacher else None,
        "with_peer": with_peer,
        "rounds": int(rounds),
        "seconds": float(seconds),
    }
    texts: dict[str, list[str]] = {}
    if source != "sample":
        lines = own_texts.splitlines() if source == "own" else read_file(upload)
        texts["texts"] = usable_texts(lines, int(rounds))
    more = f" and {len(models) - 1} more" if len(models) > 1 else ""
    return job_store().submit(JobSpec("speed", parameters, texts, f"speed of {models[0].name}{more}"), owner)


def unique_names(models: Sequence[MeasurableModel]) -> list[str]:
    """A name for each: its own, with its details where two are called the same, numbered where these agree too."""
    n_called = Counter(model.name for model in models)
    names = [model.name if n_called[model.name] == 1 else f"{model.name} · {model.details}" for model in models]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def read_file(upload: str | None) -> list[str]:
    """The texts of an uploaded file, none judged yet.

    Raises:
        M2VError: There is no file, or it can't be read.
    """
    if upload is None:
        raise InputError("There is no file yet. Upload one, or choose our sample.")
    return open_vocabulary(upload).entries()


@shows_errors("This file can't be used")
def judge_file(upload: str | None) -> str:
    """What the page says of a new file."""
    if upload is None:
        return ""
    n_texts = len(usable_texts(read_file(upload), rounds=0))
    return notice("good", f"{n_texts:,} different {'text' if n_texts == 1 else 'texts'} ready")


def usable_texts(lines: Sequence[str], rounds: int) -> list[str]:
    """The texts without blank ones and repetitions.

    Raises:
        InputError: They are too few for the rounds, or too many.
    """
    texts = list(dict.fromkeys(line.strip() for line in well_formed(list(lines)) if line.strip()))
    if len(texts) <= rounds:
        raise InputError(
            f"{len(texts)} different texts are too few for {rounds} rounds, which never read a text twice. "
            "Give some hundreds, or choose our sample."
        )
    allowed = current_limits().speed_texts
    if len(texts) > allowed:
        raise InputError(f"{len(texts):,} texts are more than the {allowed:,} that are read here. Give fewer.")
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
