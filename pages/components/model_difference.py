"""Two models compared: their facts, and the words whose neighbors changed most."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import gradio as gr

from m2v_core.evaluation.evidence import NOT_MEASURED, is_above
from m2v_core.evaluation.fidelity import with_interval
from m2v_core.evaluation.speed import rate_text
from m2v_core.evaluation.statistics import Estimate
from m2v_core.exploration.differences import NeighborChanges, neighbor_changes
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.studio.jobs import Job
from m2v_core.studio.library import ModelRecord
from pages.components import Values, format_bytes, html, job_store, known_owner, message_box, on, shows_errors
from pages.components.model_facts import recipe_text
from pages.components.model_picker import model_library, picked_words
from pages.components.model_table import ticked_rows
from pages.components.result_card import measured_quality, measured_speed
from pages.components.waiting import following
from pages.html import Markup, render


def build_model_difference(owner: gr.BrowserState, table: gr.HTML) -> None:
    """Add the panel to the current Blocks context; it is visible while two models of the table are ticked."""
    with gr.Column(visible=False, elem_classes="m2v-card m2v-difference") as panel:
        facts, message, words = html(), message_box(), html()
    shown = {"panel": panel, "facts": facts, "message": message, "words": words}
    # Every event is handled: with `latest`, Gradio can lose the second of two nearly simultaneous ticks.
    on(table.select, compare_ticked, [owner, table], shown, trigger_mode="multiple")


def compare_ticked(owner: str | None, value: object) -> Iterator[Values]:
    """Yield the values of the panel after a model was ticked or unticked."""
    ids = ticked_rows(value)
    if len(set(ids)) == len(ids) == 2:
        yield from compare_models(owner, ids)
    else:
        yield {"panel": gr.Column(visible=False), "facts": "", "message": "", "words": ""}


@shows_errors("These models can't be compared", lambda message: {"panel": gr.Column(visible=True), "message": message})
def compare_models(owner: str | None, ids: Sequence[str]) -> Iterator[Values]:
    """Yield the facts of two models, the progress, and then the words whose neighbors changed most."""
    owner = known_owner(owner)
    yield {"facts": "", "words": "", "message": ""}
    records = [model_library().get(model_id, owner) for model_id in ids]
    yield {"panel": gr.Column(visible=True), "facts": _facts_html(records, job_store().list_jobs(owner))}
    changes = yield from following(
        lambda: _changes(*(picked_words(owner, model_id) for model_id in ids)),
        "Comparing the neighbors of words",
        "comparison of models",
        lambda sign: {"message": sign},
    )
    yield {"message": "", "words": _words_html(changes, [record.name for record in records])}


@functools.lru_cache(maxsize=2)  # a renamed model is compared again
def _changes(first: WordNeighbors, second: WordNeighbors) -> NeighborChanges:
    return neighbor_changes(first, second)


def _facts_html(records: Sequence[ModelRecord], jobs: Sequence[Job]) -> Markup:
    outcomes = {job.id: job.outcome for job in jobs}
    measured = [outcomes.get(record.id, {}) for record in records]
    rates = [measured_speed(outcome) for outcome in measured]
    qualities = [measured_quality(outcome) for outcome in measured]
    teachers = [record.teacher for record in records]
    # Each model is measured against its own teacher.
    is_comparable = None not in teachers and teachers[0] == teachers[1]
    is_better = is_comparable and _is_any_above(*qualities)
    facts = {
        "Size": [format_bytes(record.n_bytes) for record in records],
        "Tokens": [f"{record.n_tokens:,}" for record in records],
        "Dimensions": [f"{record.dim:,}" for record in records],
        "Precision": [record.dtype for record in records],
        "Teacher": [teacher or "Not stated" for teacher in teachers],
        "Recipe": [recipe_text(record) or "Not stated" for record in records],
        "Speed": [NOT_MEASURED if rate is None else f"{rate_text(rate)} sentences/s" for rate in rates],
        "Quality": [NOT_MEASURED if quality is None else with_interval(quality) for quality in qualities],
    }
    differs = {name: is_better if name == "Quality" else values[0] != values[1] for name, values in facts.items()}
    notes = []
    if None not in rates:
        notes.append("Speeds are from two runs, so small differences can be due to chance.")
    if None not in qualities and not is_comparable:
        notes.append("Quality can't be compared, because each model was compared with its own teacher.")
    elif None not in qualities and not is_better:
        notes.append("The intervals of quality overlap, so neither model is better by this measure.")
    return render(
        "model_difference.html", names=[record.name for record in records], facts=facts, differs=differs, notes=notes
    )


def _is_any_above(one: Estimate | None, other: Estimate | None) -> bool:
    return one is not None and other is not None and (is_above(one, other) or is_above(other, one))


def _words_html(changes: NeighborChanges, names: Sequence[str]) -> Markup:
    mean, n_common = changes.n_neighbors * changes.mean_overlap, f"{changes.n_common:,}"
    which = "all" if changes.n_compared == changes.n_common else f"the {changes.n_compared:,} most frequent of the"
    sentences = [
        f"On average, {mean:.1f} of a word's {changes.n_neighbors} nearest neighbors are the same in both models.",
        f"This compares {which} {n_common} words in both vocabularies. Shared neighbors are bold.",
    ]
    return render("changed_words.html", changes=changes, names=names, sentences=sentences)
