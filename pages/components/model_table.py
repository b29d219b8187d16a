"""The table of a user's models: sortable, one of them selected, up to two of them ticked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from m2v_core.evaluation.evidence import NOT_MEASURED
from m2v_core.evaluation.speed import rate_text
from m2v_core.studio.jobs import Job
from m2v_core.studio.library import ModelRecord
from pages.components import format_bytes, html
from pages.components.model_facts import model_dates
from pages.components.model_picker import recipe_parts
from pages.components.result_card import measured_quality, measured_speed
from pages.html import Markup, render

_SCRIPT = Path(__file__).with_name("model_table.js").read_text(encoding="utf-8")
_STYLE = Path(__file__).with_name("model_table.css").read_text(encoding="utf-8")
_COLUMNS = ("Name", "Teacher", "Recipe", "Dimensions", "Size", "Speed", "Quality", "Date")
_NUMBERS = _COLUMNS[3:]
_UNKNOWN, _UNMEASURED = (
    render('<span aria-hidden="true">&ndash;</span><span class="m2v-unseen">{{ text }}</span>', text=text)
    for text in ("Not stated", NOT_MEASURED)
)


def build_model_table() -> gr.HTML:
    """Add the table to the current Blocks context.

    Its `click` event fires when a row was clicked, its `select` event when one was ticked or unticked; see `picked_row`
    and `ticked_rows` for its value. Set `rows`, the HTML of `table_html`, and `picked`, the id of the selected model.
    """
    look = {"head": f"<style>{_STYLE}</style>", "js_on_load": _SCRIPT, "html_template": "<div></div>"}
    return html(None, "m2v-model-table", **look, rows="", picked=None)


def table_html(records: Sequence[ModelRecord], jobs: Sequence[Job]) -> Markup:
    """Show models as a table; empty without any.

    Args:
        records: The models, newest first.
        jobs: The owner's jobs, with what they measured.
    """
    if not records:
        return Markup()
    outcomes = {job.id: job.outcome for job in jobs}
    rows = []
    for record, date in zip(records, model_dates(records), strict=True):
        outcome = outcomes.get(record.id, {})
        teacher = (record.teacher or "").rstrip("/\\").rpartition("/")[2]
        recipe = " · ".join(recipe_parts(record))
        speed, quality = measured_speed(outcome), measured_quality(outcome)
        rate = "" if speed is None else f"{rate_text(speed)}/s"
        # Each cell is its text and the value to sort by, which is empty if missing.
        cells = [
            (teacher or _UNKNOWN, teacher),
            (recipe or _UNKNOWN, recipe),
            (f"{record.dim:,}", record.dim),
            (format_bytes(record.n_bytes), record.n_bytes),
            (rate or _UNMEASURED, "" if speed is None else speed),
            (_UNMEASURED if quality is None else f"{quality.value:.2f}", "" if quality is None else quality.value),
            (date, record.added_at),
        ]
        # A line below the name, for narrow windows.
        more = [_joined(teacher, recipe), _joined(f"{record.dim:,} dimensions", rate, date)]
        rows.append((record, cells, more))
    return render("model_table.html", columns=_COLUMNS, numbers=_NUMBERS, rows=rows)


def _joined(*parts: str) -> str:
    return " · ".join(part.replace(" ", "\u00a0") for part in parts if part)


def picked_row(value: object) -> str | None:
    """Return the id of the selected model from the table's value, which API clients can set to anything."""
    model_id = value.get("picked") if isinstance(value, dict) else None
    return model_id if isinstance(model_id, str) else None


def ticked_rows(value: object) -> list[str]:
    """Return the ids of the ticked models from the table's value, which API clients can set to anything."""
    ids = value.get("ticked") if isinstance(value, dict) else None
    return [model_id for model_id in ids if isinstance(model_id, str)] if isinstance(ids, list) else []
