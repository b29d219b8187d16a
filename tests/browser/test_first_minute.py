"""The first minute of a visitor who has no model: search, explore and compare the demo model, then make one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.model import StaticModel
from tests.browser.small_studio import add_model
from tests.demo_model import place_demo
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


@pytest.fixture(scope="module")
def studio(start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    home = tmp_path_factory.mktemp("first-minute")
    place_demo(home)
    return start_server(home, M2V_STUDIO_DEMO="1")


@pytest.fixture
def nearest(studio: Server) -> Callable[[str], list[str]]:
    """The ten nearest words, by the library alone."""
    (folder,) = (studio.home / "demo").glob("*/*/model")
    words = WordNeighbors(StaticModel.from_pretrained(str(folder)))
    return lambda query: [neighbor.text for neighbor in words.search(query, 10)]


def shown_words(page: sync_api.Page) -> sync_api.Locator:
    return page.locator(".m2v-search .m2v-neighbors button")


def search_box(page: sync_api.Page) -> sync_api.Locator:
    return page.get_by_label("Try it: type a word or a sentence")


def test_home_answers_while_one_types(page: sync_api.Page, studio: Server, nearest: Callable[[str], list[str]]) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(studio.address)
    box = search_box(page)
    turning = page.locator(".m2v-home-map canvas")
    expect(turning).not_to_have_attribute("data-points", "0")
    drawn = turning.evaluate("(canvas) => canvas.toDataURL()")
    box.press_sequentially("sea")
    expect(shown_words(page)).to_have_text(nearest("sea"))
    assert turning.evaluate("(canvas) => canvas.toDataURL()") != drawn
    expect(page.get_by_text("words in the demo model, found in")).to_be_visible()
    start = page.get_by_role("button", name="Make my model").bounding_box()
    assert start is not None and start["y"] + start["height"] < 900
    for _ in "ea":
        box.press("Backspace")
    box.press_sequentially("hells by the shore")
    expect(shown_words(page)).to_have_text(nearest("shells by the shore"))
    word = nearest("shells by the shore")[1]
    shown_words(page).nth(1).click()
    expect(box).to_have_value(word)
    expect(shown_words(page)).to_have_text(nearest(word))
    shown_words(page).first.focus()
    page.keyboard.press("Enter")  # the button is replaced, so its focus must not be lost
    expect(box).to_be_focused()
    page.get_by_role("button", name="München").click()
    expect(box).to_have_value("München")
    expect(shown_words(page)).to_have_text(nearest("München"))
    box.fill("")
    expect(shown_words(page)).to_have_count(0)


def test_the_map_on_home_stands_still_for_whoever_asks_for_less_motion(page: sync_api.Page, studio: Server) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(studio.address)
    turning = page.locator(".m2v-home-map canvas")
    expect(turning).not_to_have_attribute("data-points", "0")
    page.wait_for_timeout(500)
    drawn = turning.evaluate("(canvas) => canvas.toDataURL()")
    page.wait_for_timeout(500)
    assert turning.evaluate("(canvas) => canvas.toDataURL()") == drawn
    assert len(set(drawn)) > 10


def test_home_on_a_phone(page: sync_api.Page, studio: Server, nearest: Callable[[str], list[str]]) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(studio.address)
    page.get_by_role("button", name="king").click()
    expect(shown_words(page)).to_have_text(nearest("king"))
    lefts = {round(word.bounding_box()["x"]) for word in shown_words(page).all()}
    assert len(lefts) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_explore_compare_and_evaluate_open_on_the_demo_model_until_there_is_another(
    page: sync_api.Page, studio: Server, nearest: Callable[[str], list[str]], tmp_path: Path
) -> None:
    page.goto(studio.address + "/explore")
    model = page.get_by_role("combobox", name="Model")
    expect(model).to_have_value(re.compile("^Demo · Fast · 24 dimensions · "))
    query = page.get_by_label("A word or a text")
    query.press_sequentially("sea")
    expect(shown_words(page)).to_have_count(15)
    assert shown_words(page).all_inner_texts()[:10] == nearest("sea")
    shown_words(page).first.click()
    expect(query).to_have_value(nearest("sea")[0])
    page.goto(studio.address + "/compare")
    expect(page.get_by_role("checkbox", name="Demo")).to_be_checked()
    page.goto(studio.address + "/evaluate")
    expect(model).to_be_visible()
    for path in ("publish", "library"):
        page.goto(f"{studio.address}/{path}")
        expect(page.get_by_text("No model yet")).to_be_visible()

    add_model(page, studio, tmp_path, "mine")
    page.goto(studio.address + "/explore")
    expect(model).to_have_value(re.compile("^mine · 24 dimensions · "))
    model.click()
    expect(page.get_by_role("option")).to_have_count(2)
    expect(page.get_by_role("option").last).to_contain_text("Demo")
    page.goto(studio.address)
    search_box(page).fill("sea")
    expect(page.get_by_text("words in mine, found in")).to_be_visible()


def test_without_a_demo_model_home_has_no_search_box(page: sync_api.Page, server: Server) -> None:
    page.goto(server.address)
    page.wait_for_function("localStorage.getItem('m2v-studio-owner') !== null")
    expect(page.get_by_role("button", name="Make my model")).to_be_visible()
    expect(search_box(page)).to_have_count(0)
