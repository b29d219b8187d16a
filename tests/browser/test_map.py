"""The Map tab of Explore: its size, labels, topics, legend, word panel, lasso, links and export."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m2v_core import StaticModel
from m2v_core.exploration.neighbors import WordNeighbors
from tests.browser.test_explore import box, open_model
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

UMAP_MS = 240_000
LABELS = """labels => labels.map((label) => {
  const box = label.getBoundingClientRect();
  return { kind: label.className.replace("m2v-label m2v-label-", ""), text: label.textContent, left: box.left,
    right: box.right, top: box.top, bottom: box.bottom };
})"""
# Pixels of the WebGL canvas that are not empty.
DRAWN = """(canvas) => {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext("2d");
  pen.drawImage(canvas, 0, 0);
  return pen.getImageData(0, 0, copy.width, copy.height).data.filter((value, place) => place % 4 === 3 && value).length;
}"""


def open_map(page: sync_api.Page, server: Server, folder: Path, method: str = "UMAP") -> sync_api.Locator:
    """The map of a small model, drawn and labeled."""
    open_model(page, server, folder)
    page.get_by_role("tab", name="Map").click()
    return drawn_map(page, method)


def drawn_map(page: sync_api.Page, method: str = "UMAP") -> sync_api.Locator:
    frame = page.locator(f".m2v-map-frame[data-drawn][data-words][data-colored=true][data-method={method}]")
    expect(frame).to_be_visible(timeout=UMAP_MS)
    expect(page.locator(".m2v-label-word").first).to_be_visible()
    page.wait_for_timeout(500)
    return frame


def labels(page: sync_api.Page, kind: str = "") -> list[dict[str, Any]]:
    """The labels that are shown, with their boxes in pixels; none overlaps another."""
    found = page.locator(".m2v-label:not(.m2v-label-dot)").evaluate_all(LABELS)
    for place, a in enumerate(found):
        for b in found[:place]:
            beside = a["right"] <= b["left"] or b["right"] <= a["left"]
            assert beside or a["bottom"] <= b["top"] or b["bottom"] <= a["top"], (a, b)
    return [label for label in found if kind in label["kind"]]


def zoom_in(page: sync_api.Page, frame: sync_api.Locator, steps: int = 6) -> None:
    area = frame.bounding_box()
    assert area
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    for _ in range(steps):
        page.mouse.wheel(0, -120)
    page.wait_for_timeout(500)


def click_word(page: sync_api.Page, text: str) -> None:
    """Click the point under the label of a word."""
    label = next(label for label in labels(page, "word") if label["text"] == text)
    page.mouse.click((label["left"] + label["right"]) / 2, (label["top"] + label["bottom"]) / 2 + 12)


@pytest.mark.parametrize(("size", "scheme"), [((1440, 900), "light"), ((390, 844), "dark")])
def test_the_map_fills_the_page(
    page: sync_api.Page, server: Server, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    frame = open_map(page, server, tmp_path / "small")
    place = box(frame)
    assert place["right"] - place["left"] >= size[0] - 90
    assert place["bottom"] - place["top"] >= 0.65 * size[1]
    if size[0] > 1000:
        assert place["top"] <= 250 and place["bottom"] - place["top"] >= 0.75 * size[1] - 1
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert frame.locator("canvas.gl-canvas-context").evaluate(DRAWN) > 500
    assert frame.locator(".xtick, .ytick, .xgrid, .ygrid").count() == 0
    assert len(labels(page)) >= 8


def test_labels_never_overlap_and_change_with_zoom(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    frame = open_map(page, server, tmp_path / "small")
    whole = labels(page, "word")
    topics = {label["text"] for label in labels(page, "topic")}
    assert whole and topics
    drawn = frame.locator("canvas.gl-canvas-context").evaluate(DRAWN)
    contours = frame.locator(".m2v-contours")
    assert contours.evaluate(DRAWN) > 1000
    zoom_in(page, frame)
    assert contours.evaluate(DRAWN) == 0
    expect(page.locator(".m2v-label-word").first).to_be_visible()
    closer = labels(page, "word")
    assert {label["text"] for label in closer} != {label["text"] for label in whole}
    assert frame.locator("canvas.gl-canvas-context").evaluate(DRAWN) != drawn
    zoom_in(page, frame, 4)
    expect(page.locator(".m2v-label-topic")).to_have_count(0)  # words have taken their place
    page.get_by_role("button", name="Reset").click()
    page.wait_for_timeout(1000)
    assert {label["text"] for label in labels(page, "word")} == {label["text"] for label in whole}


def test_the_legend_isolates_and_filters(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    frame = open_map(page, server, tmp_path / "small")
    entry = page.locator(".m2v-legend button").first
    entry.hover()
    expect(frame).not_to_have_attribute("data-subset", "")
    n_words = int(frame.get_attribute("data-words"))
    size = int(frame.get_attribute("data-subset"))
    assert 0 < size < n_words
    page.mouse.move(700, 20)
    expect(frame).to_have_attribute("data-subset", "")
    entry.click()
    page.mouse.move(700, 20)
    expect(entry).to_have_attribute("aria-pressed", "true")
    expect(frame).to_have_attribute("data-subset", str(size))
    entry.click()
    page.mouse.move(700, 20)
    expect(frame).to_have_attribute("data-subset", "")


def test_a_clicked_word_shows_its_neighbors(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    open_map(page, server, tmp_path / "small")
    model = WordNeighbors(StaticModel.from_pretrained(tmp_path / "small"))
    word = labels(page, "word")[0]["text"]
    click_word(page, word)
    panel = page.locator(".m2v-map-word").first
    expect(panel.locator("h3")).to_have_text(word)
    nearest = [neighbor.text for neighbor in model.search(word, 12)]
    expect(panel.locator("li > :first-child")).to_have_text(nearest)
    assert word in {label["text"] for label in labels(page, "mark")}
    panel.get_by_role("button", name=nearest[2], exact=True).click()
    expect(panel.locator("h3")).to_have_text(nearest[2])
    page.wait_for_timeout(1000)
    assert nearest[2] in {label["text"] for label in labels(page, "mark")}
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_the_teacher_s_map_marks_the_same_words(
    page: sync_api.Page,
    server: Server,
    tmp_path: Path,
    build_teacher_once: Callable[[str], Path],
    size: tuple[int, int],
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    teacher = build_teacher_once("wordpiece")
    open_model(page, server, tmp_path / "small", config={"m2v": {"teacher": str(teacher)}})
    page.get_by_role("tab", name="Map").click()
    drawn_map(page)
    page.locator("label", has_text="Teacher overlap").click()
    page.get_by_role("button", name="Encode words with the teacher").click()
    page.get_by_label("Show the teacher's map").check(timeout=UMAP_MS)
    frames = page.locator(".m2v-map-frame[data-drawn][data-words][data-colored=true][data-method=UMAP]")
    expect(frames).to_have_count(2, timeout=UMAP_MS)
    first, second = frames.all()
    expect(second.locator(".m2v-map-caption")).to_have_text("Teacher")
    own, other = box(first), box(second)
    if size[0] > 1000:
        assert own["top"] == other["top"] and own["right"] < other["left"]
    else:
        assert own["bottom"] < other["top"]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    find = page.get_by_label("Find a word")
    find.fill("sea")
    find.press("Enter")
    for frame in (first, second):
        expect(frame.locator(".m2v-label-mark", has_text=re.compile("^sea$"))).to_have_count(1)
    page.get_by_label("Show the teacher's map").uncheck()
    expect(second).to_be_hidden()
    assert box(first)["right"] > size[0] - 90


def test_documents_lie_on_the_map(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("text,kind\nthe sea,water\na fox,animal\nsea shore,water\n")
    open_model(page, server, tmp_path / "small")
    page.get_by_role("tab", name="Documents").click()
    page.get_by_text("Upload file").click()
    page.locator("input[type=file]:visible, .m2v-upload input[type=file]").first.set_input_files(tmp_path / "table.csv")
    page.get_by_label("Column with the texts").click()
    page.get_by_role("option", name="text").click()
    expect(page.get_by_text("3 texts ready")).to_be_visible()
    page.get_by_role("tab", name="Map").click()
    frame = drawn_map(page)
    drawn = frame.locator(".m2v-documents")
    assert drawn.evaluate(DRAWN) == 0
    page.get_by_label("Show my documents on the map").check()
    expect(frame).to_have_attribute("data-documents", "3")
    assert drawn.evaluate(DRAWN) > 100
    page.get_by_label("Color documents by").click()
    page.get_by_role("option", name="kind").click()
    expect(page.locator(".m2v-document-legend li")).to_have_text([re.compile("water 2"), re.compile("animal 1")])
    page.get_by_label("Show my documents on the map").uncheck()
    expect(frame).to_have_attribute("data-documents", "0")
    assert drawn.evaluate(DRAWN) == 0


def test_a_lasso_fills_the_table(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 1400})
    frame = open_map(page, server, tmp_path / "small")
    page.get_by_role("button", name="Lasso").click()
    area = frame.bounding_box()
    assert area
    corners = [(0.3, 0.3), (0.9, 0.3), (0.9, 0.9), (0.3, 0.9)]
    page.mouse.move(area["x"] + 0.3 * area["width"], area["y"] + 0.3 * area["height"])
    page.mouse.down()
    for x, y in corners[1:] + corners[:1]:
        page.mouse.move(area["x"] + x * area["width"], area["y"] + y * area["height"], steps=4)
    page.mouse.up()
    expect(frame).to_have_attribute("data-subset", re.compile(r"\d"))
    n_selected = int(frame.get_attribute("data-subset"))
    assert 0 < n_selected < int(frame.get_attribute("data-words"))
    expect(page.get_by_text(re.compile(rf"Download CSV · {n_selected:,} words?"))).to_be_visible()
    table = page.locator(".m2v-selection .m2v-table")
    expect(table.locator("th")).to_have_text(["Word", "Rank", "Norm", "Topic"])
    # No column is cut off.
    assert table.evaluate("(one) => one.scrollWidth <= one.clientWidth")


def test_a_link_opens_the_same_view(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    frame = open_map(page, server, tmp_path / "small")
    find = page.get_by_label("Find a word")
    find.fill("sea")
    find.press("Enter")
    expect(page.locator(".m2v-label-mark", has_text=re.compile("^sea$"))).to_be_visible()
    page.wait_for_timeout(1000)
    zoom_in(page, frame, 3)
    seen = labels(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert re.search(r"/explore\?model=\w+&view=map&layout=UMAP&q=sea&x=-?[\d.]+&y=-?[\d.]+&zoom=[\d.]+$", link)
    page.goto(link)
    drawn_map(page)
    expect(page.get_by_label("Find a word")).to_have_value("sea")
    expect(page.locator(".m2v-label-mark", has_text=re.compile("^sea$"))).to_be_visible()
    page.wait_for_timeout(1000)
    before, now = ({label["text"]: label for label in found} for found in (seen, labels(page)))
    # A label on the edge of the space for it may be shown once and not the other time.
    assert len(before.keys() & now.keys()) >= 0.9 * len(before)
    for text in before.keys() & now.keys():
        assert before[text]["left"] == pytest.approx(now[text]["left"], abs=2)
        assert before[text]["top"] == pytest.approx(now[text]["top"], abs=2)


def test_the_map_can_be_exported(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    open_map(page, server, tmp_path / "small")
    word = labels(page, "word")[0]["text"]
    for name in ("PNG", "SVG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {name}").click()
        assert download.value.suggested_filename == f"small-map.{name.lower()}"
        download.value.save_as(tmp_path / name)
    assert (tmp_path / "PNG").read_bytes().startswith(b"\x89PNG")
    image = (tmp_path / "SVG").read_text(encoding="utf-8")
    assert f">{word}<" in image and "<image" in image
