from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from tokenizers import Tokenizer, models

from m2v_core.model import StaticModel
from m2v_core.storage.export import write_zip
from tests.browser.small_studio import open_library
from tests.live_app import Server
from tests.static_models import TEXTS, static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

RUN_MS = 180_000


def row(page: sync_api.Page, name: str) -> sync_api.Locator:
    """The row of a model in the table."""
    return page.locator(".m2v-model-table tbody tr").filter(has=page.get_by_role("button", name=name, exact=True))


def names(page: sync_api.Page) -> list[str]:
    return page.locator(".m2v-model-table tbody th button").all_inner_texts()


def add_from_words(page: sync_api.Page, folder: Path, name: str, dim: int, n_words: int = 60) -> None:
    words = [
        f"{first}{second}" for first in "bcdfglmnpr" for second in ("alan", "erin", "inos", "otul", "umit", "yrem")
    ]
    rows = np.random.default_rng(dim).normal(size=(n_words + 1, dim)).astype(np.float32)
    vocabulary = {word: place for place, word in enumerate([*words[:n_words], "[UNK]"])}
    StaticModel(rows, Tokenizer(models.WordLevel(vocabulary, "[UNK]"))).save_pretrained(folder / name)
    page.locator("input[type=file]").set_input_files(write_zip(folder / name, folder / f"{name}.zip"))
    expect(page.locator(".m2v-good")).to_contain_text(f"{name} is in your library")


def test_models_are_sorted_selected_by_key_and_compared(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    open_library(page, server)
    for name, dim, n_words in (("b-large", 32, 60), ("c-small", 4, 60), ("a-middle", 16, 60), ("few words", 8, 20)):
        add_from_words(page, tmp_path, name, dim, n_words)
    newest_first = ["few words", "a-middle", "c-small", "b-large"]
    assert names(page) == newest_first

    def sort_by(heading: str) -> tuple[str | None, list[str]]:
        page.get_by_role("button", name=heading, exact=True).press("Enter")
        [column] = page.locator('[aria-sort]:not([aria-sort="none"])').all()
        assert column.inner_text() == heading
        return column.get_attribute("aria-sort"), names(page)

    by_name = ["a-middle", "b-large", "c-small", "few words"]
    assert sort_by("Name") == ("ascending", by_name)
    assert sort_by("Name") == ("descending", by_name[::-1])
    by_size = ["b-large", "a-middle", "few words", "c-small"]  # not "8", "4", "32", "16"
    assert sort_by("Dimensions") == ("descending", by_size)
    assert sort_by("Dimensions") == ("ascending", by_size[::-1])
    assert sort_by("Quality")[1] == by_size[::-1]  # without any, nothing moves
    assert sort_by("Name") == ("ascending", by_name)

    row(page, "c-small").get_by_role("button").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".m2v-model-name")).to_have_text("few words")
    expect(page.locator('.m2v-model-table [aria-selected="true"]')).to_have_count(1)
    expect(row(page, "few words")).to_have_attribute("aria-selected", "true")
    for name in ("b-large", "a-middle", "c-small"):  # what was clicked last is shown
        row(page, name).locator("td").last.click()
    expect(page.locator(".m2v-model-name")).to_have_text("c-small")

    def tick(name: str) -> sync_api.Locator:
        return page.get_by_role("checkbox", name=f"Compare {name}")

    panel = page.locator(".m2v-difference")
    tick("c-small").check()
    tick("b-large").check()
    expect(panel.get_by_role("heading", name="Compare these two models")).to_be_visible()
    expect(panel.locator(".m2v-own", has_text="Dimensions")).to_contain_text("32")
    expect(panel.locator(".m2v-changed tbody tr")).to_have_count(12)
    expect(tick("a-middle")).to_be_disabled()
    expect(page.locator(".m2v-model-name")).to_have_text("c-small")  # a tick selects nothing
    tick("b-large").uncheck()
    expect(panel).to_be_hidden()
    tick("few words").check()
    expect(panel.locator(".m2v-error")).to_contain_text("20 whole words in common")

    # A deleted model is unticked; order and the other tick stay.
    row(page, "few words").get_by_role("button").click()
    expect(page.locator(".m2v-model-name")).to_have_text("few words")
    page.get_by_role("button", name="Rename or delete").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete model").click()
    expect(page.locator(".m2v-model-table tbody tr")).to_have_count(3)
    expect(panel).to_be_hidden()
    assert names(page) == by_name[:3]
    expect(tick("c-small")).to_be_checked()
    expect(tick("a-middle")).to_be_enabled()


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
    row(page, "mine").get_by_role("button").click()
    expect(row(page, "mine")).to_have_attribute("aria-selected", "true")
    expect(row(page, "model")).to_have_attribute("aria-selected", "false")
    expect(page.locator(".m2v-model-name")).to_have_text("mine")
    page.reload()
    expect(page.locator(".m2v-model-name")).to_have_text("mine")
    expect(row(page, "mine")).to_have_attribute("aria-selected", "true")

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
    with pytest.raises(Exception, match="Model not found"):
        client.predict(owner="another" * 4, model_id=model, texts=["the fox"], api_name="/encode")

    # Another person sees none of it, not even by its address.
    stranger = context.browser.new_context()
    other = stranger.new_page()
    open_library(other, server, f"?model={model}")
    expect(other.locator(".m2v-error")).to_contain_text("Model not found")
    stranger.close()

    page.get_by_role("button", name="Rename or delete").click()
    page.get_by_label("Name", exact=True).fill("<i>renamed</i>")
    rename = page.get_by_role("button", name="Rename", exact=True)
    rename.click()
    expect(page.locator(".m2v-model-name")).to_have_text("<i>renamed</i>")
    answer, button = page.get_by_text("Renamed to <i>renamed</i>").bounding_box(), rename.bounding_box()
    assert answer and button and 0 < answer["y"] - button["y"] < 150
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Delete model")).to_have_count(0)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete model").click()
    expect(page.locator(".m2v-good")).to_contain_text("<i>renamed</i> was deleted")
    expect(page.locator(".m2v-model-table tbody tr")).to_have_count(1)


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
    table = page.locator(".m2v-model-table .m2v-table")
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
    expect(row(page, name).locator("small")).to_contain_text("24\u00a0dimensions")
    expect(row(page, name).locator("td[data-column=Dimensions]")).to_be_hidden()
    phone.close()
