"""HTML views of a model in the library: facts, date and Python code."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from m2v_core.studio.library import ModelRecord
from pages.components import format_bytes, rows_html
from pages.components.model_picker import recipe_name
from pages.components.served_files import file_name
from pages.gradio_patches import current_address
from pages.html import Markup, render

_NUMBER = re.compile(r" \(\d+\)$")

_SETTINGS = {
    "pca_dims": "dimensions",
    "weighting": "weighting",
    "sif_coefficient": "SIF coefficient",
    "pooling": "pooling",
    "quantize_to": "precision",
    "vocabulary_quantization": "shared rows",
    "token_remove_pattern": "dropped tokens",
    "device": "device",
}


def model_dates(records: Sequence[ModelRecord]) -> list[str]:
    """Return the date of each model.

    Models with the same name (ignoring a "(2)" added by the library) and date also show the time.
    """
    same = Counter((_NUMBER.sub("", record.name), _date(record)) for record in records)
    return [_date(record, same[_NUMBER.sub("", record.name), _date(record)] > 1) for record in records]


def facts_html(record: ModelRecord) -> Markup:
    """Show the selected model: name, teacher, numbers, recipe and links."""
    numbers = [
        ("Size", format_bytes(record.n_bytes)),
        ("Tokens", f"{record.n_tokens:,}"),
        ("Dimensions", f"{record.dim:,}"),
        ("Precision", record.dtype),
    ]
    lines = [("Teacher", record.teacher or "Not stated")]
    if recipe := recipe_text(record):
        lines.append(("Recipe", recipe))
    if record.source != "job":
        lines.append(("From", f"the Hub, {record.origin}" if record.source == "hub" else record.origin or "files"))
    lines.append(("Added", _date(record)))
    return render(
        "model.html",
        name=record.name,
        numbers=rows_html(numbers, "m2v-facts"),
        lines=rows_html(lines, "m2v-lines"),
        links=links_html(record.id),
    )


def links_html(model_id: str) -> Markup:
    """Links to pages, which open with this model selected."""
    return render("links.html", model_id=model_id)


def recipe_text(record: ModelRecord) -> str:
    """The recipe and settings of a distillation in one line; empty if unknown."""
    recipe = " · ".join(filter(None, [recipe_name(record), _settings_text(record.recipe, record.dim)]))
    return recipe or ("Default settings" if record.source == "job" else "")


def _settings_text(recipe: Mapping[str, Any], dim: int) -> str:
    """The settings of a distillation in one line."""
    words = {True: "teacher's tokens and own words", False: "own words only"}.get(recipe.get("use_subword", "none"), "")
    # Omit requested dimensions that differ from the actual ones, which are shown separately.
    requested = recipe.get("pca_dims")
    values = {**recipe, "pca_dims": None if isinstance(requested, int) and requested != dim else requested}
    settings = [f"{label} {values[name]}" for name, label in _SETTINGS.items() if values.get(name) not in (None, "")]
    return " · ".join([words, *settings] if words else settings)


def snippet_html(record: ModelRecord, owner: str) -> Markup:
    """Python code that uses the model from the ZIP, and through the app's API."""
    local = (
        "from m2v_core import StaticModel\n\n"
        "# unpack the ZIP first\n"
        f"model = StaticModel.from_pretrained({file_name(record)!r})\n"
        'embeddings = model.encode(["a sentence"])'
    )
    remote = (
        "from gradio_client import Client\n\n"
        f"client = Client({app_address()!r})\n"
        "embeddings = client.predict(\n"
        f'    owner="{owner}",\n'
        f'    model_id="{record.id}",\n'
        '    texts=["a sentence"],\n'
        '    api_name="/encode",\n'
        ")"
    )
    return render("snippet.html", local=local, remote=remote)


def app_address() -> str:
    """The address of this app for `gradio_client`: the name of a Space, or the URL in the browser."""
    return os.environ.get("SPACE_ID") or current_address() or "http://127.0.0.1:7860"


def _date(record: ModelRecord, with_time: bool = False) -> str:
    added = datetime.fromtimestamp(record.added_at, UTC)
    return added.strftime("%d %b %Y, %H:%M UTC" if with_time else "%d %b %Y").lstrip("0")
