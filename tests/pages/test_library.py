from __future__ import annotations

import json
import os
import re
import threading
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gradio.context import LocalContext

from m2v_core.storage.export import write_zip
from m2v_core.studio.jobs import Job
from m2v_core.studio.library import Library, ModelRecord
from pages import library as page
from pages.components import (
    model_difference,
    model_facts,
    model_picker,
    model_table,
    served_files,
    waiting,
    zip_button,
)
from tests.pages.conftest import FakeStore, done_job, make_job
from tests.pages.test_share_card import MEASURED
from tests.static_models import static_model

EVIL = "<img src=x onerror=alert(1)>"
OWNER = "owner-owner-owner-owner-1"
OTHER = "other-other-other-other-2"
MESSAGE, PROGRESS, MODELS, DETAIL, FACTS, NAME = ("message", "progress", "models", "detail", "facts", "name")
SNIPPET, CONFIRM, DONE, TIMER, SHOWN, LISTED = ("snippet", "confirm", "done", "timer", "shown_id", "listed")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path) -> Library:
    made = Library(tmp_path / "models")
    for module in (page, model_picker, served_files):
        monkeypatch.setattr(module, "model_library", lambda: made)
    for module in (page, model_picker):
        monkeypatch.setattr(module, "job_store", lambda: store)
    return made


@pytest.fixture
def add(library: Library, tmp_path: Path) -> Callable[..., ModelRecord]:
    def add(name: str = "small", owner: str = OWNER, teacher: str | None = "someone/teacher") -> ModelRecord:
        static_model().save_pretrained(tmp_path / "small")
        # What stands in a card that somebody uploads is anything.
        (tmp_path / "small" / "README.md").write_text(f"---\nbase_model: {json.dumps(teacher)}\n---\n")
        return library.add_from_folder(tmp_path / "small", owner, name)

    return add


def request(**query: str) -> Any:
    return SimpleNamespace(query_params=query)


def last(frames: Iterable[list[Any]]) -> list[Any]:
    """What is there in the end of what a handler shows."""
    *_, frame = frames
    return frame


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def ids_of(table: str) -> list[str]:
    """The models of the table, in order."""
    return re.findall(r'<tr data-model="(\w+)"', table)


def update_of(component: Any) -> dict[str, Any]:
    """What a handler's answer changes of a component in the browser."""
    return component._constructor_args[0]


def picked_of(shown: dict[str, Any]) -> str | None:
    return update_of(shown[MODELS])["picked"]


def test_an_empty_library_says_what_to_do_first(library: Library) -> None:
    shown = page.attach(None, request())
    assert len(shown["owner"]) >= 22
    assert "Distill your first model" in text_of(shown[PROGRESS])
    assert 'href="distill"' in shown[PROGRESS]
    assert (update_of(shown[MODELS])["rows"], shown[DETAIL].visible, shown[TIMER].active) == ("", False, False)


def test_a_running_job_is_waited_for(library: Library, store: FakeStore) -> None:
    store.add(OWNER, make_job("running"))
    shown = page.values(OWNER)
    assert "A model is being made" in shown[PROGRESS]
    assert "No model yet" not in shown[PROGRESS]
    assert shown[TIMER].active


@pytest.mark.parametrize("kind", ["speed", "evaluate", "publish", "teacher_words"])
def test_a_job_that_makes_no_model_is_none_to_wait_for(library: Library, store: FakeStore, kind: str) -> None:
    store.add(OWNER, make_job("running", kind=kind))
    shown = page.values(OWNER)
    assert "being made" not in shown[PROGRESS] and "No model yet" in shown[PROGRESS]
    assert not shown[TIMER].active


def test_what_was_said_stays_while_a_model_is_made(
    add: Callable[..., ModelRecord], library: Library, store: FakeStore
) -> None:
    add("first")
    second = add("second")
    store.add(OWNER, make_job("running"))
    shown = page.delete(OWNER, second.id)
    assert "second was deleted" in shown[MESSAGE] and "being made" in shown[PROGRESS]
    again = page.refresh(OWNER, shown[SHOWN], shown[LISTED])
    assert MESSAGE not in again and "being made" in again[PROGRESS]


def finished(store: FakeStore, name: str, letter: str) -> Job:
    return store.add(OWNER, make_job("done", id=letter * 32, title=name, parameters={"model_name": "someone/teacher"}))


def test_a_full_library_says_which_model_is_left_out_and_takes_it_in_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch, add: Callable[..., ModelRecord], store: FakeStore, tmp_path: Path
) -> None:
    record = add("first")
    library = Library(tmp_path / "models", jobs=store, max_models_per_owner=1)  # type: ignore[arg-type]
    for module in (page, model_picker, served_files):
        monkeypatch.setattr(module, "model_library", lambda: library)
    static_model().save_pretrained(store.result)
    finished(store, f"m2v-{EVIL}", "a")
    shown = page.values(OWNER, record.id)
    assert ids_of(shown[LISTED]) == [record.id]
    for html in (shown[PROGRESS], model_picker.attach(OWNER, request())["message"]):
        for says in (
            "Not in your library: m2v-<img",
            "the limit here is 1 ",
            "Download the ZIP",
            "is then added automatically",
        ):
            assert says in unescape(html)
        assert EVIL not in html
    page.delete(OWNER, record.id)
    shown = page.values(OWNER)
    assert ids_of(shown[LISTED]) == ["a" * 32] and shown[PROGRESS] == ""


def test_a_finished_model_that_can_not_be_read_says_so(
    monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path
) -> None:
    library = Library(tmp_path / "models", jobs=store)  # type: ignore[arg-type]
    for module in (page, model_picker):
        monkeypatch.setattr(module, "model_library", lambda: library)
        monkeypatch.setattr(module, "job_store", lambda: store)
    finished(store, "m2v-broken", "a")  # of which there is a config.json alone
    shown = page.values(OWNER)
    assert "Not in your library: m2v-broken" in shown[PROGRESS] and "is then added automatically" not in shown[PROGRESS]
    [refused] = library.contents(OWNER).refused
    assert (refused.id, refused.is_for_room) == ("a" * 32, False) and refused.reason


def test_the_models_are_listed_and_the_newest_is_picked(add: Callable[..., ModelRecord]) -> None:
    first, second = add("first"), add("second")
    add("not mine", OTHER)
    shown = page.attach(OWNER, request())
    assert ids_of(update_of(shown[MODELS])["rows"]) == [second.id, first.id]
    assert picked_of(shown) == second.id
    assert shown[NAME] == "second"
    for says in ("someone/teacher", "24", "134", "float32", "From small"):
        assert says in text_of(shown[FACTS])
    assert f'href="explore?model={second.id}"' in shown[FACTS]


def test_the_address_picks_a_model_for_good(add: Callable[..., ModelRecord], library: Library) -> None:
    first, second, others = add("first"), add("second"), add("not mine", OTHER)
    assert picked_of(page.attach(OWNER, request(model=first.id))) == first.id
    assert library.picked(OWNER) == first
    shown = page.attach(OWNER, request(model=others.id))
    assert "Model not found" in shown[MESSAGE]
    assert picked_of(shown) == first.id
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
    shown = last(page.add_upload(OWNER, [str(archive)]))
    message, box = shown["added"], shown["upload"]
    assert "packed is in your library" in text_of(message)
    assert box is None and shown[NAME] == "packed"
    assert not archive.exists()
    files = [str(path) for path in (tmp_path / "mine").iterdir() if path.is_file()]
    shown = last(page.add_upload(OWNER, files))
    message = shown["added"]
    assert "model is in your library" in text_of(message)
    for paths in ([], [str(tmp_path / "a.zip"), str(tmp_path / "b.zip")]):
        assert "Upload either one ZIP archive" in last(page.add_upload(OWNER, paths))["added"]
    (tmp_path / "config.json").write_text("{}")
    assert "missing" in last(page.add_upload(OWNER, [str(tmp_path / "config.json")]))["added"]


def test_a_folder_is_opened_at_home_and_never_on_a_space(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static_model().save_pretrained(tmp_path / "mine")
    assert "mine is in your library" in text_of(last(page.add_named(OWNER, "folder", str(tmp_path / "mine")))["added"])
    assert "The field is empty" in last(page.add_named(OWNER, "hub", " "))["added"]
    monkeypatch.setenv("SPACE_ID", "someone/space")
    for way in ("folder", "hub"):
        message = last(page.add_named(OWNER, way, str(tmp_path / "mine")))["added"]
        assert "m2v-error" in message
    assert len(library.list_models(OWNER)) == 1


def test_rename_and_delete(add: Callable[..., ModelRecord], library: Library) -> None:
    first, second = add("first"), add("second")
    shown = page.rename(OWNER, first.id, "third")
    assert shown[NAME] == "third" and "Renamed to third" in text_of(shown[DONE])
    assert "named &#39;second&#39;" in page.rename(OWNER, first.id, "second")[DONE]
    assert "can't be undone" in text_of(page.ask(OWNER, first.id)[1]).replace("&#39;", "'")
    shown = page.delete(OWNER, first.id)
    assert "third was deleted" in text_of(shown[MESSAGE])
    assert picked_of(shown) == second.id
    assert "can&#39;t be deleted" in page.delete(OTHER, second.id)[MESSAGE]
    assert library.list_models(OWNER) == [second]


def test_a_name_that_is_too_long_is_refused_and_not_cut(add: Callable[..., ModelRecord]) -> None:
    record = add()
    shown = page.rename(OWNER, record.id, "n" * 103)
    assert "can&#39;t be renamed" in shown[DONE] and "103 characters; the maximum is 96" in shown[DONE]
    assert page.values(OWNER, record.id)[NAME] == "small"
    assert page.rename(OWNER, record.id, "n" * 96)[NAME] == "n" * 96


@pytest.mark.parametrize(
    ("recipe", "says"), [("fast", "Fast"), ("calibrated", "Calibrated"), ("a new one", "a new one")]
)
def test_a_model_from_elsewhere_tells_its_recipe(library: Library, tmp_path: Path, recipe: str, says: str) -> None:
    static_model().save_pretrained(tmp_path / "mine")
    config = tmp_path / "mine" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"m2v": {"recipe": recipe}}))
    for way in (
        lambda: library.add_from_folder(tmp_path / "mine", OWNER),
        lambda: library.add_from_zip(write_zip(tmp_path / "mine", tmp_path / "mine.zip"), OWNER),
    ):
        record = way()
        shown = page.values(OWNER, record.id)
        assert f"Recipe {says} From mine" in text_of(shown[FACTS])
        assert f'data-column="Recipe" data-value="{says}"' in shown[LISTED]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"m2v": {"recipe": 7}}))
    record = library.add_from_folder(tmp_path / "mine", OWNER)
    assert "Recipe" not in page.facts_html(record)


def test_models_of_one_name_and_day_are_told_apart_by_the_time() -> None:
    def record(name: str, added_at: float) -> ModelRecord:
        return ModelRecord(f"{added_at:032.0f}", name, None, added_at=added_at)

    dates = model_facts.model_dates([record("m", 60.0), record("m (2)", 7260.0), record("o", 0), record("m", 90_000)])
    assert dates == ["1 Jan 1970, 00:01 UTC", "1 Jan 1970, 02:01 UTC", "1 Jan 1970", "2 Jan 1970"]


def test_a_model_is_called_the_same_wherever_it_is_offered() -> None:
    recipe = {"recipe": "fast", "use_subword": False}
    record = ModelRecord("0" * 32, "m", None, recipe, dim=256, dtype="float16", n_bytes=15_700_000)
    assert model_picker.choice_label(record) == "m · Fast · own words · 256 dimensions · float16 · 15.7 MB"
    assert (
        text_of(model_table.table_html([record], [])).count("Fast · own words · 256 dimensions") == 1
    )  # below the name
    assert model_picker.choice_label(replace(record, recipe={})).startswith("m · 256 dimensions")


def cells_of(table: str) -> list[dict[str, tuple[str, str]]]:
    """Of each row, the text and the value to sort by of each column."""
    rows = re.findall(r"<tr data-model=.*?</tr>", table)
    cell = r'data-column="(\w+)" data-value="(.*?)".*?>(.*?)</t[dh]>'
    return [{name: (text_of(text), value) for name, value, text in re.findall(cell, row)} for row in rows]


def test_speed_and_quality_are_those_that_the_models_run_measured() -> None:
    jobs = [
        done_job(id=letter * 32, outcome={"n_bytes": 1, "measured": MEASURED | changes})
        for letter, changes in (("a", {}), ("b", {"n_fidelity_texts": 511, "sentences_per_second": None}))
    ]
    records = [
        ModelRecord(letter * 32, letter, "someone/teacher", dim=1_256, n_bytes=15_700_000, added_at=60)
        for letter in "abc"
    ]
    measured, too_few, foreign = cells_of(model_table.table_html(records, [*jobs, done_job(id="d" * 32)]))
    assert measured == {
        "Name": (measured["Name"][0], "a"),
        "Teacher": ("teacher", "teacher"),
        "Recipe": ("&ndash; Not stated", ""),
        "Dimensions": ("1,256", "1256"),
        "Size": ("15.7 MB", "15700000"),
        "Speed": ("51,234/s", "51234.0"),
        "Quality": ("0.85", "0.851"),
        "Date": ("1 Jan 1970", "60"),
    }
    for row in (too_few, foreign):
        assert row["Speed"] == row["Quality"] == ("&ndash; Not measured", "")


@pytest.mark.parametrize("field", ["name", "teacher", "recipe"])
def test_markup_in_the_table_is_text(field: str) -> None:
    value = {"recipe": EVIL} if field == "recipe" else EVIL
    table = model_table.table_html([replace(ModelRecord("0" * 32, "m", None), **{field: value})], [])
    assert "<img" not in table and "&lt;img" in table


@pytest.mark.parametrize("value", [None, "text", 7, [], {}, {"picked": 7, "ticked": "ab"}, {"picked": [], "ticked": 7}])
def test_what_a_program_sends_as_the_tables_value_is_checked(
    add: Callable[..., ModelRecord], library: Library, value: object
) -> None:
    record = add()
    assert model_table.picked_row(value) is None and len(model_table.ticked_rows(value)) == 0
    shown = page.pick_clicked(OWNER, value)
    assert "No model is selected" in shown[MESSAGE] and shown[SHOWN] == record.id
    assert not last(model_difference.compare_ticked(OWNER, value))["panel"].visible


def test_a_click_selects_only_a_model_of_ones_own(add: Callable[..., ModelRecord], library: Library) -> None:
    first, second, others = add("first"), add("second"), add("not mine", OTHER)
    shown = page.pick_clicked(OWNER, {"picked": first.id, "ticked": [second.id]})
    assert (shown[SHOWN], library.picked(OWNER)) == (first.id, first)
    shown = page.pick_clicked(OWNER, {"picked": others.id, "ticked": []})
    assert "Model not found" in shown[MESSAGE] and picked_of(shown) == first.id


def test_the_snippet_names_the_app_where_it_is(
    add: Callable[..., ModelRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = add("small")
    assert "Client(&#39;http://127.0.0.1:7860&#39;)" in model_facts.snippet_html(record, OWNER)
    asked = SimpleNamespace(request=SimpleNamespace(base_url="http://10.0.0.7:8000/"), session_hash="s")
    token = LocalContext.request.set(asked)
    try:
        assert "Client(&#39;http://10.0.0.7:8000&#39;)" in model_facts.snippet_html(record, OWNER)
        monkeypatch.setenv("SPACE_ID", "someone/studio")
        assert "Client(&#39;someone/studio&#39;)" in model_facts.snippet_html(record, OWNER)
    finally:
        LocalContext.request.reset(token)


def test_the_zip_is_its_owners_and_goes_with_the_model(add: Callable[..., ModelRecord]) -> None:
    record = add("my model/…")
    zip_path = served_files.archive_of(OWNER, record.id)
    assert zip_path.name == "my-model.zip"
    assert record.id not in str(zip_path)
    button, said = last(zip_button.make_zip(OTHER, record.id))
    assert button.value is None and "Model not found" in said
    page.delete(OWNER, record.id)
    assert not zip_path.exists()


def test_the_card_in_the_zip_has_the_models_name(
    monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path
) -> None:
    library = Library(tmp_path / "models", jobs=store)  # type: ignore[arg-type]
    monkeypatch.setattr(served_files, "model_library", lambda: library)
    static_model().save_pretrained(store.result, "minilm-l6-256", license="mit")
    finished(store, "minilm-l6-256", "a")
    for name, stem in (("minilm-l6-256", "minilm-l6-256"), ("minilm-l6-256 (2)", "minilm-l6-256-2"), ("mine", "mine")):
        library.rename("a" * 32, name, OWNER)
        with zipfile.ZipFile(served_files.archive_of(OWNER, "a" * 32)) as archive:
            names = archive.namelist()
            card = archive.read(f"{stem}/README.md").decode()
        assert len(names) == len(set(names)) == len(list(store.result.iterdir()))
        assert f"\n# {stem}\n" in card and card.count(f'("{stem}")') == 3 and "license: mit" in card


@pytest.mark.parametrize(
    ("format", "file"), [("onnx", "my-model-onnx/onnx/model.onnx"), ("word2vec", "my-model-word2vec/vectors.txt")]
)
def test_other_formats_come_as_archives(add: Callable[..., ModelRecord], format: Any, file: str) -> None:
    record = add("my model")
    path = served_files.archive_of(OWNER, record.id, format)
    with zipfile.ZipFile(path) as opened:
        assert file in opened.namelist()
    assert [entry.name for entry in path.parent.iterdir()] == [f"my-model-{format}.zip"]
    assert path.parent == served_files.archive_of(OWNER, record.id).parent
    button, said = last(zip_button.make_zip(OTHER, record.id, format))
    assert button.value is None and "Model not found" in said
    assert last(zip_button.make_zip(OWNER, record.id, format))[0].value["path"] == str(path)
    page.delete(OWNER, record.id)
    assert not path.exists()


def test_refreshing_leaves_alone_what_one_types(add: Callable[..., ModelRecord], store: FakeStore) -> None:
    record = add()
    listed = page.values(OWNER)[LISTED]
    shown = page.refresh(OWNER, record.id, listed)
    assert not shown.keys() & {NAME, FACTS, CONFIRM, DONE, SHOWN}
    shown = page.refresh(OWNER, None, "")
    assert (shown[NAME], picked_of(shown), shown[SHOWN]) == ("small", record.id, record.id)


def test_a_refresh_does_not_take_back_what_is_clicked_meanwhile(
    add: Callable[..., ModelRecord], library: Library
) -> None:
    first, second = add("first"), add("second")
    shown = page.values(OWNER, second.id)
    # A refresh begins; the first is clicked and answered; then the refresh is.
    picked = page.pick(OWNER, first.id)
    assert (picked[NAME], picked[SHOWN]) == ("first", first.id) and "picked" not in update_of(picked[MODELS])
    assert page.refresh(OWNER, second.id, shown[LISTED]).get(MODELS) is None
    add("third")  # a list that has changed is shown, but nothing is chosen by it
    late = page.refresh(OWNER, second.id, shown[LISTED])
    assert "picked" not in update_of(late[MODELS]) and len(ids_of(update_of(late[MODELS])["rows"])) == 3
    assert not late.keys() & {FACTS, SHOWN}
    page.delete(OWNER, second.id)  # in another tab
    gone = page.refresh(OWNER, second.id, late[LISTED])
    assert picked_of(gone) == gone[SHOWN] == first.id and "first" in gone[FACTS]


def test_the_picker_on_other_pages_follows(add: Callable[..., ModelRecord], store: FakeStore) -> None:
    shown = model_picker.attach(OWNER, request())
    owner, box, message = (shown[name] for name in ("owner", "model_id", "message"))
    timer, n_offered = shown["timer"], shown["n_offered"]
    assert (owner, box.visible, timer.active, n_offered) == (OWNER, False, False, 0)
    assert 'href="distill"' in message and 'href="library"' in message
    first, second = add("first"), add("second")
    page.pick(OWNER, first.id)
    shown = model_picker.attach(OWNER, request())
    assert (shown["model_id"].value, shown["message"], shown["n_offered"]) == (first.id, "", 2)
    assert model_picker.pick(OWNER, second.id) == ""
    assert picked_of(page.values(OWNER)) == second.id
    assert "Model not found" in model_picker.attach(OTHER, request(model=first.id))["message"]
    assert model_picker.refresh(OWNER, first.id, 2)["model_id"].value == first.id
    assert model_picker.shorten(OWNER, first.id, 2) == {}
    # The list may be open: it gets shorter only when it is closed.
    assert model_picker.refresh(OWNER, first.id, 3) == {}
    assert [value for _, value in model_picker.shorten(OWNER, second.id, 3)["model_id"].choices] == [
        second.id,
        first.id,
    ]


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({}, "Default settings"),
        ({"pca_dims": 256, "pooling": "mean", "device": None}, "dimensions 256 · pooling mean"),
        ({"use_subword": False, "weighting": "sif"}, "own words only · weighting sif"),
        ({"recipe": "model2vec", "pca_dims": 256}, "Recipe Model2Vec · dimensions 256"),
        ({"pca_dims": 0.9}, "Recipe dimensions 0.9"),
        ({"pca_dims": 64, "pooling": "mean"}, "Recipe pooling mean"),  # it has others than were asked for
    ],
)
def test_a_recipe_in_one_line(recipe: dict[str, Any], says: str) -> None:
    record = ModelRecord("0" * 32, "name", "teacher", recipe, "job", dim=256)
    assert says in text_of(page.facts_html(record))
    assert EVIL not in page.facts_html(ModelRecord("0" * 32, "name", None, {"recipe": EVIL}))


def test_where_to_go_with_a_model(add: Callable[..., ModelRecord]) -> None:
    record = add()
    links = re.findall(r'href="(.+?)"', page.facts_html(record))
    assert links == [f"{name}?model={record.id}" for name in ("explore", "compare", "evaluate", "publish")]


def test_an_archive_that_fails_unforeseen_names_its_incident(
    add: Callable[..., ModelRecord], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Path:
        raise KeyError("secret")

    monkeypatch.setattr(zip_button, "archive_of", fail)
    button, said = last(zip_button.make_zip(OWNER, add().id))
    assert button.value is None and "secret" not in said
    incident = re.search(r"Incident (\w+)", said)
    assert incident is not None and incident[1] in caplog.text


def test_work_that_takes_long_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(waiting, "_DELAY_SECONDS", 0.01)
    may_end = threading.Event()
    frames = waiting.following(lambda: may_end.wait(60), f"Opening {EVIL}", "test", lambda sign: [sign])
    first = next(frames)[0]
    assert "data-busy" in first and "0.0 s" in first and "last time" not in first and EVIL not in first
    next(frames)
    may_end.set()
    assert drained(frames) is True
    may_end.clear()
    frames = waiting.following(lambda: may_end.wait(60), "Opening", "test", lambda sign: [sign])
    assert "last time" in next(frames)[0]
    may_end.set()
    drained(frames)
    may_end.clear()
    ended: list[bool] = []
    frames = waiting.following(lambda: ended.append(may_end.wait(60)), "Opening", "test", lambda sign: [sign])
    next(frames)
    frames.close()  # as when the page is left
    assert not ended, "it waited for the work"
    may_end.set()
    with pytest.raises(KeyError):
        drained(waiting.following(lambda: {}["absent"], "Opening", "test", lambda sign: [sign]))


def drained(frames: Generator[Any, None, Any]) -> Any:
    """What a generator returns."""
    returned = []

    def run() -> Iterator[Any]:
        returned.append((yield from frames))

    list(run())
    return returned[0]


def test_an_archive_that_was_handed_out_again_is_not_removed_as_old(
    add: Callable[..., ModelRecord], store: FakeStore
) -> None:
    record, job = add(), finished(store, "m2v-teacher", "a")
    for hand_out in (lambda: served_files.archive_of(OWNER, record.id), lambda: served_files.model_zip(OWNER, job)):
        path = hand_out()
        os.utime(path.parent, (0, 0))
        assert hand_out() == path
        served_files.remove_old_files(served_files.served_folder())
        assert path.exists()
        os.utime(path.parent, (0, 0))
        served_files.remove_old_files(served_files.served_folder())
        assert not path.exists()
        assert hand_out() == path and path.exists()
