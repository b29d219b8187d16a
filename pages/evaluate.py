"""Evaluate: the quality of models, by their fidelity to the teacher and on test data."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from m2v_core.errors import InputError, LimitError, NotFoundError
from m2v_core.evaluation.data import LAYOUT
from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS, has_enough_texts
from m2v_core.evaluation.own_data import OwnSet, read_own_set
from m2v_core.evaluation.packed import TaskArchive, read_archive
from m2v_core.evaluation.tasks import Task
from m2v_core.studio.jobs import JobSpec
from m2v_core.studio.library import ModelRecord
from m2v_core.studio.space.settings import current_limits
from pages.components import (
    BUNDLED_TEACHER,
    checked_teacher,
    html,
    job_store,
    known_owner,
    message_box,
    notice,
    on,
    page_head,
    shows_errors,
    teacher_picker,
    upload_box,
)
from pages.components.evaluation_results import build_evaluation_results
from pages.components.job_panel import build_job_panel
from pages.components.model_picker import build_model_picker, choice_label, model_library
from pages.components.own_texts import TextSource, build_texts_form, read_texts
from pages.html import render

_SET_SUFFIXES = [".csv", ".tsv", ".txt", ".jsonl", ".zip"]
_MAX_FILES = 20
_MAX_SHOWN = 8
_TEACHER = "its teacher"
_PEERS = {"tfidf": "TF-IDF baseline: weighted word counts", "wordllama": "WL256 from the package wordllama"}
_WHAT = [
    ("Fidelity to the teacher\nAgreement of similarity rankings on your texts, without labels.", "fidelity"),
    ("My test data\nScores on your own text pairs with scores, or texts with labels.", "tasks"),
    ("Smaller versions\nQuality with fewer dimensions and lower precision.", "frontier"),
]
_SHARED_ROWS = [("None", 0), ("500 rows", 500), ("1,000 rows", 1000), ("4,000 rows", 4000)]


def build() -> None:
    """Build the page in the current Blocks context."""
    page_head(
        "Evaluate",
        "Measure the quality of a model: its fidelity to the teacher on texts without labels, or its scores on your "
        "labeled test data compared with other models.",
    )
    with gr.Row(elem_classes="m2v-columns"):
        with gr.Column(scale=7, elem_classes="m2v-form"):
            form = gr.Column(elem_classes="m2v-card")
            settings = gr.Column(elem_classes="m2v-card")
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            panel = build_job_panel("Evaluate", kind="evaluate")
    with form:
        picker = build_model_picker(panel.owner)
        what = gr.CheckboxGroup(_WHAT, value=["fidelity"], label="What to measure", elem_classes="m2v-choices")
        teacher = teacher_picker()
    with settings:
        with gr.Column(elem_classes="m2v-words") as texts_box:
            info = f"Use at least {MIN_FIDELITY_TEXTS} texts from your domain."
            texts = build_texts_form(load_texts, "Texts for fidelity", "One text per line", info=info)
        with gr.Column(visible=False, elem_classes="m2v-words m2v-sets") as sets_box:
            sets = upload_box(
                "Test data: CSV, TSV or JSONL with score, text, text or label, text; or a ZIP of tasks",
                file_count="multiple",
                file_types=_SET_SUFFIXES,
                height=140,
            )
            sets_report = message_box()
            with gr.Accordion("Structure of a ZIP of tasks", open=False, elem_classes="m2v-more"):
                html(render("task_layout.html", layout=LAYOUT))
        with gr.Column(visible=False, elem_classes="m2v-words") as frontier_box:
            shared_rows = gr.Dropdown(
                _SHARED_ROWS,
                value=0,
                label="Vocabulary quantization",
                info="Also evaluates versions with this many shared rows, which takes a minute or more.",
            )
        beside = gr.CheckboxGroup(
            _other_choices([]), value=[_TEACHER, "tfidf"], label="Compare with", elem_classes="m2v-beside-it"
        )
    build_evaluation_results(panel)

    panel.connect(submit, [picker.model_id, what, teacher, beside, *texts, sets, shared_rows])
    on(picker.model_id.change, offer, [panel.owner, picker.model_id, beside], [beside, teacher])
    on(
        what.change,
        lambda chosen: [
            # Without test data, smaller versions are evaluated by fidelity.
            gr.Column(visible="fidelity" in chosen or ("frontier" in chosen and "tasks" not in chosen)),
            gr.Column(visible="tasks" in chosen),
            gr.Column(visible="frontier" in chosen),
        ],
        what,
        [texts_box, sets_box, frontier_box],
    )
    on([sets.upload, sets.clear, sets.delete], check_sets, sets, sets_report, latest=True)


def offer(owner: str | None, model_id: str | None, beside: Sequence[str]) -> tuple[Any, Any]:
    """Update the choices of other encoders and the teacher for a newly selected model."""
    records = model_library().contents(known_owner(owner)).offered
    choices = _other_choices([record for record in records if record.id != model_id])
    known = {value for _, value in choices}
    boxes = gr.CheckboxGroup(choices=choices, value=[value for value in beside if value in known])
    picked = next((record for record in records if record.id == model_id), None)
    return boxes, (picked.teacher or BUNDLED_TEACHER) if picked else gr.skip()


def _other_choices(others: Sequence[ModelRecord]) -> list[tuple[str, str]]:
    peers = [(label, name) for name, label in _PEERS.items() if name == "tfidf" or importlib.util.find_spec(name)]
    return [
        *((choice_label(record), record.id) for record in others),
        ("Teacher (on the test data)", _TEACHER),
        *peers,
    ]


def submit(
    owner: str,
    model_id: str | None,
    what: Sequence[str],
    teacher: str | None,
    beside: Sequence[str],
    source: TextSource,
    own_texts: str,
    upload: str | None,
    column: str | None,
    sets: Sequence[str] | None,
    shared_rows: int,
) -> str:
    """Submit an evaluation of the selected model, and return the job's id.

    Raises:
        M2VError: No model, measurement or teacher is selected, texts are missing or invalid, or the queue is full.
    """
    records = _chosen_models(owner, model_id, beside)
    if not set(what) & {"fidelity", "tasks", "frontier"}:
        raise InputError("Nothing is selected. Select at least one option under “What to measure”.")
    data = read_sets(sets) if "tasks" in what else []
    needs_teacher = "fidelity" in what or not data
    lines = {
        "sets": [line for one in data if isinstance(one, OwnSet) for line in one.to_lines()],
        "archives": [one.to_line() for one in data if isinstance(one, TaskArchive)],
    }
    lines = {name: part for name, part in lines.items() if part}
    if needs_teacher and source != "sample":
        lines["texts"] = load_texts(source, own_texts, upload, column)
    scores_teacher = bool(data) and _TEACHER in beside
    parameters: dict[str, Any] = {
        "models": [{"name": record.name, "path": str(model_library().folder(record.id, owner))} for record in records],
        "peers": [name for name in _PEERS if name in beside],
        "teacher": checked_teacher(teacher) if needs_teacher or scores_teacher else None,
        "scores_teacher": scores_teacher,
        "with_fidelity": "fidelity" in what,
        "with_tasks": bool(data),
        "with_frontier": "frontier" in what,
        "shared_rows": shared_rows if shared_rows in {number for _, number in _SHARED_ROWS} else 0,
    }
    return job_store().submit(JobSpec("evaluate", parameters, lines, f"quality of {records[0].name}"), owner)


def _chosen_models(owner: str, model_id: str | None, beside: Sequence[str]) -> list[ModelRecord]:
    """Return the selected model and the other models to compare with."""
    records = {record.id: record for record in model_library().contents(owner).offered}
    if not isinstance(model_id, str) or model_id not in records:
        raise NotFoundError("No model is selected. Select one, or distill one first.")
    chosen = [records.pop(model_id), *(record for key, record in records.items() if key in beside and key != model_id)]
    allowed = current_limits().evaluation_models
    if len(chosen) > allowed:
        raise LimitError(f"{len(chosen)} models are selected; the limit here is {allowed}. Deselect some.")
    return chosen


def read_sets(files: Sequence[str] | None) -> list[OwnSet | TaskArchive]:
    """Parse and validate uploaded test data: tables and ZIPs of tasks.

    Raises:
        M2VError: There are no files, too many or too large ones, or one is invalid.
    """
    if not files:
        raise InputError(
            "There is no test data. Upload a CSV, TSV or JSONL table in which each line has a score and two texts or a "
            "label and a text, or a ZIP of tasks; or deselect “My test data”."
        )
    files = [files] if isinstance(files, str) else list(files)
    if len(files) > _MAX_FILES:
        raise LimitError(f"{len(files)} files were uploaded; the limit is {_MAX_FILES}. Remove some.")
    found: list[OwnSet | TaskArchive] = []
    n_texts, allowed = 0, current_limits().evaluation_texts
    for file in files:
        one = read_archive(file) if Path(file).suffix.lower() == ".zip" else read_own_set(file)
        name, number = Path(file).stem, 2
        while one.name in {other.name for other in found}:
            one, number = replace(one, name=f"{name[:50]} ({number})"), number + 1
        for task in _tasks(one):  # raises if it is invalid
            n_texts += len(task.texts)
            _check_lengths(task.texts)
        if n_texts > allowed:
            raise LimitError(f"The test data has {n_texts:,} texts; the limit here is {allowed:,}. Upload fewer.")
        found.append(one)
    return found


def _tasks(one: OwnSet | TaskArchive) -> Sequence[Task]:
    return one.tasks() if isinstance(one, TaskArchive) else [one.task()]


def load_texts(source: TextSource, own_texts: str, upload: str | None, column: str | None = None) -> list[str]:
    """Call `read_texts`, and validate the texts.

    Raises:
        M2VError: The file is missing or invalid, or there are too few, too many or too long texts.
    """
    texts = read_texts(source, own_texts, upload, column, current_limits().evaluation_texts)
    _check_lengths(texts)
    if not has_enough_texts(len(texts)):
        raise InputError(
            f"Fidelity requires at least {MIN_FIDELITY_TEXTS} distinct texts; there are {len(texts)}. Add more, or "
            "choose the bundled sample."
        )
    return texts


def _check_lengths(texts: Iterable[str]) -> None:
    allowed = current_limits().text_characters
    longest = max(map(len, texts), default=0)
    if longest > allowed:
        raise LimitError(f"A text has {longest:,} characters; the limit here is {allowed:,}. Shorten it.")


@shows_errors("This file can't be used")
def check_sets(sets: Sequence[str] | None) -> str:
    """Validate new test data, and return a message."""
    if not sets:
        return ""
    lines = []
    for one in read_sets(sets):
        if isinstance(one, OwnSet):
            lines.append(f"{one.name}: {' '.join(filter(None, [one.summary, one.warning]))}")
        else:
            lines += [f"{task.name}: {len(task.texts):,} texts, scored by {task.metric}" for task in one.tasks()]
            lines += one.warnings
    ready = "1 set ready" if len(lines) == 1 else f"{len(lines)} sets ready"
    more = [f"and {len(lines) - _MAX_SHOWN} more"] if len(lines) > _MAX_SHOWN else []
    return notice("good", ready, [*lines[:_MAX_SHOWN], *more])
