from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from m2v_core.bulk.options import model_fingerprint
from m2v_core.errors import InputError, LimitError, M2VError, NotFoundError
from m2v_core.exploration.background import PendingMap
from m2v_core.exploration.explanation import Explanation, Span
from m2v_core.exploration.index.building import build_index
from m2v_core.exploration.neighbors import Neighbor, WordNeighbors, neighbor_overlap
from m2v_core.exploration.projection import pca_map
from m2v_core.exploration.topics import CLUSTER_COLORS
from m2v_core.native.cosines import unit_rows
from m2v_core.studio.jobs import Job, JobSpec, JobState
from m2v_core.studio.jobs.text_store import TextStore
from m2v_core.studio.space.settings import current_limits
from pages import explore
from pages.components import findings, map_look, own_documents, teacher_side, word_map
from pages.components.column_picker import columns_of_upload
from pages.components.map_look import ColorBy
from pages.components.teacher_side import Documents
from pages.figures import PointColors
from tests.core.exploration.index.oracle import write_vectors
from tests.pages.conftest import JOB_ID, FakeStore, make_job
from tests.static_models import static_model

OWNER = "A" * 32
EVIL = "<img src=x onerror=alert(1)>"
MODEL = (OWNER, JOB_ID)
LOOKS: Any = SimpleNamespace(target=None)
TEXTS = "The quick fox\n\n  Rivers run to the sea \nSea shells by the sea shore\n"


@pytest.fixture
def model(store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WordNeighbors]:
    """A small model as the only one of its owner."""
    words = WordNeighbors(static_model("WordPiece"))

    def picked(owner: str | None, model_id: str | None) -> WordNeighbors:
        if (owner, model_id) != MODEL:
            raise NotFoundError("no such model")
        return words

    for module in (explore, word_map, teacher_side):
        monkeypatch.setattr(module, "picked_words", picked)
    library = SimpleNamespace(get=lambda model_id, owner: SimpleNamespace(name="<b>mine</b>"))
    monkeypatch.setattr(word_map, "model_library", lambda: library)
    monkeypatch.setattr(map_look, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(map_look, "_CACHED_SECONDS", 60.0)  # wait for the topics
    yield words
    for cached in (
        word_map._cached_map_data,
        word_map._places,
        map_look._pending_topics,
        explore._document_index,
        teacher_side._neighbors,
    ):
        cached.cache_clear()


def test_without_a_model_there_are_no_tabs() -> None:
    tabs, *_ = explore.show_model(OWNER, None, "")
    assert tabs.visible is False


@pytest.mark.parametrize("owner", ["B" * 32, None])
def test_another_owners_model_answers_nothing(model: WordNeighbors, owner: str | None) -> None:
    documents, _ = own_documents.read_documents("paste", TEXTS, None)
    answers = [
        explore.search_words(owner, JOB_ID, "sea", 5),
        explore.search_documents(owner, JOB_ID, documents, "sea", 5),
        explore.explain(owner, JOB_ID, "sea", "shell"),
        word_map.show_map(owner, JOB_ID, "PCA", "rank", True)["notes"],
        word_map.word_html(owner, JOB_ID, 0),
        word_map.find_on_map(owner, JOB_ID, "sea")[1],
        word_map.show_selection(owner, JOB_ID, "PCA", "rank", [0])[0],
    ]
    assert all('role="alert"' in answer for answer in answers)
    with pytest.raises(gr.Error):
        explore.similar_words(owner or "", JOB_ID, "sea")


def test_words(model: WordNeighbors) -> None:
    html = explore.search_words(*MODEL, "sea", 5)
    assert html.count("<li>") == 5 and "Cosine similarity, -1 to 1" in html
    assert "Cosine" not in findings.words_html([], "xyzzy")
    assert explore.search_words(*MODEL, "  ", 5) == explore._WORDS_HINT
    assert "Request 1 to 100" in explore.search_words(*MODEL, "sea", 101)
    found = explore.similar_words(*MODEL, "sea", 3)
    assert found == [{"word": n.text, "similarity": n.similarity, "rank": n.rank} for n in model.search("sea", 3)]


def test_documents(model: WordNeighbors, vocabulary_file: Callable[[str, str], str]) -> None:
    documents, report = own_documents.read_documents("paste", TEXTS, None)
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
    documents, report = own_documents.read_documents("upload", "", table)
    assert documents is not None and documents.texts == ("first text", "second text")
    assert "From the column" in report
    assert own_documents.read_documents("upload", "", None) == (None, "")

    two = vocabulary_file("two.csv", "question,answer\nhow far,a mile\nhow long,a day\n")
    documents, report = own_documents.read_documents("upload", "", two)
    assert documents is None and "Choose the column with the texts" in report
    picker = columns_of_upload(two)
    assert picker.visible and picker.value is None and [value for _, value in picker.choices] == ["question", "answer"]
    documents, report = own_documents.read_documents("upload", "", two, "answer")
    assert documents is not None and documents.texts == ("a mile", "a day") and "column &#39;answer&#39;" in report
    # What was picked of another file is forgotten.
    assert own_documents.read_documents("upload", "", table, "answer")[0].texts == ("first text", "second text")
    assert columns_of_upload(table).value == "text"
    for hidden in (None, vocabulary_file("plain.txt", "a\nb"), vocabulary_file("one.csv", "text\na\nb")):
        assert not columns_of_upload(hidden).visible
    assert not columns_of_upload(vocabulary_file("broken.csv", "PK\x03\x04")).visible
    take = partial(explore.load_source, OWNER, "upload", "", two, "answer", "")
    assert take(SimpleNamespace(target=gr.Dropdown(render=False)))[0].texts == ("a mile", "a day")
    assert take(SimpleNamespace(target=gr.File(render=False)))[0] is None  # a new file, of which nothing is picked
    documents, report = own_documents.read_documents("upload", "", vocabulary_file("a.txt", "PK\x03\x04"))
    assert documents is None and 'role="alert"' in report


def test_documents_are_there_after_a_refresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = TextStore(tmp_path, 60)
    monkeypatch.setattr(own_documents, "text_store", lambda: kept)
    assert own_documents.find_documents(OWNER)["documents"] is None
    documents, report, forget = own_documents.load_documents(OWNER, "paste", TEXTS, None)
    assert "3 texts ready" in report and forget.visible
    shown = own_documents.find_documents(OWNER)
    source, text, found = shown["source"], shown["pasted"], shown["documents"]
    report, forget = shown["report"], shown["forget"]
    assert source == "paste" and found == documents and text.splitlines() == list(found.texts)
    assert "Restored from your last visit" in report and forget.visible
    assert (
        own_documents.find_documents("B" * 32)["documents"] is None
        and own_documents.find_documents(None)["documents"] is None
    )
    own_documents.load_documents(OWNER, "upload", "", None)  # another way in is looked at; nothing is given up
    assert own_documents.find_documents(OWNER)["documents"] == documents
    own_documents.load_documents(OWNER, "paste", " ", None, is_emptied=True)
    assert own_documents.find_documents(OWNER)["documents"] is None
    own_documents.load_documents(OWNER, "paste", TEXTS, None)
    own_documents.delete_documents(OWNER, "paste")
    assert list(tmp_path.glob("*.json")) and own_documents.find_documents(OWNER)["documents"] is None


@pytest.mark.parametrize("target", [gr.Radio, None])
def test_looking_at_another_way_in_gives_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    vocabulary_file: Callable[[str, str], str],
    target: type[gr.Radio] | None,
) -> None:
    kept = TextStore(tmp_path / "kept", 60)
    monkeypatch.setattr(own_documents, "text_store", lambda: kept)
    looks: Any = SimpleNamespace(target=target(["a"]) if target else None)
    gives: Any = SimpleNamespace(target=gr.File(render=False))
    types: Any = SimpleNamespace(target=gr.Textbox(render=False))
    long = "\n".join(f"{'long ' * 50}text {number}" for number in range(1000))
    file = vocabulary_file("long.txt", long)
    uploaded = explore.load_source(OWNER, "upload", "", file, None, "", gives)[0]
    assert uploaded is not None and len(uploaded.texts) == 1000

    # After a refresh no box holds them, however long one looks around.
    shown = own_documents.find_documents(OWNER)
    assert (shown["source"], shown["documents"]) == ("upload", uploaded)
    assert "pasted" not in shown and shown["forget"].visible
    assert explore.load_source(OWNER, "paste", "", None, None, "", looks)[0] is None
    documents, _, report, forget = explore.load_source(OWNER, "upload", "", None, None, "", looks)
    assert documents == uploaded and "1,000 texts ready" in report and forget.visible

    # Pasted texts take nothing from them, nor they from pasted ones, too long for the box as they are.
    pasted = explore.load_source(OWNER, "paste", long + "\nlast", None, None, "", types)[0]
    shown = own_documents.find_documents(OWNER)
    assert (shown["source"], shown["documents"]) == ("paste", pasted) and "pasted" not in shown
    assert explore.load_source(OWNER, "upload", "", file, None, "", looks)[0] == uploaded
    assert explore.load_source(OWNER, "folder", "", None, None, "", looks)[0] is None
    assert explore.load_source(OWNER, "paste", "", None, None, "", looks)[0] == pasted

    # Whoever empties one gives up that one.
    assert explore.load_source(OWNER, "upload", "", None, None, "", gives)[0] is None
    assert own_documents.find_documents(OWNER)["documents"] == pasted
    assert explore.load_source(OWNER, "paste", "", None, None, "", types)[0] is None
    assert own_documents.find_documents(OWNER)["documents"] is None


def test_a_folder_of_vectors(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = ["Rivers run to the sea", EVIL + " the sea", "The quick fox"]
    folder = write_vectors(tmp_path / "vectors", [model.model.encode(texts)], model=model_fingerprint(model.model))
    documents, opened, report, forget = explore.load_source(OWNER, "folder", TEXTS, None, None, f" {folder} ", LOOKS)
    assert (documents, opened, forget.visible) == (None, str(folder), False)
    assert "3 vectors ready" in report and f"m2v index {folder}" in report
    build_index(folder)
    assert "m2v index" not in explore.load_source(OWNER, "folder", "", None, None, str(folder), LOOKS)[2]

    search = partial(explore.follow_documents_search, *MODEL, None, str(folder))
    (html,) = search("Rivers run to the sea", 5, "")
    assert html.count("<li>") == 3 and html.index("text 0") < html.index("1.00") < html.index(
        "text ", html.index("1.00")
    )
    assert "000.parquet, row 0" in html and "m2v-beside" not in html
    assert list(search(" ", 5, "")) == [explore._DOCUMENTS_HINT]
    assert "Request 1 to 100" in next(search("sea", 101, ""))
    assert "None of these words are in" in next(search("\U0001f984", 5, ""))

    write_vectors(tmp_path / "others", [model.model.encode(texts)], model="another")
    (html,) = explore.follow_documents_search(*MODEL, None, str(tmp_path / "others"), "sea", 5, "")
    assert "is not the model that computed these vectors" in html and "Library page" in html
    absent = str(tmp_path / "<b>absent")
    documents, opened, report, _ = explore.load_source(OWNER, "folder", "", None, None, absent, LOOKS)
    assert opened is None and "does not exist" in report and "<b>" not in report
    assert explore.load_source(OWNER, "folder", "", None, None, " ", LOOKS)[1:3] == (None, "")
    assert explore.load_source(OWNER, "paste", TEXTS, None, None, str(folder), LOOKS)[1] is None


def test_on_a_space_no_folder_is_opened(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = write_vectors(tmp_path / "vectors", [model.model.encode(["the sea"])])
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    _, opened, report, _ = explore.load_source(OWNER, "folder", "", None, None, str(folder), LOOKS)
    assert opened is None and "only if the app runs on your own computer" in report
    (html,) = explore.follow_documents_search(*MODEL, None, str(folder), "sea", 5, "")
    assert "only if the app runs on your own computer" in html


def test_the_limit_on_documents_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(current_limits(), documents=2)
    monkeypatch.setattr(own_documents, "current_limits", lambda: limits)
    with pytest.raises(LimitError, match="3 texts; the limit here is 2"):
        own_documents.as_documents(["a", "b", "c"])
    assert own_documents.as_documents(["a", " ", "b"]) is not None


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def points_of(shown: dict[str, Any]) -> tuple[str, np.ndarray]:
    """The layout that is sent, and its points."""
    data = json.loads(shown["map"].props["points"])
    return data["method"], np.column_stack([unpacked(data[axis], "<f4") for axis in "xy"])


def test_the_map_is_drawn_when_it_is_open(model: WordNeighbors) -> None:
    assert list(word_map.show_map(*MODEL, "PCA", "rank", False)) == ["timer"]
    assert list(word_map.show_map(OWNER, None, "PCA", "rank", True)) == ["timer"]
    shown = word_map.show_map(*MODEL, "PCA", "norm", True)
    words = model
    method, points = points_of(shown)
    assert method == "PCA"
    np.testing.assert_array_equal(points, word_map.map_data(model).pca)
    assert json.loads(shown["map"].props["points"])["name"] == "<b>mine</b>"  # the browser never parses it as HTML
    sent = json.loads(shown["words"].props["words"])
    assert sent["texts"] == model.texts
    np.testing.assert_array_equal(unpacked(sent["ranks"], "<i4"), model.ranks)
    np.testing.assert_array_equal(unpacked(sent["norms"], "<f4"), model.norms())
    np.testing.assert_array_equal(np.sort(unpacked(sent["order"], "<i4")), np.arange(len(words)))
    colors = json.loads(shown["map"].props["colors"])
    np.testing.assert_array_equal(unpacked(colors["values"], "<f4"), model.norms())
    assert f"{len(words)} words of {len(words.model.tokens)} tokens; subwords" in shown["notes"]
    assert len(words) < len(words.model.tokens) and "sampled" not in shown["notes"]
    assert shown["status"] == "" and shown["timer"].active is False


def test_the_browser_gets_each_part_of_the_map_once(model: WordNeighbors) -> None:
    drawn = word_map.show_map(*MODEL, "PCA", "norm", True)["drawn"]
    assert not word_map.show_map(*MODEL, "PCA", "norm", True, drawn).keys() & {"map", "words", "drawn"}
    shown = word_map.show_map(*MODEL, "PCA", "rank", True, drawn)
    assert set(shown["map"].props) == {"colors", "legend"} and "words" not in shown
    other = {part: signature.replace(JOB_ID, "b" * 32) for part, signature in drawn.items()}
    shown = word_map.show_map(*MODEL, "PCA", "norm", True, other)
    assert set(shown["map"].props) == {"points", "colors", "legend", "topics", "found", "panel"} and "words" in shown
    # What was found or selected on the map of another model is cleared.
    assert (shown["find"], shown["found"], shown["selected"]) == ("", "", []) and not shown["download"].visible


def test_a_link_opens_the_map_and_finds_its_word(model: WordNeighbors) -> None:
    def opened(**link: str) -> dict[str, Any]:
        return word_map.open_link(SimpleNamespace(query_params=link))  # type: ignore[arg-type]

    assert opened() == opened(view="words", q="sea") == {}
    values = opened(view="map", q="sea", layout="PCA")
    assert (values["is_open"], values["find"], values["method"]) == (True, "sea", "PCA")
    assert values["tabs"].selected == "map" and "method" not in opened(view="map", layout="<b>")
    assert word_map.find_linked(*MODEL, "sea", {}) == word_map.find_linked(*MODEL, "", {"words": "a"}) == {}
    found = word_map.find_linked(*MODEL, values["linked"], {"words": "a"})
    assert found["map"].props["found"]["query"] == "sea" and found["linked"] == ""


def test_the_points_are_sent_before_the_words(model: WordNeighbors) -> None:
    first, second = list(word_map.follow_map(*MODEL, "PCA", "rank", True))[-2:]
    assert set(first["map"].props) >= {"points", "colors"} and "words" not in first["map"].props
    assert second["map"].props.items() >= first["map"].props.items()
    assert second["map"].props.keys() - first["map"].props.keys() == {"words"}


def test_a_map_of_too_many_words_says_that_it_is_sampled(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_map, "sample_rows", lambda n_rows: np.arange(0, n_rows, 2))
    shown = word_map.show_map(*MODEL, "PCA", "rank", True)
    n_words, n_shown = len(model), -(-len(model) // 2)
    assert len(points_of(shown)[1]) == len(json.loads(shown["words"].props["words"])["texts"]) == n_shown
    assert f"sampled from {n_words}" in shown["notes"]


def test_umap_comes_when_it_is_ready(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch) -> None:
    data = word_map.map_data(model)
    waits = [PendingMap(None, 3.0), PendingMap(None, 40.0, 0.25, 29.5)]
    answers = [*waits, PendingMap(data.pca * 2, 5.0)]
    monkeypatch.setattr(word_map, "_map_maker", lambda: SimpleNamespace(get=lambda rows, key: answers.pop(0)))
    shown = word_map.show_map(*MODEL, "UMAP", "rank", True)
    drawn = shown["drawn"]
    assert points_of(shown)[0] == "PCA" and "Computing UMAP" in shown["status"] and "3.0 s" in shown["status"]
    assert "data-busy" in shown["status"] and shown["timer"].active is True
    shown = word_map.show_map(*MODEL, "UMAP", "rank", True, drawn)
    assert "map" not in shown and 'aria-valuenow="25"' in shown["status"] and "about 30 s left" in shown["status"]
    shown = word_map.show_map(*MODEL, "UMAP", "rank", True, drawn)
    method, points = points_of(shown)
    assert method == "UMAP" and shown["status"] == "" and shown["timer"].active is False
    np.testing.assert_array_equal(points, data.pca * 2)

    def fail(rows: object, key: str) -> None:
        raise M2VError("its process ended early")

    monkeypatch.setattr(word_map, "_map_maker", lambda: SimpleNamespace(get=fail))
    shown = word_map.show_map(*MODEL, "UMAP", "rank", True)
    assert "its process ended early" in shown["notes"] and points_of(shown)[0] == "PCA"
    assert shown["timer"].active is False


def test_a_newly_picked_model_is_prepared_in_the_background(
    model: WordNeighbors, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []
    maker = SimpleNamespace(get=lambda rows, key, is_prepared: asked.append((key, is_prepared)))
    monkeypatch.setattr(word_map, "_map_maker", lambda: maker)
    word_map.prepare_map(OWNER, None)  # no model is picked
    assert not asked
    word_map.prepare_map(*MODEL)
    assert asked == [(word_map.map_data(model).key, True)]
    assert map_look._pending_topics(word_map.map_data(model)).result().names


def test_a_word_is_found_with_its_neighbors_in_full_space(model: WordNeighbors) -> None:
    marks, message = word_map.find_on_map(*MODEL, " SEA ")
    found = marks.props["found"]
    data = word_map.map_data(model)
    nearest = [neighbor.text for neighbor in model.search("sea", 8)]
    assert [data.texts[point] for point in found["points"]] == ["sea", *nearest] and message == ""
    assert found["query"] == "SEA"
    marks, message = word_map.find_on_map(*MODEL, "the lazy sea")
    assert "“the lazy sea” is not on this map" in message and len(marks.props["found"]["points"]) == 8
    assert "No word on this map is similar" in word_map.find_on_map(*MODEL, "\u4e2d")[1]
    assert word_map.find_on_map(*MODEL, "")[0].props["found"] is None


def test_a_clicked_word_has_a_panel_with_its_neighbors_in_full_space(model: WordNeighbors) -> None:
    data = word_map.map_data(model)
    place = data.texts.index("sea")
    panel = word_map.show_clicked_word(*MODEL, SimpleNamespace(point=place)).props["panel"]  # type: ignore[arg-type]
    rows = model.rows @ model.rows[place]
    nearest = [index for index in np.argsort(-rows, kind="stable") if index != place][: word_map._N_NEIGHBORS]
    assert [int(point) for point in re.findall(r'data-point="(\d+)"', panel)] == nearest
    assert "<h3>sea</h3>" in panel and f"<dd>{data.ranks[place]:,}</dd>" in panel
    assert f"<dd>{data.norms[place]:.2f}</dd>" in panel and f">{rows[nearest[0]]:.2f}<" in panel
    assert "does not belong to this map" in word_map.word_html(*MODEL, len(data.shown))
    assert word_map.show_clicked_word(*MODEL, SimpleNamespace()).props["panel"] == ""  # type: ignore[arg-type]


def lasso(points: object, color_by: str = "rank", model: tuple[str, str | None] = MODEL) -> tuple[str, list[list[str]]]:
    """The table that is shown of a selection, and what the CSV says: nothing where there is none."""
    table, button = word_map.show_selection(*model, "PCA", color_by, points)  # type: ignore[arg-type]
    if not button.visible:
        return table, []
    with Path(button.value["path"]).open(encoding="utf-8-sig", newline="") as file:
        return table, list(csv.reader(file))


def test_a_lasso_becomes_a_table_and_a_csv(model: WordNeighbors) -> None:
    data = word_map.map_data(model)
    table, rows = lasso([7, 3, 7])
    assert re.findall(r'class="m2v-word">(.*?)<', table) == [data.texts[3], data.texts[7]]
    assert re.findall("<th>(.*?)<", table) == ["Word", "Rank", "Norm"]
    assert rows[0] == ["word", "rank", "norm", "PCA 1", "PCA 2"]
    assert [int(row[1]) for row in rows[1:]] == [data.ranks[3], data.ranks[7]]
    np.testing.assert_allclose([[float(cell) for cell in row[3:]] for row in rows[1:]], data.pca[[3, 7]], atol=1e-4)
    assert lasso([]) == lasso([1], model=(OWNER, None)) == (word_map._LASSO_HINT, [])
    table, rows = lasso([len(data.shown)])
    assert "does not belong to this map" in table and not rows
    assert word_map.selected_points(SimpleNamespace(points=[1])) == [1]  # type: ignore[arg-type]
    assert word_map.selected_points(SimpleNamespace()) is None  # type: ignore[arg-type]


def test_the_table_of_a_lasso_has_a_column_for_the_colors(model: WordNeighbors, jobs: Jobs) -> None:
    topics = map_look.topics_of(word_map.map_data(model))
    assert topics is not None
    labels, names = topics.labels, topics.names
    table, rows = lasso([3, 7], "cluster")
    assert rows[0][3] == "topic" and [row[3] for row in rows[1:]] == [names[labels[3]], names[labels[7]]]
    assert ">Topic</th>" in table and names[labels[3]] in table
    assert lasso([3], "overlap") == lasso([3])  # the teacher has not read them
    words_switch(True)
    jobs.finish("done")
    overlap = np.load(jobs.folder / "overlap.npy")
    table, rows = lasso([3, 7], "overlap")
    assert rows[0][3] == "shared neighbors"
    np.testing.assert_allclose([float(row[3]) for row in rows[1:]], overlap[[3, 7]], atol=1e-4)
    assert f'class="m2v-number">{overlap[3]:.0%}<' in table


@pytest.mark.parametrize("points", [None, "abc", [1.5], [-1], [10], [True], [[1]]])
def test_a_selection_that_is_none_is_refused(points: object) -> None:
    with pytest.raises(InputError, match="does not belong to this map"):
        word_map.checked_points(points, 10)


def test_why(model: WordNeighbors) -> None:
    html = explore.explain(*MODEL, "the lazy dog \U0001f984", "the quick fox")
    answer = explore.similarity_shares(*MODEL, "the lazy dog", "the quick fox")
    assert sum(span["share"] for span in answer["a"]) == pytest.approx(answer["similarity"])
    assert "ignored" in html and ">unknown<" in html
    assert "Two texts are required" in explore.explain(*MODEL, "a", " ")


def test_foreign_text_is_escaped() -> None:
    spans = tuple(Span(EVIL, kind) for kind in ("known", "unknown", "unread", "between"))
    htmls = [
        findings.explanation_html(Explanation(0.5, spans, spans)),
        findings.documents_html([Neighbor(EVIL, 0.5, 0)], EVIL, places=[EVIL]),
        findings.comparison_html(findings.words_html, [Neighbor(EVIL, 0.5, 0)], [Neighbor(EVIL, 0.5, 0)], EVIL, EVIL),
        map_look.selection_html(["word", "rank", "norm", "cluster"], [[EVIL, 1, 1.0, EVIL]]),
        map_look.legend_html(PointColors("Cluster", np.zeros(1), are_groups=True), [EVIL]),
    ]
    assert not any("<img" in html for html in htmls)


class Jobs:
    """The readings of one owner, in the state a test gives them; the vectors are true ones of a random teacher."""

    def __init__(self, folder: Path, words: WordNeighbors) -> None:
        self.jobs: list[Job] = []
        self.folder = folder
        rng = np.random.default_rng(0)
        vectors = unit_rows(words.rows @ rng.normal(size=(words.rows.shape[1], 12)))
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "overlap.npy", neighbor_overlap(words.rows, vectors))
        self.vectors = vectors

    def list_jobs(self, owner: str) -> list[Job]:
        return self.jobs[::-1] if owner == OWNER else []

    def submit(self, spec: JobSpec, owner: str) -> str:
        assert owner == OWNER
        job = replace(make_job("running"), id=f"reading-{len(self.jobs)}", kind=spec.kind, parameters=spec.parameters)
        self.jobs.append(job)
        return job.id

    def get(self, job_id: str, owner: str) -> Job:
        return next(job for job in self.list_jobs(owner) if job.id == job_id)

    def finish(self, state: JobState, message: str = "") -> None:
        self.jobs[-1] = replace(self.jobs[-1], state=state, message=message)

    def cancel(self, job_id: str, owner: str) -> None:
        assert self.get(job_id, owner)
        self.finish("cancelled")

    def delete(self, job_id: str, owner: str) -> None:
        self.jobs.remove(self.get(job_id, owner))

    def result_folder(self, job_id: str, owner: str) -> Path:
        assert self.get(job_id, owner).state == "done"
        return self.folder


@pytest.fixture
def jobs(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Jobs:
    (tmp_path / "reading").mkdir()
    found = Jobs(tmp_path / "reading", model)
    record = SimpleNamespace(teacher="somebody/teacher", name="mine")

    def get(model_id: str, owner: str) -> SimpleNamespace:
        if (owner, model_id) != MODEL:
            raise NotFoundError("no such model")
        return record

    library = SimpleNamespace(get=get, folder=lambda *_: tmp_path / "model", record=record)
    monkeypatch.setattr(teacher_side, "model_library", lambda: library)
    monkeypatch.setattr(teacher_side, "job_store", lambda: found)
    queries = SimpleNamespace(
        prepare=lambda teacher: None,
        is_ready=lambda teacher, text: False,
        embed=lambda teacher, text: found.vectors[0],
    )
    monkeypatch.setattr(teacher_side, "teacher_queries", lambda: queries)
    return found


def words_switch(may_start: bool, owner: str = OWNER, is_on: bool = True) -> list[Any]:
    shown = teacher_side.follow("teacher_words", owner, JOB_ID, None, is_on, may_start)
    return [shown[name] for name in ("status", "cancel", "timer", "ready_id")]


def test_the_switch_starts_one_reading_and_says_when_it_is_ready(jobs: Jobs) -> None:
    assert words_switch(True, is_on=False)[0] == "" and not jobs.jobs
    status, stop, timer, ready = words_switch(True)
    assert "m2v-reading" in status and stop.visible and timer.active and ready == ""
    words_switch(True)
    assert len(jobs.jobs) == 1 and jobs.jobs[0].parameters["teacher"] == "somebody/teacher"
    jobs.finish("done")
    status, stop, timer, ready = words_switch(False)
    assert (status, stop.visible, timer.active, ready) == ("", False, False, jobs.jobs[0].id)
    assert "no such model" in words_switch(True, owner="B" * 32)[0]


def test_a_reading_that_failed_says_why_and_is_tried_again_when_asked(jobs: Jobs) -> None:
    words_switch(True)
    jobs.finish("failed", f"It broke. {EVIL}")
    status, *_, ready = words_switch(False)
    assert "It broke." in status and "<img" not in status and ready == ""
    words_switch(True)
    assert len(jobs.jobs) == 2
    shown = teacher_side.cancel("teacher_words", *MODEL, None)
    assert shown["is_on"] is False and shown["status"] == "" and jobs.jobs[-1].state == "cancelled"
    jobs.finish("cancelling")  # whoever turns it on again before that one has ended wants a new one
    words_switch(True)
    assert [job.state for job in jobs.jobs] == ["failed", "cancelling", "running"]


def test_a_reading_that_failed_gives_its_id(jobs: Jobs) -> None:
    words_switch(True)
    jobs.finish("failed", "It broke.")
    assert f"<code>{jobs.jobs[0].id}</code>" in words_switch(False)[0]


def test_a_switch_that_is_turned_off_stops_its_reading(jobs: Jobs) -> None:
    switch = partial(teacher_side.switch, "teacher_words")
    shown = switch(*MODEL, None, True)
    assert "m2v-reading" in shown["status"] and shown["cancel"].visible and shown["timer"].active
    shown = switch(*MODEL, None, False)
    assert (shown["cancel"].visible, shown["timer"].active) == (False, False) and "is_on" not in shown
    assert (shown["status"], shown["ready_id"], shown["about"]) == ("", "", "")
    assert jobs.jobs[-1].state == "cancelled"
    jobs.finish("done")
    switch(*MODEL, None, False)
    assert jobs.jobs[-1].state == "done"
    switch("B" * 32, JOB_ID, None, False)  # a stranger's switch stops nothing
    jobs.finish("running")
    switch("B" * 32, JOB_ID, None, False)
    assert jobs.jobs[-1].state == "running"


def test_an_answer_that_comes_late_is_told_apart(jobs: Jobs) -> None:
    documents = Documents(("a",), "one key")
    words = teacher_side.follow("teacher_words", *MODEL, None, True, True)
    texts = teacher_side.follow("teacher_documents", *MODEL, documents, True, True)
    others = teacher_side.follow("teacher_documents", *MODEL, Documents(("b",), "other key"), True, True)
    assert len({words["about"], texts["about"], others["about"], ""}) == 4


def test_a_model_without_a_teacher_says_so(jobs: Jobs) -> None:
    teacher_side.model_library().record.teacher = None  # type: ignore[attr-defined]
    assert "doesn&#39;t state its teacher" in words_switch(True)[0] and not jobs.jobs


def test_on_a_space_a_teacher_is_a_name_on_the_hub(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    teacher_side.model_library().record.teacher = "/etc"  # type: ignore[attr-defined]
    assert "is not a Hub id" in words_switch(True)[0] and not jobs.jobs


def test_words_of_both_stand_side_by_side_and_what_both_found_is_marked(jobs: Jobs, model: WordNeighbors) -> None:
    words_switch(True)
    ready = jobs.jobs[0].id
    assert "m2v-beside" not in explore.search_words(*MODEL, "sea", 10, ready)  # not ready yet
    jobs.finish("done")
    html = explore.search_words(*MODEL, "sea", 10, ready)
    static = {one.rank for one in model.search("sea", 10)}
    scores = jobs.vectors @ jobs.vectors[list(model.texts).index("sea")]
    scores[list(model.texts).index("sea")] = -2
    teacher = {int(model.ranks[place]) for place in np.argsort(-scores)[:10]}
    n_both = len(static & teacher)
    assert 0 < n_both < 10
    assert f"{n_both} of 10 in both" in html and html.count('class="m2v-both"') == 2 * n_both
    assert html.count("<li") == 20 and "Teacher <small>teacher</small>" in html
    assert "m2v-beside" not in explore.search_words(*MODEL, "sea", 10, "another job")
    first, second = explore.follow_words_search(*MODEL, "the sea and the fox", ready)
    assert "Loading the teacher" in first and "data-busy" in first and "in both" in second
    assert len(list(explore.follow_words_search(*MODEL, "sea", ready))) == 1  # it has read this word


def test_documents_beside_the_teacher(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    documents, _ = own_documents.read_documents("paste", TEXTS, None)
    assert documents is not None
    switch = partial(teacher_side.follow, "teacher_documents", *MODEL)
    assert "Search to encode them" in switch(documents, True, False)["status"] and not jobs.jobs
    assert switch(None, True, True)["status"] == ""
    switch(documents, True, True)
    assert jobs.jobs[0].parameters == {"teacher": "somebody/teacher", "key": documents.key}
    np.save(jobs.folder / "vectors.npy", jobs.vectors[:3])
    jobs.finish("done")
    html = explore.search_documents(*MODEL, documents, "sea", 5, jobs.jobs[0].id)
    # Of one text the model knows no part, or all three are in both.
    assert "3 of 3 in both" in html and html.count("<li") == 6
    many = Documents(tuple(map(str, range(5001))), "many")
    assert "5,001 texts" in switch(many, True, True)["status"] and len(jobs.jobs) == 1
    for number in range(7):
        switch(Documents(("a",), str(number)), True, True)
        jobs.finish("done")
    assert len(jobs.jobs) == teacher_side._MAX_RESULTS


def test_clusters_have_a_legend(model: WordNeighbors, tmp_path: Path) -> None:
    props = word_map.show_map(*MODEL, "PCA", "cluster", True)["map"].props
    topics = map_look.topics_of(word_map.map_data(model))
    assert topics is not None
    n_clusters = len(topics.cluster_names)
    assert re.findall(r'data-cluster="(\d+)"', props["legend"]) == [str(number) for number in range(n_clusters)]
    colors = json.loads(props["colors"])
    assert colors["palette"] == list(CLUSTER_COLORS) and colors["areGroups"] is True
    np.testing.assert_array_equal(unpacked(colors["values"], "<f4"), topics.clusters)
    sent = json.loads(props["topics"])
    assert sent["names"] == topics.names
    np.testing.assert_array_equal(unpacked(sent["labels"], "<i4"), topics.labels)
    assert list((tmp_path / "maps").glob("clusters-*.npy")) and list((tmp_path / "maps").glob("topics-*.npy"))


def test_the_map_does_not_wait_for_topics(model: WordNeighbors, monkeypatch: pytest.MonkeyPatch) -> None:
    pending: Future[Any] = Future()
    monkeypatch.setattr(map_look, "_pending_topics", lambda data: pending)
    monkeypatch.setattr(map_look, "_CACHED_SECONDS", 0.0)
    shown = word_map.show_map(*MODEL, "PCA", "cluster", True)
    assert "Finding topics" in shown["status"] and shown["timer"].active is True
    assert shown["map"].props["colors"] is shown["map"].props["topics"] is None and not shown["map"].props["legend"]
    pending.set_exception(M2VError("no room"))
    monkeypatch.setattr(map_look, "_pending_topics", _Cached(pending))
    assert "no room" in word_map.show_map(*MODEL, "PCA", "cluster", True)["notes"]
    assert map_look._pending_topics.n_cleared == 1  # type: ignore[attr-defined]


class _Cached:
    """A cached function with one result."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.n_cleared = 0

    def __call__(self, data: object) -> Any:
        return self.result

    def cache_clear(self) -> None:
        self.n_cleared += 1


def test_overlap_colors_need_the_teacher(jobs: Jobs) -> None:
    drawn: dict[str, str] = {}

    def shown() -> list[Any]:
        values = word_map.show_map(*MODEL, "PCA", "overlap", True, drawn)
        drawn.update(values.get("drawn", {}))
        return [values.get(name, gr.skip()) for name in ("map", "notes", "timer", "ask", "stop")]

    figure, notes, timer, ask, stop = shown()
    assert "Colored by rank for now" in notes and "The teacher has not encoded" in notes
    assert "<strong>Rank</strong>" in figure.props["legend"]
    assert (timer.active, ask.visible, stop.visible) == (False, True, False)
    assert word_map.submit_encoding(*MODEL, 0) == ("", 1) and len(jobs.jobs) == 1
    figure, notes, timer, ask, stop = shown()
    assert "The colors change" in notes and "Colored by rank for now" in notes and figure == gr.skip()
    assert (timer.active, ask.visible, stop.visible) == (True, False, True)
    assert word_map.stop_encoding(*MODEL, 1) == ("", 2) and jobs.jobs[-1].state == "cancelled"
    assert shown()[3].visible
    word_map.submit_encoding(*MODEL, 2)
    jobs.finish("failed", f"It broke. {EVIL}")
    _, notes, _, ask, stop = shown()
    assert "It broke." in notes and "<img" not in notes and ask.visible and not stop.visible
    word_map.submit_encoding(*MODEL, 3)
    jobs.finish("done")
    figure, notes, timer, ask, stop = shown()
    overlap = np.load(jobs.folder / "overlap.npy")
    assert f"On average, {overlap.mean():.0%} of" in notes and "for now" not in notes
    assert (timer.active, ask.visible, stop.visible) == (False, False, False)
    colors = json.loads(figure.props["colors"])
    np.testing.assert_allclose(unpacked(colors["values"], "<f4"), overlap)
    assert "<strong>Teacher overlap</strong>" in figure.props["legend"] and "100%" in figure.props["legend"]


def test_the_teacher_s_map_has_the_same_words(jobs: Jobs, model: WordNeighbors) -> None:
    def shown(color_by: ColorBy, beside: bool, drawn: dict[str, str] | None = None) -> dict[str, Any]:
        return word_map.show_map(*MODEL, "PCA", color_by, True, drawn, beside)

    assert not shown("overlap", True)["beside"].visible  # the teacher has not encoded the words
    word_map.submit_encoding(*MODEL, 0)
    jobs.finish("done")
    assert not shown("rank", True)["beside"].visible and shown("rank", True)["teacher_map"].visible == "hidden"
    alone = shown("overlap", False)
    assert alone["beside"].visible and alone["teacher_map"].visible == "hidden"
    both = shown("overlap", True, alone["drawn"])
    props = both["teacher_map"].props
    assert both["teacher_map"].visible is True and "map" not in both
    points = json.loads(props["points"])
    of_teacher = np.column_stack([unpacked(points[axis], "<f4") for axis in "xy"])
    np.testing.assert_array_equal(of_teacher, pca_map(jobs.vectors))
    assert points["model"] == json.loads(alone["map"].props["points"])["model"]  # the maps follow each other
    assert json.loads(props["words"])["texts"] == model.texts and props["colors"] == alone["map"].props["colors"]
    assert set(shown("overlap", True, both["drawn"])["teacher_map"].props) == {"legend"}


def test_a_clicked_word_shows_the_teacher_s_neighbors(jobs: Jobs, model: WordNeighbors) -> None:
    assert "of the teacher" not in word_map.word_html(*MODEL, 5)
    word_map.submit_encoding(*MODEL, 0)
    jobs.finish("done")
    panel = str(word_map.word_html(*MODEL, 5))
    found = re.findall(r">([^<]+)</(?:button|span)>", panel[panel.index("Nearest words of the teacher") :])
    similarities = jobs.vectors @ jobs.vectors[5]
    similarities[5] = -np.inf
    assert model.texts[int(similarities.argmax())] == found[0]


def test_where_no_teacher_can_read_the_words_nobody_is_asked_to_let_it(jobs: Jobs) -> None:
    teacher_side.model_library().record.teacher = None  # type: ignore[attr-defined]
    shown = word_map.show_map(*MODEL, "PCA", "overlap", True)
    assert "doesn&#39;t state its teacher" in shown["notes"] and not shown["ask"].visible
    said, _ = word_map.submit_encoding(*MODEL, 0)  # a click that came late
    assert "doesn&#39;t state its teacher" in said and not jobs.jobs
