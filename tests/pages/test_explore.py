from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from m2v_core.errors import InputError, LimitError, M2VError, NotFoundError
from m2v_core.exploration.background import PendingMap
from m2v_core.exploration.explanation import Explanation, Span
from m2v_core.exploration.neighbors import Neighbor, WordNeighbors
from pages import explore
from pages.components import findings, word_map
from pages.figures import map_figure
from tests.pages.conftest import JOB_ID, FakeStore
from tests.static_models import static_model

OWNER = "A" * 32
EVIL = "<img src=x onerror=alert(1)>"
MODEL = (OWNER, JOB_ID)
TEXTS = "The quick fox\n\n  Rivers run to the sea \nSea shells by the sea shore\n"


@pytest.fixture
def model(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[WordNeighbors]:
    """A small model as the only one of its owner."""
    words = WordNeighbors(static_model("WordPiece"))

    def picked(owner: str | None, model_id: str | None) -> WordNeighbors:
        if (owner, model_id) != MODEL:
            raise NotFoundError("no such model")
        return words

    for module in (explore, word_map):
        monkeypatch.setattr(module, "picked_words", picked)
    yield words
    for cached in (word_map._map_data, word_map._places, explore._document_index):
        cached.cache_clear()


def test_without_a_model_there_are_no_tabs() -> None:
    tabs, *_ = explore.show_model(OWNER, None, "", 10)
    assert tabs.visible is False


@pytest.mark.parametrize("owner", ["B" * 32, None])
def test_another_owners_model_answers_nothing(model: WordNeighbors, owner: str | None) -> None:
    documents, _ = explore.read_documents("paste", TEXTS, None)
    answers = [
        explore.search_words(owner, JOB_ID, "sea", 5),
        explore.search_documents(owner, JOB_ID, documents, "sea", 5),
        explore.explain(owner, JOB_ID, "sea", "shell"),
        word_map.show_map(owner, JOB_ID, "PCA", "rank", True)[1],
        word_map.find_on_map(owner, JOB_ID, "sea")[1],
        word_map.show_selection(owner, JOB_ID, "PCA", SimpleNamespace(points=[0]))[0],
    ]
    assert all('role="alert"' in answer for answer in answers)
    with pytest.raises(gr.Error):
        explore.similar_words(owner or "", JOB_ID, "sea")


def test_words(model: WordNeighbors) -> None:
    html = explore.search_words(*MODEL, "sea", 5)
    assert html.count("<li>") == 5
    assert explore.search_words(*MODEL, "  ", 5) == explore._WORDS_HINT
    assert "Ask for 1 to 100" in explore.search_words(*MODEL, "sea", 101)
    found = explore.similar_words(*MODEL, "sea", 3)
    assert found == [{"word": n.text, "similarity": n.similarity, "rank": n.rank} for n in model.search("sea", 3)]


def test_documents(model: WordNeighbors, vocabulary_file: Callable[[str, str], str]) -> None:
    documents, report = explore.read_documents("paste", TEXTS, None)
    assert documents is not None and "3 texts ready" in report
    assert documents.texts == ("The quick fox", "Rivers run to the sea", "Sea shells by the sea shore")
    html = explore.search_documents(*MODEL, documents, "Rivers run to the sea", 2)
    assert html.count("<li>") == 2 and html.index("Rivers run") < html.index("1.00")
    assert "no documents yet" in explore.search_documents(*MODEL, None, "sea", 2)
    assert explore.search_documents(*MODEL, documents, "", 2) == explore._DOCUMENTS_HINT
    best = explore.similar_documents(*MODEL, list(documents.texts), "Rivers run to the sea", 1)
    assert [(one["document"], one["rank"]) for one in best] == [("Rivers run to the sea", 1)]
    assert best[0]["similarity"] == pytest.approx(1)
    assert explore.similar_documents(*MODEL, [" "], "sea", 1) == []

    table = vocabulary_file("texts.csv", "id,text\n1,first text\n2,second text\n")
    documents, report = explore.read_documents("upload", "", table)
    assert documents is not None and documents.texts == ("first text", "second text")
    assert "From the column" in report
    assert explore.read_documents("upload", "", None) == (None, "")
    documents, report = explore.read_documents("upload", "", vocabulary_file("a.txt", "PK\x03\x04"))
    assert documents is None and 'role="alert"' in report


def test_the_limit_on_documents_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "MAX_DOCUMENTS", 2)
    with pytest.raises(LimitError, match="3 texts, and 2 can be searched"):
        explore.as_documents(["a", "b", "c"])
    assert explore.as_documents(["a", " ", "b"]) is not None


def test_the_map_is_drawn_when_it_is_open(model: WordNeighbors) -> None:
    assert word_map.show_map(*MODEL, "PCA", "rank", False)[0] is None
    assert word_map.show_map(OWNER, None, "PCA", "rank", True)[0] is None
    figure, status, timer = word_map.show_map(*MODEL, "PCA", "norm", True)
    words = model
    (trace,) = json.loads(figure)["data"]
    assert trace["type"] == "scattergl" and len(trace["text"]) == len(words)
    assert f"{len(words)} words" in status and "sampled" not in status
    assert timer.active is False


def test_a_map_of_too_many_words_says_that_it_is_sampled(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_map, "sample_rows", lambda n_rows: np.arange(0, n_rows, 2))
    figure, status, _ = word_map.show_map(*MODEL, "PCA", "rank", True)
    n_words = len(model)
    assert len(json.loads(figure)["data"][0]["text"]) == -(-n_words // 2)
    assert f"sampled from {n_words}" in status


def test_umap_comes_when_it_is_ready(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch) -> None:
    data = word_map._map_data(model)
    answers = [PendingMap(None, 3.0), PendingMap(None, 4.0), *[PendingMap(data.pca * 2, 5.0)] * 2]
    monkeypatch.setattr(word_map, "_map_maker", lambda: SimpleNamespace(get=lambda rows, key: answers.pop(0)))
    figure, status, timer = word_map.show_map(*MODEL, "UMAP", "rank", True)
    assert "PCA 1" in figure and "3.0 s so far" in status and timer.active is True
    assert "4.0 s so far" in word_map.follow_map(*MODEL, "UMAP", "rank", True)[1]
    figure, status, timer = word_map.follow_map(*MODEL, "UMAP", "rank", True)
    assert "UMAP 1" in figure and "so far" not in status and timer.active is False

    def fail(rows: object, key: str) -> None:
        raise M2VError("its process ended early")

    monkeypatch.setattr(word_map, "_map_maker", lambda: SimpleNamespace(get=fail))
    _, status, timer = word_map.follow_map(*MODEL, "UMAP", "rank", True)
    assert "its process ended early" in status and timer.active is False


def test_a_word_is_found_with_its_neighbours_in_full_space(model: WordNeighbors) -> None:
    marks, message = word_map.find_on_map(*MODEL, " SEA ")
    found = marks.props["found"]
    nearest = [neighbor.text for neighbor in model.search("sea", 8)]
    assert found["text"] == ["sea", *nearest] and message == ""
    data = word_map._map_data(model)
    assert [data.texts[point] for point in found["points"]] == found["text"]
    marks, message = word_map.find_on_map(*MODEL, "the lazy sea")
    assert "no word of this map" in message and len(marks.props["found"]["text"]) == 8
    assert "Nothing like it" in word_map.find_on_map(*MODEL, "\u4e2d")[1]
    assert word_map.find_on_map(*MODEL, "")[0].props["found"] is None


def test_a_lasso_becomes_a_table_and_a_csv(model: WordNeighbors) -> None:
    data = word_map._map_data(model)
    table, button = word_map.show_selection(*MODEL, "PCA", SimpleNamespace(points=[7, 3, 7]))
    assert re.findall(r'class="m2v-word">(.*?)<', table) == [data.texts[3], data.texts[7]]
    with Path(button.value["path"]).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["word", "rank", "norm", "PCA 1", "PCA 2"]
    assert [int(row[1]) for row in rows[1:]] == [data.ranks[3], data.ranks[7]]
    assert word_map.show_selection(*MODEL, "PCA", SimpleNamespace(points=[]))[0] == word_map._LASSO_HINT


@pytest.mark.parametrize("points", [None, "abc", [1.5], [-1], [10], [True], [[1]]])
def test_a_selection_that_is_none_is_refused(points: object) -> None:
    with pytest.raises(InputError, match="none of this map"):
        word_map.checked_points(points, 10)


def test_why(model: WordNeighbors) -> None:
    html = explore.explain(*MODEL, "the lazy dog \U0001f984", "the quick fox")
    answer = explore.similarity_shares(*MODEL, "the lazy dog", "the quick fox")
    assert sum(span["share"] for span in answer["a"]) == pytest.approx(answer["similarity"])
    assert "count for nothing" in html and ">unknown<" in html
    assert "Two texts are needed" in explore.explain(*MODEL, "a", " ")


def test_foreign_text_is_escaped() -> None:
    spans = tuple(Span(EVIL, kind) for kind in ("known", "unknown", "unread", "between"))
    htmls = [
        findings.explanation_html(Explanation(0.5, spans, spans)),
        findings.documents_html([Neighbor(EVIL, 0.5, 0)], EVIL),
        word_map.selection_html([(EVIL, 1, 1.0, 0.0, 0.0)]),
    ]
    assert not any("<img" in html for html in htmls)
    figure = map_figure([EVIL], np.array([0]), np.ones(1, np.float32), np.zeros((1, 2), np.float32), "rank", "PCA")
    assert "<img" not in figure.data[0].text[0]
