"""What a person does with the boxes that pick a teacher or a model: type, look, and find what is there now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from m2v_core.storage.export import write_zip
from tests.browser.small_studio import open_library
from tests.browser.test_distill import open_page
from tests.hub.server import LoopbackHub, client_environment
from tests.live_app import Server
from tests.static_models import static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

NAMES = [f"someone/tiny-bert-{number}" for number in range(8)] + ["else/little-gpt", "else/gpt"]


@pytest.fixture
def hub_server(start_server: Callable[..., Server], tmp_path: Path) -> Iterator[Server]:
    """An app whose Hub has `NAMES`."""
    with LoopbackHub() as hub:
        for name in NAMES:
            hub.add(name, {"modules.json": b"[]", "config.json": b"{}"})
        server = start_server(tmp_path / "studio", **client_environment(hub.url, tmp_path / "hf"))
        yield server
        server.stop()


def test_teachers_on_the_hub_are_found_while_one_types(page: sync_api.Page, hub_server: Server) -> None:
    open_page(page, hub_server)
    box, options = page.get_by_role("combobox", name="Teacher"), page.get_by_role("option")
    box.click()
    expect(options).to_have_count(4)  # the well-known ones
    box.fill("")
    for typed, first in (("tiny", "/tiny-"), ("tiny-bert-4", "someone/tiny-bert-4"), ("gpt", "else/")):
        box.fill(typed)
        box.press("End")
        expect(options.first).to_contain_text(first)
        expect(options).to_have_count(8)
    box.fill("no such teacher")
    box.press("End")
    expect(options.first).to_contain_text("all-MiniLM-L6-v2")
    box.fill("little")
    box.press("End")
    expect(options.first).to_contain_text(re.compile("else/little-gpt · .* downloads per month"))
    options.first.click()
    expect(box).to_have_value(re.compile("else/little-gpt"))


def test_a_model_that_was_deleted_meanwhile_is_not_offered_for_long(
    page: sync_api.Page, context: sync_api.BrowserContext, server: Server, tmp_path: Path
) -> None:
    open_page(page, server)  # makes the owner
    tab = context.new_page()
    open_library(tab, server)
    for name in ("first", "second"):
        static_model().save_pretrained(tmp_path / name)
        tab.locator("input[type=file]").set_input_files(write_zip(tmp_path / name, tmp_path / f"{name}.zip"))
        expect(tab.locator(".m2v-good")).to_contain_text(f"{name} is in your library")
    page.goto(server.address + "/explore")
    box, options = page.get_by_role("combobox", name="Model"), page.get_by_role("option")
    expect(box).to_have_value(re.compile("second"))
    box.click()
    expect(options).to_have_count(2)
    box.blur()
    tab.get_by_role("button", name="Rename or delete").click()
    tab.get_by_role("button", name="Delete", exact=True).click()
    tab.get_by_role("button", name="Delete model").click()
    expect(tab.get_by_text("second was deleted")).to_be_visible()
    box.click()
    page.wait_for_timeout(1000)
    expect(options).to_have_count(2)  # an open list does not get shorter
    box.blur()
    expect(box).to_have_value(re.compile("first"))
    box.click()
    expect(options).to_have_count(1)


def test_without_the_hub_the_list_stays(page: sync_api.Page, server: Server) -> None:
    open_page(page, server)
    box, options = page.get_by_role("combobox", name="Teacher"), page.get_by_role("option")
    box.click()
    box.press("End")
    page.wait_for_timeout(1000)
    expect(options).to_have_count(4)
    expect(options.first).to_contain_text("bundled, works offline")


def test_a_list_closes_behind_whoever_leaves_it_by_keyboard(page: sync_api.Page, server: Server) -> None:
    page.goto(f"{server.address}/distill")
    expect(page.locator(".m2v-job")).to_be_visible()
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Dimensions").focus()
    for name in ("Precision", "Weighting"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("combobox", name=name)).to_be_focused()
        expect(page.get_by_role("combobox", name=name)).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    expect(page.get_by_label("SIF coefficient")).to_be_focused()
    expect(page.get_by_role("option")).to_have_count(0)


def test_arrows_choose_between_choices(page: sync_api.Page, server: Server) -> None:
    page.goto(f"{server.address}/distill")
    expect(page.locator(".m2v-job")).to_be_visible()
    page.get_by_role("radio", name="Teacher's vocabulary").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="Teacher's vocabulary and my words")).to_be_checked()
    expect(page.get_by_label("One word or phrase per line")).to_be_visible()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("radio", name="My words only")).to_be_checked()
