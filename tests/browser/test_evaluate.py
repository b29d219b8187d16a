"""What a person does: pick a model, read the verdict, then score it on test data of their own."""

from __future__ import annotations

import json
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

EVIL = "<img src=x onerror=alert(1)>"


def test_verdict_and_own_test_data(
    page: sync_api.Page, server: Server, build_teacher_once: Callable[[str], Path], tmp_path: Path
) -> None:
    panel = open_page(page, server, "/evaluate")
    expect(page.get_by_text("No model yet")).to_be_visible()
    start = page.get_by_role("button", name="Evaluate", exact=True)
    start.click()
    expect(page.get_by_text("No model is selected")).to_be_visible()

    static_model().save_pretrained(tmp_path / "mine")
    open_library(page, server)
    page.locator("input[type=file]").set_input_files(write_zip(tmp_path / "mine", tmp_path / "mine.zip"))
    expect(page.locator(".m2v-good")).to_contain_text("mine is in your library")
    page.get_by_role("link", name="Evaluate", exact=True).last.click()
    choose_teacher(page, build_teacher_once("wordpiece"))

    page.get_by_text("Paste texts").click()
    page.locator(".m2v-paste textarea").fill("\n".join(f"the quick fox number {number}" for number in range(512)))
    start.click()
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    expect(page.locator(".m2v-verdict h2")).to_contain_text("Matches the teacher's similarity ranking")

    page.get_by_text("My test data").click()
    upload = page.locator(".m2v-sets input[type=file]")
    bad = tmp_path / "bad.csv"
    bad.write_text(f"1,{EVIL},b\nhigh,c,d\n", encoding="utf-8")
    upload.set_input_files(bad)
    expect(page.locator(".m2v-sets .m2v-error")).to_contain_text("bad.csv, line 2 has 'high' instead of a score")
    start.click()
    expect(page.locator(".m2v-run .m2v-error")).to_contain_text("line 2 has 'high'")
    page.locator(".m2v-sets").get_by_label("Clear").click()
    expect(page.locator(".m2v-form .m2v-error")).to_have_count(0)

    good = tmp_path / "pairs.csv"
    good.write_text("score,a,b\n" + "".join(f"{n % 5},{EVIL} {n} fox,the sea {n}\n" for n in range(20)), "utf-8")
    upload.set_input_files(good)
    expect(page.locator(".m2v-sets .m2v-good")).to_contain_text("pairs: 20 pairs with scores")
    start.click()
    expect(panel).to_have_attribute("data-state", "running")
    page.reload()  # the run goes on
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    expect(page.get_by_text("20 pairs in “pairs” are too few").first).to_be_visible()
    expect(page.locator(".m2v-numbers", has_text="on your test data").first.locator("tbody tr")).to_have_count(3)
    board = page.locator(".m2v-card.m2v-board")
    expect(board.locator("tbody tr", has_text="measured")).to_have_count(3)
    expect(board.get_by_text("published", exact=True)).to_have_count(15)
    with page.expect_download() as download:
        board.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "leaderboard.csv"
    assert "potion-base-8M,published" in Path(download.value.path()).read_text(encoding="utf-8-sig")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    assert len(json.loads(Path(download.value.path()).read_text())["evaluation"]["scores"]) == 3
