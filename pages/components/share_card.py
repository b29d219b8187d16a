"""The share card of a model: a button that draws it, the image, and its download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from m2v_core.exploration.share_card import draw_share_card
from m2v_core.exploration.topics import find_topics
from m2v_core.studio.library import ModelRecord
from pages.components import Values, data_folder, format_bytes, html, job_store, known_owner, on, shows_errors
from pages.components.model_picker import checked_pick, model_library, picked_words
from pages.components.result_card import comparisons
from pages.components.served_files import file_name, serve
from pages.components.waiting import following
from pages.components.word_map import best_points, map_data


def build_share_card(owner: gr.BrowserState, model_id: gr.State) -> None:
    """Add the button and the image to the current Blocks context, and connect them."""
    button, message = gr.Button("Create share card", elem_classes="m2v-get"), html(css="m2v-status")
    image = gr.Image(label="Share card", visible=False, show_label=False, buttons=[], elem_classes="m2v-share")
    download = gr.DownloadButton("Download PNG", visible=False)
    shown = {"message": message, "image": image, "download": download}
    on(button.click, show_share_card, [owner, model_id], shown)
    on(model_id.change, lambda: _hidden(""), None, shown)


def _hidden(message: str) -> Values:
    return {"message": message, "image": gr.Image(visible=False), "download": gr.DownloadButton(visible=False)}


@shows_errors("The share card could not be drawn", _hidden)
def show_share_card(owner: str | None, model_id: str | None) -> Iterator[Values]:
    """Yield the progress, then the image and its download."""
    picked_id, known = checked_pick(known_owner(owner), model_id)
    path = yield from following(
        lambda: _draw(known, picked_id), "Drawing the share card", "share card", lambda sign: {"message": sign}
    )
    yield {
        "message": "",
        "image": gr.Image(str(path), visible=True),
        "download": gr.DownloadButton("Download PNG", value=str(path), visible=True),
    }


def _draw(owner: str, model_id: str) -> Path:
    record = model_library().get(model_id, owner)
    data = map_data(picked_words(owner, model_id))
    topics = find_topics(data.rows, data.texts, data.ranks, data_folder() / "maps")
    image = draw_share_card(record.name, record.teacher or "", share_facts(record, owner), best_points(data), topics)
    return serve(f"{file_name(record)}-card.png", lambda path: path.write_bytes(image))


def share_facts(record: ModelRecord, owner: str) -> list[tuple[str, str]]:
    """The numbers on a model's share card, each with its meaning: those that its run measured, or else its size."""
    job = next((job for job in job_store().list_jobs(owner) if job.id == record.id), None)
    if job is None or not job.outcome.get("measured"):
        return [
            (format_bytes(record.n_bytes), "on disk"),
            (f"{record.n_tokens:,} tokens", f"{record.dim:,} dimensions"),
        ]
    return [(part.model, part.summary) for part in comparisons(job.outcome, record.id) if part.summary]
