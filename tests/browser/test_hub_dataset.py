"""A data set on the Hub in place of an uploaded file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.browser.small_studio import add_model, says
from tests.hub.server import LoopbackHub
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

TEXTS = ["The printer is out of paper.", "How do I reset my password?", "<img src=x onerror=alert(1)>"]


def test_rows_of_a_data_set_are_searched(
    page: sync_api.Page, small_studio: Server, faulty_hub: LoopbackHub, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    rows = "".join(f"{json.dumps({'text': text, 'label': place})}\n" for place, text in enumerate(TEXTS))
    (tmp_path / "rows" / "train.jsonl").write_text(rows, encoding="utf-8")
    faulty_hub.add("lab/tickets", tmp_path / "rows", kind="dataset")
    add_model(page, small_studio, tmp_path, "tiny")
    page.goto(small_studio.address + "/explore")
    page.get_by_role("tab", name="Documents").click()
    page.get_by_text("Upload file").click()
    page.get_by_role("button", name="Load from the Hub").click()
    name, load = page.get_by_placeholder("stanfordnlp/imdb"), page.get_by_role("button", name="Load rows")
    name.fill("lab/none")
    load.click()
    says(page.locator(".m2v-error:visible"), "This data set can't be loaded", "lab/none was not found on the Hub")
    name.fill("lab/tickets")
    load.click()
    expect(page.get_by_text("All 3 rows of lab/tickets, split train, are loaded")).to_be_visible()
    expect(page.get_by_text("3 texts ready")).to_be_visible()
    query = page.get_by_label("What are you looking for?")
    query.fill("paper in the printer")
    query.press("Enter")
    expect(page.locator(".m2v-document").first).to_have_text(TEXTS[0])
    assert page.locator(".m2v-documents img").count() == 0
