"""The panel that follows a run: its progress, its Cancel button, and what came out."""

from __future__ import annotations

import functools
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.context import Context

from m2v_core.errors import NotFoundError, SaveError
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.jobs import Job, JobSpec, Stage
from m2v_core.jobs.kinds import DESTINATION
from m2v_core.model import StaticModel
from m2v_core.persistence.export import write_zip
from pages.components import (
    data_folder,
    error_notice,
    format_bytes,
    format_seconds,
    job_store,
    known_owner,
    owner_state,
)
from pages.components.account import Visitor, permitted, secrets_of, visitor
from pages.components.model_picker import model_library
from pages.components.result_card import result_html


@dataclass(frozen=True)
class _Look:
    """How one kind of job is shown.

    Attributes:
        stages: Every stage, what people call it, and its usual share of the whole time.
        counted: The stage whose units are shown.
        unit: What these units are.
        loss: What a failure means.
    """

    stages: Mapping[str, tuple[str, float]]
    counted: str
    unit: str
    loss: str


_PUBLISHING = {
    "check": ("Open it as others will", 0.30),
    "connect": ("Find the repository", 0.10),
    "upload": ("Upload", 0.40),
    "verify": ("Fetch it again to compare", 0.15),
}
_LOOKS: Mapping[str, _Look] = {
    "distill": _Look(
        {
            "start": ("Start up", 0.05),
            "load": ("Load the teacher", 0.20),
            "encode": ("Read the vocabulary", 0.60),
            "reduce": ("Reduce dimensions", 0.08),
            "finish": ("Weight and quantize", 0.03),
            "save": ("Save the model", 0.04),
        },
        "encode",
        "tokens",
        "Nothing was saved.",
    ),
    "speed": _Look(
        {
            "start": ("Start up", 0.05),
            "load": ("Load the encoders", 0.30),
            "warm": ("Warm up", 0.10),
            "measure": ("Measure in turn", 0.55),
        },
        "measure",
        "turns",
        "Nothing was measured.",
    ),
    "evaluate": _Look(
        {
            "start": ("Start up", 0.05),
            "load": ("Load the encoders", 0.20),
            "fidelity": ("Compare with the teacher", 0.35),
            "tasks": ("Score on the test data", 0.20),
            "frontier": ("Try smaller versions", 0.20),
        },
        "fidelity",
        "texts",
        "Nothing was measured.",
    ),
    "publish": _Look(
        {"start": ("Start up", 0.05), **_PUBLISHING}, "upload", "bytes", "The model is still in your library."
    ),
}
ONE_CLICK = "one click"
"""The kind of a panel that follows a distillation, the upload that belongs to it, and a second try of that."""
_CALIBRATING = {"read": ("Read sentences", 0.90), "calibrate": ("Calibrate", 0.20)}
"""Comes between `reduce` and `finish`; the sentences take longer than all else."""
_MEASURE = {"measure": ("Measure", 0.15)}
_TICK_SECONDS = 0.5
_SERVED_SECONDS = 24 * 3600.0

Components = Sequence[gr.components.Component]


def _look_of(job: Job) -> _Look:
    """How this very job is shown: a distillation may go on to measure and to publish."""
    look = _LOOKS[job.kind]
    if job.kind == "evaluate":
        return _evaluation_look(look, job)
    if job.parameters.get("recipe") == "calibrated":
        *before, finish, save = look.stages.items()
        stages = dict([*before, *_CALIBRATING.items(), finish, save])
        whole = sum(share for _, share in stages.values())
        look = replace(look, stages={name: (label, share / whole) for name, (label, share) in stages.items()})
    more = {
        **(_MEASURE if job.parameters.get("measure") else {}),
        **(_PUBLISHING if job.kind == "distill" and job.parameters.get("publish") else {}),
    }
    if not more:
        return look
    shares = {name: (label, 0.6 * share) for name, (label, share) in look.stages.items()}
    scale = 0.4 / sum(share for _, share in more.values())
    shares |= {name: (label, scale * share) for name, (label, share) in more.items()}
    # The tokens are what there is to count until there are bytes.
    if any(stage.name == "upload" for stage in job.stages):
        return replace(look, stages=shares, counted="upload", unit="bytes")
    return replace(look, stages=shares)


def _evaluation_look(look: _Look, job: Job) -> _Look:
    """An evaluation with the stages that were asked for, and the count of the one that is going on."""
    left_out = {
        stage
        for stage, asked in (
            ("fidelity", job.parameters.get("with_fidelity")),
            ("tasks", job.parameters.get("with_tasks")),
            ("frontier", job.parameters.get("with_frontier")),
        )
        if not asked
    }
    kept = {name: entry for name, entry in look.stages.items() if name not in left_out}
    whole = sum(share for _, share in kept.values())
    counted = job.stages[-1].name if job.stages and job.stages[-1].total else look.counted
    return replace(
        look,
        stages={name: (label, share / whole) for name, (label, share) in kept.items()},
        counted=counted,
        unit="versions" if counted == "frontier" else "texts",
    )


def is_unpublished(job: Job) -> bool:
    """Whether a model was made that should have been published too, and was not."""
    return job.state == "done" and bool(job.parameters.get("publish")) and "published" not in job.outcome


def job_html(job: Job | None, kind: str = "distill") -> str:
    """The run as HTML: title, bar, numbers, stages; as high in every state, so that nothing jumps."""
    if job is None:
        return _panel(
            _LOOKS["distill" if kind == ONE_CLICK else kind],
            "idle",
            "Ready",
            "No run yet",
            (),
            _Numbers("Press the button, and this follows:"),
        )
    look = _look_of(job)
    stages = all_stages(job)
    if job.state == "queued":
        place = "Next in the queue" if job.queue_position == 1 else f"Number {job.queue_position} in the queue"
        return _panel(look, "queued", place, job.title, (), _Numbers("Waiting for a free place"))
    numbers = _numbers(look, job, stages)
    if job.state == "failed":
        return _panel(look, "failed", "Failed", job.title, stages, numbers) + _failure(look, job, stages)
    if kind == ONE_CLICK and is_unpublished(job):
        stages = (*stages[:-1], replace(stages[-1], is_finished=False))
        return _panel(look, "failed", "Made, but not published", job.title, stages, numbers) + _unpublished(job)
    if job.is_finished:
        return _panel(look, job.state, job.state.capitalize(), job.title, stages, numbers)
    headline = "Cancelling" if job.state == "cancelling" else _label(look, stages[-1])
    return _panel(look, "running", headline, job.title, stages, numbers)


@dataclass(frozen=True)
class _Numbers:
    elapsed: str = ""
    time_left: str = ""
    count: str = ""
    rate: str = ""


def _numbers(look: _Look, job: Job, stages: Sequence[Stage]) -> _Numbers:
    counted = next((stage for stage in stages if stage.name == look.counted and stage.total), None)
    count = rate = ""
    if counted is not None:
        count = f"{counted.done:,} of {counted.total:,} {look.unit}"
        if look.unit == "bytes":
            count = f"{format_bytes(counted.done)} of {format_bytes(counted.total)}"
    if counted is not None and look.unit == "tokens":  # nobody cares how many turns a second there are
        per_second = counted.done / counted.seconds if counted.seconds else 0.0
        if not counted.is_finished and job.progress is not None and job.progress.stage == look.counted:
            per_second = job.progress.rate  # that of the last batch: it does not sink while the next is under way
        rate = f"{per_second:,.0f} a second" if per_second else ""
    elapsed, time_left = format_seconds(job.elapsed_seconds), ""
    if job.is_finished:
        return _Numbers(f"{elapsed} in all", "", count, rate)
    if job.progress is not None and job.progress.eta_seconds:
        time_left = _time_left(job.progress.eta_seconds)
    return _Numbers(f"{elapsed} so far", time_left, count, rate)


def _label(look: _Look, stage: Stage) -> str:
    return look.stages[stage.name][0] if stage.name in look.stages else stage.name.capitalize()


def all_stages(job: Job) -> tuple[Stage, ...]:
    """The job's stages, with the start of its process, which the job itself can't time, before them."""
    in_stages = sum(stage.seconds for stage in job.stages)
    start_seconds = max(0.0, job.elapsed_seconds - in_stages)
    return (Stage("start", 0, 0, start_seconds, bool(job.stages) or job.state == "done"), *job.stages)


def overall_fraction(stages: Sequence[Stage], kind: str = "distill") -> float:
    """How much of a run is behind it, 0 to 1; it never falls while the run goes on."""
    shares = _LOOKS[kind].stages
    return _fraction(shares, stages)


def _fraction(shares: Mapping[str, tuple[str, float]], stages: Sequence[Stage]) -> float:
    fraction = 0.0
    for stage in stages:
        share = shares[stage.name][1] if stage.name in shares else 0.0
        if stage.is_finished:
            fraction += share
        elif stage.total:
            fraction += share * min(1.0, stage.done / stage.total)
    return min(fraction, 0.99)


def _time_left(eta_seconds: float) -> str:
    if eta_seconds < 60:
        return f"about {math.ceil(eta_seconds)} s left"
    return f"about {math.ceil(eta_seconds / 60)} min left"


def _panel(look: _Look, state: str, headline: str, title: str, stages: Sequence[Stage], numbers: _Numbers) -> str:
    fraction = 1.0 if state == "done" else _fraction(look.stages, stages)
    percent = math.floor(100 * fraction)
    # A stage that can't be counted shows that it is alive, and claims no more.
    is_counted = state != "running" or (stages and stages[-1].done > 0)
    busy = "" if is_counted else " data-busy"
    return (
        f'<section class="m2v-job" data-state="{state}" aria-label="Run">'
        f'<p class="m2v-job-title">{escape(title)}</p>'
        f'<div class="m2v-job-head"><h2 aria-live="polite">{escape(headline)}</h2>'
        f'<span class="m2v-number m2v-percent">{percent} %</span></div>'
        '<div class="m2v-bar" role="progressbar" aria-label="Progress of the run" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"{busy}>'
        f'<div style="width:{100 * fraction:.2f}%"></div></div>'
        '<p class="m2v-job-numbers m2v-number">'
        f"<span>{numbers.elapsed}</span><span>{numbers.time_left}</span>"
        f"<span>{numbers.count}</span><span>{numbers.rate}</span></p>"
        f"{_stage_list(look, stages, state)}</section>"
    )


def _stage_list(look: _Look, stages: Sequence[Stage], state: str) -> str:
    reached = {stage.name: stage for stage in stages}
    ended = {"failed": "failed here", "cancelled": "stopped here"}.get(state, "going on")
    rows = []
    for name, (label, _) in look.stages.items():
        stage = reached.get(name)
        mark = "not begun" if stage is None else "finished" if stage.is_finished else ended
        seconds = "" if stage is None else format_seconds(stage.seconds)
        rows.append(
            f'<li data-mark="{mark}"><span class="m2v-mark" role="img" aria-label="{mark}"></span>'
            f'<span>{label}</span><span class="m2v-number">{seconds}</span></li>'
        )
    return f'<ol class="m2v-stages">{"".join(rows)}</ol>'


def _failure(look: _Look, job: Job, stages: Sequence[Stage]) -> str:
    where = next((f" at “{escape(_label(look, stage))}”" for stage in stages if not stage.is_finished), "")
    return (
        f'<div class="m2v-notice m2v-error" role="alert"><strong>It stopped{where}</strong>'
        f"<p>{escape(job.message)}</p>"
        f"<p>{look.loss} Change what is needed and run it again. "
        f"If you ask for help, give the job's id: <code>{escape(job.id)}</code></p></div>"
    )


def _unpublished(job: Job) -> str:
    return (
        '<div class="m2v-notice m2v-error" role="alert"><strong>The model is in your library</strong>'
        f"<p>{escape(job.message)}</p><p>“Retry upload” sends it again without making it anew. If you ask for help, "
        f"give the job's id: <code>{escape(job.id)}</code></p></div>"
    )


def newest_job(owner: str, kind: str = "distill") -> Job | None:
    """What a page shows when it opens: the newest job of its kind that is going on, else the newest."""
    kinds = ("distill", "publish") if kind == ONE_CLICK else (kind,)
    jobs = [job for job in job_store().list_jobs(owner) if job.kind in kinds]
    return next((job for job in jobs if not job.is_finished), jobs[0] if jobs else None)


def retry_upload(owner: str, who: Visitor, job_id: str) -> str:
    """The id of a new job that sends the model of an earlier one again, wherever that one was to send it.

    Raises:
        M2VError: There is nothing to send, no one is signed in, or they may not write there.
    """
    job = find_job(owner, job_id)
    if job is None or not (is_unpublished(job) or job.kind == "publish"):
        raise NotFoundError("There is no upload to try again. Publish the model on the Publish page.")
    destination = job.parameters["publish"] if job.kind == "distill" else job.parameters
    parameters = {name: destination[name] for name in DESTINATION if name in destination}
    # Whatever happened to the repository meanwhile, the job itself looks before it writes.
    permitted(who, parameters["repo_id"])
    model_id = job.id if job.kind == "distill" else job.parameters["model_id"]
    parameters |= {"model_id": model_id, "model": str(model_library().folder(model_id, owner))}
    texts = job_store().texts(job_id, owner) if job.kind == "publish" else {}
    return job_store().submit(JobSpec("publish", parameters, texts, job.title), owner, secrets=secrets_of(who))


def find_job(owner: str | None, job_id: str) -> Job | None:
    """The job that a page shows; None if there is none, or it has been removed."""
    if not (owner and job_id):
        return None
    try:
        return job_store().get(job_id, owner)
    except NotFoundError:
        return None


def finished_model(owner: str | None, job_id: str) -> WordNeighbors:
    """The vocabulary of a finished model, ready to be searched; the last few stay in memory.

    Raises:
        NotFoundError: No such job, not this owner's, or not done.
    """
    return _word_neighbors(job_store().result_folder(job_id, owner or "nobody"))


@functools.lru_cache(maxsize=4)
def _word_neighbors(model_folder: Path) -> WordNeighbors:
    return WordNeighbors(StaticModel.from_pretrained(str(model_folder)))


def served_folder() -> Path:
    """Where files for download are put: whoever knows the address of a file in here can fetch it."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or data_folder() / "served")


def model_zip(owner: str, job: Job) -> Path:
    """The finished model as a ZIP, in a place the app serves from.

    Raises:
        NotFoundError: Not this owner's job, or not done.
        SaveError: The archive can't be written.
    """
    if job.kind == "publish":
        model_folder = model_library().folder(str(job.parameters["model_id"]), owner)
    else:
        model_folder = job_store().result_folder(job.id, owner)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", job.title).strip("-.")[:80] or "model"
    # The address is the only key to the file, so it must not follow from the job's id, which people pass on.
    zip_path = served_folder() / _served_key(job.id) / f"{name}.zip"
    if not zip_path.exists():
        remove_old_files(served_folder())
        zip_path.parent.mkdir(parents=True, exist_ok=True)
        write_zip(model_folder, zip_path)
    return zip_path


def result_file(owner: str, job: Job) -> Path:
    """The one file that a measurement made, in a place the app serves from.

    Raises:
        NotFoundError: Not this owner's job, or not done.
        SaveError: It can't be copied there.
    """
    made = next(job_store().result_folder(job.id, owner).glob("*.json"))
    served = served_folder() / _served_key(job.id) / made.name
    if not served.exists():
        remove_old_files(served_folder())
        try:
            served.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, served)
        except OSError as error:
            raise SaveError(f"{made.name} can't be copied for download: {error.strerror or error}.") from error
    return served


@functools.lru_cache(maxsize=1000)
def _served_key(job_id: str) -> str:
    return secrets.token_hex(16)


def remove_old_files(folder: Path, age_seconds: float = _SERVED_SECONDS) -> None:
    """Remove what has lain in `folder` for over a day: uploads, and archives that can be made again."""
    oldest = time.time() - age_seconds
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class JobPanel:
    """The panel's components, and the events between them.

    Attributes:
        owner: Whose jobs are shown.
        job_id: The job that is shown; empty for none.
        start: Starts a run; gives way to `cancel` while one is going on.
        message: Why a run could not be started.
        result: Shown once the job is done; a page may put more into it.
        retry: Sends a model again whose upload failed.
        done_id: The job that is shown once it is done, else empty; its change tells a page to show more.
        kind: The kind of job it follows.
    """

    owner: gr.BrowserState
    job_id: gr.State
    view: gr.HTML
    start: gr.Button
    cancel: gr.Button
    message: gr.HTML
    result: gr.Column
    facts: gr.HTML
    download: gr.DownloadButton
    timer: gr.Timer
    done_id: gr.State
    retry: gr.Button
    kind: str

    def connect(
        self,
        submit: Callable[..., str],
        inputs: Components,
        with_visitor: bool = False,
    ) -> None:
        """Bring the panel to life.

        Args:
            submit: Called as `submit(owner, *values of inputs)` when the start button is pressed; returns the
                id of a new job, or raises, and the panel says why.
            inputs: The components whose values it takes.
            with_visitor: Call `submit(owner, visitor, *values)` instead.
        """

        def pressed(submit: Callable[..., str], with_visitor: bool) -> Callable[..., list[Any]]:
            def start(request: gr.Request, oauth: gr.OAuthToken | None, owner: str | None, *values: Any) -> list[Any]:
                owner = known_owner(owner)
                try:
                    who = (visitor(oauth, request),) if with_visitor else ()
                    job = find_job(owner, submit(owner, *who, *values))
                except Exception as error:  # the last frame of ours: Gradio would show none of it
                    return [owner, *_keep_all_but_message(error_notice(error, "This can't run yet"))]
                return [owner, *panel_values(owner, job, self.kind)]

            return start

        shown: list[Any] = [
            self.job_id,
            self.view,
            self.start,
            self.cancel,
            self.message,
            self.result,
            self.facts,
            self.download,
            self.timer,
            self.done_id,
            self.retry,
        ]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        begin = pressed(submit, with_visitor)
        started = self.start.click(begin, [self.owner, *inputs], [self.owner, *shown], **quiet)
        self.retry.click(pressed(retry_upload, True), [self.owner, self.job_id], [self.owner, *shown], **quiet)
        # The pressed button is gone; whoever uses the keyboard stands on the one that took its place.
        started.then(None, js="() => { document.querySelector('button.m2v-cancel')?.focus(); }", **quiet)
        self.cancel.click(functools.partial(cancel, kind=self.kind), [self.owner, self.job_id], shown, **quiet)
        self.timer.tick(functools.partial(follow, kind=self.kind), [self.owner, self.job_id], shown, **quiet)
        page = Context.root_block
        assert page is not None  # components can't be made outside one
        page.load(functools.partial(attach, kind=self.kind), self.owner, [self.owner, *shown], **quiet)


def attach(owner: str | None, kind: str = "distill") -> list[Any]:
    """What a page shows when it opens: this browser's id, and its newest job."""
    owner = known_owner(owner)
    return [owner, *panel_values(owner, newest_job(owner, kind), kind)]


def follow(owner: str | None, job_id: str, kind: str = "distill") -> list[Any]:
    """What the panel shows half a second later; while the job goes on only its view changes."""
    job = find_job(owner, job_id)
    if job is None or job.is_finished:
        return panel_values(owner or "", job, kind)
    return [gr.skip(), job_html(job, kind), *[gr.skip()] * 9]


def cancel(owner: str | None, job_id: str, kind: str = "distill") -> list[Any]:
    """What the panel shows when its job is told to stop."""
    job = find_job(owner, job_id)
    if job is not None and owner:
        job = job_store().cancel(job_id, owner)
    return panel_values(owner or "", job, kind)


def panel_values(owner: str, job: Job | None, kind: str = "distill") -> list[Any]:
    """A value for each component: id, view, start, cancel, message, result, facts, download, timer, done id, retry."""
    is_running = job is not None and not job.is_finished
    is_done = job is not None and job.state == "done"
    is_failed = job is not None and job.state in ("failed", "cancelled")
    message, download = "", gr.DownloadButton(value=None)
    may_retry = job is not None and kind == ONE_CLICK and (is_unpublished(job) or (job.kind == "publish" and is_failed))
    variant: Literal["primary", "secondary"] = "secondary" if is_done or may_retry else "primary"
    start = gr.Button(visible=not is_running, variant=variant)
    if kind == "publish":
        start = gr.Button("Retry upload" if is_failed else "Publish", visible=not is_running, variant=variant)
    if job is not None and kind == "publish":
        download = gr.DownloadButton(visible=False)
    elif job is not None and is_done:
        try:
            what, file = (
                ("ZIP", model_zip(owner, job))
                if job.kind in ("distill", "publish")
                else ("JSON", result_file(owner, job))
            )
            label = f"Download {what} · {format_bytes(file.stat().st_size)}"
            download = gr.DownloadButton(label=label, value=str(file), visible=True)
        except Exception as error:  # the result is there all the same
            message = error_notice(error, "The download could not be made")
    return [
        job.id if job else "",
        job_html(job, kind),
        start,
        gr.Button(visible=is_running, interactive=job is not None and job.state != "cancelling"),
        message,
        gr.Column(visible=is_done),
        result_html(job) if job is not None and is_done else "",
        download,
        gr.Timer(active=is_running),
        job.id if job is not None and is_done else "",
        gr.Button(visible=may_retry),
    ]


def _keep_all_but_message(message: str) -> list[Any]:
    return [*[gr.skip()] * 4, message, *[gr.skip()] * 6]


def build_job_panel(start_label: str, kind: str = "distill") -> JobPanel:
    """A new panel in the current Blocks context; `connect` it once the page's inputs exist.

    Args:
        start_label: What the button says.
        kind: The kind of job it follows; see `m2v_core.jobs.kinds`.
    """
    owner, job_id = owner_state(), gr.State("")
    start = gr.Button(start_label, variant="primary", size="lg", elem_classes="m2v-start")
    stop = gr.Button("Cancel", size="lg", visible=False, elem_classes="m2v-cancel")
    message = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
    view = gr.HTML(job_html(None, kind), apply_default_css=False)
    retry = gr.Button("Retry upload", variant="primary", size="lg", visible=False, elem_classes="m2v-retry")
    with gr.Column(visible=False, elem_classes="m2v-result") as result:
        facts = gr.HTML("", apply_default_css=False)
        download = gr.DownloadButton("Download ZIP", variant="primary", size="lg", elem_classes="m2v-download")
    return JobPanel(
        owner,
        job_id,
        view,
        start,
        stop,
        message,
        result,
        facts,
        download,
        gr.Timer(_TICK_SECONDS, active=False),
        gr.State(""),
        retry,
        kind,
    )
