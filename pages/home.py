"""Home: what this is, on one screen, and one button that does it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gradio as gr

from m2v_core.errors import HubError, InputError, M2VError, TeacherError
from m2v_core.studio.jobs import JobSpec
from pages.components import Values, checked_teacher, html, job_store, model_title, on, teacher_picker
from pages.components.account import (
    Visitor,
    account_html,
    free_name,
    login_button,
    name_html,
    secrets_of,
    visitor,
)
from pages.components.job_panel import build_job_panel
from pages.components.job_view import ONE_CLICK
from pages.components.licenses import license_choices
from pages.components.preflight_card import teacher_facts
from pages.components.teacher_search import connect_search
from pages.gradio_patches import current_page


def build() -> None:
    """The page, in the current Blocks context."""
    with gr.Row(elem_classes="m2v-columns m2v-home"):
        html(_WELCOME, "m2v-hero-cell")
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            login_button()
            teacher = teacher_picker()
            with gr.Column(visible=False, elem_classes="m2v-words") as publishing:
                name = gr.Textbox(
                    label="Name on the Hub", info="Private, until you open it there.", max_lines=1, max_length=200
                )
                name_status = html(css="m2v-status")
                license_box = gr.Dropdown(
                    license_choices(),
                    value=None,
                    label="Licence",
                    info="The teacher states none, so it is yours to choose.",
                    allow_custom_value=True,
                    visible=False,
                )
            account = html(css="m2v-status")
            proposed, suggested = gr.State(""), gr.State("")
            panel = build_job_panel("Make my model", ONE_CLICK)
            with panel.result:
                html(_TUNE)
        html(_STEPS, "m2v-steps-cell")
    panel.connect(submit, [teacher, name, license_box], with_visitor=True)

    connect_search(teacher)
    prepared = {
        "account": account,
        "publishing": publishing,
        "proposed": proposed,
        "license": license_box,
        "start": panel.start,
    }
    ready = on([current_page().load, teacher.change], prepare, teacher, prepared, latest=True)
    on(ready.then, propose, [name, proposed, suggested], [name, suggested])
    on(panel.done_id.change, lambda: "", None, name_status)  # a name that was just used is not free
    on(name.change, check_name, name, name_status)


def prepare(teacher: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> Values:
    """What the form shows to this visitor."""
    who = visitor(oauth, request)
    said = account_html(who, "The button ends in a ZIP.")
    if who.account is None:
        hidden = gr.Column(visible=False)
        return {"account": said, "publishing": hidden, "proposed": "", "start": gr.Button("Make my model")}
    proposal = f"{who.account.name}/{model_title(teacher.strip())}" if teacher and teacher.strip() else ""
    return {
        "account": said,
        "publishing": gr.Column(visible=True),
        "proposed": proposal,
        "license": gr.Dropdown(visible=_has_no_license(who, teacher)),
        "start": gr.Button("Make and publish"),
    }


def propose(name: str, proposed: str, suggested: str) -> list[Any]:
    """The name and what was suggested for it; what somebody typed, even while the Hub was asked, stays."""
    return [proposed if not name or name == suggested else gr.skip(), proposed]


def check_name(name: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
    """What is to be said of the name while it is typed."""
    return name_html(visitor(oauth, request), name)


def submit(owner: str, who: Visitor, teacher: str | None, name: str, license: str | None) -> str:
    """The id of a new job that distils `teacher`, measures and, for who is signed in, publishes.

    Everything that can be refused is refused here, before any work.

    Raises:
        M2VError: The teacher, the name or the licence can't be used, or the queue is full.
    """
    teacher = checked_teacher(teacher)
    facts = None
    with suppress(HubError):  # the teacher may be in the cache, and the Hub may be back by the time of the run
        facts = teacher_facts(teacher, who.token)
    if facts is not None and facts.problems:
        raise TeacherError(" ".join(facts.problems))
    stated = facts.license if facts is not None else None
    # One click is to be a minute, not two; Distill has the slower recipes.
    parameters: dict[str, Any] = {"model_name": teacher, "recipe": "fast", "measure": True}
    secrets: dict[str, Any] = {}
    title = model_title(teacher)
    if who.account is not None:
        repo_id = free_name(who, name)
        title = repo_id.rpartition("/")[2]
        stated = stated or license
        if not stated:
            raise InputError(
                f"{teacher} states no licence, so the model has none to inherit. Choose one in the box above."
            )
        parameters |= {"name": repo_id, "publish": {"repo_id": repo_id, "private": True}}
        secrets = secrets_of(who)
        if facts is not None and facts.access in ("private", "gated"):
            secrets["hf_token"] = who.token  # what only they may read, in a cache of its own
    if stated:
        parameters["license"] = stated
    return job_store().submit(JobSpec("distill", parameters, title=title), owner, secrets=secrets)


def _has_no_license(who: Visitor, teacher: str | None) -> bool:
    try:
        return teacher_facts(checked_teacher(teacher), who.token).license is None
    except M2VError:  # pressing the button says it
        return False


_WELCOME = """
<header class="m2v-hero">
  <h1>Your own small<br>embedding model,<br>in one click</h1>
  <p class="m2v-lead">Pick a Sentence Transformer. The studio has it read every entry of its vocabulary once
  and keeps the answers in a table. Embedding a text is then a look-up and a mean: no GPU, no PyTorch.</p>
</header>
"""
_TUNE = """
<p class="m2v-next">Words of your own, other dimensions or precision? <a href="distill">Tune this</a>.</p>
"""
_STEPS = """
<ol class="m2v-steps">
  <li><strong>Pick a teacher</strong><span>The one that is set comes bundled and works offline.</span></li>
  <li><strong>Press the button</strong><span>Close the page if you like: the run goes on.</span></li>
  <li><strong>Have it on the Hub</strong><span>Or take the ZIP. Both open in model2vec and in
  sentence-transformers.</span></li>
</ol>
"""
