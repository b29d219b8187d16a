"""Library: the models one has, one of them picked, and ways to take in others."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.context import Context

from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.library import ModelRecord
from m2v_core.persistence.export import ExportFormat
from pages.components import (
    error_notice,
    format_bytes,
    is_space,
    job_store,
    known_owner,
    notice,
    owner_state,
)
from pages.components.archive import archive_of, delete_model, file_name
from pages.components.model_picker import model_library

Way = Literal["upload", "hub", "folder"]

_TICK_SECONDS = 2.0
_SUFFIXES = [".zip", ".safetensors", ".json", ".md"]

_SETTINGS = {
    "pca_dims": "dimensions",
    "weighting": "weighting",
    "sif_coefficient": "SIF coefficient",
    "pooling": "pooling",
    "quantize_to": "precision",
    "vocabulary_quantization": "shared rows",
    "token_remove_pattern": "left out",
    "device": "device",
    "recipe": "recipe",
}


def build() -> None:
    """The page, in the current Blocks context."""
    gr.HTML(
        '<header class="m2v-head"><h1>Library</h1><p>The models you have made or opened. '
        "The one you pick here is picked on every page.</p></header>",
        apply_default_css=False,
    )
    owner = owner_state()
    with gr.Row(elem_classes="m2v-columns m2v-library"):
        with gr.Column(elem_classes="m2v-card m2v-shelf"):
            message = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
            models = gr.Radio([], label="Your models", visible=False, elem_classes="m2v-choices m2v-models")
        with (
            gr.Column(elem_classes="m2v-side"),
            gr.Column(visible=False, elem_classes="m2v-card m2v-run") as detail,
        ):
            facts = gr.HTML("", apply_default_css=False)
            download = gr.Button("Download ZIP", elem_classes="m2v-get")
            archive = gr.DownloadButton("ZIP", elem_id="m2v-archive")
            done = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
            with gr.Accordion("Download for other programs", open=False, elem_classes="m2v-more"):
                gr.HTML(
                    '<p class="m2v-hint">ONNX runs in browsers and everywhere, with transformers.js or onnxruntime. '
                    "Word vectors are a text file for gensim and spaCy.</p>",
                    apply_default_css=False,
                )
                with gr.Row(elem_classes="m2v-buttons"):
                    onnx = gr.Button("ONNX")
                    word2vec = gr.Button("Word vectors")
            with gr.Accordion("Rename or delete", open=False, elem_classes="m2v-more"):
                name = gr.Textbox(label="Name", max_length=80, elem_classes="m2v-name")
                with gr.Row(elem_classes="m2v-buttons"):
                    rename_button = gr.Button("Rename")
                    delete_button = gr.Button("Delete")
                with gr.Column(visible=False, elem_classes="m2v-confirm") as confirm:
                    question = gr.HTML("", apply_default_css=False)
                    with gr.Row(elem_classes="m2v-buttons"):
                        really = gr.Button("Delete for good", elem_classes="m2v-danger")
                        keep = gr.Button("Keep it")
            with gr.Accordion("Use it from Python", open=False, elem_classes="m2v-more"):
                snippet = gr.HTML("", apply_default_css=False, elem_classes="m2v-snippet")
        with gr.Column(elem_classes="m2v-card m2v-add"):
            ways: list[tuple[str, Way]] = [("Upload", "upload"), ("From the Hub", "hub"), ("From a folder", "folder")]
            way = gr.Radio(
                ways[:2] if is_space() else ways, value="upload", label="Open another", elem_classes="m2v-switch"
            )
            with gr.Column(elem_classes="m2v-words") as upload_box:
                gr.HTML(
                    '<p class="m2v-hint">The ZIP of a model, or the files of its folder: config.json, '
                    "tokenizer.json and model.safetensors.</p>",
                    apply_default_css=False,
                )
                upload = gr.File(
                    file_count="multiple",
                    file_types=_SUFFIXES,
                    label="A model's ZIP or files",
                    show_label=False,
                    height=140,
                    elem_classes="m2v-upload",
                )
            with gr.Column(visible=False, elem_classes="m2v-words") as name_box:
                place = gr.Textbox(label="Hub id", placeholder="minishlab/potion-base-8M")
                with gr.Row(elem_classes="m2v-buttons"):
                    open_button = gr.Button("Open")
            added = gr.HTML("", apply_default_css=False, elem_classes="m2v-message")
    timer = gr.Timer(_TICK_SECONDS, active=False)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    shown: list[Any] = [message, models, detail, facts, name, snippet, confirm, done, timer]
    page = Context.root_block
    assert page is not None  # components can't be made outside one
    page.load(attach, owner, [owner, *shown], **quiet)
    timer.tick(refresh, [owner, models], shown, **quiet)
    models.input(pick, [owner, models], shown, **quiet)
    way.change(show_way, way, [upload_box, name_box, place, added], **quiet)
    adding: dict[str, Any] = quiet | {"show_progress": "minimal", "show_progress_on": [added]}
    upload.upload(add_upload, [owner, upload], [added, upload, *shown], **adding)
    for event in (open_button.click, place.submit):
        event(add_named, [owner, way, place], [added, place, *shown], **adding)
    rename_button.click(rename, [owner, models, name], shown, **quiet)
    name.submit(rename, [owner, models, name], shown, **quiet)
    delete_button.click(ask, [owner, models], [confirm, question], **quiet)
    keep.click(lambda: gr.Column(visible=False), None, confirm, **quiet)
    really.click(delete, [owner, models], shown, **quiet).then(lambda: "", None, added, **quiet)
    for button, make in (
        (download, make_zip),
        (onnx, functools.partial(make_zip, format="onnx")),
        (word2vec, functools.partial(make_zip, format="word2vec")),
    ):
        button.click(make, [owner, models], [archive, done], **quiet).success(None, js=_FETCH, **quiet)


def attach(owner: str | None, request: gr.Request) -> list[Any]:
    """What the page shows when it opens; `?model=ID` in its address picks that model."""
    owner = known_owner(owner)
    wanted = str(request.query_params.get("model", ""))
    if not wanted:
        return [owner, *values(owner)]
    try:
        model_library().pick(wanted, owner)
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return [owner, *values(owner, message=error_notice(error, "This model can't be shown"))]
    return [owner, *values(owner)]


def refresh(owner: str | None, model_id: str | None) -> list[Any]:
    """What the page shows a while later; what one may be typing into stays as it is."""
    message, models, *rest = values(known_owner(owner), model_id)
    if model_id is None:
        return [message, models, *rest]
    return [message, models, *[gr.skip()] * (len(rest) - 1), rest[-1]]


def pick(owner: str | None, model_id: str | None) -> list[Any]:
    """What the page shows once a model is picked."""
    owner = known_owner(owner)
    try:
        model_library().pick(model_id or "", owner)
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return values(owner, message=error_notice(error, "This model can't be picked"))
    return values(owner, model_id)


def show_way(way: Way) -> list[Any]:
    """Upload box, name box and its field for one way of opening a model."""
    label, placeholder = {
        "folder": ("Path of the model's folder", "~/models/my-model"),
    }.get(way, ("Hub id", "minishlab/potion-base-8M"))
    return [
        gr.Column(visible=way == "upload"),
        gr.Column(visible=way != "upload"),
        gr.Textbox(label=label, placeholder=placeholder, value=""),
        "",
    ]


def add_upload(owner: str | None, paths: list[str] | None) -> list[Any]:
    """What the page shows once files have been uploaded: message, empty box, the rest."""
    owner = known_owner(owner)
    try:
        record = take_upload(owner, [Path(path) for path in paths or ()])
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return [error_notice(error, "This can't be opened"), None, *[gr.skip()] * 9]
    finally:
        for path in paths or ():
            with suppress(OSError):
                Path(path).unlink()
    return [_added(record), None, *_picked(owner, record)]


def take_upload(owner: str, paths: list[Path]) -> ModelRecord:
    """The model in one ZIP archive, or in the files of a model's folder.

    Raises:
        M2VError: Nothing of the kind, or it can't be taken in.
    """
    archives = [path for path in paths if path.suffix.lower() == ".zip"]
    if len(archives) == 1 == len(paths):
        return model_library().add_from_zip(archives[0], owner)
    if archives or not paths:
        raise InputError("Upload one ZIP archive, or the files of one model's folder, but not both at once.")
    return model_library().add_from_files({path.name: path for path in paths}, owner)


def add_named(owner: str | None, way: Way, place: str) -> list[Any]:
    """What the page shows once a repository or folder was named: message, its field, the rest."""
    owner = known_owner(owner)
    place = (place or "").strip()
    try:
        if not place:
            raise InputError("Nothing is named yet. Type a Hub id such as minishlab/potion-base-8M.")
        if way == "folder":
            # A stranger must not look around on the server, whatever the page offers.
            if is_space():
                raise InputError("Folders are opened only where the app runs on your own computer.")
            record = model_library().add_from_folder(place, owner)
        else:
            record = model_library().add_from_hub(place, owner)
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return [error_notice(error, "This can't be opened"), gr.skip(), *[gr.skip()] * 9]
    return [_added(record), "", *_picked(owner, record)]


def rename(owner: str | None, model_id: str | None, name: str) -> list[Any]:
    """What the page shows once a model has a new name."""
    owner = known_owner(owner)
    try:
        record = model_library().rename(model_id or "", name, owner)
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return [*[gr.skip()] * 7, error_notice(error, "It keeps its name"), gr.skip()]
    return values(owner, record.id, done=notice("good", f"It is called {record.name} now"))


def ask(owner: str | None, model_id: str | None) -> list[Any]:
    """The question before a model is deleted."""
    try:
        record = model_library().get(model_id or "", known_owner(owner))
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return [gr.Column(visible=True), error_notice(error, "There is nothing to delete")]
    what = "Its files and the run that made it" if record.source == "job" else "Its copy in this library"
    return [
        gr.Column(visible=True),
        notice("error", f"Delete {record.name}?", [f"{what} can't be brought back. Download the ZIP to keep it."]),
    ]


def delete(owner: str | None, model_id: str | None) -> list[Any]:
    """What the page shows once a model is gone."""
    owner = known_owner(owner)
    try:
        name = delete_model(owner, model_id or "")
    except Exception as error:  # the last frame of ours: Gradio would show none of it
        return values(owner, model_id, message=error_notice(error, "It could not be deleted"))
    return values(owner, message=notice("good", f"{name} is deleted"))


def make_zip(owner: str | None, model_id: str | None, format: ExportFormat | None = None) -> list[Any]:
    """The model's archive, of its own files or in another format, for the browser to fetch."""
    try:
        return [gr.DownloadButton(value=str(archive_of(known_owner(owner), model_id or "", format))), ""]
    except M2VError as error:
        raise gr.Error(escape(str(error))) from error  # shown as HTML


def values(owner: str, model_id: str | None = None, message: str = "", done: str = "") -> list[Any]:
    """A value for each component: message, models, detail, facts, name, snippet, confirm, done, timer."""
    records = model_library().list_models(owner)
    record = next((record for record in records if record.id == model_id), None) or model_library().picked(owner)
    is_busy = any(not job.is_finished for job in job_store().list_jobs(owner))
    if not message and is_busy:
        message = notice("info", "A model is being made", ["It appears here when it is ready."])
    if not records and not is_busy:
        message += _EMPTY
    return [
        message,
        gr.Radio(
            choices=[(model_label(other), other.id) for other in records],
            value=record.id if record else None,
            label=f"Your models: {len(records)}",
            visible=bool(records),
        ),
        gr.Column(visible=record is not None),
        facts_html(record) if record else "",
        record.name if record else "",
        snippet_html(record, owner) if record else "",
        gr.Column(visible=False),
        done,
        gr.Timer(active=is_busy),
    ]


def _picked(owner: str, record: ModelRecord) -> list[Any]:
    with suppress(NotFoundError):  # deleted meanwhile, in another tab
        model_library().pick(record.id, owner)
    return values(owner, record.id)


def _added(record: ModelRecord) -> str:
    return notice(
        "good", f"{record.name} is in your library", [f"{record.n_tokens:,} tokens, {record.dim:,} dimensions."]
    )


def model_label(record: ModelRecord) -> str:
    """A model in two lines: its name, and what tells it from others."""
    parts = [format_bytes(record.n_bytes), f"{record.dim:,} dimensions", record.dtype]
    if record.teacher:
        parts.append(record.teacher.rstrip("/\\").rpartition("/")[2])
    parts.append(_date(record))
    return f"{record.name}\n{' · '.join(parts)}"


def facts_html(record: ModelRecord) -> str:
    """The picked model: name, teacher, numbers, recipe, and where to go with it."""
    numbers = [
        ("Size", format_bytes(record.n_bytes)),
        ("Tokens", f"{record.n_tokens:,}"),
        ("Dimensions", f"{record.dim:,}"),
        ("Precision", record.dtype),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in numbers)
    origin = ("Recipe", _settings_text(record.recipe) or "The usual settings")
    if record.source != "job":
        origin = ("From", f"the Hub, {record.origin}" if record.source == "hub" else record.origin or "files")
    lines = [("Teacher", record.teacher or "Not stated"), origin, ("Added", _date(record))]
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in lines)
    return (
        f'<p class="m2v-job-title">Picked</p><h2 class="m2v-model-name">{escape(record.name)}</h2>'
        f'<dl class="m2v-facts">{cells}</dl><dl class="m2v-lines">{rows}</dl>'
        f'<nav class="m2v-links" aria-label="Work with it"><a href="explore?model={escape(record.id)}">Explore</a>'
        f'<a href="compare?model={escape(record.id)}">Compare speed</a>'
        f'<a href="evaluate?model={escape(record.id)}">Evaluate</a></nav>'
    )


def _settings_text(recipe: Mapping[str, Any]) -> str:
    """How a distillation differs from the usual, in one line."""
    words = {True: "subwords and own words", False: "own words only"}.get(recipe.get("use_subword", "none"), "")
    settings = [f"{label} {recipe[name]}" for name, label in _SETTINGS.items() if recipe.get(name) not in (None, "")]
    return " · ".join([words, *settings] if words else settings)


def snippet_html(record: ModelRecord, owner: str) -> str:
    """Python that uses the model: from the ZIP, and through this app."""
    local = (
        "from m2v_core import StaticModel\n\n"
        f"model = StaticModel.from_pretrained({file_name(record)!r})  # the ZIP, unpacked\n"
        'embeddings = model.encode(["a sentence"])'
    )
    remote = (
        "from gradio_client import Client\n\n"
        'client = Client("http://127.0.0.1:7860")  # this app\'s address\n'
        "embeddings = client.predict(\n"
        f'    owner="{owner}",  # your key\n'
        f'    model_id="{record.id}",\n'
        '    texts=["a sentence"],\n'
        '    api_name="/encode",\n'
        ")"
    )
    return (
        f"<p>On your machine:</p><pre>{escape(local)}</pre>"
        "<p>Through this app. The key opens all of your library, so keep it to yourself:</p>"
        f"<pre>{escape(remote)}</pre>"
    )


def _date(record: ModelRecord) -> str:
    return datetime.fromtimestamp(record.added_at, timezone.utc).strftime("%d %b %Y").lstrip("0")


_EMPTY = (
    '<div class="m2v-empty"><h2>No model yet</h2><p class="m2v-next"><a href="distill">Distill your first one</a>: '
    "the bundled teacher takes about a minute. Or open one you have, below.</p></div>"
)
# The archive is made when it is asked for; then its link, which nobody sees, is followed.
_FETCH = """() => setTimeout(() => {
  const archive = document.querySelector('#m2v-archive');
  (archive?.closest('a') ?? archive?.querySelector('a') ?? archive)?.click();
}, 150)"""
