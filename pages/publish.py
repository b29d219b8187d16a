"""Publish: upload a model of the library to the Hub, with checks before and after."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Literal

import gradio as gr

from m2v_core.errors import HubError, InputError, M2VError, NotFoundError, RepoExistsError
from m2v_core.storage.card import card_body, model_card, rename_card, stated_license
from m2v_core.storage.formats import CARD, Form
from m2v_core.storage.front_matter import FrontMatter
from m2v_core.studio.jobs import Job, JobSpec
from m2v_core.studio.library import ModelRecord
from pages.components import (
    Values,
    data_folder,
    hint,
    html,
    job_store,
    known_owner,
    message_box,
    notice,
    on,
    page_head,
    shows_errors,
)
from pages.components.account import (
    Visitor,
    account_html,
    build_sign_in,
    full_name,
    login_button,
    name_html,
    permitted,
    secrets_of,
    visitor,
)
from pages.components.job_panel import build_job_panel, published_repos
from pages.components.licenses import license_choices
from pages.components.model_picker import build_model_picker, checked_pick, model_library
from pages.components.preflight_card import teacher_facts
from pages.components.zip_button import build_zip_button
from pages.gradio_patches import current_page

Way = Literal["branch", "pull request", "replace"]
Access = Literal["private", "public"]

_WAYS: list[tuple[str, Way]] = [
    ("Create a branch\nThe existing model is unchanged.", "branch"),
    ("Open a pull request\nThe repository's owners decide whether to merge it.", "pull request"),
    ("Replace the existing model\nThe old model remains in the repository's history.", "replace"),
]
_ACCESS: list[tuple[str, Access]] = [("Private", "private"), ("Public", "public")]
_EXISTING = ("taken", "theirs")
_ZIP = "You can download the ZIP."
_ANOTHER_VERSION = "To add another version, choose an option below."
_MAX_CARD_CHARS = 200_000


def build() -> None:
    """Build the page in the current Blocks context."""
    page_head(
        "Publish",
        "Upload a model to the Hugging Face Hub. It is loaded with other libraries before the upload, and downloaded "
        "again afterwards to verify it.",
    )
    filled: dict[str, Any] = {}
    with gr.Row(elem_classes="m2v-columns"):
        with gr.Column(scale=7, elem_classes="m2v-form"):
            with gr.Column(elem_classes="m2v-card"):
                picker = build_model_picker(with_demo=False)
                account = html(css="m2v-status")
                login_button()
                signed_in = build_sign_in().change
                filled["message"] = message_box()
            with gr.Column(visible=False, elem_classes="m2v-card") as filled["form"]:
                readers = html(css="m2v-status")
                name = gr.Textbox(
                    label="Repository", info="Your account and the name of the model.", max_lines=1, max_length=200
                )
                status = html(css="m2v-status")
                with gr.Column(visible=False, elem_classes="m2v-words") as taken:
                    way = gr.Radio(_WAYS, value=None, label="How to add this model", elem_classes="m2v-choices")
                    branch = gr.Textbox(
                        "v2",
                        label="Branch",
                        info="Created if it doesn't exist.",
                        max_lines=1,
                        max_length=80,
                        visible=False,
                    )
                access = gr.Radio(_ACCESS, value="private", label="Visibility", elem_classes="m2v-switch m2v-access")
                license_box = gr.Dropdown(
                    license_choices(), value=None, label="License", info=" ", allow_custom_value=True
                )
            cover = gr.Accordion("Model card", open=False, visible=False, elem_classes="m2v-card m2v-advanced")
            with cover, gr.Tabs(elem_classes="m2v-tabs"):
                with gr.Tab("Edit"):
                    hint("The name and license above are inserted automatically.")
                    card = gr.Textbox(
                        lines=16,
                        max_lines=28,
                        max_length=_MAX_CARD_CHARS,
                        label="README.md",
                        show_label=False,
                        elem_classes="m2v-paste m2v-readme",
                    )
                with gr.Tab("Preview"):
                    preview = gr.Markdown("", elem_classes="m2v-preview-card")
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            panel = build_job_panel("Publish", "publish")
            build_zip_button(picker.owner, picker.model_id)
    chosen = {"name": name, "way": way, "branch": branch, "access": access, "license": license_box, "card": card}
    panel.connect(submit, [picker.model_id, *chosen.values()], with_visitor=True)

    picked: list[Any] = [picker.owner, picker.model_id]
    filled |= {"cover": cover, "readers": readers, **chosen}
    # The form is filled in once per model: a second response would overwrite what the user has typed in the meantime.
    on(picker.model_id.change, fill_form, picked, filled)
    on([current_page().load, signed_in], show_account, name, {"account": account, "name": name})
    on([name.change, panel.done_id.change], check, [picker.owner, name], [status, taken])
    on(way.change, lambda chosen: gr.Textbox(visible=chosen == "branch"), way, branch)
    # The editor is not updated while the user may be typing; name and license are inserted on submit.
    on([card.change, name.change, license_box.change], preview_card, [name, license_box, card], preview)


def show_account(name: str, request: gr.Request, oauth: gr.OAuthToken | None) -> Values:
    """Show the account, and add it to the name; the rest of the form is unchanged."""
    who = visitor(oauth, request)
    shown: Values = {"account": account_html(who, _ZIP)}
    with suppress(InputError):  # shown below the name
        shown["name"] = full_name(who, name)
    return shown


@shows_errors("This model can't be shown", lambda message: {"message": message})
def fill_form(owner: str | None, model_id: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> Values:
    """Fill in the form for a model, with the choices of its last upload if that failed."""
    owner, who = known_owner(owner), visitor(oauth, request)
    try:
        record = model_library().get_own(model_id or "", owner)
        failed = _failed_upload(owner, record.id)
        filled = _filled(owner, who, record, failed)
        notes = _form_of(owner, record).notes()
        readers = notice("info", "Requirements for loading this model", notes) if notes else ""
        shown = {"form": gr.Column(visible=True), "cover": gr.Accordion(visible=True)}
        return {**shown, "message": "", "readers": readers, **filled}
    except NotFoundError:
        return {"form": gr.Column(visible=False), "cover": gr.Accordion(visible=False), "message": "", "readers": ""}


def check(owner: str | None, name: str, request: gr.Request, oauth: gr.OAuthToken | None) -> list[Any]:
    """Show the status of the name while the user types, and the choices for an existing repository."""
    who = visitor(oauth, request)
    try:
        is_taken = who.account is not None and bool((name or "").strip()) and permitted(who, name)[1] in _EXISTING
    except InputError:
        is_taken = False
    except HubError:  # unknown, which the status shows; the choices are unchanged
        return [name_html(who, name), gr.skip()]
    status = name_html(who, name, published_repos(owner), _ANOTHER_VERSION)
    return [status, gr.Column(visible=is_taken)]


def preview_card(name: str, license: str | None, card: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
    """Render the card with the current name and license."""
    try:
        name = full_name(visitor(oauth, request), name)
    except InputError:  # shown below the name
        return card_body(card)
    return card_body(rename_card(card, name, license or None))


def submit(
    owner: str,
    who: Visitor,
    model_id: str | None,
    name: str,
    way: Way | None,
    branch: str,
    access: Access,
    license: str | None,
    card: str,
) -> str:
    """Validate the form, submit a job that publishes a model, and return the job's id.

    Raises:
        M2VError: The model, name or license is invalid, the repository exists, or the queue is full.
    """
    record = model_library().get_own(*checked_pick(owner, model_id))
    repo_id, found = permitted(who, name)
    if not license or not license.strip():
        raise InputError(
            "No license is selected. Choose the license of the teacher, which the model inherits; see the teacher's "
            "page on the Hub."
        )
    parameters: dict[str, Any] = {"repo_id": repo_id, "private": access != "public"}
    if found == "theirs" and way != "pull request":
        raise RepoExistsError(f"{repo_id} belongs to somebody else. Open a pull request, or enter another name.")
    if found in _EXISTING:
        parameters |= _added(who, repo_id, way, (branch or "").strip())
    if len(card or "") > _MAX_CARD_CHARS:
        raise InputError(f"The model card is longer than {_MAX_CARD_CHARS:,} characters. Shorten it.")
    parameters |= {
        "model": str(model_library().folder(record.id, owner)),
        "maps": str(data_folder() / "maps"),
        "model_id": record.id,
        "model_name": record.name,
        "license": license.strip(),
    }
    texts = {"card": [rename_card(card or _card(owner, record, repo_id, None), repo_id, license.strip())]}
    return job_store().submit(JobSpec("publish", parameters, texts, repo_id), owner, secrets=secrets_of(who))


def _added(who: Visitor, repo_id: str, way: Way | None, branch: str) -> dict[str, Any]:
    """Parameters for adding a model to an existing repository."""
    if way == "pull request":
        return {"create_pr": True}
    if way == "replace":
        return {"overwrite": True}
    if way != "branch":
        raise RepoExistsError(f"{repo_id} already exists. Choose how to add this model, or enter another name.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", branch) or branch.endswith((".lock", ".")):
        raise InputError(f"{branch!r} is not a valid branch name. Use letters, digits, '-', '_' and '.'.")
    if permitted(who, repo_id, branch)[1] == "taken":
        raise RepoExistsError(f"{repo_id} already has a branch {branch}. Choose another branch name.")
    return {"revision": branch}


def _failed_upload(owner: str, model_id: str) -> Job | None:
    """The newest upload of this model, if it failed or was cancelled."""
    jobs = (job for job in job_store().list_jobs(owner) if job.kind == "publish")
    newest = next((job for job in jobs if job.parameters.get("model_id") == model_id), None)
    return newest if newest is not None and newest.state in ("failed", "cancelled") else None


def _filled(owner: str, who: Visitor, record: ModelRecord, failed: Job | None) -> Values:
    """Initial name, way, branch, access, license and card for a model."""
    if failed is not None:
        chosen = failed.parameters
        ways = {"branch": "revision", "pull request": "create_pr", "replace": "overwrite"}
        way = next((way for way, key in ways.items() if chosen.get(key)), None)
        license, repo_id = chosen.get("license"), str(chosen["repo_id"])
        card = "".join(job_store().texts(failed.id, owner).get("card", ())) or _card(owner, record, repo_id, license)
        access = "private" if chosen.get("private", True) else "public"
        box = gr.Dropdown(license_choices(license), value=license, info="Your previous choice.")
        branch = chosen.get("revision") or "v2"
        return {"name": repo_id, "way": way, "branch": branch, "access": access, "license": box, "card": card}
    license, info = _inherited(owner, who, record)
    name = re.sub(r"[^A-Za-z0-9._]+|--+|\.\.+", "-", record.name).strip("-.")[:90] or "my-model"
    repo_id = f"{who.account.name}/{name}" if who.account is not None else name
    box = gr.Dropdown(license_choices(license), value=license, info=info)
    card = _card(owner, record, repo_id, license)
    return {"name": repo_id, "way": None, "branch": "v2", "access": "private", "license": box, "card": card}


def _inherited(owner: str, who: Visitor, record: ModelRecord) -> tuple[str | None, str]:
    """Return a model's license and its source."""
    stated = stated_license(FrontMatter.of(model_library().folder(record.id, owner) / CARD).fields())
    if stated:
        return stated, "From the model card."
    if record.teacher:
        try:
            license = teacher_facts(record.teacher, who.token).license
        except HubError:
            return None, "The Hub can't be reached. Choose the license of the teacher, which the model inherits."
        except M2VError:
            return (
                None,
                "The teacher can't be found, or is private. Choose its license, which the model inherits.",
            )
        if license:
            return license, "Inherited from the teacher."
        return None, "The teacher does not state a license. Choose one."
    return None, "The teacher is unknown. Choose its license, which the model inherits."


def _form_of(owner: str, record: ModelRecord) -> Form:
    return Form.of(model_library().load(record.id, owner).stored())


def _card(owner: str, record: ModelRecord, repo_id: str, license: str | None) -> str:
    try:
        text = (model_library().folder(record.id, owner) / CARD).read_text(encoding="utf-8-sig")[:_MAX_CARD_CHARS]
    except (FileNotFoundError, UnicodeDecodeError):
        text = model_card(
            model_name=repo_id,
            dim=record.dim,
            n_tokens=record.n_tokens,
            form=_form_of(owner, record),
            base_model_name=record.teacher,
        )
    return rename_card(text, repo_id, license)
