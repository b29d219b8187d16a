"""The panel that follows a run: its progress, its Cancel button, and what came out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from m2v_core.errors import NotFoundError
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.model import StaticModel
from m2v_core.studio.jobs import Job, JobSpec
from m2v_core.studio.jobs.kinds import DESTINATION
from pages.components import (
    Values,
    format_bytes,
    html,
    job_store,
    known_owner,
    message_box,
    on,
    owner_state,
    shows_errors,
)
from pages.components.account import Visitor, permitted, secrets_of, visitor
from pages.components.job_view import ONE_CLICK, is_unpublished, job_html
from pages.components.model_picker import model_library
from pages.components.result_card import result_html
from pages.components.served_files import model_zip, result_file
from pages.gradio_patches import current_page

_TICK_SECONDS = 0.5
_LINGER_SECONDS = 0.25  # less than a tick, or the next would be left out

# The pressed button is gone; whoever uses the keyboard stands on the one that took its place, and on what comes after
# that once the run is over. Either takes a moment to be there.
_KEEP_FOCUS = """() => {
  const started = performance.now();
  let isOnCancel = false;
  const look = setInterval(() => {
    const cancel = document.querySelector("button.m2v-cancel");
    if (cancel && !isOnCancel) {
      cancel.focus({preventScroll: true});
      isOnCancel = true;
    } else if (!cancel && (isOnCancel || performance.now() - started > 5000)) {
      clearInterval(look);
      if (document.activeElement === document.body) {
        document.querySelector(".m2v-result button, button.m2v-start")?.focus({preventScroll: true});
      }
    }
  }, 100);
}"""

Components = Sequence[gr.components.Component]
_SHOWN = ["job_id", "view", "start", "cancel", "message", "result", "facts", "download", "timer", "done_id", "retry"]


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


def find_job(owner: str | None, job_id: str, timeout_seconds: float = 0.0) -> Job | None:
    """The job that a page shows; None if there is none, or it has been removed.

    Args:
        timeout_seconds: How long to wait for its end.
    """
    if not (owner and job_id):
        return None
    try:
        return job_store().wait(job_id, owner, timeout_seconds)
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
        inputs: Components | Mapping[str, gr.components.Component],
        with_visitor: bool = False,
    ) -> None:
        """Bring the panel to life.

        Args:
            submit: Called as `submit(owner, *values of inputs)` when the start button is pressed; returns the
                id of a new job, or raises, and the panel says why.
            inputs: The components whose values it takes; in a mapping, by keyword.
            with_visitor: Call `submit(owner, visitor, *values)` instead.
        """
        names = list(inputs) if isinstance(inputs, Mapping) else []
        components = list(inputs.values() if isinstance(inputs, Mapping) else inputs)

        def submitted(*args: Any) -> str:
            n_named = len(args) - len(names)
            return submit(*args[:n_named], **dict(zip(names, args[n_named:], strict=True)))

        def pressed(submit: Callable[..., str], with_visitor: bool) -> Callable[..., Values]:
            @shows_errors("This can't run yet", lambda message: {"message": message})
            def start(request: gr.Request, oauth: gr.OAuthToken | None, owner: str | None, *values: Any) -> Values:
                owner = known_owner(owner)
                who = (visitor(oauth, request, ask_again=True),) if with_visitor else ()
                job = find_job(owner, submit(owner, *who, *values))
                return {"owner": owner, **panel_values(owner, job, self.kind)}

            return start

        shown = {name: getattr(self, name) for name in _SHOWN}
        owned = {"owner": self.owner, **shown}

        def of_kind(handler: Callable[..., Values]) -> Callable[..., Values]:
            return functools.partial(handler, kind=self.kind)

        job = [self.owner, self.job_id]
        started = on(self.start.click, pressed(submitted, with_visitor), [self.owner, *components], owned)
        on(started.then, None, js=_KEEP_FOCUS)
        on(self.retry.click, pressed(retry_upload, True), job, owned)
        on(self.cancel.click, of_kind(cancel), job, shown)
        on(self.timer.tick, of_kind(follow), job, shown)
        opened = on(current_page().load, of_kind(attach), self.owner, owned)
        on(opened.then, of_kind(catch_up), job, shown)


def attach(owner: str | None, kind: str = "distill") -> Values:
    """What a page shows when it opens: this browser's id, and its newest job."""
    owner = known_owner(owner)
    if kind == "distill":
        job_store().expect_job()
    return {"owner": owner, **panel_values(owner, newest_job(owner, kind), kind)}


def catch_up(owner: str | None, job_id: str, kind: str = "distill") -> Values:
    """What the panel shows once its page is open: whoever pressed the button before that has a newer run by now."""
    job = newest_job(owner or "", kind)
    return panel_values(owner or "", job, kind) if job is not None and job.id != job_id else {}


def follow(owner: str | None, job_id: str, kind: str = "distill") -> Values:
    """What the panel shows half a second later; while the job goes on only its view changes.

    An end that comes within a moment is waited for: many a job is over in two seconds.
    """
    job = find_job(owner, job_id, _LINGER_SECONDS)
    if job is None or job.is_finished:
        return panel_values(owner or "", job, kind)
    return {"view": job_html(job, kind)}


@shows_errors("It can't be cancelled now", lambda message: {"message": message})
def cancel(owner: str | None, job_id: str, kind: str = "distill") -> Values:
    """What the panel shows when its job is told to stop."""
    job = find_job(owner, job_id)
    if job is not None and owner:
        job = job_store().cancel(job_id, owner)
    return panel_values(owner or "", job, kind)


def panel_values(owner: str, job: Job | None, kind: str = "distill") -> Values:
    """A value for each of `_SHOWN`."""
    is_running = job is not None and not job.is_finished
    is_done = job is not None and job.state == "done"
    is_failed = job is not None and job.state in ("failed", "cancelled")
    may_retry = job is not None and kind == ONE_CLICK and (is_unpublished(job) or (job.kind == "publish" and is_failed))
    variant: Literal["primary", "secondary"] = "secondary" if is_done or may_retry else "primary"
    start = gr.Button(visible=not is_running, variant=variant)
    if kind == "publish":
        start = gr.Button("Retry upload" if is_failed else "Publish", visible=not is_running, variant=variant)
    download, facts = gr.DownloadButton(value=None), ""
    unmade = unshown = ""
    if job is not None and kind == "publish":
        download = gr.DownloadButton(visible=False)
    elif job is not None and is_done:
        download, unmade = _download(owner, job)
    if job is not None and is_done:
        facts, unshown = _facts(job)
    return {
        "job_id": job.id if job else "",
        "view": job_html(job, kind),
        "start": start,
        "cancel": gr.Button(visible=is_running, interactive=job is not None and job.state != "cancelling"),
        "message": unmade + unshown,
        "result": gr.Column(visible=is_done),
        "facts": facts,
        "download": download,
        "timer": gr.Timer(active=is_running),
        "done_id": job.id if job is not None and is_done else "",
        "retry": gr.Button(visible=may_retry),
    }


# The result is there even if it can't be downloaded.
@shows_errors("The download could not be made", lambda message: (gr.DownloadButton(value=None), message))
def _download(owner: str, job: Job) -> tuple[gr.DownloadButton, str]:
    is_model = job.kind in ("distill", "publish")
    file = model_zip(owner, job) if is_model else result_file(owner, job)
    label = f"Download {'ZIP' if is_model else 'JSON'} · {format_bytes(file.stat().st_size)}"
    return gr.DownloadButton(label=label, value=str(file), visible=True), ""


# The job's record may be damaged, or written by an older version.
@shows_errors("What came out can't be shown here", lambda message: ("", message))
def _facts(job: Job) -> tuple[str, str]:
    return result_html(job), ""


def build_job_panel(start_label: str, kind: str = "distill") -> JobPanel:
    """A new panel in the current Blocks context; `connect` it once the page's inputs exist.

    Args:
        start_label: What the button says.
        kind: The kind of job it follows; see `m2v_core.studio.jobs.kinds`.
    """
    owner, job_id = owner_state(), gr.State("")
    start = gr.Button(start_label, variant="primary", size="lg", elem_classes="m2v-start")
    stop = gr.Button("Cancel", size="lg", visible=False, elem_classes="m2v-cancel")
    message = message_box()
    view = html(job_html(None, kind))
    retry = gr.Button("Retry upload", variant="primary", size="lg", visible=False, elem_classes="m2v-retry")
    with gr.Column(visible=False, elem_classes="m2v-result") as result:
        facts = html()
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
        timer=gr.Timer(_TICK_SECONDS, active=False),
        done_id=gr.State(""),
        retry=retry,
        kind=kind,
    )
