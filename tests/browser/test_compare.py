"""What a person does: nothing to measure yet, distil, measure the model beside its teacher, come back later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.test_distill import RUN_MS, choose_teacher, open_page
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


def test_a_model_is_measured_beside_its_teacher(
    page: sync_api.Page, server: Server, build_teacher_once: Callable[[str], Path]
) -> None:
    open_page(page, server, "/compare")
    expect(page.get_by_text("No model to measure yet")).to_be_visible()
    page.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("No model is chosen")).to_be_visible()
    page.get_by_role("link", name="Distill your first one").click()

    choose_teacher(page, build_teacher_once("wordpiece"))
    page.get_by_text("My words only").click()
    page.locator(".m2v-paste textarea").fill("river\nsea\nmountain\nforest\nlake")
    expect(page.locator(".block.m2v-report")).to_contain_text("5 entries ready")
    page.get_by_role("button", name="Distill").click()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)

    panel = open_page(page, server, "/compare")
    expect(panel).to_have_attribute("data-state", "idle")  # the distillation is not this page's run
    page.get_by_role("button", name="Measure").click()
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    for opening in ("at once", "later"):
        if opening == "later":
            page.reload()
        figures = page.locator(".m2v-figure .js-plotly-plot")
        expect(figures).to_have_count(2)
        expect(figures.first).to_contain_text("Sentences a second")
        expect(figures.first.locator(".bars .point")).to_have_count(2)
        expect(figures.last).to_contain_text("Speed against fidelity")
        numbers = page.locator(".m2v-numbers")
        expect(numbers.locator("tbody tr")).to_have_count(2)
        expect(numbers).to_contain_text("Median of 5 rounds")
        expect(numbers).to_contain_text("CPUs")
    expect(page.get_by_role("button", name="Download JSON")).to_be_visible()
    open_page(page, server, "/distill")
    expect(page.get_by_role("button", name="Download ZIP")).to_be_visible()  # nor is the measurement that one's
