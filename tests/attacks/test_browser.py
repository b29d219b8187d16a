"""What a real browser makes of a model full of markup, and what it is left with afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from m2v_core.storage.export import write_zip
from pages import PAGES
from tests.attacks.space import OWNER_TOKEN
from tests.attacks.test_markup import EVIL, save_evil_model
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

STORED = "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"


def test_nothing_of_a_model_runs_and_no_token_stays(page: sync_api.Page, space: Server, tmp_path: Path) -> None:
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    save_evil_model(tmp_path / "mine")
    page.goto(f"{space.address}/library")
    page.wait_for_function("localStorage.getItem('m2v-studio-owner') !== null")
    page.locator("input[type=file]").set_input_files(write_zip(tmp_path / "mine", tmp_path / "mine.zip"))
    expect(page.locator(".m2v-lines")).to_contain_text(f"{EVIL}/teacher")
    page.get_by_role("button", name="Rename or delete").click()
    name = page.locator(".m2v-name input, .m2v-name textarea")
    expect(name).to_have_value("mine")  # what is typed while the box is being made would be lost
    name.fill(EVIL)
    expect(name).to_have_value(EVIL)
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(page.locator(".m2v-model-name")).to_have_text(EVIL)

    page.goto(f"{space.address}/explore")
    page.get_by_label("A word or a text").fill("river")
    page.keyboard.press("Enter")
    expect(page.locator(".m2v-neighbors")).to_contain_text(EVIL)
    page.get_by_role("tab", name="Map").click()
    expect(page.locator(".m2v-map-frame[data-words]")).to_be_visible()
    page.get_by_label("Find a word").fill(EVIL)
    page.keyboard.press("Enter")
    expect(page.locator(".m2v-label-mark", has_text=EVIL)).to_have_count(1)

    for path in [page_.path for page_ in PAGES]:
        page.goto(f"{space.address}/{path}?model={EVIL}")
        page.wait_for_function("localStorage.getItem('m2v-studio-owner') !== null")
        page.wait_for_load_state("networkidle")
        assert not page.locator("img[src='x']").count()
        stored = json.dumps([page.content(), page.evaluate(STORED), page.context.cookies()])
        assert OWNER_TOKEN not in stored and not re.search(r"hf_[A-Za-z0-9]{20}", stored)
    assert not alerts
