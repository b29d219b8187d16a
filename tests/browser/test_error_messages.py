"""What a person reads when something can't be: each message in the page, what was typed still there, the page alive.

Here Distill, Home and the unforeseen; Library, Explore and Compare are in `test_error_messages_of_models`, and what
happens to runs is in `test_run_failures`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from m2v_core.studio.jobs.folder import JobFolder
from m2v_core.studio.jobs.records import SpecRecord, StateRecord
from tests.browser.small_studio import BUNDLED, READER, UNKNOWN, WRITER, add_model, problem, says, type_teacher
from tests.browser.test_distill import RUN_MS, open_page
from tests.hub.server import LoopbackHub
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


@contextmanager
def signed_in(token_file: Path, token: str) -> Iterator[None]:
    token_file.write_text(token)
    try:
        yield
    finally:
        token_file.unlink()


@pytest.fixture(scope="module")
def desk(browser: sync_api.Browser, small_studio: Server) -> Iterator[sync_api.Page]:
    """The Distill page, opened once for all unfit teachers."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    open_page(page, small_studio)
    yield page
    context.close()


TEACHERS = {
    "gated": ("lab/gated", "lab/gated is gated", "Request access"),
    "pickle": ("lab/pickle", "no model.safetensors", "convert it"),
    "tokenizer": ("lab/slow", "tokenizer.json of lab/slow is invalid", "choose another"),
    "too-large": ("lab/huge", "50,000,000 parameters", "limit here is 30,000,000", "smaller teacher"),
    "static": ("lab/static", "already a static model", "Sentence Transformer that it was distilled from"),
    "absent": ("lab/absent", "neither a folder nor a repository", "Check the spelling"),
    "no-name": ("a b/c?", "a b/c?", "owner/name"),
}


@pytest.mark.parametrize("case", TEACHERS)
def test_an_unfit_teacher_is_refused_before_the_run(desk: sync_api.Page, case: str) -> None:
    name, *words = TEACHERS[case]
    box = type_teacher(desk, name)
    card, button = desk.locator(".m2v-preflight"), desk.get_by_role("button", name="Distill", exact=True)
    says(card.get_by_role("alert"), *map(re.escape, words))
    expect(button).to_be_disabled()
    expect(box).to_have_value(name)
    type_teacher(desk, BUNDLED)
    expect(card.get_by_role("alert")).to_have_count(0)
    expect(button).to_be_enabled()


def test_a_silent_hub_is_named_in_the_card_and_after_the_run(page: sync_api.Page, small_studio: Server) -> None:
    panel = open_page(page, small_studio)
    box = type_teacher(page, "lab/silent")
    says(page.locator(".m2v-preflight"), "the Hub can't be reached", "Check the network")
    page.get_by_role("button", name="Distill", exact=True).click()
    expect(panel).to_have_attribute("data-state", "failed", timeout=RUN_MS)
    says(problem(page), "lab/silent", "the Hub can't be reached", "Check the network", "[0-9a-f]{32}")
    expect(box).to_have_value("lab/silent")
    expect(page.get_by_role("button", name="Distill", exact=True)).to_be_enabled()


def test_words_that_are_too_many_or_in_a_column_nobody_named(
    page: sync_api.Page, small_studio: Server, tmp_path: Path
) -> None:
    open_page(page, small_studio)
    page.get_by_text("My words only").click()
    pasted = "\n".join(f"word {number}" for number in range(21))
    page.locator(".m2v-paste textarea").fill(pasted)
    expect(page.locator(".block.m2v-report")).to_contain_text("21")
    start = page.get_by_role("button", name="Distill", exact=True)
    if start.is_enabled():
        start.click()
    # In the form, and beside it where the button was quicker than that.
    refusal = page.locator(".m2v-form, .m2v-side").filter(has_text="limit here").first
    says(refusal, r"\b21\b", r"limit here is 20\b")
    expect(page.locator(".m2v-paste textarea")).to_have_value(pasted)

    page.get_by_text("Upload file").click()
    (tmp_path / "table.csv").write_text("left,right\nriver,lake\nsea,forest\n")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "table.csv")
    report = page.locator(".block.m2v-report")
    says(report, "Choose the column", "several columns")
    start.click()
    says(page.locator(".block.m2v-message"), "several columns: 'left', 'right'", "Choose the one to read")
    page.get_by_label("Column with the words").click()
    page.get_by_role("option", name="right").click()
    says(report, "2 entries ready", "lake")


CORPORA = {
    "no-column": ("corpus.csv", b"left,right\na,b\n", "no column 'text'", "'left', 'right'"),
    "parquet": ("corpus.parquet", b"PK\x03\x04 no parquet", "corpus.parquet", "Parquet"),
}


@pytest.mark.parametrize("case", CORPORA)
def test_a_corpus_that_can_not_be_read(desk: sync_api.Page, tmp_path: Path, case: str) -> None:
    name, content, *words = CORPORA[case]
    (tmp_path / name).write_bytes(content)
    if not desk.get_by_label("Dimensions").is_visible():
        desk.get_by_role("button", name="Advanced settings").click()
    box = desk.locator(".m2v-advanced input[type=file]")
    box.set_input_files(tmp_path / name)
    expect(desk.locator(".m2v-advanced")).to_contain_text(name.partition(".")[0])
    desk.get_by_role("button", name="Distill", exact=True).click()
    says(desk.locator(".block.m2v-message"), *map(re.escape, words))
    expect(desk.locator(".m2v-advanced")).to_contain_text(name.partition(".")[0])
    desk.locator(".m2v-advanced").get_by_role("button", name="Clear").click()
    expect(desk.get_by_role("button", name="Distill", exact=True)).to_be_enabled()


def test_home_refuses_before_any_work(
    page: sync_api.Page, small_studio: Server, token_file: Path, faulty_hub: LoopbackHub
) -> None:
    make = page.get_by_role("button", name="Make", exact=False)
    message = page.locator(".block.m2v-message:visible")
    open_page(page, small_studio, "/")
    box = type_teacher(page, "lab/pickle")
    make.click()
    says(message, "no model.safetensors", "convert it")
    expect(box).to_have_value("lab/pickle")

    with signed_in(token_file, WRITER):
        page.reload()
        says(page.locator(".m2v-account"), "Signed in as ada")
        name = page.get_by_label("Name on the Hub")
        expect(name).to_have_value(re.compile("ada/"))
        name.fill("eve/mine")
        says(page.get_by_role("alert"), "ada can't write to eve", "Publish under ada")
        make.click()
        says(message, "ada can't write to eve", "Publish under ada")
        expect(name).to_have_value("eve/mine")
        name.fill("a b?")
        make.click()
        says(message, r"a b\?")
        expect(name).to_have_value("a b?")
    with signed_in(token_file, READER):
        page.reload()
        says(page.locator(".m2v-account"), "Signed in as bob", "read-only")
        expect(name).to_have_value(re.compile("bob/"))
        make.click()
        says(message, "token of bob is read-only", "settings/tokens")
    with signed_in(token_file, UNKNOWN):
        page.reload()
        says(problem(page), "access token is not valid", "Sign in again")
        with faulty_hub.failing("whoami", read_bytes=0):
            page.reload()
            says(problem(page), "Hub can't be reached to sign in", "Check the network")
    page.reload()
    says(page.locator(".m2v-account"), "Not signed in")
    expect(make).to_be_enabled()
    assert UNKNOWN not in page.content()


def test_an_unforeseen_error_gives_an_incident(page: sync_api.Page, small_studio: Server, tmp_path: Path) -> None:
    others = set(small_studio.home.glob("models/*"))
    add_model(page, small_studio, tmp_path, "mine")
    [shelf] = set(small_studio.home.glob("models/*")) - others
    damaged = JobFolder(small_studio.home / "jobs" / uuid.uuid4().hex)
    damaged.result.mkdir(parents=True)
    (damaged.result / "speed.json").write_text("{}")
    outcome = {"encoders": [{"facts": {WRITER: 1}}], "rounds": 3, "texts_per_round": 4}
    damaged.write_spec(SpecRecord(shelf.name, "speed", "damaged", {}, time.time(), needs_secrets=False))
    damaged.write_state(StateRecord("queued", "").changed("done", "Done.", time.time(), outcome=outcome))

    page.goto(small_studio.address + "/compare")
    expect(problem(page)).to_have_count(2)  # its figures in the card, and its charts
    for shown in problem(page).all():
        says(shown, "An unexpected error occurred", "Try again", "Incident [0-9a-f]{8}")
        expect(shown).not_to_contain_text("hf_")
        expect(shown).not_to_contain_text("Error")
    incident = re.search("Incident [0-9a-f]{8}", problem(page).first.inner_text())
    assert incident
    log = (small_studio.home / "server.log").read_text()
    _, _, details = log.partition(incident[0])
    assert "Traceback" in details and "unexpected keyword argument" in details
    assert "[redacted]" in details
    assert WRITER not in log
    expect(page.get_by_role("button", name="Measure", exact=True)).to_be_enabled()
