"""What a person reads when a model, a document or a measurement can't be: in Library, Explore and Compare."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from m2v_core.storage.export import write_zip
from tests.browser.small_studio import LIMITS, add_model, open_library, problem, says
from tests.live_app import Server
from tests.static_models import static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


def in_library(page: sync_api.Page) -> sync_api.Locator:
    return page.locator(".m2v-add .block.m2v-message")


def write_archive(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


ARCHIVES = {
    "no-zip": (None, "is not a ZIP archive", "Compress the folder as .zip"),
    "leads-out": ({"../config.json": "{}"}, r"\.\./config\.json", "points outside of it", "Compress the folder again"),
    "no-model": ({"notes/letter.json": "{}"}, "not a static model", "config.json missing"),
    "damaged": (
        {"m/config.json": "{", "m/model.safetensors": "x", "m/tokenizer.json": "{}"},
        "addedmodel.safetensors is truncated or damaged",  # and not where the server has it
        "Download or distill the model again",
    ),
}


def test_an_archive_that_holds_no_model(page: sync_api.Page, small_studio: Server, tmp_path: Path) -> None:
    open_library(page, small_studio)
    for case, (files, *words) in ARCHIVES.items():
        path = tmp_path / f"{case}.zip"
        if files is None:
            path.write_bytes(b"hello")
        else:
            write_archive(path, files)
        page.locator("input[type=file]").set_input_files(path)
        says(in_library(page), "The model can't be added", *words)
    assert not list(small_studio.home.rglob("letter.json"))
    static_model().save_pretrained(tmp_path / "sound")
    page.locator("input[type=file]").set_input_files(write_zip(tmp_path / "sound", tmp_path / "sound.zip"))
    says(page.locator(".m2v-good"), "sound is in your library")


def test_an_upload_that_is_too_large(page: sync_api.Page, small_studio: Server, tmp_path: Path) -> None:
    open_library(page, small_studio)
    (tmp_path / "large.zip").write_bytes(bytes(LIMITS["upload_bytes"] + 1))
    page.locator("input[type=file]").set_input_files(tmp_path / "large.zip")
    says(page.locator(".toast-wrap"), "maximum allowed size of 195.3 K", "large.zip")
    add_model(page, small_studio, tmp_path, "small-enough")


def test_a_place_where_no_model_is(page: sync_api.Page, small_studio: Server, tmp_path: Path) -> None:
    open_library(page, small_studio)
    for way, label, place, *words in (
        (
            "From the Hub",
            "Hub id",
            "lab/absent",
            "lab/absent",
            "neither a folder nor a repository",
            "Check the spelling",
        ),
        ("From the Hub", "Hub id", "what is this", "what is this", "owner/name"),
        ("From the Hub", "Hub id", "lab/silent", "lab/silent", "the Hub can't be reached", "Check the network"),
        ("From the Hub", "Hub id", "lab/gated", "lab/gated is gated", "Request access"),
        (
            "From a folder",
            "Path of the model's folder",
            str(tmp_path / "nowhere"),
            "Folder not found: .*/nowhere",
            "Check the",
        ),
        ("From a folder", "Path of the model's folder", str(tmp_path), "not a static model", "config.json"),
    ):
        page.get_by_text(way).click()
        box = page.get_by_label(label)
        box.fill(place)
        page.get_by_role("button", name="Open", exact=True).click()
        says(in_library(page), "The model can't be added", *words)
        expect(box).to_have_value(place)


def test_a_name_in_use(page: sync_api.Page, small_studio: Server, tmp_path: Path) -> None:
    for name in ("first", "second"):
        add_model(page, small_studio, tmp_path, name)
    page.get_by_role("button", name="Rename or delete").click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_value("second")  # or what is typed before is overwritten
    for typed, *words in (
        ("first", "named 'first'", "Choose a different name"),
        ("   ", "name is empty", "Enter a name"),
    ):
        name.fill(typed)
        page.get_by_role("button", name="Rename", exact=True).click()
        says(problem(page), "The model can't be renamed", *words)
        expect(name).to_have_value(typed)
    name.fill("third")
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(page.locator(".m2v-model-name")).to_have_text("third")


def test_documents_and_scores_that_can_not_be_used(page: sync_api.Page, small_studio: Server, tmp_path: Path) -> None:
    add_model(page, small_studio, tmp_path, "mine")
    page.goto(small_studio.address + "/explore")
    page.get_by_role("tab", name="Documents").click()
    report = page.locator(".block.m2v-message:visible")
    pasted = "\n".join(f"text {number}" for number in range(6))
    box = page.get_by_label("One text per line")
    box.fill(pasted)
    says(report.filter(has_text="texts"), r"\b6 texts\b", r"limit here is 5\b", "Shorten it")
    expect(box).to_have_value(pasted)
    page.get_by_text("Upload file").click()
    (tmp_path / "sheet.csv").write_bytes(b"PK\x03\x04")
    page.locator("input[type=file]:visible, .m2v-upload input[type=file]").first.set_input_files(tmp_path / "sheet.csv")
    says(report.filter(has_text="sheet.csv"), "sheet.csv is", "not text", "export the sheet as CSV")
    page.get_by_text("Paste texts").click()
    box.fill("text 1\ntext 2")
    says(report.filter(has_text="ready"), "2 texts ready")

    page.get_by_role("tab", name="Scores").click()
    page.get_by_label("Second text").fill("")
    page.get_by_role("button", name="Explain the score").click()
    explained = page.locator(".block.m2v-explained")
    says(explained, "Two texts are required", "Fill in both")
    page.get_by_label("Second text").fill("The fox")
    page.get_by_role("button", name="Explain the score").click()
    expect(explained.locator(".m2v-piece").get_by_text("fox", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (None, ("doesn't state its teacher", "Choose a model that was distilled")),
        ("lab/absent", ("lab/absent", "neither a folder nor a repository", "Check the spelling")),
    ],
)
def test_a_teacher_that_can_not_be_set_beside_it(
    page: sync_api.Page, small_studio: Server, tmp_path: Path, teacher: str | None, words: tuple[str, ...]
) -> None:
    add_model(page, small_studio, tmp_path, "mine", teacher)
    page.goto(small_studio.address + "/explore")
    query = page.get_by_label("A word or a text")
    query.fill("fox")
    page.locator("label:visible", has_text="Compare with teacher").click()
    says(problem(page), "The comparison with the teacher failed", *words)
    query.press("Enter")
    expect(page.locator(".m2v-neighbors li").first).to_be_visible()
    expect(query).to_have_value("fox")


def test_a_measurement_that_can_not_be_made(page: sync_api.Page, small_studio: Server, tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_model(page, small_studio, tmp_path, name)
    page.goto(small_studio.address + "/compare")
    boxes, message = page.locator(".m2v-models input"), page.locator(".m2v-run .block.m2v-message")
    expect(page.locator(".m2v-models input:checked")).to_have_count(1)
    for box in boxes.all():
        box.check()
    start = page.get_by_role("button", name="Measure", exact=True)
    start.click()
    says(message, "2 models are selected", "limit here is 1", "Deselect some")
    expect(page.locator(".m2v-models input:checked")).to_have_count(2)
    boxes.first.uncheck()
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_text("Paste texts").click()
    page.locator(".m2v-paste textarea").fill("one\ntwo\ntwo")
    start.click()
    says(message, "2 distinct texts are too few", "for 5 rounds", "Use several hundred")
    expect(page.locator(".m2v-paste textarea")).to_have_value("one\ntwo\ntwo")
    page.get_by_text("Upload file").click()
    (tmp_path / "sheet.csv").write_bytes(b"PK\x03\x04")
    page.locator("input[type=file]").set_input_files(tmp_path / "sheet.csv")
    says(page.locator(".m2v-form .m2v-error"), "sheet.csv is", "not text", "export the sheet as CSV")
    expect(start).to_be_enabled()
