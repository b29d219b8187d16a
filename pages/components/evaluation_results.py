"""Results of an evaluation: verdict, scores, leaderboard, charts and downloads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from m2v_core.evaluation.encoders import EncoderFacts
from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.report import Sheet, frontier_sheet, leaderboard, leaderboard_sheet
from m2v_core.evaluation.run import Evaluation
from m2v_core.evaluation.speed import EncoderSpeed, SpeedComparison
from m2v_core.exploration.tables import write_csv
from m2v_core.storage.atomic import saving
from m2v_core.studio.jobs import Job
from pages import figures
from pages.components import Values, figure_box, html, job_store, on, shows_errors
from pages.components.evaluation_view import (
    conditions_html,
    enough_fidelity,
    few_text,
    fidelity_html,
    frontier_html,
    leaderboard_html,
    scores_html,
)
from pages.components.job_panel import JobPanel, find_job
from pages.components.served_files import serve
from pages.html import escape

_QUALITY = {True: "mean score on your test data", False: "fidelity x 100"}


def build_evaluation_results(panel: JobPanel) -> None:
    """Add the results to the current Blocks context, and connect them."""
    shown: dict[str, Any] = {}
    with gr.Column(visible=False, elem_classes="m2v-measured") as shown["measured"]:
        shown["fidelity"], shown["scores"] = html(visible=False), html(visible=False)
        with gr.Column(visible=False, elem_classes="m2v-card m2v-board") as shown["board"]:
            shown["table"] = html()
            with gr.Row(elem_classes="m2v-downloads"):
                shown["as_csv"] = gr.DownloadButton("Download CSV", size="sm")
                shown["as_markdown"] = gr.DownloadButton("Download Markdown", size="sm")
        with gr.Row(elem_classes="m2v-columns m2v-figures"):
            with gr.Column(elem_classes="m2v-card", visible=False) as shown["bubbles_box"]:
                shown["bubbles"] = figure_box()
            with gr.Column(elem_classes="m2v-card", visible=False) as shown["frontier_figure_box"]:
                shown["frontier_plot"] = figure_box()
        with gr.Column(visible=False, elem_classes="m2v-card m2v-board") as shown["frontier_box"]:
            shown["frontier"] = html()
            with gr.Row(elem_classes="m2v-downloads"):
                shown["frontier_csv"] = gr.DownloadButton("Download CSV", size="sm")
        shown["conditions"] = html()
    on(panel.done_id.change, show, [panel.owner, panel.done_id], shown)


def _nothing(message: str = "") -> Values:
    hidden = ("fidelity", "scores", "board", "bubbles_box", "frontier_figure_box", "frontier_box")
    return {
        "measured": gr.Column(visible=bool(message)),
        **{name: gr.update(visible=False) for name in hidden},
        "conditions": message,
    }


@shows_errors("This evaluation can't be shown", _nothing)
def show(owner: str | None, job_id: str) -> Values:
    """Show a finished evaluation; see `build_evaluation_results`."""
    job = find_job(owner, job_id)
    if job is None or job.state != "done":
        return _nothing()
    outcome = job.outcome
    first = str(job.parameters["models"][0]["name"])
    fidelity, evaluation = enough_fidelity(outcome), None
    shown: Values = {"measured": gr.Column(visible=True), "board": gr.Column(visible=False)}
    if outcome["evaluation"]:
        evaluation = Evaluation.from_json(outcome["evaluation"])
        rows = list(leaderboard(evaluation, with_published=True))
        shown["board"] = gr.Column(visible=True)
        shown["table"] = leaderboard_html(rows, evaluation)
        shown["as_csv"], shown["as_markdown"] = write_board(leaderboard_sheet(rows))
    quality = _QUALITY[evaluation is not None]
    versions = [FrontierRow(**row) for row in outcome["frontier"] or []]
    few = few_text(evaluation) if evaluation else next(iter((fidelity or {"": {"warning": ""}}).values()))["warning"]
    # Without enough data, or without intervals (earlier versions), no version can be marked as best of its size.
    versions = [replace(row, is_best=row.is_best and not few and row.low is not None) for row in versions]
    if versions:
        shown["frontier_plot"] = figures.frontier_figure(versions, quality)
        shown["frontier"] = frontier_html(versions, quality, str(outcome["dtype"]), few or "")
        shown["frontier_csv"] = write_frontier(frontier_sheet(versions))
    bubbles = _bubbles(owner or "", job, evaluation)
    has_bubbles = bubbles is not None and not (evaluation and few)
    teacher, texts_name = str(outcome["teacher"]), str(outcome["texts_name"])
    return shown | {
        "fidelity": _html(fidelity_html(fidelity, teacher, texts_name) if fidelity else ""),
        "scores": _html(scores_html(evaluation, first) if evaluation else ""),
        "bubbles_box": gr.Column(visible=has_bubbles),
        "bubbles": bubbles if has_bubbles else None,
        "frontier_figure_box": gr.Column(visible=bool(versions)),
        "frontier_box": gr.Column(visible=bool(versions)),
        "conditions": conditions_html(outcome, has_speed=bubbles is not None),
    }


def _html(content: str) -> Any:
    return gr.HTML(content, visible=bool(content))


def _bubbles(owner: str, job: Job, evaluation: Evaluation | None) -> Any:
    """Plot speed versus quality, if the speed of at least two of these encoders was measured on Compare."""
    encoders = [EncoderFacts(**facts) for facts in job.outcome["encoders"]]
    speeds = measured_speeds(owner, job)
    if evaluation is not None:
        quality = {row.name: row.average for row in leaderboard(evaluation) if row.average is not None}
    elif fidelity := enough_fidelity(job.outcome):
        quality = {name: float(one["correlation"]["value"]) for name, one in fidelity.items()}
        quality |= {facts.name: 1.0 for facts in encoders if facts.role == "teacher"}  # by definition
    else:
        return None
    if sum(facts.name in speeds and facts.name in quality for facts in encoders) < 2:
        return None
    return figures.quality_bubbles(encoders, quality, speeds, is_fidelity=evaluation is None)


def measured_speeds(owner: str, job: Job) -> dict[str, EncoderSpeed]:
    """Return the speed of each encoder of an evaluation, from its newest measurement on Compare."""
    names = {model["path"]: model["name"] for model in job.parameters["models"]}
    teacher = job.parameters.get("teacher")
    speeds: dict[str, EncoderSpeed] = {}
    for other in job_store().list_jobs(owner):
        if other.kind != "speed" or other.state != "done":
            continue
        called = {model["name"]: names[model["path"]] for model in other.parameters["models"] if model["path"] in names}
        if teacher and other.parameters.get("teacher") == teacher:
            called[teacher] = teacher
        for speed in SpeedComparison.from_json(other.outcome).encoders:
            if speed.facts.name in called:
                speeds.setdefault(called[speed.facts.name], speed)
    return speeds


def write_board(sheet: Sheet) -> tuple[Any, Any]:
    """Write the leaderboard as CSV and Markdown for download.

    Raises:
        SaveError: A file can't be written.
    """
    escaped = replace(sheet, rows=tuple((str(escape(name)), *cells) for name, *cells in sheet.rows))

    def write_markdown(path: Path) -> None:
        with saving("The leaderboard"):
            path.write_text(escaped.to_markdown(), encoding="utf-8")

    numbers = [[name, origin, *(float(cell) if cell else "" for cell in cells)] for name, origin, *cells in sheet.rows]
    table = serve("leaderboard.csv", lambda path: write_csv(path, sheet.headings, numbers))
    text = serve("leaderboard.md", write_markdown)
    return gr.DownloadButton(value=str(table)), gr.DownloadButton(value=str(text))


def write_frontier(sheet: Sheet) -> Any:
    """Write the frontier as CSV for download.

    Raises:
        SaveError: The file can't be written.
    """
    rows = [[_number(cell) for cell in row] for row in sheet.rows]
    return gr.DownloadButton(value=str(serve("versions.csv", lambda path: write_csv(path, sheet.headings, rows))))


def _number(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
