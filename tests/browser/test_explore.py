"""What a person does with a model: search it, search their texts, look at the map, and ask why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from m2v_core import StaticModel
from m2v_core.bulk.options import model_fingerprint
from m2v_core.distillation.teacher.bundled import bundled_folder
from tests.browser.small_studio import open_library
from tests.core.exploration.index.oracle import write_vectors
from tests.live_app import Server
from tests.static_models import static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

RUN_MS = 240_000


def test_explore(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    page.goto(server.address + "/explore")
    expect(page.get_by_text("No model yet")).to_be_visible()
    expect(page.get_by_role("tab")).to_have_count(0)
    distill_frequent_words(page, server, tmp_path)
    page.goto(server.address + "/explore")
    expect(page.get_by_text("No model yet")).to_have_count(0)
    query = page.get_by_label("A word or a text")
    query.fill("king")
    query.press("Enter")
    expect(page.locator(".m2v-neighbors li")).to_have_count(15)
    assert {"queen", "throne"} <= set(page.locator(".m2v-neighbors .m2v-word").all_inner_texts())

    stands_beside_its_teacher(page)

    page.get_by_role("tab", name="Documents").click()
    page.get_by_label("One text per line").fill(
        "The printer is out of paper.\nHow do I reset my password?\n<img src=x onerror=alert(1)>"
    )
    expect(page.get_by_text("3 texts ready")).to_be_visible()
    looks_at_another_way_in_and_finds_all_again(page, tmp_path)
    query = page.get_by_label("What are you looking for?")
    query.fill("change the password of my account")
    query.press("Enter")
    expect(page.locator(".m2v-document").first).to_have_text("How do I reset my password?")
    assert page.locator(".m2v-documents img").count() == 0
    page.locator("label:visible", has_text="Compare with teacher").click()
    expect(page.locator(".m2v-beside .m2v-documents")).to_have_count(2, timeout=RUN_MS)
    expect(page.get_by_text("3 of 3 in both")).to_be_visible()
    assert page.locator(".m2v-documents img").count() == 0

    page.get_by_role("tab", name="Map").click()
    expect(page.locator(".m2v-map-frame[data-drawn]")).to_be_visible(timeout=60_000)
    expect(page.locator(".m2v-legend li")).to_have_count(10)
    find = page.get_by_label("Find a word")
    find.fill("king")
    find.press("Enter")
    expect(page.locator(".m2v-label-mark").get_by_text("king", exact=True)).to_be_visible()
    page.locator("label", has_text="Teacher overlap").click()
    expect(page.get_by_text("are also the teacher's nearest")).to_be_visible()

    page.get_by_role("tab", name="Scores").click()
    page.get_by_label("First text").fill("A dog sleeps \U0001f984")
    page.get_by_role("button", name="Explain the score").click()
    expect(page.locator(".m2v-piece").get_by_text("dog", exact=True)).to_be_visible()
    expect(page.locator(".m2v-unknown", has_text="\U0001f984")).to_contain_text("unknown")


def distill_frequent_words(page: sync_api.Page, server: Server, folder: Path) -> None:
    """A word-level model of the bundled teacher: large enough for every tab, and read by the teacher in seconds."""
    vocabulary = Tokenizer.from_file(str(bundled_folder() / "tokenizer.json")).get_vocab()
    words = [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word.isalpha() and len(word) > 2]
    chosen = dict.fromkeys([*words[:3_000], "throne", "password", "reset", "sleeps", "printer", "account", "alert"])
    (folder / "words.txt").write_text("\n".join(chosen))
    page.goto(server.address + "/distill")
    page.get_by_text("My words only").click()
    page.get_by_text("Upload file").click()
    page.locator("input[type=file]").set_input_files(folder / "words.txt")
    expect(page.locator(".block.m2v-report")).to_contain_text("entries ready")
    page.get_by_role("button", name="Advanced settings").click()
    page.locator(".m2v-choices label", has_text="Better than Model2Vec").click()
    page.get_by_role("button", name="Distill", exact=True).click()  # at once, while the page still looks for a run
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)


def looks_at_another_way_in_and_finds_all_again(page: sync_api.Page, tmp_path: Path) -> None:
    """A file and pasted texts stay, whatever is looked at, through a refresh too, till one of them is given up."""

    def look_at(way: str, says: str | None) -> None:
        page.locator("label:visible", has_text=way).click()
        expect(page.get_by_text(re.compile("texts? ready"))).to_have_count(1 if says else 0)
        if says:
            expect(page.get_by_text(says)).to_be_visible()

    (tmp_path / "long.txt").write_text("\n".join(f"{'long ' * 50}{number}" for number in range(1000)))
    look_at("Upload file", None)
    page.locator("input[type=file]:visible, .m2v-upload input[type=file]").first.set_input_files(tmp_path / "long.txt")
    expect(page.get_by_text("1,000 texts ready")).to_be_visible()
    page.reload()
    page.get_by_role("tab", name="Documents").click()
    expect(page.get_by_text("1,000 texts ready")).to_be_visible()  # as there were last
    look_at("Paste texts", "3 texts ready")
    look_at("Upload file", "1,000 texts ready")
    page.get_by_role("button", name="Delete these texts").click()
    look_at("Paste texts", "3 texts ready")
    look_at("Upload file", None)
    (tmp_path / "two.csv").write_text("question,answer\nhow far,a mile\nhow long,a day\n")
    page.locator("input[type=file]:visible, .m2v-upload input[type=file]").first.set_input_files(tmp_path / "two.csv")
    expect(page.get_by_text("Choose the column with the texts")).to_be_visible()
    column = page.get_by_label("Column with the texts")
    column.click()
    page.get_by_role("option", name="answer").click()
    expect(page.get_by_text("From the column 'answer'.")).to_be_visible()
    page.get_by_role("button", name="Delete these texts").click()
    expect(column).to_be_hidden()
    look_at("Paste texts", "3 texts ready")


def stands_beside_its_teacher(page: sync_api.Page) -> None:
    """The switch makes the teacher read the words, once; then both lists stand side by side, on a phone stacked."""
    page.locator("label:visible", has_text="Compare with teacher").click()
    expect(page.locator(".m2v-reading .m2v-bar")).to_be_visible()
    page.locator("button:visible", has_text="Cancel").click()
    expect(page.get_by_role("checkbox", name="Compare with teacher").first).not_to_be_checked()
    expect(page.locator(".m2v-reading")).to_have_count(0)
    page.locator("label:visible", has_text="Compare with teacher").click()
    columns = page.locator(".m2v-beside > section")
    expect(columns).to_have_count(2, timeout=RUN_MS)
    expect(page.locator(".m2v-overlap strong")).to_have_text(re.compile(r"^\d+ of 15 in both$"))
    marked = [set(columns.nth(place).locator(".m2v-both .m2v-word").all_text_contents()) for place in (0, 1)]
    assert marked[0] == marked[1] and any("queen" in word for word in marked[0])
    query = page.get_by_label("A word or a text")
    query.fill("a cold winter morning")
    query.press("Enter")
    expect(page.locator(".m2v-beside ol[aria-label*=winter]")).to_have_count(2, timeout=RUN_MS)
    left, right = columns.nth(0).bounding_box(), columns.nth(1).bounding_box()
    assert left and right and left["y"] == right["y"] and right["x"] >= left["x"] + left["width"]
    page.set_viewport_size({"width": 390, "height": 844})
    left, right = columns.nth(0).bounding_box(), columns.nth(1).bounding_box()
    assert left and right and left["x"] == right["x"] and right["y"] >= left["y"] + left["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})


def open_model(page: sync_api.Page, server: Server, folder: Path, **arguments: Any) -> None:
    """A small model in the library, and the page that explores it."""
    static_model(**arguments).save_pretrained(folder)
    open_library(page, server)
    page.get_by_text("From a folder").click()
    page.get_by_label("Path of the model's folder").fill(str(folder))
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_text("is in your library")).to_be_visible()
    page.goto(server.address + "/explore")


def box(where: sync_api.Locator) -> dict[str, float]:
    """Where something lies on the page, in pixels: top, bottom, left, right."""
    return where.evaluate(
        "(one) => { const box = one.getBoundingClientRect(); return { top: box.top + scrollY, "
        "bottom: box.bottom + scrollY, left: box.left, right: box.right }; }"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_map_stays_where_it_is(page: sync_api.Page, server: Server, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_model(page, server, tmp_path / "small")
    page.get_by_role("tab", name="Map").click()
    frame = page.locator(".m2v-map-frame[data-drawn][data-colored=true]")
    expect(frame).to_be_visible(timeout=60_000)
    place = box(frame)
    find = page.get_by_label("Find a word")
    find.fill("zzz zzz")
    find.press("Enter")
    message = page.locator(".m2v-map-found p")
    expect(message).to_contain_text("“zzz zzz” is not on this map")
    assert place["top"] < box(message)["top"] < place["top"] + 140 and box(frame) == place
    page.locator("label", has_text="Rank").click()
    expect(page.locator(".m2v-scale")).to_be_visible()
    assert box(frame) == place
    page.locator("label", has_text="Teacher overlap").click()
    expect(page.get_by_text("doesn't state its teacher")).to_be_visible()
    assert box(frame) == place
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_bar_begins_near_its_word(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    open_model(page, server, tmp_path / "small")
    query = page.get_by_label("A word or a text")
    query.fill("sea")
    query.press("Enter")
    expect(page.get_by_text("Cosine similarity, -1 to 1")).to_be_visible()
    words, meters = page.locator(".m2v-neighbors .m2v-word"), page.locator(".m2v-neighbors .m2v-meter")
    expect(words).to_have_count(15)
    lefts = [box(meter)["left"] for meter in meters.all()]
    rights = [box(word)["right"] for word in words.all()]
    assert len(set(lefts)) == 1 and max(rights) < lefts[0] < box(words.first)["left"] + 160


def test_a_folder_of_vectors(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    open_model(page, server, tmp_path / "small")
    model = StaticModel.from_pretrained(tmp_path / "small")
    texts = ["The sea is never full", "the fox", "A quick brown fox"]
    write_vectors(tmp_path / "vectors", [model.encode(texts)], model=model_fingerprint(model))
    page.get_by_role("tab", name="Documents").click()
    page.locator("label:visible", has_text="Folder").click()
    path = page.get_by_label("Folder written by m2v encode")
    path.fill(str(tmp_path / "absent"))
    path.press("Enter")
    expect(page.get_by_text("This folder can't be searched")).to_be_visible()
    path.fill(str(tmp_path / "vectors"))
    page.locator("button:visible", has_text="Open").click()
    expect(page.get_by_text("3 vectors ready")).to_be_visible()
    query = page.get_by_label("What are you looking for?")
    query.fill("the sea")
    query.press("Enter")
    expect(page.locator(".m2v-document")).to_have_count(3)
    expect(page.locator(".m2v-document").first).to_have_text("text 0")
    expect(page.locator(".m2v-source").first).to_have_text("000.parquet, row 0")
    page.locator("label:visible", has_text="Paste texts").click()
    expect(path).to_be_hidden()
    expect(page.get_by_text("3 vectors ready")).to_be_hidden()
    query.press("Enter")
    expect(page.get_by_text("There are no documents yet")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_runs_off_a_phone(browser: sync_api.Browser, server: Server, theme: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=theme)
    page = phone.new_page()
    page.goto(server.address + "/explore")
    expect(page.get_by_text("No model yet")).to_be_visible(timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()
