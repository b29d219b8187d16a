from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client

from m2v_core.model import StaticModel
from m2v_core.storage.export import write_zip
from tests.browser.small_studio import open_library
from tests.live_app import Server
from tests.static_models import TEXTS, static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

RUN_MS = 180_000


def test_a_model_is_uploaded_used_renamed_and_deleted(
    page: sync_api.Page, context: sync_api.BrowserContext, server: Server, tmp_path: Path
) -> None:
    static_model().save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text("---\nbase_model: <b>someone</b>/teacher\n---\n")
    open_library(page, server)
    expect(page.get_by_text("No model yet")).to_be_visible()
    page.locator("input[type=file]").set_input_files(write_zip(tmp_path / "mine", tmp_path / "mine.zip"))
    expect(page.locator(".m2v-good")).to_contain_text("mine is in your library")
    expect(page.locator(".m2v-lines")).to_contain_text("<b>someone</b>/teacher")
    page.locator("input[type=file]").set_input_files([path for path in (tmp_path / "mine").iterdir() if path.is_file()])
    expect(page.locator(".m2v-model-name")).to_have_text("model")
    page.locator(".m2v-models label", has_text="mine").click()
    expect(page.locator(".m2v-model-name")).to_have_text("mine")
    page.reload()
    expect(page.locator(".m2v-model-name")).to_have_text("mine")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    assert download.value.suggested_filename == "mine.zip"
    download.value.save_as(tmp_path / "fetched.zip")
    with zipfile.ZipFile(tmp_path / "fetched.zip") as archive:
        archive.extractall(tmp_path / "fetched")
    fetched = StaticModel.from_pretrained(str(tmp_path / "fetched" / "mine"))
    np.testing.assert_array_equal(fetched.encode(TEXTS), static_model().encode(TEXTS))

    page.get_by_role("button", name="Download for other programs").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="ONNX", exact=True).click()
    assert download.value.suggested_filename == "mine-onnx.zip"

    page.get_by_role("button", name="Use it from Python").click()
    snippet = page.locator(".block.m2v-snippet").inner_text()
    key, model = (re.search(rf'{name}="(.+?)"', snippet)[1] for name in ("owner", "model_id"))
    client = Client(server.address, verbose=False)
    rows = client.predict(owner=key, model_id=model, texts=["the fox"], api_name="/encode")
    np.testing.assert_allclose(rows, static_model().encode(["the fox"]), atol=1e-6)
    with pytest.raises(Exception, match="No such model among yours"):
        client.predict(owner="another" * 4, model_id=model, texts=["the fox"], api_name="/encode")

    # Another person sees none of it, not even by its address.
    stranger = context.browser.new_context()
    other = stranger.new_page()
    open_library(other, server, f"?model={model}")
    expect(other.locator(".m2v-error")).to_contain_text("No such model among yours")
    stranger.close()

    page.get_by_role("button", name="Rename or delete").click()
    page.get_by_label("Name", exact=True).fill("<i>renamed</i>")
    rename = page.get_by_role("button", name="Rename", exact=True)
    rename.click()
    expect(page.locator(".m2v-model-name")).to_have_text("<i>renamed</i>")
    answer, button = page.get_by_text("It is called <i>renamed</i> now").bounding_box(), rename.bounding_box()
    assert answer and button and 0 < answer["y"] - button["y"] < 150
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("button", name="Delete for good")).to_have_count(0)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator(".m2v-good")).to_contain_text("<i>renamed</i> is deleted")
    expect(page.locator(".m2v-models label")).to_have_count(1)


def test_a_finished_distillation_enters_by_itself(
    page: sync_api.Page,
    context: sync_api.BrowserContext,
    server: Server,
    build_teacher_once: Callable[[str], Path],
) -> None:
    open_library(page, server)
    tab = context.new_page()
    tab.goto(server.address + "/distill")
    box = tab.get_by_role("combobox", name="Teacher")
    box.fill(str(build_teacher_once("wordpiece")))
    box.press("Enter")
    box.press("Tab")
    expect(tab.get_by_label("Name").first).to_have_value(re.compile(r"wordpiece-\d+"))
    tab.get_by_role("button", name="Distill", exact=True).click()
    expect(tab.locator(".m2v-job")).to_have_attribute("data-state", re.compile("queued|running"))
    page.reload()
    expect(page.locator(".m2v-model-name")).to_have_text(re.compile(r"wordpiece-\d+"), timeout=RUN_MS)
    expect(page.locator(".m2v-lines")).to_contain_text("pooling auto")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_runs_off_a_phone(browser: sync_api.Browser, server: Server, tmp_path: Path, theme: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=theme)
    page = phone.new_page()
    open_library(page, server)
    static_model().save_pretrained(tmp_path / "mine")
    name = "a-long-name-" * 6
    page.locator("input[type=file]").set_input_files(write_zip(tmp_path / "mine", tmp_path / f"{name}.zip"))
    expect(page.locator(".m2v-model-name")).to_contain_text("a-long-name")
    for accordion in ("Rename or delete", "Use it from Python"):
        page.get_by_role("button", name=accordion).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()
