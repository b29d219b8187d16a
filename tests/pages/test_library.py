from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from m2v_core.library import Library, ModelRecord
from m2v_core.persistence.export import write_zip
from pages import library as page
from pages.components import archive, model_picker
from tests.pages.conftest import FakeStore, make_job
from tests.static_models import static_model

EVIL = "<img src=x onerror=alert(1)>"
OWNER = "owner-owner-owner-owner-1"
OTHER = "other-other-other-other-2"
(MESSAGE, MODELS, DETAIL, FACTS, NAME, SNIPPET, CONFIRM, DONE, TIMER) = range(9)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path) -> Library:
    made = Library(tmp_path / "models")
    for module in (page, model_picker, archive):
        monkeypatch.setattr(module, "model_library", lambda: made)
    for module in (page, model_picker):
        monkeypatch.setattr(module, "job_store", lambda: store)
    return made


@pytest.fixture
def add(library: Library, tmp_path: Path) -> Callable[..., ModelRecord]:
    def add(name: str = "small", owner: str = OWNER, teacher: str | None = "someone/teacher") -> ModelRecord:
        static_model(base_model_name=teacher).save_pretrained(tmp_path / "small")
        return library.add_from_folder(tmp_path / "small", owner, name)

    return add


def request(**query: str) -> Any:
    return SimpleNamespace(query_params=query)


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def test_an_empty_library_says_what_to_do_first(library: Library) -> None:
    owner, *shown = page.attach(None, request())
    assert len(owner) >= 22
    assert "Distill your first one" in text_of(shown[MESSAGE])
    assert 'href="distill"' in shown[MESSAGE]
    assert (shown[MODELS].visible, shown[DETAIL].visible, shown[TIMER].active) == (False, False, False)


def test_a_running_job_is_waited_for(library: Library, store: FakeStore) -> None:
    store.add(OWNER, make_job("running"))
    shown = page.values(OWNER)
    assert "A model is being made" in shown[MESSAGE]
    assert "No model yet" not in shown[MESSAGE]
    assert shown[TIMER].active


def test_the_models_are_listed_and_the_newest_is_picked(add: Callable[..., ModelRecord]) -> None:
    first, second = add("first"), add("second")
    add("not mine", OTHER)
    _, *shown = page.attach(OWNER, request())
    assert [model_id for _, model_id in shown[MODELS].choices] == [second.id, first.id]
    assert shown[MODELS].value == second.id
    assert shown[NAME] == "second"
    for says in ("someone/teacher", "24", "134", "float32", "From small"):
        assert says in text_of(shown[FACTS])
    assert f'href="explore?model={second.id}"' in shown[FACTS]


def test_the_address_picks_a_model_for_good(add: Callable[..., ModelRecord], library: Library) -> None:
    first, second, others = add("first"), add("second"), add("not mine", OTHER)
    assert page.attach(OWNER, request(model=first.id))[1 + MODELS].value == first.id
    assert library.picked(OWNER) == first
    _, *shown = page.attach(OWNER, request(model=others.id))
    assert "No such model among yours" in shown[MESSAGE]
    assert shown[MODELS].value == first.id
    page.pick(OWNER, second.id)
    assert library.picked(OWNER) == second


@pytest.mark.parametrize("where", ["name", "teacher"])
def test_markup_is_shown_as_text(add: Callable[..., ModelRecord], where: str) -> None:
    record = add(**{where: EVIL})
    shown = page.values(OWNER, record.id)
    assert EVIL not in "".join([shown[MESSAGE], shown[FACTS], shown[SNIPPET]])
    assert "&lt;img" in shown[FACTS]


def test_every_message_with_a_name_escapes_it(add: Callable[..., ModelRecord]) -> None:
    record = add()
    renamed = page.rename(OWNER, record.id, EVIL)
    assert EVIL not in renamed[DONE] and "&lt;img" in renamed[DONE]
    assert EVIL not in page.ask(OWNER, record.id)[1]
    assert EVIL not in page.delete(OWNER, record.id)[MESSAGE]


def test_what_an_upload_may_be(library: Library, tmp_path: Path) -> None:
    static_model().save_pretrained(tmp_path / "mine")
    archive = write_zip(tmp_path / "mine", tmp_path / "packed.zip")
    message, box, *shown = page.add_upload(OWNER, [str(archive)])
    assert "packed is in your library" in text_of(message)
    assert box is None and shown[NAME] == "packed"
    assert not archive.exists()
    message, _, *shown = page.add_upload(OWNER, [str(path) for path in (tmp_path / "mine").iterdir() if path.is_file()])
    assert "model is in your library" in text_of(message)
    for paths in ([], [str(tmp_path / "a.zip"), str(tmp_path / "b.zip")]):
        assert "Upload one ZIP archive" in page.add_upload(OWNER, paths)[0]
    (tmp_path / "config.json").write_text("{}")
    assert "missing" in page.add_upload(OWNER, [str(tmp_path / "config.json")])[0]


def test_a_folder_is_opened_at_home_and_never_on_a_space(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static_model().save_pretrained(tmp_path / "mine")
    assert "mine is in your library" in text_of(page.add_named(OWNER, "folder", str(tmp_path / "mine"))[0])
    assert "Nothing is named yet" in page.add_named(OWNER, "hub", " ")[0]
    monkeypatch.setenv("SPACE_ID", "someone/space")
    for way in ("folder", "hub"):
        message = page.add_named(OWNER, way, str(tmp_path / "mine"))[0]
        assert "m2v-error" in message
    assert len(library.list_models(OWNER)) == 1


def test_rename_and_delete(add: Callable[..., ModelRecord], library: Library) -> None:
    first, second = add("first"), add("second")
    shown = page.rename(OWNER, first.id, "third")
    assert shown[NAME] == "third" and "It is called third now" in text_of(shown[DONE])
    assert "called &#x27;second&#x27; already" in page.rename(OWNER, first.id, "second")[DONE]
    assert "can't be brought back" in text_of(page.ask(OWNER, first.id)[1]).replace("&#x27;", "'")
    shown = page.delete(OWNER, first.id)
    assert "third is deleted" in text_of(shown[MESSAGE])
    assert shown[MODELS].value == second.id
    assert "could not be deleted" in page.delete(OTHER, second.id)[MESSAGE]
    assert library.list_models(OWNER) == [second]


def test_the_zip_is_its_owners_and_goes_with_the_model(add: Callable[..., ModelRecord]) -> None:
    record = add("my model/…")
    zip_path = archive.archive_of(OWNER, record.id)
    assert zip_path.name == "my-model.zip"
    assert record.id not in str(zip_path)
    with pytest.raises(gr.Error, match="No such model among yours"):
        page.make_zip(OTHER, record.id)
    page.delete(OWNER, record.id)
    assert not zip_path.exists()


@pytest.mark.parametrize(
    ("format", "file"), [("onnx", "my-model-onnx/onnx/model.onnx"), ("word2vec", "my-model-word2vec/vectors.txt")]
)
def test_other_formats_come_as_archives(add: Callable[..., ModelRecord], format: Any, file: str) -> None:
    record = add("my model")
    path = archive.archive_of(OWNER, record.id, format)
    with zipfile.ZipFile(path) as opened:
        assert file in opened.namelist()
    assert [entry.name for entry in path.parent.iterdir()] == [f"my-model-{format}.zip"]
    assert path.parent == archive.archive_of(OWNER, record.id).parent
    with pytest.raises(gr.Error, match="No such model among yours"):
        page.make_zip(OTHER, record.id, format)
    page.delete(OWNER, record.id)
    assert not path.exists()


def test_refreshing_leaves_alone_what_one_types(add: Callable[..., ModelRecord], store: FakeStore) -> None:
    record = add()
    shown = page.refresh(OWNER, record.id)
    assert shown[NAME] == gr.skip()
    assert page.refresh(OWNER, None)[NAME] == "small"


def test_the_picker_on_other_pages_follows(add: Callable[..., ModelRecord], store: FakeStore) -> None:
    owner, box, message, timer, n_offered = model_picker.attach(OWNER, request())
    assert (owner, box.visible, timer.active, n_offered) == (OWNER, False, False, 0)
    assert 'href="distill"' in message and 'href="library"' in message
    first, second = add("first"), add("second")
    page.pick(OWNER, first.id)
    _, box, message, _, n_offered = model_picker.attach(OWNER, request())
    assert (box.value, message, n_offered) == (first.id, "", 2)
    assert model_picker.pick(OWNER, second.id) == ""
    assert page.values(OWNER)[MODELS].value == second.id
    assert "No such model" in model_picker.attach(OTHER, request(model=first.id))[2]
    assert model_picker.refresh(OWNER, first.id, 2)[0].value == first.id
    assert model_picker.shorten(OWNER, first.id, 2) == [gr.skip()] * 4
    # The list may be open: it gets shorter only when it is closed.
    assert model_picker.refresh(OWNER, first.id, 3) == [gr.skip()] * 4
    assert [value for _, value in model_picker.shorten(OWNER, second.id, 3)[0].choices] == [second.id, first.id]


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({}, "The usual settings"),
        ({"pca_dims": 256, "pooling": "mean", "device": None}, "dimensions 256 · pooling mean"),
        ({"use_subword": False, "weighting": "sif"}, "own words only · weighting sif"),
    ],
)
def test_a_recipe_in_one_line(recipe: dict[str, Any], says: str) -> None:
    record = ModelRecord("0" * 32, "name", "teacher", recipe, "job")
    assert says in text_of(page.facts_html(record))
