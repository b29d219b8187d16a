"""The panel of a run: progress, Cancel button and result."""

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
_LINGER_SECONDS = 0.25  # less than a tick, or the next tick would be skipped

# The clicked button is hidden, so keyboard focus moves to the Cancel button, and after the run to the result. Both
# appear with a delay.
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
    """Return the job to show when a page opens: the newest unfinished job of its kind, else the newest."""
    kinds = ("distill", "publish") if kind == ONE_CLICK else (kind,)
    jobs = [job for job in job_store().list_jobs(owner) if job.kind in kinds]
    return next((job for job in jobs if not job.is_finished), jobs[0] if jobs else None)


def published_repos(owner: str | None) -> dict[str, str]:
    """URLs of the repositories to which this browser's jobs published models, by name."""
    jobs = job_store().list_jobs(owner) if owner else []
    all_published = [job.outcome.get("published") for job in reversed(jobs)]
    return {
        str(published["repo_id"]): str(published["url"])
        for published in all_published
        if published and not published["pr_url"] and str(published["url"]).startswith(("https://", "http://"))
    }


def retry_upload(owner: str, who: Visitor, job_id: str) -> str:
    """Submit a job that retries the upload of an earlier job, and return its id.

    Raises:
        M2VError: There is nothing to upload, or the visitor is not signed in or has no write access.
    """
    job = find_job(owner, job_id)
    if job is None or not (is_unpublished(job) or job.kind == "publish"):
        raise NotFoundError("There is no upload to retry. Publish the model on the Publish page.")
    destination = job.parameters["publish"] if job.kind == "distill" else job.parameters
    parameters = {name: destination[name] for name in DESTINATION if name in destination}
    # The job checks the repository again before it writes.
    permitted(who, parameters["repo_id"])
    model_id = job.id if job.kind == "distill" else job.parameters["model_id"]
    parameters |= {"model_id": model_id, "model": str(model_library().folder(model_id, owner))}
    texts = job_store().texts(job_id, owner) if job.kind == "publish" else {}
    return job_store().submit(JobSpec("publish", parameters, texts, job.title), owner, secrets=secrets_of(who))


def find_job(owner: str | None, job_id: str, timeout_seconds: float = 0.0) -> Job | None:
    """Return the job that a page shows; None if there is none, or it was deleted.

    Args:
        timeout_seconds: Maximum time to wait for the job to finish.
    """
    if not (owner and job_id):
        return None
    try:
        return job_store().wait(job_id, owner, timeout_seconds)
    except NotFoundError:
        return None


def finished_model(owner: str | None, job_id: str) -> WordNeighbors:
    """Return the searchable vocabulary of a finished model, with a cache of the last few.

    Raises:
        NotFoundError: The job does not exist, has another owner, or is not done.
    """
    return _word_neighbors(job_store().result_folder(job_id, owner or "nobody"))


@functools.lru_cache(maxsize=4)
def _word_neighbors(model_folder: Path) -> WordNeighbors:
    return WordNeighbors(StaticModel.from_pretrained(str(model_folder)))


@dataclass(frozen=True)
class JobPanel:
    """The panel's components and events.

    Attributes:
        owner: Owner of the jobs.
        job_id: The displayed job; empty for none.
        start: Starts a run; replaced by `cancel` during a run.
        message: Why a run could not be started.
        result: Visible when the job is done; pages can add components.
        retry: Retries a failed upload.
        done_id: The displayed job if it is done, else empty; its change event triggers updates of the page.
        kind: The kind of job.
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
        """Connect the events of the panel.

        Args:
            submit: Called as `submit(owner, *values of inputs)` when the start button is clicked; returns the id of a
                new job, or raises an error, which the panel shows.
            inputs: The input components; in a mapping, passed by keyword.
            with_visitor: Whether to call `submit(owner, visitor, *values)` instead.
        """
        names = list(inputs) if isinstance(inputs, Mapping) else []
        components = list(inputs.values() if isinstance(inputs, Mapping) else inputs)

        def submitted(*args: Any) -> str:
            n_named = len(args) - len(names)
            return submit(*args[:n_named], **dict(zip(names, args[n_named:], strict=True)))

        def pressed(submit: Callable[..., str], with_visitor: bool) -> Callable[..., Values]:
            @shows_errors("The run can't be started", lambda message: {"message": message})
            def start(request: gr.Request, oauth: gr.OAuthToken | None, owner: str | None, *values: Any) -> Values:
                owner = known_owner(owner)
                who = (visitor(oauth, request, bypass_cache=True),) if with_visitor else ()
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
    """Values of a page when it opens: the browser's id, and its newest job."""
    owner = known_owner(owner)
    if kind == "distill":
        job_store().expect_job()
    return {"owner": owner, **panel_values(owner, newest_job(owner, kind), kind)}


def catch_up(owner: str | None, job_id: str, kind: str = "distill") -> Values:
    """Values of the panel after the page has loaded, as a user may have started a run in the meantime."""
    job = newest_job(owner or "", kind)
    return panel_values(owner or "", job, kind) if job is not None and job.id != job_id else {}


def follow(owner: str | None, job_id: str, kind: str = "distill") -> Values:
    """Update the panel on a timer tick; during the job only its view changes.

    Waits briefly for the end of the job, as many jobs take only two seconds.
    """
    job = find_job(owner, job_id, _LINGER_SECONDS)
    if job is None or job.is_finished:
        return panel_values(owner or "", job, kind)
    return {"view": job_html(job, kind)}


@shows_errors("The run can't be cancelled", lambda message: {"message": message})
def cancel(owner: str | None, job_id: str, kind: str = "distill") -> Values:
    """Cancel the job and update the panel."""
    job = find_job(owner, job_id)
    if job is not None and owner:
        job = job_store().cancel(job_id, owner)
    return panel_values(owner or "", job, kind)


def panel_values(owner: str, job: Job | None, kind: str = "distill") -> Values:
    """Return a value for each of `_SHOWN`."""
    is_running = job is not None and not job.is_finished
    is_done = job is not None and job.state == "done"
    is_failed = job is not None and job.state in ("failed", "cancelled")
    may_retry = job is not None and kind == ONE_CLICK and (is_unpublished(job) or (job.kind == "publish" and is_failed))
    variant: Literal["primary", "secondary"] = "secondary" if is_done or may_retry else "primary"
    start = gr.Button(visible=not is_running, variant=variant)
    if kind == "publish":
        start = gr.Button("Retry upload" if is_failed else "Publish", visible=not is_running, variant=variant)
    download, facts = gr.DownloadButton(value=None), ""
    download_error = facts_error = ""
    if job is not None and kind == "publish":
        download = gr.DownloadButton(visible=False)
    elif job is not None and is_done:
        download, download_error = _download(owner, job)
    if job is not None and is_done:
        facts, facts_error = _facts(job)
    return {
        "job_id": job.id if job else "",
        "view": job_html(job, kind),
        "start": start,
        "cancel": gr.Button(visible=is_running, interactive=job is not None and job.state != "cancelling"),
        "message": download_error + facts_error,
        "result": gr.Column(visible=is_done),
        "facts": facts,
        "download": download,
        "timer": gr.Timer(active=is_running),
        "done_id": job.id if job is not None and is_done else "",
        "retry": gr.Button(visible=may_retry),
    }


# The result is shown even if the download fails.
@shows_errors("The download could not be prepared", lambda message: (gr.DownloadButton(value=None), message))
def _download(owner: str, job: Job) -> tuple[gr.DownloadButton, str]:
    is_model = job.kind in ("distill", "publish")
    file = model_zip(owner, job) if is_model else result_file(owner, job)
    label = f"Download {'ZIP' if is_model else 'JSON'} · {format_bytes(file.stat().st_size)}"
    return gr.DownloadButton(label=label, value=str(file), visible=True), ""


# The job's record may be damaged or from an older version.
@shows_errors("The result can't be shown", lambda message: ("", message))
def _facts(job: Job) -> tuple[str, str]:
    return result_html(job), ""


def build_job_panel(start_label: str, kind: str = "distill") -> JobPanel:
    """Add a panel to the current Blocks context; `connect` it once the page's inputs exist.

    Args:
        start_label: Label of the start button.
        kind: The kind of job; see `m2v_core.studio.jobs.kinds`.
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
