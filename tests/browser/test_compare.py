"""What a person does: nothing to measure yet, distil, measure the model beside its teacher, come back later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from m2v_core.storage.export import write_zip
from tests.browser.small_studio import open_library
from tests.browser.test_distill import RUN_MS, choose_teacher, open_page
from tests.live_app import Server
from tests.static_models import static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


def test_a_model_is_measured_beside_its_teacher(
    page: sync_api.Page, server: Server, build_teacher_once: Callable[[str], Path]
) -> None:
    open_page(page, server, "/compare")
    expect(page.get_by_text("No model yet")).to_be_visible()
    page.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("No model is selected")).to_be_visible()
    page.get_by_role("link", name="Distill your first model").click()

    choose_teacher(page, build_teacher_once("wordpiece"))
    page.get_by_text("My words only").click()
    page.locator(".m2v-paste textarea").fill("river\nsea\nmountain\nforest\nlake")
    expect(page.locator(".block.m2v-report")).to_contain_text("5 entries ready")
    page.get_by_role("button", name="Distill").click()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)

    panel = open_page(page, server, "/compare")
    expect(panel).to_have_attribute("data-state", "idle")  # the distillation is not this page's run
    expect(page.locator(".m2v-models input:checked")).to_have_count(1)  # a click before that measures nothing
    idle_height = panel.bounding_box()["height"]
    page.get_by_role("button", name="Measure").click()
    racers = panel.locator(".m2v-race li:not([aria-hidden])")
    expect(racers.last).to_contain_text("sentences/s", timeout=RUN_MS)
    assert panel.bounding_box()["height"] == idle_height
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    expect(racers).to_have_count(2)
    bars = [racer.locator(".m2v-meter > *").get_attribute("style") for racer in racers.all()]
    assert "translateX(0.00%)" in bars[0] and "translateX(-" in bars[1]  # the model is the fastest
    for opening in ("at once", "later"):
        if opening == "later":
            page.reload()
        figures = page.locator(".m2v-figure .js-plotly-plot")
        expect(figures).to_have_count(2)
        expect(figures.first).to_contain_text("Sentences/s")
        expect(figures.first.locator(".bars .point")).to_have_count(2)
        expect(figures.last).to_contain_text("Speed versus fidelity")
        numbers = page.locator(".m2v-numbers")
        expect(numbers.locator("tbody tr")).to_have_count(2)
        expect(numbers).to_contain_text("as fast as")
        assert numbers.bounding_box()["y"] < figures.first.bounding_box()["y"]  # the finding comes first
        conditions = page.locator(".m2v-how")
        expect(conditions).to_contain_text("Median of 5 rounds")
        expect(conditions).to_contain_text("CPUs")
    expect(page.get_by_role("button", name="Download JSON")).to_be_visible()
    open_page(page, server, "/distill")
    expect(page.get_by_role("button", name="Download ZIP")).to_be_visible()  # nor is the measurement that one's


def test_a_model_made_in_another_tab_appears(
    page: sync_api.Page, context: sync_api.BrowserContext, server: Server, tmp_path: Path
) -> None:
    open_page(page, server, "/compare")
    expect(page.get_by_text("No model yet")).to_be_visible()
    tab = context.new_page()
    open_library(tab, server)
    for name in ("mine", "second"):
        static_model().save_pretrained(tmp_path / name)
        archive = write_zip(tmp_path / name, tmp_path / f"{name}.zip")
        tab.locator("input[type=file]").set_input_files(archive)
        expect(tab.locator(".m2v-good")).to_contain_text(f"{name} is in your library")
        expect(page.locator(".m2v-models")).to_contain_text(name)
    expect(page.get_by_text("No model yet")).to_have_count(0)
    boxes = page.locator(".m2v-models input")
    expect(boxes).to_have_count(2)
    assert [box.is_checked() for box in boxes.all()] == [False, True]  # the first one stays ticked

    # The Library's link picks its model.
    tab.get_by_text("mine").first.click()
    expect(tab.locator(".m2v-model-name")).to_have_text("mine")
    tab.get_by_role("link", name="Compare speed").click()
    expect(tab.locator(".m2v-models label", has_text="mine").locator("input")).to_be_checked()
    expect(tab.locator(".m2v-models label", has_text="second").locator("input")).not_to_be_checked()

    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_text("Upload file").click()
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"a text of number {number}" for number in range(40)), encoding="utf-8")
    page.locator("input[type=file]").set_input_files(texts)
    expect(page.locator(".m2v-form .m2v-good")).to_contain_text("40 distinct texts ready")
    page.get_by_label("Include the teacher").uncheck()
    page.get_by_role("button", name="Measure").click()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)
    expect(page.locator(".m2v-how")).to_contain_text("Texts: own texts")
