"""What a person does with a model: search it, search their texts, look at the map, and ask why."""

from __future__ import annotations

import re
from pathlib import Path

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
LASSO = """(target) => {
  const data = target._fullData[0];
  const x = [Math.min(...data.x) - 1, 0, 0, Math.min(...data.x) - 1];
  const y = [Math.min(...data.y) - 1, Math.min(...data.y) - 1, 0, 0];
  const inside = [...data.x.keys()].filter((i) => data.x[i] < 0 && data.y[i] < 0);
  target.emit("plotly_selected", { points: inside.map((i) => ({ pointNumber: i })), lassoPoints: { x, y } });
  return inside.length;
}"""
BESIDE = """(bar) => [bar, document.querySelector(".m2v-tools")].map((one) => one.getBoundingClientRect().toJSON())"""


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
    page.get_by_label("One text on each line").fill(
        "The printer is out of paper.\nHow do I reset my password?\n<img src=x onerror=alert(1)>"
    )
    expect(page.get_by_text("3 texts ready")).to_be_visible()
    looks_at_another_way_in_and_finds_all_again(page, tmp_path)
    query = page.get_by_label("What are you looking for?")
    query.fill("change the password of my account")
    query.press("Enter")
    expect(page.locator(".m2v-document").first).to_have_text("How do I reset my password?")
    assert page.locator(".m2v-documents img").count() == 0
    page.locator("label:visible", has_text="Beside the teacher").click()
    expect(page.locator(".m2v-beside .m2v-documents")).to_have_count(2, timeout=RUN_MS)
    expect(page.get_by_text("3 of 3 in both")).to_be_visible()
    assert page.locator(".m2v-documents img").count() == 0

    page.get_by_role("tab", name="Map").click()
    plot = page.locator(".m2v-plot[data-drawn]")
    expect(plot).to_be_visible(timeout=60_000)
    find = page.get_by_label("Find a word")
    find.fill("king")
    find.press("Enter")
    expect(plot.locator(".annotation-text").get_by_text("king", exact=True)).to_be_visible()
    labels_are_apart_and_the_scale_is_on_a_phone_too(page)
    page.locator("label", has_text="Teacher overlap").click()
    expect(page.get_by_text("nearest are the teacher's too")).to_be_visible()
    page.locator("label", has_text="Cluster").click()
    expect(page.locator(".m2v-legend li")).to_have_count(10)
    n_selected = plot.evaluate(LASSO)
    button = page.get_by_text(f"Download CSV · {n_selected:,} words")
    expect(button).to_be_visible()
    with page.expect_download() as download:
        button.click()
    download.value.save_as(tmp_path / "words.csv")
    assert len((tmp_path / "words.csv").read_text(encoding="utf-8-sig").splitlines()) == n_selected + 1

    page.get_by_role("tab", name="Scores").click()
    page.get_by_label("One text", exact=True).fill("A dog sleeps \U0001f984")
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
    page.get_by_text("Upload a file").click()
    page.locator("input[type=file]").set_input_files(folder / "words.txt")
    expect(page.locator(".block.m2v-report")).to_contain_text("entries ready")
    page.get_by_role("button", name="Advanced settings").click()
    page.locator(".m2v-choices label", has_text="Better than Model2Vec").click()
    page.get_by_role("button", name="Distill", exact=True).click()  # at once, while the page still looks for a run
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)


def labels_are_apart_and_the_scale_is_on_a_phone_too(page: sync_api.Page) -> None:
    """No label of a found word lies on another, at any zoom; every one of nine words is marked."""
    plot = page.locator(".m2v-plot[data-drawn]")

    def labels() -> list[str]:
        expect(plot.locator(".shapelayer path")).to_have_count(9)
        boxes = plot.locator(".annotation .bg").evaluate_all("all => all.map((one) => one.getBoundingClientRect())")
        for place, a in enumerate(boxes):
            for b in boxes[:place]:
                beside = a["right"] <= b["left"] or b["right"] <= a["left"]
                assert beside or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
        found = plot.locator(".annotation-text").all_text_contents()
        assert "king" in found
        return found

    whole = labels()
    # From so far away, the words looked for lie on one spot.
    plot.evaluate("t => Plotly.relayout(t, {'xaxis.range': [-900, 900], 'yaxis.range': [-900, 900]})")
    expect(plot.locator(".annotation-text")).not_to_have_count(len(whole))
    assert len(labels()) < len(whole)
    page.get_by_role("button", name="Reset").click()
    expect(plot.locator(".annotation-text")).to_have_count(len(whole))
    assert labels() == whole
    page.set_viewport_size({"width": 390, "height": 844})
    expect(plot.locator(".annotation-text")).not_to_have_count(len(whole))
    expect(plot.locator(".cbtitle")).to_have_text("Rank")
    scale, drawn = plot.locator(".cbfills").bounding_box(), plot.locator(".gridlayer").first.bounding_box()
    assert scale and drawn and scale["y"] > drawn["y"] + drawn["height"] and scale["width"] > 150
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})


def looks_at_another_way_in_and_finds_all_again(page: sync_api.Page, tmp_path: Path) -> None:
    """A file and pasted texts stay, whatever is looked at, through a refresh too, till one of them is given up."""

    def look_at(way: str, says: str | None) -> None:
        page.locator("label:visible", has_text=way).click()
        expect(page.get_by_text(re.compile("texts? ready"))).to_have_count(1 if says else 0)
        if says:
            expect(page.get_by_text(says)).to_be_visible()

    (tmp_path / "long.txt").write_text("\n".join(f"{'long ' * 50}{number}" for number in range(1000)))
    look_at("Upload a file", None)
    page.locator("input[type=file]:visible, .m2v-upload input[type=file]").first.set_input_files(tmp_path / "long.txt")
    expect(page.get_by_text("1,000 texts ready")).to_be_visible()
    page.reload()
    page.get_by_role("tab", name="Documents").click()
    expect(page.get_by_text("1,000 texts ready")).to_be_visible()  # as there were last
    look_at("Paste texts", "3 texts ready")
    look_at("Upload a file", "1,000 texts ready")
    page.get_by_role("button", name="Forget these texts").click()
    look_at("Paste texts", "3 texts ready")
    look_at("Upload a file", None)
    (tmp_path / "two.csv").write_text("question,answer\nhow far,a mile\nhow long,a day\n")
    page.locator("input[type=file]:visible, .m2v-upload input[type=file]").first.set_input_files(tmp_path / "two.csv")
    expect(page.get_by_text("Which column holds the texts?")).to_be_visible()
    column = page.get_by_label("Column that holds the texts")
    column.click()
    page.get_by_role("option", name="answer").click()
    expect(page.get_by_text("From the column 'answer'.")).to_be_visible()
    page.get_by_role("button", name="Forget these texts").click()
    expect(column).to_be_hidden()
    look_at("Paste texts", "3 texts ready")


def stands_beside_its_teacher(page: sync_api.Page) -> None:
    """The switch makes the teacher read the words, once; then both lists stand side by side, on a phone stacked."""
    page.locator("label:visible", has_text="Beside the teacher").click()
    expect(page.locator(".m2v-reading .m2v-bar")).to_be_visible()
    page.locator("button:visible", has_text="Cancel").click()
    expect(page.get_by_role("checkbox", name="Beside the teacher").first).not_to_be_checked()
    expect(page.locator(".m2v-reading")).to_have_count(0)
    page.locator("label:visible", has_text="Beside the teacher").click()
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


def open_model(page: sync_api.Page, server: Server, folder: Path) -> None:
    """A small model in the library, and the page that explores it."""
    static_model().save_pretrained(folder)
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
    plot = page.locator(".m2v-plot[data-drawn]")
    expect(plot).to_be_visible(timeout=60_000)
    expect(plot.locator(".gtitle")).to_contain_text("small")
    expect(plot.locator(".gtitle")).to_contain_text(re.compile(r"\d+ words, laid out by PCA"))
    assert box(plot.locator(".gtitle"))["top"] >= box(plot)["top"]
    expect(page.get_by_text("Words near each other are mostly similar")).to_be_visible()
    place = box(plot)

    find = page.get_by_label("Find a word")
    find.fill("zzz zzz")
    find.press("Enter")
    said = page.locator(".m2v-map-found p")
    expect(said).to_contain_text("“zzz zzz” is no word of this map")
    assert 0 <= box(said)["top"] - box(find)["bottom"] < 20
    assert box(plot) == place
    page.locator("label", has_text="Cluster").click()
    expect(page.locator(".m2v-legend li")).to_have_count(10)
    assert box(plot) == place and box(page.locator(".m2v-legend"))["top"] >= place["bottom"]
    page.locator("label", has_text="Teacher overlap").click()
    expect(page.get_by_text("doesn't say which teacher")).to_be_visible()
    expect(page.get_by_text("below the map stands why")).to_be_visible()
    assert box(plot) == place
    page.locator("label", has_text="UMAP").click()
    bar = page.locator(".m2v-map-status .m2v-reading")
    expect(bar).to_be_visible()
    waiting, tools = bar.evaluate(BESIDE)
    assert waiting["left"] >= tools["right"] + 16 or waiting["bottom"] <= tools["top"] - 8
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert box(plot) == place


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
    path = page.get_by_label("A folder that m2v encode wrote")
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
