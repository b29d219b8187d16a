"""Compare: how fast models are, side by side with their teacher, on the machine that runs this app."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import gradio as gr
from gradio.context import Context

from m2v_core.errors import InputError
from m2v_core.jobs import JobSpec
from m2v_core.speed import DEFAULT_ROUNDS, DEFAULT_SECONDS, EncoderSpeed, SpeedComparison, rate_text
from pages import figures
from pages.components import (
    BUNDLED_TEACHER,
    checked_teacher,
    error_notice,
    format_bytes,
    job_store,
    known_owner,
    teacher_picker,
)
from pages.components.job_panel import build_job_panel, find_job
from pages.components.model_picker import model_library

TextSource = Literal["sample", "own"]

_MAX_MODELS = 6
_MAX_TEXTS = 100_000


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
                    [("Sentences that come along", "sample"), ("My own texts", "own")],
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
                with gr.Row():
                    rounds = gr.Slider(3, 15, DEFAULT_ROUNDS, step=1, label="Rounds", info="Each with other texts.")
                    seconds = gr.Slider(
                        5, 120, DEFAULT_SECONDS, step=5, label="Seconds for each", info="Slow ones read less."
                    )
                with_peer = gr.Checkbox(False, label="Run each model in the model2vec package too")
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            panel = build_job_panel("Measure", kind="speed")
    with gr.Column(visible=False, elem_classes="m2v-measured") as measured:
        with gr.Row(elem_classes="m2v-columns m2v-figures"):
            with gr.Column(elem_classes="m2v-card"):
                bars = gr.Plot(show_label=False, container=False, elem_classes="m2v-figure")
            with gr.Column(elem_classes="m2v-card"):
                bubbles = gr.Plot(show_label=False, container=False, elem_classes="m2v-figure")
        numbers = gr.HTML("", apply_default_css=False)

    panel.connect(submit, [models, with_teacher, teacher, source, own_texts, rounds, seconds, with_peer])
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page = Context.root_block
    assert page is not None  # components can't be made outside one
    page.load(offer, panel.owner, [panel.owner, models, empty, teacher], **quiet)
    models.input(their_teacher, [panel.owner, models], teacher, **quiet)
    with_teacher.change(lambda is_on: gr.Dropdown(visible=is_on), with_teacher, teacher, **quiet)
    source.change(lambda chosen: gr.Textbox(visible=chosen == "own"), source, own_texts, **quiet)
    panel.done_id.change(show, [panel.owner, panel.done_id], [measured, bars, bubbles, numbers], **quiet)


@dataclass(frozen=True)
class MeasurableModel:
    """A model that can be measured.

    Attributes:
        id: What the page calls it by.
        name: What people call it.
        details: Its dimensions and precision, which tell it from others of that name.
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
    library = model_library()
    return [
        MeasurableModel(
            id=record.id,
            name=record.name,
            details=f"{record.dim:,} dim {record.dtype}",
            n_tokens=record.n_tokens,
            folder=str(library.folder(record.id, owner)),
            teacher=record.teacher or BUNDLED_TEACHER,
        )
        for record in library.list_models(owner)
    ]


def offer(owner: str | None) -> list[Any]:
    """What the page shows when it opens: owner, the models, what to do without any, the newest one's teacher."""
    owner = known_owner(owner)
    offered = measurable_models(owner)
    boxes = gr.CheckboxGroup(
        choices=[(f"{model.name}\n{model.details} · {model.n_tokens:,} tokens", model.id) for model in offered],
        value=[model.id for model in offered[:1]],
        visible=bool(offered),
    )
    return [owner, boxes, "" if offered else _EMPTY, offered[0].teacher if offered else BUNDLED_TEACHER]


def their_teacher(owner: str | None, chosen: Sequence[str]) -> Any:
    """The teacher of the first model that is chosen."""
    found = [model.teacher for model in measurable_models(known_owner(owner)) if model.id in chosen]
    return found[0] if found else gr.skip()


def submit(
    owner: str,
    chosen: Sequence[str],
    with_teacher: bool,
    teacher: str | None,
    source: TextSource,
    own_texts: str,
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
    if len(models) > _MAX_MODELS:
        raise InputError(f"{len(models)} models are chosen; {_MAX_MODELS} can be measured at once. Untick some.")
    parameters: dict[str, Any] = {
        "models": [
            {"name": name, "path": model.folder} for name, model in zip(unique_names(models), models, strict=True)
        ],
        "teacher": checked_teacher(teacher) if with_teacher else None,
        "with_peer": with_peer,
        "rounds": int(rounds),
        "seconds": float(seconds),
    }
    texts = {"texts": parse_texts(own_texts, int(rounds))} if source == "own" else {}
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


def parse_texts(pasted: str, rounds: int) -> list[str]:
    """The pasted texts, one a line, without blank ones and repetitions.

    Raises:
        InputError: They are too few for the rounds, or too many.
    """
    texts = list(dict.fromkeys(line.strip() for line in (pasted or "").splitlines() if line.strip()))
    if len(texts) <= rounds:
        raise InputError(
            f"{len(texts)} different texts are too few for {rounds} rounds, which never read a text twice. "
            "Paste some hundreds, or choose the sentences that come along."
        )
    if len(texts) > _MAX_TEXTS:
        raise InputError(f"{len(texts):,} texts are more than the {_MAX_TEXTS:,} that are read here. Paste fewer.")
    return texts


def show(owner: str | None, job_id: str) -> list[Any]:
    """What the page shows of a finished measurement: whether at all, bars, bubbles, numbers."""
    job = find_job(owner, job_id)
    if job is None or job.state != "done":
        return [gr.Column(visible=False), None, None, ""]
    try:
        comparison = SpeedComparison.from_json(job.outcome)
        return [
            gr.Column(visible=True),
            figures.speed_bars(comparison),
            figures.speed_bubbles(comparison),
            numbers_html(comparison),
        ]
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return [gr.Column(visible=True), None, None, error_notice(error, "This measurement can't be shown")]


def numbers_html(comparison: SpeedComparison) -> str:
    """All that was measured and how, as a table and a few sentences."""
    by_speed = sorted(comparison.encoders, key=lambda speed: -speed.sentences_per_second)
    rows = "".join(_row(speed, comparison) for speed in by_speed)
    headings = (
        "Encoder",
        "Sentences a second",
        "Slowest to fastest round",
        "Against teacher",
        "Fidelity",
        "On disk",
        "Runs on",
    )
    return (
        f'<section class="m2v-card m2v-numbers"><div class="m2v-headline">{_headline(comparison)}</div>'
        '<div class="m2v-table" tabindex="0" role="region" aria-label="Measured speeds"><table><thead><tr>'
        + "".join(f'<th scope="col">{heading}</th>' for heading in headings)
        + f"</tr></thead><tbody>{rows}</tbody></table></div>{_conditions(comparison)}</section>"
    )


def _headline(comparison: SpeedComparison) -> str:
    teacher = comparison.teacher
    static = [speed for speed in comparison.encoders if speed.facts.role == "static"]
    if teacher is None or not static:
        return "<h2>What was measured</h2>"
    best = max(static, key=lambda speed: speed.sentences_per_second)
    than = escape(teacher.facts.name.rpartition("/")[2])
    how = ", whose speed is extrapolated" if teacher.is_extrapolated else ""
    return f"<h2>{escape(best.facts.name)} reads {_ratio(best, teacher)} as fast as {than}{how}</h2>"


def _ratio(speed: EncoderSpeed, teacher: EncoderSpeed) -> str:
    ratio = speed.sentences_per_second / teacher.sentences_per_second
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def _row(speed: EncoderSpeed, comparison: SpeedComparison) -> str:
    facts, teacher = speed.facts, comparison.teacher
    mark = ' <span class="m2v-tag">extrapolated</span>' if speed.is_extrapolated else ""
    cells = [
        f"{rate_text(speed.sentences_per_second)}{mark}",
        f"{rate_text(speed.slowest)} to {rate_text(speed.fastest)}",
        "-" if teacher is None else "1" if facts.role == "teacher" else _ratio(speed, teacher),
        "-" if speed.fidelity is None else f"{speed.fidelity:.3f}",
        "-" if facts.size_bytes is None else format_bytes(facts.size_bytes),
        f"{escape(facts.device)}, {facts.n_threads} thread{'' if facts.n_threads == 1 else 's'}",
    ]
    return f'<tr><th scope="row">{escape(facts.name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _conditions(comparison: SpeedComparison) -> str:
    machine = comparison.machine
    sentences = [
        f"Median of {comparison.rounds} rounds after a warm-up. In each round every encoder in turn reads the same "
        f"{comparison.texts_per_round:,} texts, which no other round reads; the time covers tokenizing. "
        f"Texts: {comparison.texts_name}, {comparison.mean_characters:.0f} characters on average.",
        f"Measured on {machine.processor}, {machine.n_cpus} CPUs, {machine.system}, Python {machine.python}, "
        "with whatever else ran there.",
    ]
    sentences += [
        f"Extrapolated: {speed.facts.name} read {speed.texts_per_round:,} of the {comparison.texts_per_round:,} texts "
        f"of each round in its {comparison.seconds:g} seconds; its speed is that of the texts it read."
        for speed in comparison.encoders
        if speed.is_extrapolated
    ]
    if comparison.judged_texts:
        sentences.append(
            "Fidelity: rank correlation with the teacher's similarities of all pairs of "
            f"{comparison.judged_texts} texts."
        )
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


_EMPTY = (
    '<div class="m2v-notice m2v-info" role="status"><strong>No model to measure yet</strong>'
    '<p class="m2v-next"><a href="distill">Distill your first one</a>, then come back.</p></div>'
)
