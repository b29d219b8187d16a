"""Home: what this is, on one screen, and one button that does it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gradio as gr

from m2v_core.distillation.settings import DEFAULTS
from m2v_core.errors import HubError, InputError, M2VError, TeacherError
from m2v_core.hub.push import check_model_name
from m2v_core.studio.jobs import JobSpec
from m2v_core.studio.work.distilling import default_name
from pages.components import Values, checked_teacher, html, job_store, on, teacher_picker
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
from pages.components.model_name import build_name_box, propose, rule_html
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
            name, name_status = build_name_box()
            license_box = gr.Dropdown(
                license_choices(), value=None, label="Licence", info=_NO_LICENSE, allow_custom_value=True, visible=False
            )
            account = html(css="m2v-status")
            suggested, publishes = gr.State(""), gr.State(False)
            panel = build_job_panel("Make my model", ONE_CLICK)
            with panel.result:
                html(_TUNE)
        html(_STEPS, "m2v-steps-cell")
    panel.connect(submit, [teacher, name, license_box, publishes], with_visitor=True)

    connect_search(teacher)
    prepared = {
        "account": account,
        "name": name,
        "license": license_box,
        "start": panel.start,
        "publishes": publishes,
    }
    ready = on([current_page().load, teacher.change], prepare, [teacher, publishes], prepared, latest=True)
    on(ready.then, propose_name, [teacher, name, suggested, publishes], [name, suggested])
    on(panel.done_id.change, lambda: "", None, name_status)  # a name that was just used is not free
    on(name.change, check_name, [name, publishes], name_status)


def prepare(teacher: str | None, publishes: bool, request: gr.Request, oauth: gr.OAuthToken | None) -> Values:
    """What the form shows to this visitor.

    Args:
        teacher: As it stands in the box.
        publishes: Whether the form offers to publish: it still does while the Hub can't tell who is signed in.
        request: As Gradio passes it.
        oauth: Of this request.
    """
    who = visitor(oauth, request)
    if who.state == "unknown" and publishes:
        return {"account": account_html(who, "To make the ZIP alone, load this page again.")}
    said = account_html(who, "The button ends in a ZIP.")
    if who.account is None:
        hidden, start = gr.Dropdown(visible=False), gr.Button("Make my model")
        return {"account": said, "license": hidden, "start": start, "publishes": False}
    return {
        "account": said,
        "name": gr.Textbox(label="Name on the Hub", info="Private, until you open it there."),
        "license": _license_box(who, teacher),
        "start": gr.Button("Make and publish"),
        "publishes": True,
    }


def propose_name(
    teacher: str | None,
    name: str,
    suggested: str,
    publishes: bool,
    request: gr.Request,
    oauth: gr.OAuthToken | None,
) -> list[Any]:
    """As `propose`, the name that fits the teacher, with the visitor's own before it where the form publishes."""
    who = visitor(oauth, request)
    proposed = _default_name(teacher, who)
    if proposed and publishes and who.account is not None:
        proposed = f"{who.account.name}/{proposed}"
    return propose(name, proposed, suggested)


def _default_name(teacher: str | None, who: Visitor) -> str:
    """The name of a model with the usual settings; empty without a teacher."""
    if not teacher or not teacher.strip():
        return ""
    width, dim = None, DEFAULTS.pca_dims
    with suppress(M2VError):  # pressing the button says what is wrong with the teacher
        width = teacher_facts(checked_teacher(teacher), who.token).teacher_dim
    return default_name(teacher, min(dim, width) if width and isinstance(dim, int) else dim)


def check_name(name: str, publishes: bool, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
    """What is to be said of the name while it is typed."""
    return name_html(visitor(oauth, request), name) if publishes else rule_html(name)


def submit(owner: str, who: Visitor, teacher: str | None, name: str, license: str | None, publishes: bool) -> str:
    """The id of a new job that distils `teacher`, measures and, where the form offers it, publishes.

    Everything that can be refused is refused here, before any work.

    Raises:
        M2VError: The teacher, the name or the licence can't be used, who is signed in is not known or may not publish,
            or the queue is full.
    """
    teacher = checked_teacher(teacher)
    facts, problem = None, None
    try:
        facts = teacher_facts(teacher, who.token)
    except HubError as error:  # the teacher may be in the cache, and the Hub may be back by the time of the run
        problem = error
    if facts is not None and facts.problems:
        raise TeacherError(" ".join(facts.problems))
    stated = facts.license if facts is not None else None
    # One click is to be a minute, not two; Distill has the slower recipes.
    parameters: dict[str, Any] = {"model_name": teacher, "recipe": "fast", "measure": True}
    secrets: dict[str, Any] = {}
    if not publishes:
        title = check_model_name((name or "").strip() or _default_name(teacher, who))
        parameters["name"] = title
    else:
        repo_id = free_name(who, name)
        title = repo_id.rpartition("/")[2]
        stated = stated or license
        if not stated and problem is not None:
            raise InputError(
                f"The licence of {teacher} is not known. {problem} Or choose the licence in the box above."
            )
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


def _license_box(who: Visitor, teacher: str | None) -> gr.Dropdown:
    """The box that asks for a licence: shown where the teacher states none, or where it can't be looked up."""
    try:
        stated = teacher_facts(checked_teacher(teacher), who.token).license
    except HubError:
        return gr.Dropdown(visible=True, info=_UNKNOWN_LICENSE)
    except M2VError:  # pressing the button says what is wrong with the teacher
        return gr.Dropdown(visible=False)
    return gr.Dropdown(visible=stated is None, info=_NO_LICENSE)


_NO_LICENSE = "The teacher states none, so it is yours to choose."
_UNKNOWN_LICENSE = "The teacher can't be looked up now. Choose the licence that it states."
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
