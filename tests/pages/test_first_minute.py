"""What a visitor without a model sees: the demo model on every page that uses a model."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from m2v_core.errors import InputError
from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.exploration.topics import is_content_word
from m2v_core.studio.library import DemoModel, Library
from pages import compare, evaluate, publish
from pages import library as library_page
from pages.components import home_map, model_picker, served_files, word_search
from tests.demo_model import place_demo
from tests.pages.conftest import FakeStore, make_job
from tests.static_models import static_model

OWNER = "owner-owner-owner-owner-1"
REQUEST: Any = SimpleNamespace(query_params={})


@pytest.fixture
def demo(tmp_path: Path) -> DemoModel:
    return place_demo(tmp_path)


@pytest.fixture
def library(demo: DemoModel, monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path) -> Library:
    made = Library(tmp_path / "models", demo=demo)
    for module in (model_picker, compare, evaluate, publish, library_page, served_files, word_search):
        monkeypatch.setattr(module, "model_library", lambda: made)
    for module in (model_picker, compare, evaluate, library_page):
        monkeypatch.setattr(module, "job_store", lambda: store)
    return made


@pytest.fixture
def add(library: Library, tmp_path: Path) -> Callable[[], str]:
    def add() -> str:
        static_model().save_pretrained(tmp_path / "own")
        return library.add_from_folder(tmp_path / "own", OWNER, "own").id

    return add


@pytest.fixture
def pending(demo: DemoModel, library: Library, tmp_path: Path) -> DemoModel:
    """The same library before the demo model is made."""
    library.demo = DemoModel(tmp_path / "elsewhere", "someone/teacher")
    library.demo.is_pending = True
    return demo


def test_the_picker_selects_it_until_there_is_a_model(
    library: Library, demo: DemoModel, add: Callable[[], str], store: FakeStore
) -> None:
    shown = model_picker.attach(OWNER, REQUEST)
    box = shown["model_id"]
    assert (box.visible, box.value, shown["message"], shown["timer"].active) == (True, demo.id, "", False)
    assert [label.split(" · ")[0] for label, _ in box.choices] == ["Demo"]
    assert model_picker.pick(OWNER, demo.id) == ""
    store.add(OWNER, make_job("running"))
    assert "Your first model is being made" in model_picker.refresh(OWNER, demo.id, 1)["message"]
    own = add()
    box = model_picker.refresh(OWNER, demo.id, 1)["model_id"]
    assert box.value == own and [model_id for _, model_id in box.choices] == [own, demo.id]
    assert model_picker.pick(OWNER, demo.id) == ""
    assert model_picker.refresh(OWNER, demo.id, 2)["model_id"].value == demo.id


def test_the_picker_waits_for_it(library: Library, pending: DemoModel) -> None:
    shown = model_picker.attach(OWNER, REQUEST)
    assert "The demo model is being made" in shown["message"] and "No model yet" not in shown["message"]
    assert not shown["model_id"].visible and shown["timer"].active
    library.demo = pending
    shown = model_picker.refresh(OWNER, None, 0)
    assert (shown["model_id"].value, shown["message"], shown["timer"].active) == (pending.id, "", False)


def test_without_one_the_pages_are_as_they_were(library: Library) -> None:
    library.demo = None
    shown = model_picker.attach(OWNER, REQUEST)
    assert "No model yet" in shown["message"] and not shown["timer"].active
    assert "No model yet" in compare.offer(OWNER, REQUEST)["empty"]
    shown = word_search.show_box(OWNER)
    assert (shown["box"].visible, shown["model_id"], shown["status"], shown["timer"].active) == (False, None, "", False)
    assert "demo" not in library_page.attach(OWNER, REQUEST)["progress"]


def test_compare_ticks_it_and_measures_it(library: Library, demo: DemoModel, add: Callable[[], str]) -> None:
    shown = compare.offer(OWNER, REQUEST)
    assert shown["empty"] == "" and shown["models"].value == [demo.id]
    assert shown["teacher"] == "sentence-transformers/all-MiniLM-L6-v2"
    own = add()
    shown = compare.refresh(OWNER, [demo.id], shown["listed"], shown["teacher"], shown["teacher"])
    assert shown["models"].value == [own] and shown["models"].choices[-1][1] == demo.id
    assert compare.refresh(OWNER, [demo.id], shown["listed"], "", "") == {}  # ticked on purpose


def test_compare_waits_for_it(library: Library, pending: DemoModel) -> None:
    shown = compare.offer(OWNER, REQUEST)
    assert "The demo model is being made" in shown["empty"]
    library.demo = pending
    shown = compare.refresh(OWNER, [], shown["listed"], shown["teacher"], shown["proposed"])
    assert shown["models"].value == [pending.id] and shown["empty"] == ""


def test_evaluate_takes_it(library: Library, demo: DemoModel, add: Callable[[], str]) -> None:
    assert [record.id for record in evaluate._chosen_models(OWNER, demo.id, [])] == [demo.id]
    own = add()
    boxes, _ = evaluate.offer(OWNER, own, [])
    assert demo.id in [value for _, value in boxes.choices]


def test_publish_and_the_library_do_not_offer_it(
    library: Library, demo: DemoModel, add: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = model_picker.picker_values(OWNER, None, with_demo=False)["model_id"]
    assert not box.visible and box.choices == []
    who: Any = None
    with pytest.raises(InputError, match="demo model is shared by all users"):
        publish.submit(OWNER, who, demo.id, "ada/mine", None, "", "private", "mit", "")
    shown = library_page.attach(OWNER, REQUEST)
    assert shown["listed"] == "" and not shown["detail"].visible
    assert 'href="explore">explore the demo model' in shown["progress"]
    assert "is shared by all users" in library_page.rename(OWNER, demo.id, "mine")["done"]
    assert "is shared by all users" in library_page.delete(OWNER, demo.id)["message"]
    own = add()
    library.pick(demo.id, OWNER)
    assert library_page.attach(OWNER, REQUEST)["shown_id"] == own


def test_home_searches_it_then_the_visitors_own_model(
    library: Library, demo: DemoModel, add: Callable[[], str]
) -> None:
    shown = word_search.show_box(OWNER)
    assert shown["box"].visible and shown["model_id"] == demo.id and not shown["timer"].active
    html = word_search.search_words(OWNER, demo.id, "sea")
    expected = [neighbor.text for neighbor in WordNeighbors(library.load(demo.id, OWNER)).search("sea", 10)]
    assert re.findall('<button type="button" class="m2v-word" data-query="(.*?)"', html) == expected
    assert "words in the demo model" in html
    assert word_search.search_words(OWNER, demo.id, "  ") == word_search.search_words(OWNER, None, "sea") == ""
    assert "None of these words" in word_search.search_words(OWNER, demo.id, "\U0001f984")
    own = add()
    assert word_search.show_box(OWNER)["model_id"] == own
    assert "words in own" in word_search.search_words(OWNER, own, "sea")


def test_home_waits_for_it_and_hides_one_that_is_damaged(library: Library, pending: DemoModel) -> None:
    shown = word_search.show_box(OWNER)
    assert "The demo model is being made" in shown["status"] and shown["timer"].active and not shown["box"].visible
    library.demo = pending
    (pending.folder() / "model" / "model.safetensors").write_bytes(b"")
    shown = word_search.show_box(OWNER)
    assert (shown["box"].visible, shown["status"], shown["timer"].active) == (False, "", False)


def test_markup_in_a_query_or_a_word_is_text(library: Library, demo: DemoModel) -> None:
    html = word_search.search_words(OWNER, demo.id, 'sea "><img src=x onerror=alert(1)>')
    assert "<img" not in html and "&lt;img" in html


@pytest.mark.parametrize(("value", "has_demo"), [("0", False), ("1", True), (None, True)])
def test_an_environment_variable_turns_it_off(
    value: str | None, has_demo: bool, store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(model_picker, "job_store", lambda: store)
    monkeypatch.setenv("M2V_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("M2V_STUDIO_DEMO", raising=False)
    if value is not None:
        monkeypatch.setenv("M2V_STUDIO_DEMO", value)
    assert (model_picker.model_library.__wrapped__().demo is not None) == has_demo


@pytest.mark.parametrize("is_installed", [True, False])
def test_it_is_made_only_of_an_installed_teacher(
    library: Library, is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    library.demo = SimpleNamespace(make_in_background=made.append)  # type: ignore[assignment]
    store = SimpleNamespace(is_idle=object())
    monkeypatch.setattr(model_picker, "job_store", lambda: store)
    monkeypatch.setattr(model_picker, "is_installed", lambda: is_installed)
    model_picker.make_demo()
    assert made == ([store.is_idle] if is_installed else [])


def test_the_map_on_home_has_the_most_frequent_words(demo: DemoModel, library: Library) -> None:
    words = WordNeighbors(library.load(demo.id, OWNER))
    sent = json.loads(home_map.show_cloud(OWNER, demo.id).props["cloud"])
    x, y, z = (np.frombuffer(base64.b64decode(sent[axis]), "<f4") for axis in "xyz")
    content = [text for text in words.texts if is_content_word(text)]
    assert len(x) == len(y) == len(z) == len(sent["colors"]) == len(content)
    assert all(content[place] == text for place, text in sent["labels"]) and sent["labels"]
    spread = np.array([axis.std() for axis in (x, y, z)])
    assert (np.diff(spread) <= 1e-6).all() and np.isfinite(spread).all()
    for owner, model_id in ((OWNER, None), (OWNER, "0" * 32), ("another" * 4, None)):
        assert home_map.show_cloud(owner, model_id).props["cloud"] is None
