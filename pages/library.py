"""Library: a user's models, one of them selected, and ways to add others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from m2v_core.errors import InputError, NotFoundError
from m2v_core.studio.library import ModelRecord
from pages.components import (
    Values,
    hint,
    html,
    is_space,
    job_store,
    known_owner,
    message_box,
    model_picker,
    notice,
    on,
    owner_state,
    page_head,
    shows_errors,
    upload_box,
)
from pages.components.model_difference import build_model_difference
from pages.components.model_facts import facts_html, snippet_html
from pages.components.model_picker import model_library, pick_linked, refused_html
from pages.components.model_table import build_model_table, picked_row, table_html
from pages.components.served_files import delete_model
from pages.components.share_card import build_share_card
from pages.components.waiting import following
from pages.components.zip_button import connect_zip_buttons
from pages.gradio_patches import current_page
from pages.html import Markup, render

Way = Literal["upload", "hub", "folder"]

_TICK_SECONDS = 2.0
_SUFFIXES = [".zip", ".safetensors", ".json", ".md"]


def build() -> None:
    """Build the page in the current Blocks context."""
    page_head(
        "Library", "The models that you made or opened. The model that you select here is selected on every page."
    )
    owner = owner_state()
    shown: dict[str, Any] = {}
    with gr.Row(elem_classes="m2v-columns m2v-library"):
        with gr.Column(elem_classes="m2v-card m2v-shelf"):
            shown["message"], shown["progress"] = message_box(), message_box()
            models = build_model_table()
        build_model_difference(owner, models)
        with (
            gr.Column(elem_classes="m2v-side"),
            gr.Column(visible=False, elem_classes="m2v-card m2v-run") as shown["detail"],
        ):
            shown["facts"] = html()
            download, made = gr.Button("Download ZIP", elem_classes="m2v-get"), message_box()
            share = gr.Column(elem_classes="m2v-words")
            with gr.Accordion("Download for other programs", open=False, elem_classes="m2v-more"):
                hint(
                    "ONNX runs in browsers with transformers.js, and elsewhere with onnxruntime. Word vectors are a "
                    "text file for gensim and spaCy."
                )
                with gr.Row(elem_classes="m2v-buttons"):
                    onnx, word2vec = gr.Button("ONNX"), gr.Button("Word vectors")
                exported = message_box()
            with gr.Accordion("Rename or delete", open=False, elem_classes="m2v-more"):
                name = gr.Textbox(label="Name", elem_classes="m2v-name")  # without max_length, which would truncate
                with gr.Row(elem_classes="m2v-buttons"):
                    rename_button, delete_button = gr.Button("Rename"), gr.Button("Delete")
                shown["done"] = message_box()
                with gr.Column(visible=False, elem_classes="m2v-confirm") as confirm:
                    question = html()
                    with gr.Row(elem_classes="m2v-buttons"):
                        confirm_button = gr.Button("Delete model", elem_classes="m2v-danger")
                        cancel_button = gr.Button("Cancel")
            with gr.Accordion("Use it from Python", open=False, elem_classes="m2v-more"):
                shown["snippet"] = html(css="m2v-snippet")
        with gr.Column(elem_classes="m2v-card m2v-add"):
            ways: list[tuple[str, Way]] = [("Upload", "upload"), ("From the Hub", "hub"), ("From a folder", "folder")]
            way = gr.Radio(
                ways[:2] if is_space() else ways, value="upload", label="Add a model", elem_classes="m2v-switch"
            )
            with gr.Column(elem_classes="m2v-words") as files_box:
                hint(
                    "The ZIP of a model, or the files in its folder: config.json, tokenizer.json and model.safetensors."
                )
                many: dict[str, Any] = {"file_count": "multiple", "show_label": False}
                upload = upload_box("ZIP or files of a model", _SUFFIXES, height=140, **many)
            with gr.Column(visible=False, elem_classes="m2v-words") as name_box:
                place = gr.Textbox(label="Hub id", placeholder="minishlab/potion-base-8M")
                with gr.Row(elem_classes="m2v-buttons"):
                    open_button = gr.Button("Open")
            added = message_box()
    timer = gr.Timer(_TICK_SECONDS, active=False)
    shown_id, listed = gr.State(None), gr.State("")

    with share:
        build_share_card(owner, shown_id)
    shown |= {"models": models, "name": name, "confirm": confirm}
    shown |= {"timer": timer, "shown_id": shown_id, "listed": listed}
    on(current_page().load, attach, owner, {"owner": owner, **shown})
    on(timer.tick, refresh, [owner, shown_id, listed], shown)
    on(models.click, pick_clicked, [owner, models], shown, latest=True)
    on(way.change, show_way, way, [files_box, name_box, place, added])
    on(upload.upload, add_upload, [owner, upload], {"added": added, "upload": upload, **shown})
    on([open_button.click, place.submit], add_named, [owner, way, place], {"added": added, "place": place, **shown})
    # They act on the model whose facts are shown, even if another was clicked in the meantime.
    on([rename_button.click, name.submit], rename, [owner, shown_id, name], shown)
    on(delete_button.click, ask, [owner, shown_id], [confirm, question])
    on(cancel_button.click, lambda: gr.Column(visible=False), None, confirm)
    deleted = on(confirm_button.click, delete, [owner, shown_id], shown)
    on(deleted.then, lambda: "", None, added)
    connect_zip_buttons(
        [(None, download, made), ("onnx", onnx, exported), ("word2vec", word2vec, exported)], owner, shown_id
    )
    on(shown_id.change, lambda: ("", ""), None, [made, exported])


def attach(owner: str | None, request: gr.Request) -> Values:
    """Return the values of the page when it opens; `?model=ID` in the URL selects that model."""
    owner = known_owner(owner)
    return {"owner": owner, **values(owner, message=pick_linked(owner, request))}


def refresh(owner: str | None, shown_id: str | None, listed: str) -> Values:
    """Update the page while a model is being made: the progress, and the models if they changed.

    Messages, text fields and the selection are unchanged, because the user may be editing them.
    """
    owner = known_owner(owner)
    now = values(owner, shown_id)
    del now["message"]
    if now["shown_id"] != shown_id:  # the first model was added, or the shown model deleted
        return now
    updates = {name: now[name] for name in ("progress", "timer", "listed")}
    # Without `picked`: another model may have been clicked.
    return updates if now["listed"] == listed else updates | {"models": gr.HTML(rows=now["listed"])}


def pick_clicked(owner: str | None, value: object) -> Values:
    """Select the model of the clicked row, and update the page."""
    return pick(owner, picked_row(value))


def pick(owner: str | None, model_id: str | None) -> Values:
    """Select a model, and update the page."""
    owner = known_owner(owner)
    if failure := model_picker.pick(owner, model_id):
        return values(owner, message=failure)
    now = values(owner, model_id)
    return now | {"models": gr.HTML(rows=now["listed"])}  # without `picked`, as in `refresh`


def show_way(way: Way) -> list[Any]:
    """Update the fields and the message for one way of adding a model."""
    label, placeholder = {
        "folder": ("Path of the model's folder", "~/models/my-model"),
    }.get(way, ("Hub id", "minishlab/potion-base-8M"))
    return [
        gr.Column(visible=way == "upload"),
        gr.Column(visible=way != "upload"),
        gr.Textbox(label=label, placeholder=placeholder, value=""),
        "",
    ]


@shows_errors("The model can't be added", lambda message: {"added": message, "upload": None})
def add_upload(owner: str | None, paths: list[str] | None) -> Iterator[Values]:
    """Add uploaded files; yield the progress, then the values of the page."""
    owner = known_owner(owner)

    def take() -> ModelRecord:
        try:
            return add_files(owner, [Path(path) for path in paths or ()])
        finally:
            for path in paths or ():
                with suppress(OSError):
                    Path(path).unlink()

    yield from _adding(owner, take, "Opening the files", "files", {"upload": None})


def add_files(owner: str, paths: list[Path]) -> ModelRecord:
    """Add the model in one ZIP archive, or in the files of a model's folder.

    Raises:
        M2VError: The files are not a model, or the library rejects it.
    """
    archives = [path for path in paths if path.suffix.lower() == ".zip"]
    if len(archives) == 1 == len(paths):
        return model_library().add_from_zip(archives[0], owner)
    if archives or not paths:
        raise InputError("Upload either one ZIP archive or the files of one model's folder.")
    return model_library().add_from_files({path.name: path for path in paths}, owner)


@shows_errors("The model can't be added", lambda message: {"added": message})
def add_named(owner: str | None, way: Way, place: str) -> Iterator[Values]:
    """Add a repository or folder; yield the progress, then the values of the page."""
    owner = known_owner(owner)
    place = (place or "").strip()

    def take() -> ModelRecord:
        if not place:
            raise InputError("The field is empty. Type a Hub id such as minishlab/potion-base-8M.")
        if way == "folder":
            # Requests that bypass the page must not read files of the server.
            if is_space():
                raise InputError("Folders can be opened only where the app runs on your own computer.")
            return model_library().add_from_folder(place, owner)
        return model_library().add_from_hub(place, owner)

    what = "Opening the folder" if way == "folder" else "Opening the model from the Hub"
    yield from _adding(owner, take, what, way, {"place": ""})


def _adding(owner: str, take: Callable[[], ModelRecord], what: str, kind: str, emptied: Values) -> Iterator[Values]:
    """Yield the progress while a model is added, then the page with the new model and empty fields."""
    record = yield from following(take, what, f"add {kind}", lambda message: {"added": message})
    yield {"added": _added(record), **emptied, **_picked(owner, record)}


@shows_errors("The model can't be renamed", lambda message: {"done": message})
def rename(owner: str | None, model_id: str | None, name: str) -> Values:
    """Rename a model, and update the page."""
    owner = known_owner(owner)
    record = model_library().rename(model_id or "", name, owner)
    return values(owner, record.id, done=notice("good", f"Renamed to {record.name}"))


@shows_errors("The model can't be deleted", lambda message: [gr.Column(visible=True), message])
def ask(owner: str | None, model_id: str | None) -> list[Any]:
    """Ask for confirmation before deleting a model."""
    record = model_library().get_own(model_id or "", known_owner(owner))
    what = "its files and the run that made it" if record.source == "job" else "its copy in this library"
    warning = f"This deletes {what}, and can't be undone. Download the ZIP to keep the model."
    return [
        gr.Column(visible=True),
        notice(
            "error",
            f"Delete {record.name}?",
            [warning],
        ),
    ]


def delete(owner: str | None, model_id: str | None) -> Values:
    """Delete a model, and update the page."""
    owner = known_owner(owner)
    message = _delete(owner, model_id or "")
    return values(owner, model_id, message=message)


@shows_errors("The model can't be deleted")
def _delete(owner: str, model_id: str) -> str:
    return notice("good", f"{delete_model(owner, model_id)} was deleted")


def values(owner: str, model_id: str | None = None, message: str = "", done: str = "") -> Values:
    """Return the values of the page by component name."""
    contents = model_library().contents(owner)
    records = contents.models
    picked = contents.picked if contents.picked in records else next(iter(records), None)
    record = next((record for record in records if record.id == model_id), picked)
    jobs = job_store().list_jobs(owner)
    is_busy = any(job.kind == "distill" and not job.is_finished for job in jobs)
    progress = notice("info", "A model is being made", ["It appears here when it is ready."]) if is_busy else Markup()
    empty = Markup() if records or is_busy else empty_library_html(contents.demo is not None)
    listed = table_html(records, jobs)
    return {
        "message": message,
        "progress": progress + refused_html(contents.refused) + empty,
        "models": gr.HTML(rows=listed, picked=record.id if record else None),
        "detail": gr.Column(visible=record is not None),
        "facts": facts_html(record) if record else "",
        "name": record.name if record else "",
        "snippet": snippet_html(record, owner) if record else "",
        "confirm": gr.Column(visible=False),
        "done": done,
        "timer": gr.Timer(active=is_busy),
        "shown_id": record.id if record else None,
        "listed": listed,
    }


def _picked(owner: str, record: ModelRecord) -> Values:
    with suppress(NotFoundError):  # another tab deleted it
        model_library().pick(record.id, owner)
    return values(owner, record.id)


def _added(record: ModelRecord) -> str:
    return notice(
        "good", f"{record.name} is in your library", [f"{record.n_tokens:,} tokens, {record.dim:,} dimensions."]
    )


def empty_library_html(has_demo: bool) -> Markup:
    """Return instructions for an empty library; the demo model is not listed."""
    return render(
        '<div class="m2v-empty"><h2>No model yet</h2><p class="m2v-next">'
        '<a href="distill">Distill your first model</a>, '
        "which takes a minute or two, or add an existing one below."
        '{% if has_demo %} To try the app first, <a href="explore">explore the demo model</a>.{% endif %}</p></div>',
        has_demo=has_demo,
    )
