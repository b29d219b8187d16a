"""The rotating map on Home: the most frequent words of a model as a cloud of points."""

from __future__ import annotations

import functools
import json
from itertools import chain
from pathlib import Path

import gradio as gr
import numpy as np

from m2v_core.errors import M2VError
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.exploration.projection import cluster_rows, pca_map
from m2v_core.exploration.topics import CLUSTER_COLORS, is_content_word, name_topics
from pages.components import html, known_owner, on
from pages.components.model_picker import picked_words
from pages.figures.words import packed

_N_POINTS = 3_000
_LABELS_PER_CLUSTER = 15  # only those in front are shown
_SCRIPT = Path(__file__).with_name("home_map.js").read_text(encoding="utf-8")


def build_home_map(owner: gr.BrowserState, model_id: gr.State) -> None:
    """Add the map of the model to the current Blocks context; it is empty without a model."""
    look = {"html_template": "<canvas aria-hidden='true'></canvas>", "js_on_load": _SCRIPT}
    cloud = html(None, "m2v-home-map", **look, cloud=None)
    on(model_id.change, show_cloud, [owner, model_id], cloud)


def show_cloud(owner: str | None, model_id: str | None) -> gr.HTML:
    """Update the map with the points of a model; empty if there is no model or it can't be loaded."""
    try:
        return gr.HTML(cloud=cloud_data(picked_words(known_owner(owner), model_id)) if model_id else None)
    except M2VError:
        return gr.HTML(cloud=None)


@functools.lru_cache(maxsize=4)
def cloud_data(words: WordNeighbors) -> str:
    """Positions, colors and labels of the most frequent words of a model that are useful as labels, as JSON."""
    content = np.array([place for place, text in enumerate(words.texts) if is_content_word(text)], dtype=np.int64)
    shown = content[np.argsort(words.ranks[content], kind="stable")][:_N_POINTS]
    rows, texts = words.rows[shown], [words.texts[place] for place in shown]
    clusters = cluster_rows(rows)
    labels = set(chain(*name_topics(rows, clusters, texts, words.ranks[shown], _LABELS_PER_CLUSTER)))
    points = pca_map(rows, 3)
    points /= max(float(np.quantile(np.linalg.norm(points, axis=1), 0.98)) if len(points) else 1.0, 1e-9)
    return json.dumps(
        {
            "x": packed(points[:, 0], "<f4"),
            "y": packed(points[:, 1], "<f4"),
            "z": packed(points[:, 2], "<f4"),
            "colors": [CLUSTER_COLORS[cluster % len(CLUSTER_COLORS)] for cluster in clusters.tolist()],
            "labels": [[place, text] for place, text in enumerate(texts) if text in labels],
        }
    )
