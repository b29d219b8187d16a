"""What the library says of a model: a line, its facts, and how it is used from Python."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from m2v_core.studio.library import ModelRecord
from pages.components import format_bytes, rows_html
from pages.components.model_picker import details, recipe_name
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
    "token_remove_pattern": "left out",
    "device": "device",
}


def model_labels(records: Sequence[ModelRecord]) -> list[str]:
    """Each model in two lines: its name, and what tells it from others.

    Where models of one name are of one day, the time of day too; the "(2)" that the library adds makes no other name.
    """
    same = Counter((_NUMBER.sub("", record.name), _date(record)) for record in records)
    return [_label(record, same[_NUMBER.sub("", record.name), _date(record)] > 1) for record in records]


def _label(record: ModelRecord, with_time: bool) -> str:
    parts = details(record)
    if record.teacher:
        parts.append(record.teacher.rstrip("/\\").rpartition("/")[2])
    time = datetime.fromtimestamp(record.added_at, UTC).strftime(", %H:%M UTC") if with_time else ""
    parts.append(_date(record) + time)
    return f"{record.name}\n{' · '.join(parts)}"


def facts_html(record: ModelRecord) -> Markup:
    """The picked model: name, teacher, numbers, recipe, and where to go with it."""
    numbers = [
        ("Size", format_bytes(record.n_bytes)),
        ("Tokens", f"{record.n_tokens:,}"),
        ("Dimensions", f"{record.dim:,}"),
        ("Precision", record.dtype),
    ]
    lines = [("Teacher", record.teacher or "Not stated")]
    recipe = " · ".join(filter(None, [recipe_name(record), _settings_text(record.recipe, record.dim)]))
    if recipe or record.source == "job":
        lines.append(("Recipe", recipe or "The usual settings"))
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
    """Where to go with a model, which is picked by going there."""
    return render("links.html", model_id=model_id)


def _settings_text(recipe: Mapping[str, Any], dim: int) -> str:
    """How a distillation differs from the usual, in one line."""
    words = {True: "subwords and own words", False: "own words only"}.get(recipe.get("use_subword", "none"), "")
    # The model may have other dimensions than were asked for; they stand among its numbers.
    asked = recipe.get("pca_dims")
    known = {**recipe, "pca_dims": None if isinstance(asked, int) and asked != dim else asked}
    settings = [f"{label} {known[name]}" for name, label in _SETTINGS.items() if known.get(name) not in (None, "")]
    return " · ".join([words, *settings] if words else settings)


def snippet_html(record: ModelRecord, owner: str) -> Markup:
    """Python that uses the model: from the ZIP, and through this app."""
    local = (
        "from m2v_core import StaticModel\n\n"
        "# the ZIP, unpacked\n"
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
    """Where `gradio_client` finds this app: a Space by its name, any other by the address that the browser has."""
    return os.environ.get("SPACE_ID") or current_address() or "http://127.0.0.1:7860"


def _date(record: ModelRecord) -> str:
    return datetime.fromtimestamp(record.added_at, UTC).strftime("%d %b %Y").lstrip("0")
