from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2v_core.errors import NotFoundError
from m2v_core.exploration.neighbors import WordNeighbors
from pages.components import document_map, map_look, word_map
from pages.components.own_documents import as_documents
from tests.pages.conftest import JOB_ID, FakeStore
from tests.static_models import static_model

OWNER = "A" * 32
TEXTS = ["the sea", "a fox", "", "the quick fox", "sea shore", "zzz☃"]
COLUMNS = {"topic": ["water", "animal", "empty", "animal", " water", "none"], "blank": [""] * 6, "same": ["x"] * 6}


@pytest.fixture
def words(store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WordNeighbors:
    words = WordNeighbors(static_model("WordPiece"))

    def picked(owner: str | None, model_id: str | None) -> WordNeighbors:
        if model_id != JOB_ID:
            raise NotFoundError("no such model")
        return words

    monkeypatch.setattr(document_map, "picked_words", picked)
    monkeypatch.setattr(map_look, "data_folder", lambda: tmp_path)
    return words


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "documents.csv"
    rows = [",".join(["text", *COLUMNS]), *(",".join(row) for row in zip(TEXTS, *COLUMNS.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def show(**changed: Any) -> dict[str, Any]:
    arguments = {
        "owner": OWNER,
        "model_id": JOB_ID,
        "documents": as_documents(TEXTS),
        "upload": None,
        "text_column": None,
        "is_on": True,
        "color_by": None,
        "is_open": True,
    }
    return document_map.show_documents(**(arguments | changed))


def numbers(sent: dict[str, Any], name: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(sent[name]), dtype=dtype)


def test_a_document_is_placed_by_its_nearest_words(words: WordNeighbors) -> None:
    shown = show()
    sent = json.loads(shown["map"].props["documents"])
    known = ["the sea", "a fox", "the quick fox", "sea shore"]  # the last text has no known word
    assert sent["texts"] == known and sent["names"] == [""] and sent["model"] == JOB_ID
    near = numbers(sent, "near", "<i4").reshape(len(known), sent["n_near"])
    weights = numbers(sent, "weights", "<f4").reshape(near.shape)
    data = word_map.map_data(words)
    vectors = words.model.encode(known)
    cosines = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ data.rows.T
    np.testing.assert_array_equal(near, np.argsort(-cosines, axis=1, kind="stable")[:, : sent["n_near"]])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    ratios = np.exp(20 * (np.take_along_axis(cosines, near, axis=1) - cosines.max(axis=1, keepdims=True)))
    np.testing.assert_allclose(weights / weights[:, :1], ratios, rtol=1e-4)
    assert "4 of 5 documents are shown" in shown["legend"]


def test_documents_are_colored_by_a_column(words: WordNeighbors, table: str) -> None:
    upload = {"upload": table, "text_column": "text"}
    shown = show(**upload)
    assert shown["color_by"].choices == [("topic", "topic")] and shown["color_by"].visible
    sent = json.loads(show(**upload, color_by="topic")["map"].props["documents"])
    groups = [sent["names"][group] for group in numbers(sent, "groups", "<i4")]
    assert groups == ["water", "animal", "animal", "water"]
    legend = show(**upload, color_by="topic")["legend"]
    assert re.findall(r"</span>([a-z]+)", legend) == ["water", "animal"]
    pasted = show(**upload, documents=as_documents(["one other text"]), color_by="topic")
    assert not pasted["color_by"].visible and json.loads(pasted["map"].props["documents"])["names"] == [""]


def test_rare_values_are_one_group() -> None:
    values = [f"v{place}" for place in range(20) for _ in range(40 - place)]
    names, groups = document_map.group_values(values)
    n_colors = len(document_map.CLUSTER_COLORS)
    assert names == [*(f"v{place}" for place in range(n_colors - 1)), "Other"]
    assert [names[group] for group in groups] == [value if value in names else "Other" for value in values]


def test_nothing_is_sent_for_a_closed_map_or_without_documents(words: WordNeighbors) -> None:
    assert show(is_open=False) == show(model_id=None) == {}
    for changed in ({"documents": None}, {"is_on": False}):
        shown = show(**changed)
        assert shown["map"].props == {"documents": None} and shown["legend"] == ""
        assert shown["is_on"].visible == ("is_on" in changed)
    assert "no such model" in show(model_id="other")["legend"]
