"""The user's documents on the map of a vocabulary, colored by a column of their table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from m2v_core.distillation.vocabulary import open_vocabulary
from m2v_core.errors import M2VError, VocabularyError
from m2v_core.exploration.projection import sample_rows
from m2v_core.exploration.rows import RowIndex
from m2v_core.exploration.topics import CLUSTER_COLORS
from m2v_core.native.cosines import unit_rows
from pages.components import Values, html, on, shows_errors
from pages.components.column_picker import chosen_column
from pages.components.map_look import MapData
from pages.components.model_picker import picked_words
from pages.components.teacher_side import Documents
from pages.components.word_map import map_data
from pages.figures.words import packed
from pages.html import render

_N_NEAR = 5  # words that determine the place of a document
_SHARPNESS = 20.0  # of their weights: a word with a cosine 0.05 higher has e times the weight
_MAX_DOCUMENTS = 5_000  # on the map
_MAX_CHARACTERS = 200  # of a document in the tooltip
_MAX_GROUPS = len(CLUSTER_COLORS) - 1  # besides "Other"
_OTHER, _ALL = "Other", "Documents"
_SINGLE_COLOR = "#e4572e"


def build_document_map(
    owner: gr.BrowserState,
    model_id: gr.Dropdown,
    documents: gr.State,
    table: Sequence[gr.Component],
    word_map: gr.HTML,
    is_map_open: gr.State,
) -> None:
    """Add the settings below the map to the current Blocks context, and connect them.

    Args:
        documents: State with the user's documents.
        table: The upload field, and the picker of its column with the texts.
        word_map: The map of the words.
        is_map_open: State with whether the map's tab is open.
    """
    with gr.Row(elem_classes="m2v-map-settings"):
        is_on = gr.Checkbox(False, label="Show my documents on the map", visible=False)
        color_by = gr.Dropdown([], label="Color documents by", visible=False, allow_custom_value=True)
    legend = html(css="m2v-map-notes")
    shown = {"map": word_map, "is_on": is_on, "color_by": color_by, "legend": legend}
    inputs = [owner, model_id, documents, *table, is_on, color_by, is_map_open]
    changes = [documents.change, model_id.change, is_on.change, color_by.change, is_map_open.change]
    on(changes, show_documents, inputs, shown, trigger_mode="multiple")


@shows_errors("The documents can't be shown on the map", lambda message: {"legend": message, "map": _no_documents()})
def show_documents(
    owner: str | None,
    model_id: str | None,
    documents: Documents | None,
    upload: str | None,
    text_column: str | None,
    is_on: bool,
    color_by: str | None,
    is_open: bool,
) -> Values:
    """Update the map with the documents, and the settings; nothing while the map is closed."""
    if not is_open or not model_id:
        return {}
    columns = _columns(upload, text_column, documents)
    values: Values = {
        "is_on": gr.Checkbox(visible=documents is not None),
        "color_by": gr.Dropdown(choices=list(columns), visible=is_on and bool(columns)),
        "legend": "",
        "map": _no_documents(),
    }
    if documents is None or not is_on:
        return values
    data = map_data(picked_words(owner, model_id))
    embeddings = unit_rows(data.words.model.encode(documents.texts))
    known = np.flatnonzero(embeddings.any(axis=1))
    chosen = known[sample_rows(len(known), _MAX_DOCUMENTS)]
    names, groups = group_values(columns.get(color_by or "", [_ALL] * len(documents.texts)))
    sent = documents_data(model_id, [documents.texts[place] for place in chosen], embeddings[chosen], data)
    palette = CLUSTER_COLORS if len(names) > 1 else (_SINGLE_COLOR,)
    sent |= {"names": names if len(names) > 1 else [""], "groups": packed(groups[chosen], "<i4"), "palette": palette}
    counts = Counter(groups[chosen].tolist())
    values["map"] = gr.HTML(documents=json.dumps(sent))
    values["legend"] = render(
        "document_legend.html",
        groups=[(palette[group], name, counts[group]) for group, name in enumerate(names) if counts[group]],
        n_shown=len(chosen),
        n_all=len(documents.texts),
    )
    return values


def documents_data(model: str, texts: Sequence[str], rows: NDArray[np.float32], data: MapData) -> dict[str, object]:
    """The documents and the words that determine their places, as the browser draws them.

    Args:
        model: Id of the model.
        texts: The documents.
        rows: Their embeddings, (n_texts, dim) float32, unit rows.
        data: The words on the map.
    """
    near, similarities = RowIndex(data.rows).search(rows, min(_N_NEAR, len(data.rows)))
    weights = np.exp(_SHARPNESS * (similarities - similarities.max(axis=1, keepdims=True)))
    weights /= weights.sum(axis=1, keepdims=True)
    return {
        "model": model,
        "texts": [text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…" for text in texts],
        "n_near": near.shape[1],
        "near": packed(near, "<i4"),
        "weights": packed(weights, "<f4"),
    }


def group_values(values: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The most frequent values, then "Other" for the rest, and the group of each value, (n_values,)."""
    counted = [value for value, _ in Counter(value.strip() for value in values).most_common()]
    names = counted if len(counted) <= _MAX_GROUPS + 1 else [*counted[:_MAX_GROUPS], _OTHER]
    places = {name: place for place, name in enumerate(counted[: len(names)])}
    groups = [min(places.get(value.strip(), len(names) - 1), len(names) - 1) for value in values]
    return [name or "Empty" for name in names], np.array(groups, dtype=np.int64)


def _columns(upload: str | None, text_column: str | None, documents: Documents | None) -> dict[str, list[str]]:
    """The other columns of the uploaded table, with a value for each document; empty without such a table."""
    if upload is None or documents is None:
        return {}
    try:
        file = open_vocabulary(upload)
        chosen = chosen_column(file, text_column)
        if chosen is None:
            return {}
        is_text = [bool(entry.strip()) for entry in file.entries(chosen)]
        if sum(is_text) != len(documents.texts):  # the documents are not those of this table
            return {}
        columns: dict[str, list[str]] = {}
        for column in [name for name in file.columns if name != chosen]:
            with suppress(VocabularyError):  # all its entries are blank
                columns[column] = [value for value, kept in zip(file.entries(column), is_text, strict=True) if kept]
        return {column: values for column, values in columns.items() if len(set(values)) > 1}
    except M2VError:  # the Documents tab shows the error
        return {}


def _no_documents() -> gr.HTML:
    return gr.HTML(documents=None)
