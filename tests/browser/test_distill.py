"""What a person does: distil, leave and come back, cancel, bring words of their own, search, take the ZIP."""

from __future__ import annotations

import re
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m2v_core.model import StaticModel
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

RUN_MS = 480_000  # a distillation, on a machine with other things to do
WORDS = ["king", "queen", "prince", "throne", *(f"entry {number}" for number in range(9996))]
FOCUSED = """(() => {
  const focused = document.activeElement;
  return focused.getAttribute("aria-label") || focused.value || focused.innerText;
})()"""
PROBLEMS = "rank,word,count\n1,heart attack,9\n2,aspirin,8\n3,,7\n4,aspirin,6\n5," + "x" * 150 + ",5\n6,new york,4\n"


def open_page(page: sync_api.Page, server: Server, path: str = "/distill") -> sync_api.Locator:
    """The job panel of a page, once the server has said what it shows."""
    page.goto(server.address + path)
    page.wait_for_function("localStorage.getItem('m2v-studio-owner') !== null")
    panel = page.locator(".m2v-job")
    expect(panel).to_be_visible()
    return panel


def choose_teacher(page: sync_api.Page, teacher: Path | str) -> None:
    box = page.get_by_role("combobox", name="Teacher")
    box.fill(str(teacher))
    box.press("Enter")
    box.press("Tab")


def upload_words(page: sync_api.Page, folder: Path) -> None:
    """Words enough for a run of some seconds."""
    (folder / "words.txt").write_text("\n".join(WORDS))
    page.get_by_text("My words only").click()
    page.get_by_text("Upload file").click()
    page.locator("input[type=file]").set_input_files(folder / "words.txt")
    expect(page.locator(".block.m2v-report")).to_contain_text("10,000 entries ready")
    page.get_by_role("button", name="Advanced settings").click()
    page.locator(".m2v-choices label", has_text="Better than Model2Vec").click()


def percent(page: sync_api.Page) -> int:
    return int(page.locator(".m2v-bar").get_attribute("aria-valuenow") or 0)


@pytest.fixture(scope="session")
def small_teacher(build_teacher_once: Callable[[str], Path]) -> Path:
    return build_teacher_once("wordpiece")


def test_first_page_is_served_without_torch(server: Server) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()


def test_one_click_on_home_ends_in_a_zip_that_loads(page: sync_api.Page, server: Server, tmp_path: Path) -> None:
    panel = open_page(page, server, "/")
    expect(page.get_by_role("radio", name=re.compile("Balanced, about"))).to_be_checked()
    page.get_by_role("radio", name=re.compile("Quick, about")).check()
    page.get_by_role("button", name="Make my model").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    facts = page.locator(".m2v-facts")
    expect(facts).to_contain_text("29,525")
    expect(facts).to_contain_text("256")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    assert download.value.suggested_filename == "minilm-l6-256.zip"
    download.value.save_as(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        archive.extractall(tmp_path)
    card = (tmp_path / "minilm-l6-256" / "README.md").read_text()
    assert "\n# minilm-l6-256\n" in card and 'from_pretrained("minilm-l6-256")' in card
    assert "license: apache-2.0" in card
    model = StaticModel.from_pretrained(str(tmp_path / "minilm-l6-256"))
    assert (len(model.tokens), model.dim) == (29_525, 256)
    close, far = model.similarity(model.encode(["a small dog"]), model.encode(["a puppy", "interest rates"]))[0]
    assert close > far
    assert np.isfinite(model.encode(["anything at all"])).all()

    page.get_by_role("link", name="Change the settings").click()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done")
    expect(page.get_by_role("radio", name=re.compile("Quick, about"))).to_be_checked()
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_role("radio", name="Fast").check()
    expect(page.get_by_role("radio", name=re.compile("Quick"))).to_be_hidden()
    page.get_by_role("radio", name="Calibrated").check()
    expect(page.get_by_role("radio", name=re.compile("Best, about"))).to_be_checked()


def test_the_bar_moves_and_a_run_outlives_refresh_and_page(
    page: sync_api.Page, context: sync_api.BrowserContext, server: Server, tmp_path: Path
) -> None:
    panel = open_page(page, server)
    upload_words(page, tmp_path)
    height = panel.bounding_box()["height"]
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(panel).to_have_attribute("data-state", "running")
    expect(panel).to_contain_text(re.compile(r"of (9,99|10,00)\d tokens"), timeout=RUN_MS)
    expect(panel).to_contain_text(re.compile(r"\d/s"), timeout=RUN_MS)
    expect(panel).to_contain_text("elapsed")
    assert panel.bounding_box()["height"] == pytest.approx(height, abs=1)
    seen = {percent(page)}

    page.reload()
    expect(page.locator('.m2v-job[data-state="running"]')).to_be_visible()
    second = context.new_page()
    open_page(second, server)
    expect(second.locator('.m2v-job:not([data-state="idle"])')).to_be_visible()
    while panel.get_attribute("data-state") == "running":
        seen.add(percent(page))
        page.wait_for_timeout(250)
    assert len(seen) >= 3, seen
    for tab in (page, second):
        expect(tab.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)
        expect(tab.get_by_role("button", name="Download ZIP")).to_be_visible()

    query = page.get_by_label("Find similar words")
    query.fill("king")
    query.press("Enter")
    found = page.locator(".m2v-neighbors li")
    expect(found).to_have_count(12)
    assert {"queen", "prince", "throne"} <= set(page.locator(".m2v-neighbors .m2v-word").all_inner_texts())
    query.fill("<img src=x onerror=alert(1)> ☃")
    query.press("Enter")
    expect(page.locator(".block.m2v-found")).not_to_contain_text("queen")
    assert page.locator(".block.m2v-found img").count() == 0

    # Another person sees none of it.
    stranger = context.browser.new_context()
    stranger.set_default_timeout(60_000)
    other = stranger.new_page()
    open_page(other, server)
    expect(other.locator('.m2v-job[data-state="idle"]')).to_be_visible()
    stranger.close()


def test_cancel(page: sync_api.Page, server: Server) -> None:
    panel = open_page(page, server)
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(panel).to_contain_text("Load the teacher")
    page.get_by_role("button", name="Cancel").click()
    expect(panel).to_have_attribute("data-state", "cancelled", timeout=10_000)
    expect(page.get_by_role("button", name="Distill", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Download ZIP")).to_have_count(0)


def test_an_uploaded_table_with_problems_is_cleaned_and_distilled(
    page: sync_api.Page, server: Server, small_teacher: Path, tmp_path: Path
) -> None:
    panel = open_page(page, server)
    choose_teacher(page, small_teacher)
    page.get_by_text("Teacher's vocabulary and my words").click()
    page.get_by_text("Upload file").click()
    (tmp_path / "words.csv").write_text(PROBLEMS)
    page.locator("input[type=file]").set_input_files(tmp_path / "words.csv")
    report = page.locator(".block.m2v-report")
    expect(report).to_contain_text("3 entries valid, 3 invalid")
    expect(report).to_contain_text("1 blank line (line 4): skipped.")
    expect(report).to_contain_text("1 duplicate (line 5): the first of each is kept.")
    expect(report).to_contain_text("the limit is 100 characters")
    expect(page.get_by_label("Column with the words")).to_have_value("word")
    reading = page.locator(".block.m2v-reading")
    expect(reading).to_contain_text("with this vocabulary each becomes one token")
    expect(reading.locator("li").first).to_contain_text("heart attack")

    page.get_by_role("button", name="Distill", exact=True).click()
    expect(page.locator(".block.m2v-message")).to_contain_text("Click Clean")
    page.get_by_role("button", name="Clean: keep 3, skip 3").click()
    expect(report).to_contain_text("3 entries ready")
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    expect(page.locator(".block.m2v-message")).not_to_contain_text("Click Clean")
    query = page.get_by_label("Find similar words")
    query.fill("heart attack")
    query.press("Enter")
    expect(page.locator(".m2v-neighbors li")).to_have_count(12)


def test_pasted_words_only_and_other_settings(page: sync_api.Page, server: Server, small_teacher: Path) -> None:
    panel = open_page(page, server)
    choose_teacher(page, small_teacher)
    page.get_by_text("My words only").click()
    page.get_by_label("One word or phrase per line").fill("heart attack\naspirin\n\nnew york\naspirin\nfever\npain")
    expect(page.locator(".block.m2v-report")).to_contain_text("5 entries valid, 2 invalid")
    page.get_by_role("button", name="Clean: keep 5, skip 2").click()
    expect(page.get_by_label("One word or phrase per line")).to_have_value(
        "heart attack\naspirin\nnew york\nfever\npain"
    )
    expect(page.locator(".block.m2v-report")).to_contain_text("5 entries ready")
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Dimensions").fill("3")
    page.get_by_label("Precision").click()
    page.get_by_role("option", name="float32").click()
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    facts = page.locator(".m2v-facts")
    expect(facts).to_contain_text("Dimensions3Distilled")
    expect(facts).to_contain_text("Tokens6Dimensions")  # five words and the unknown token
    page.reload()
    expect(page.get_by_role("combobox", name="Teacher")).to_have_value(str(small_teacher))
    expect(page.get_by_label("My words only")).to_be_checked()
    expect(page.locator(".m2v-paste textarea")).to_have_value("heart attack\naspirin\nnew york\nfever\npain")
    expect(page.locator(".block.m2v-report")).to_contain_text("5 entries ready")
    page.get_by_role("button", name="Advanced settings").click()
    expect(page.get_by_label("Dimensions")).to_have_value("3")
    query = page.get_by_label("Find similar words")
    query.fill("zebra")
    query.press("Enter")
    expect(page.locator(".block.m2v-found")).to_contain_text("None of these words are in the model's vocabulary")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("words.csv", b"PK\x03\x04", "export the sheet as CSV"),
        ("words.txt", b" \n", "is empty"),
        ("words.txt", b"words\0of\0a\0program" * 9, "is binary, or text in an unknown encoding"),
    ],
)
def test_a_file_that_can_not_be_used_says_why(
    page: sync_api.Page, server: Server, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    open_page(page, server)
    page.get_by_text("My words only").click()
    page.get_by_text("Upload file").click()
    (tmp_path / name).write_bytes(content)
    page.locator("input[type=file]").set_input_files(tmp_path / name)
    expect(page.locator(".block.m2v-report")).to_contain_text(says)


def test_another_table_is_no_trouble_to_the_column_of_the_first(
    page: sync_api.Page, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "first.csv").write_text("id,term,freq\n1,heart attack,9\n2,aspirin,8\n")
    (tmp_path / "second.csv").write_text("place;word\n1;new york\n2;los angeles\n3;paris\n")
    open_page(page, server)
    page.get_by_text("Teacher's vocabulary and my words").click()
    page.get_by_text("Upload file").click()
    report, column = page.locator(".block.m2v-report"), page.get_by_label("Column with the words")
    page.locator("input[type=file]").set_input_files(tmp_path / "first.csv")
    expect(report).to_contain_text("2 entries ready")
    expect(column).to_have_value("term")
    page.get_by_role("button", name="Clear").or_(page.get_by_label("Remove this file")).first.click()
    expect(column).not_to_be_visible()
    page.locator("input[type=file]").set_input_files(tmp_path / "second.csv")
    expect(report).to_contain_text("3 entries ready")
    expect(column).to_have_value("word")
    expect(page.locator(".toast-body")).to_have_count(0)


def test_settings_of_another_run_are_pointed_out(page: sync_api.Page, server: Server, small_teacher: Path) -> None:
    panel = open_page(page, server)
    choose_teacher(page, small_teacher)
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Dimensions").fill("16")
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    expect(page.get_by_role("button", name="Reset to defaults")).not_to_be_visible()
    page.reload()
    page.get_by_role("button", name="Advanced settings (from your last run)").click()
    expect(page.get_by_label("Dimensions")).to_have_value("16")
    page.get_by_role("button", name="Reset to defaults").click()
    expect(page.get_by_label("Dimensions")).to_have_value("256")
    expect(page.locator(".m2v-advanced")).not_to_contain_text("last run")


def test_a_setting_that_can_not_be_used_says_why(page: sync_api.Page, server: Server) -> None:
    open_page(page, server)
    page.get_by_text("My words only").click()
    page.get_by_role("button", name="Distill", exact=True).click()
    message = page.locator(".block.m2v-message")
    expect(message).to_contain_text("There are no words yet. Paste some words")
    page.get_by_label("One word or phrase per line").fill("heart attack")
    expect(message).not_to_be_visible()
    page.locator(".m2v-choices label", has_text="Teacher's vocabulary").first.click()
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Tokens to drop").fill("([")
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(message).to_contain_text("not a valid regular expression")


def test_a_teacher_that_is_not_there_says_what_to_do(page: sync_api.Page, server: Server) -> None:
    panel = open_page(page, server)
    choose_teacher(page, "nobody/no-such-model")
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(panel).to_have_attribute("data-state", "failed", timeout=RUN_MS)
    failure = page.locator(".m2v-error")
    expect(failure).to_contain_text("nobody/no-such-model")
    expect(failure).to_contain_text("Nothing was saved.")
    assert re.fullmatch("[0-9a-f]{32}", failure.locator("code").inner_text())
    expect(page.get_by_role("button", name="Distill", exact=True)).to_be_visible()


def test_a_run_survives_a_restart_of_the_app(
    page: sync_api.Page, start_server: Callable[[Path], Server], tmp_path: Path
) -> None:
    first = start_server(tmp_path / "studio")
    open_page(page, first)
    upload_words(page, tmp_path)
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "running")
    owner = page.evaluate("localStorage.getItem('m2v-studio-owner')")
    first.process.send_signal(signal.SIGINT)
    first.process.wait(30)
    second = start_server(tmp_path / "studio")
    # Another port is another place to the browser, which a restart in daily life is not.
    page.goto(second.address + "/theme.css")
    page.evaluate("owner => localStorage.setItem('m2v-studio-owner', owner)", owner)
    panel = open_page(page, second)
    expect(panel).to_have_attribute("data-state", "done", timeout=RUN_MS)
    second.stop()


def test_everything_is_reached_by_keyboard(page: sync_api.Page, server: Server) -> None:
    open_page(page, server)
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(FOCUSED))
    assert {"Home", "Teacher", "output", "word", "Distill"} <= reached
    assert any(name.startswith("Advanced settings") for name in reached)


def test_whoever_uses_the_keyboard_never_loses_their_place(page: sync_api.Page, server: Server) -> None:
    panel = open_page(page, server)
    page.get_by_role("button", name="Distill", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(panel).to_have_attribute("data-state", "cancelled", timeout=RUN_MS)
    expect(page.get_by_role("button", name="Distill", exact=True)).to_be_focused()


@pytest.mark.parametrize("path", ["/", "/distill"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_runs_off_a_phone(browser: sync_api.Browser, server: Server, path: str, theme: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=theme)
    phone.set_default_timeout(60_000)
    page = phone.new_page()
    open_page(page, server, path)
    if path == "/distill":
        page.get_by_text("My words only").click()
        page.get_by_role("button", name="Advanced settings").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (page.locator(".dark").count() > 0) == (theme == "dark")
    phone.close()


def test_the_card_says_what_a_run_takes_and_blocks_what_can_not_work(
    page: sync_api.Page, server: Server, small_teacher: Path, tmp_path: Path
) -> None:
    open_page(page, server)
    card, button = page.locator(".m2v-preflight"), page.get_by_role("button", name="Distill", exact=True)
    expect(card).to_contain_text("15.1 MB")
    expect(card).to_contain_text("29,525 rows of 256")
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Dimensions").fill("64")
    expect(card).to_contain_text("29,525 rows of 64")
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}')
    choose_teacher(page, tmp_path)
    expect(card.get_by_role("alert")).to_contain_text("requires custom code")
    expect(button).to_be_disabled()
    choose_teacher(page, small_teacher)
    expect(card).to_contain_text("a folder on this machine")
    expect(button).to_be_enabled()
