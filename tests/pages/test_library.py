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
from pages.components import model_facts, model_picker, served_files, waiting, zip_button
from tests.pages.conftest import FakeStore, make_job
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


def test_an_empty_library_says_what_to_do_first(library: Library) -> None:
    shown = page.attach(None, request())
    assert len(shown["owner"]) >= 22
    assert "Distill your first one" in text_of(shown[PROGRESS])
    assert 'href="distill"' in shown[PROGRESS]
    assert (shown[MODELS].visible, shown[DETAIL].visible, shown[TIMER].active) == (False, False, False)


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
    assert "second is deleted" in shown[MESSAGE] and "being made" in shown[PROGRESS]
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
    assert [model_id for _, model_id in shown[LISTED]] == [record.id]
    for html in (shown[PROGRESS], model_picker.attach(OWNER, request())["message"]):
        for says in ("Not in your library: m2v-<img", "1 are allowed", "Download the ZIP", "comes in by itself"):
            assert says in unescape(html)
        assert EVIL not in html
    page.delete(OWNER, record.id)
    shown = page.values(OWNER)
    assert [model_id for _, model_id in shown[LISTED]] == ["a" * 32] and shown[PROGRESS] == ""


def test_a_finished_model_that_can_not_be_read_says_so(
    monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path
) -> None:
    library = Library(tmp_path / "models", jobs=store)  # type: ignore[arg-type]
    for module in (page, model_picker):
        monkeypatch.setattr(module, "model_library", lambda: library)
        monkeypatch.setattr(module, "job_store", lambda: store)
    finished(store, "m2v-broken", "a")  # of which there is a config.json alone
    shown = page.values(OWNER)
    assert "Not in your library: m2v-broken" in shown[PROGRESS] and "comes in by itself" not in shown[PROGRESS]
    [refused] = library.contents(OWNER).refused
    assert (refused.id, refused.is_for_room) == ("a" * 32, False) and refused.reason


def test_the_models_are_listed_and_the_newest_is_picked(add: Callable[..., ModelRecord]) -> None:
    first, second = add("first"), add("second")
    add("not mine", OTHER)
    shown = page.attach(OWNER, request())
    assert [model_id for _, model_id in shown[MODELS].choices] == [second.id, first.id]
    assert shown[MODELS].value == second.id
    assert shown[NAME] == "second"
    for says in ("someone/teacher", "24", "134", "float32", "From small"):
        assert says in text_of(shown[FACTS])
    assert f'href="explore?model={second.id}"' in shown[FACTS]


def test_the_address_picks_a_model_for_good(add: Callable[..., ModelRecord], library: Library) -> None:
    first, second, others = add("first"), add("second"), add("not mine", OTHER)
    assert page.attach(OWNER, request(model=first.id))[MODELS].value == first.id
    assert library.picked(OWNER) == first
    shown = page.attach(OWNER, request(model=others.id))
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
        assert "Upload one ZIP archive" in last(page.add_upload(OWNER, paths))["added"]
    (tmp_path / "config.json").write_text("{}")
    assert "missing" in last(page.add_upload(OWNER, [str(tmp_path / "config.json")]))["added"]


def test_a_folder_is_opened_at_home_and_never_on_a_space(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static_model().save_pretrained(tmp_path / "mine")
    assert "mine is in your library" in text_of(last(page.add_named(OWNER, "folder", str(tmp_path / "mine")))["added"])
    assert "Nothing is named yet" in last(page.add_named(OWNER, "hub", " "))["added"]
    monkeypatch.setenv("SPACE_ID", "someone/space")
    for way in ("folder", "hub"):
        message = last(page.add_named(OWNER, way, str(tmp_path / "mine")))["added"]
        assert "m2v-error" in message
    assert len(library.list_models(OWNER)) == 1


def test_rename_and_delete(add: Callable[..., ModelRecord], library: Library) -> None:
    first, second = add("first"), add("second")
    shown = page.rename(OWNER, first.id, "third")
    assert shown[NAME] == "third" and "It is called third now" in text_of(shown[DONE])
    assert "called &#39;second&#39; already" in page.rename(OWNER, first.id, "second")[DONE]
    assert "can't be brought back" in text_of(page.ask(OWNER, first.id)[1]).replace("&#39;", "'")
    shown = page.delete(OWNER, first.id)
    assert "third is deleted" in text_of(shown[MESSAGE])
    assert shown[MODELS].value == second.id
    assert "could not be deleted" in page.delete(OTHER, second.id)[MESSAGE]
    assert library.list_models(OWNER) == [second]


def test_a_name_that_is_too_long_is_refused_and_not_cut(add: Callable[..., ModelRecord]) -> None:
    record = add()
    shown = page.rename(OWNER, record.id, "n" * 103)
    assert "It keeps its name" in shown[DONE] and "103 characters, and 96 are allowed" in shown[DONE]
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
        assert f"\n{says} · " in {model_id: label for label, model_id in shown[LISTED]}[record.id]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"m2v": {"recipe": 7}}))
    record = library.add_from_folder(tmp_path / "mine", OWNER)
    assert "Recipe" not in page.facts_html(record)


def test_models_of_one_name_and_day_are_told_apart_by_the_time() -> None:
    def record(name: str, added_at: float) -> ModelRecord:
        return ModelRecord(f"{added_at:032.0f}", name, None, added_at=added_at)

    labels = model_facts.model_labels([record("m", 60.0), record("m (2)", 7260.0), record("o", 0), record("m", 90_000)])
    times = [re.findall(r"\d\d:\d\d UTC", label) for label in labels]
    assert times == [["00:01 UTC"], ["02:01 UTC"], [], []]
    assert labels[0].endswith("1 Jan 1970, 00:01 UTC")


def test_a_model_is_called_the_same_wherever_it_is_offered() -> None:
    recipe = {"recipe": "fast", "use_subword": False}
    record = ModelRecord("0" * 32, "m", None, recipe, dim=256, dtype="float16", n_bytes=15_700_000)
    told = "Fast · own words · 256 dimensions · float16 · 15.7 MB"
    assert model_picker.choice_label(record) == f"m · {told}"
    [label] = model_facts.model_labels([record])
    assert label == f"m\n{told} · 1 Jan 1970"
    assert model_picker.choice_label(replace(record, recipe={})).startswith("m · 256 dimensions")


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
    assert button.value is None and "No such model among yours" in said
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
    assert button.value is None and "No such model among yours" in said
    assert last(zip_button.make_zip(OWNER, record.id, format))[0].value["path"] == str(path)
    page.delete(OWNER, record.id)
    assert not path.exists()


def test_refreshing_leaves_alone_what_one_types(add: Callable[..., ModelRecord], store: FakeStore) -> None:
    record = add()
    listed = page.values(OWNER)[LISTED]
    shown = page.refresh(OWNER, record.id, listed)
    assert not shown.keys() & {NAME, FACTS, CONFIRM, DONE, SHOWN}
    shown = page.refresh(OWNER, None, [])
    assert (shown[NAME], shown[MODELS].value, shown[SHOWN]) == ("small", record.id, record.id)


def update_of(component: Any) -> dict[str, Any]:
    """What a handler's answer changes of a component in the browser."""
    return component._constructor_args[0]


def test_a_refresh_does_not_take_back_what_is_clicked_meanwhile(
    add: Callable[..., ModelRecord], library: Library
) -> None:
    first, second = add("first"), add("second")
    shown = page.values(OWNER, second.id)
    # A refresh begins; the first is clicked and answered; then the refresh is.
    picked = page.pick(OWNER, first.id)
    assert (picked[NAME], picked[SHOWN]) == ("first", first.id) and "value" not in update_of(picked[MODELS])
    assert page.refresh(OWNER, second.id, shown[LISTED]).get(MODELS) is None
    add("third")  # a list that has changed is shown, but nothing is chosen by it
    late = page.refresh(OWNER, second.id, shown[LISTED])
    assert "value" not in update_of(late[MODELS]) and len(update_of(late[MODELS])["choices"]) == 3
    assert not late.keys() & {FACTS, SHOWN}
    page.delete(OWNER, second.id)  # in another tab
    gone = page.refresh(OWNER, second.id, late[LISTED])
    assert gone[MODELS].value == gone[SHOWN] == first.id and "first" in gone[FACTS]


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
    assert page.values(OWNER)[MODELS].value == second.id
    assert "No such model" in model_picker.attach(OTHER, request(model=first.id))["message"]
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
        ({}, "The usual settings"),
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
    monkeypatch.setattr(waiting, "_BEFORE_SECONDS", 0.01)
    may_end = threading.Event()
    frames = waiting.following(lambda: may_end.wait(60), f"Opening {EVIL}", "test", lambda sign: [sign])
    first = next(frames)[0]
    assert "data-busy" in first and "0.0 s" in first and "last time" not in first and EVIL not in first
    next(frames)
    may_end.set()
    assert drained(frames) is True
    may_end.clear()
    frames = waiting.following(lambda: may_end.wait(60), "Opening", "test", lambda sign: [sign])
    assert "the last time" in next(frames)[0]
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
