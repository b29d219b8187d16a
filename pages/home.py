"""Home: what the app does, a model to try, and one button that makes a model."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gradio as gr

from m2v_core.distillation.preflight import plan
from m2v_core.distillation.settings import DEFAULTS, LIMITS, Effort
from m2v_core.distillation.timing import fixed_seconds
from m2v_core.errors import HubError, InputError, M2VError, TeacherError
from m2v_core.hub.push import check_model_name
from m2v_core.studio.jobs import JobSpec
from m2v_core.studio.work.distilling import default_name
from pages.components import Values, checked_teacher, html, job_store, on, teacher_picker, timings
from pages.components.account import (
    Visitor,
    account_html,
    build_sign_in,
    free_name,
    login_button,
    name_html,
    secrets_of,
    visitor,
)
from pages.components.distill_settings import EFFORT_INFO, EFFORTS, effort_choices
from pages.components.home_map import build_home_map
from pages.components.job_panel import build_job_panel, published_repos
from pages.components.job_view import ONE_CLICK
from pages.components.licenses import license_choices
from pages.components.model_name import Suggestion, build_name_box, chosen_name, propose, rule_html
from pages.components.preflight_card import effort_times, teacher_facts
from pages.components.share_card import build_share_card
from pages.components.teacher_search import connect_search
from pages.components.word_map import prepare_map
from pages.components.word_search import build_word_search
from pages.gradio_patches import current_page
from pages.html import Markup

_EFFORT: Effort = "balanced"  # takes about two minutes


def build() -> None:
    """Build the page in the current Blocks context."""
    with gr.Row(elem_classes="m2v-columns m2v-home"):
        with gr.Column(elem_classes="m2v-intro"):
            html(_WELCOME)
            word_search = gr.Column()
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            login_button()
            teacher = teacher_picker()
            name, name_status = build_name_box()
            license_box = gr.Dropdown(
                license_choices(), value=None, label="License", info=_NO_LICENSE, allow_custom_value=True, visible=False
            )
            effort = gr.Radio(EFFORTS, value=_EFFORT, label="Effort", info=EFFORT_INFO, elem_classes="m2v-choices")
            account = html(css="m2v-status")
            signed_in = build_sign_in().change
            suggested, publishes = gr.State(Suggestion()), gr.State(False)
            panel = build_job_panel("Make my model", ONE_CLICK)
            with panel.result:
                build_share_card(panel.owner, panel.done_id)
                html(_TUNE)
        html(_STEPS, "m2v-steps-cell")
    with word_search:
        build_home_map(panel.owner, build_word_search(panel.owner, panel.done_id))
    on(panel.done_id.change, prepare_map, [panel.owner, panel.done_id])
    panel.connect(submit, [teacher, name, license_box, publishes, effort, suggested], with_visitor=True)

    connect_search(teacher)
    prepared = {
        "account": account,
        "name": name,
        "license": license_box,
        "start": panel.start,
        "publishes": publishes,
    }
    ready = on([current_page().load, teacher.change, signed_in], prepare, [teacher, publishes], prepared, latest=True)
    on(ready.then, propose_name, [teacher, name, suggested, publishes], [name, suggested])
    on([current_page().load, teacher.change], show_times, teacher, effort, latest=True)
    on([name.change, panel.done_id.change], check_name, [panel.owner, name, publishes], name_status)


def prepare(teacher: str | None, publishes: bool, request: gr.Request, oauth: gr.OAuthToken | None) -> Values:
    """Return the values of the form for this visitor.

    Args:
        teacher: Value of the teacher box.
        publishes: Whether the form offers to publish; unchanged if the Hub is unreachable.
        request: Passed by Gradio.
        oauth: Passed by Gradio.
    """
    who = visitor(oauth, request)
    if who.state == "unknown" and publishes:
        return {"account": account_html(who, "To download a ZIP instead, reload this page.")}
    status = account_html(who, "You can download the model as a ZIP.")
    if who.account is None:
        hidden, start = gr.Dropdown(visible=False), gr.Button("Make my model")
        return {"account": status, "license": hidden, "start": start, "publishes": False}
    return {
        "account": status,
        "name": gr.Textbox(label="Name on the Hub", info="Private until you make it public there."),
        "license": _license_box(who, teacher),
        "start": gr.Button("Make and publish"),
        "publishes": True,
    }


def show_times(teacher: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> gr.Radio:
    """Return the choices of effort with this teacher's estimated times, if known."""
    times: dict[str, str] = {}
    with suppress(M2VError):
        facts = teacher_facts(checked_teacher(teacher), visitor(oauth, request).token)
        if not facts.problems:
            measuring = timings().predict(facts.name, fixed_seconds("measure"))["measure"]
            seconds = {effort: plan(facts, effort=effort, timings=timings()).seconds for effort in LIMITS}
            times = effort_times({effort: took and took + measuring for effort, took in seconds.items()})
    return gr.Radio(choices=effort_choices(times))


def propose_name(
    teacher: str | None,
    name: str,
    suggested: Suggestion,
    publishes: bool,
    request: gr.Request,
    oauth: gr.OAuthToken | None,
) -> list[Any]:
    """Propose a name for the teacher; see `propose`."""
    proposed = _default_name(teacher, visitor(oauth, request), publishes)
    return propose(name, Suggestion(proposed, _basis(teacher)), suggested)


def _basis(teacher: str | None) -> tuple[str, ...]:
    """Return what the suggested name depends on."""
    return ((teacher or "").strip(),)


def _default_name(teacher: str | None, who: Visitor, publishes: bool) -> str:
    """Return the name of a model with default settings, with the account if published; empty without a teacher."""
    if not teacher or not teacher.strip():
        return ""
    width, dim = None, DEFAULTS.pca_dims
    with suppress(M2VError):  # `submit` reports the error
        width = teacher_facts(checked_teacher(teacher), who.token).teacher_dim
    name = default_name(teacher, min(dim, width) if width and isinstance(dim, int) else dim)
    return f"{who.account.name}/{name}" if publishes and who.account is not None else name


def check_name(owner: str | None, name: str, publishes: bool, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
    """Validate the name while the user types, and return a message."""
    if not publishes:
        return rule_html(name)
    return name_html(visitor(oauth, request), name, published_repos(owner), _ANOTHER_VERSION)


def submit(
    owner: str,
    who: Visitor,
    teacher: str | None,
    name: str,
    license: str | None,
    publishes: bool,
    effort: Effort = _EFFORT,
    suggested: Suggestion = Suggestion(),  # noqa: B008 - immutable
) -> str:
    """Submit a job that distills `teacher`, measures the model and, if requested, publishes it; return its id.

    Everything is validated here, before any work.

    Raises:
        M2VError: The teacher, the name or the license is invalid, the user is not signed in or may not publish, or the
            queue is full.
    """
    teacher = checked_teacher(teacher)
    facts, problem = None, None
    try:
        facts = teacher_facts(teacher, who.token)
    except HubError as error:  # the teacher may be cached, and the Hub may be back when the job starts
        problem = error
    if facts is not None and facts.problems:
        raise TeacherError(" ".join(facts.problems))
    stated = facts.license if facts is not None else None
    parameters: dict[str, Any] = {"model_name": teacher, "recipe": "calibrated", "effort": effort, "measure": True}
    secrets: dict[str, Any] = {}
    chosen = chosen_name(name, suggested, _basis(teacher))
    # An empty field is not consent to publish under a generated name.
    name = chosen if chosen or (publishes and not (name or "").strip()) else _default_name(teacher, who, publishes)
    if not publishes:
        title = check_model_name(name)
        parameters["name"] = title
    else:
        repo_id = free_name(who, name)
        title = repo_id.rpartition("/")[2]
        stated = stated or license
        if not stated and problem is not None:
            raise InputError(f"The license of {teacher} is unknown. {problem} Or choose the license in the box above.")
        if not stated:
            raise InputError(f"{teacher} does not state a license. Choose one in the box above.")
        parameters |= {"name": repo_id, "publish": {"repo_id": repo_id, "private": True}}
        secrets = secrets_of(who)
        if facts is not None and facts.access in ("private", "gated"):
            secrets["hf_token"] = who.token  # private files are cached for this job only
    if stated:
        parameters["license"] = stated
    return job_store().submit(JobSpec("distill", parameters, title=title), owner, secrets=secrets)


def _license_box(who: Visitor, teacher: str | None) -> gr.Dropdown:
    """Return the license field, visible if the teacher's license is missing or unknown."""
    try:
        stated = teacher_facts(checked_teacher(teacher), who.token).license
    except HubError:
        return gr.Dropdown(visible=True, info=_UNKNOWN_LICENSE)
    except M2VError:  # `submit` reports the error
        return gr.Dropdown(visible=False)
    return gr.Dropdown(visible=stated is None, info=_NO_LICENSE)


_ANOTHER_VERSION = Markup('To add another version, open the <a href="publish">Publish page</a>.')
_NO_LICENSE = "The teacher does not state a license. Choose one."
_UNKNOWN_LICENSE = "The Hub can't be reached. Choose the license of the teacher."
_WELCOME = """
<header class="m2v-hero">
  <h1>Your own small<br>embedding model,<br>in one click</h1>
  <p class="m2v-lead">Pick a Sentence Transformer. M2V Studio runs it once over its vocabulary and stores
  the vectors in a table. Embedding a text then takes a lookup and a mean: no GPU, no PyTorch.</p>
</header>
"""
_TUNE = """
<p class="m2v-next">Need your own words, other dimensions or precision? <a href="distill">Change the settings</a>.</p>
"""
_STEPS = """
<ol class="m2v-steps">
  <li><strong>Pick a teacher</strong><span>The default teacher is bundled and works offline.</span></li>
  <li><strong>Start the run</strong><span>You can close the page; the run continues.</span></li>
  <li><strong>Publish to the Hub</strong><span>Or download a ZIP. Both open in model2vec and in
  sentence-transformers.</span></li>
</ol>
"""
