"""One click to a model on the Hub, as a person does it, against the loopback Hub; and what happens when that fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from m2v_core.model import StaticModel
from m2v_core.storage.export import write_zip
from tests.attacks.space import Stranger
from tests.browser.small_studio import open_library
from tests.hub.server import LoopbackHub, User, client_environment
from tests.live_app import Server
from tests.static_models import static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

RUN_MS = 300_000
TOKEN = "hf_" + "B" * 34
TEXTS = ["a small dog", "interest rates"]
FAULTS = {
    "refused": ("POST", "/api/repos/create", {"read_bytes": 0}, "can't be reached"),
    "500": ("POST", "/commit/", {"status": 500}, "the Hub returned status 500"),
    "cut": ("PUT", "/upload/", {"read_bytes": 1000}, "can't be reached to upload"),
    "429": ("POST", "/preupload/", {"status": 429, "headers": {"Retry-After": "900"}}, "Too many requests"),
}


@pytest.fixture(scope="module")
def hub(build_teacher_once: Callable[[str], Path]) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub, hub.failing("/all-MiniLM-L6-v2(/|$)", status=403):
        hub.users = {TOKEN: User("ada", orgs=("lab",))}
        hub.add("lab/tiny-teacher", build_teacher_once("wordpiece"))
        hub.add("lab/taken", {"config.json": b"{}"})
        yield hub


@pytest.fixture(scope="module")
def studio(
    start_server: Callable[..., Server], hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """An app whose user is signed in."""
    variables = client_environment(hub.url, tmp_path_factory.mktemp("hf")) | {"HF_TOKEN": TOKEN}
    started = start_server(tmp_path_factory.mktemp("publishing"), **variables)
    yield started
    started.stop()  # an idle app takes time of the tests that follow


def open_page(page: sync_api.Page, studio: Server, path: str = "/") -> None:
    page.goto(studio.address + path)
    expect(page.locator(".m2v-account").first).to_contain_text("Signed in as ada")


def choose(page: sync_api.Page, label: str, text: str, option: str) -> None:
    box = page.get_by_role("combobox", name=label)
    box.click()
    box.press("Control+a")
    box.press_sequentially(text, delay=40)
    page.get_by_role("option").filter(has_text=option).first.click()


def loaded_elsewhere(hub: LoopbackHub, repo_id: str, home: Path) -> np.ndarray:
    code = (
        "import sys, json; from model2vec import StaticModel;"
        f"model = StaticModel.from_pretrained(sys.argv[1], token={TOKEN!r});"
        f"print(json.dumps(model.encode({TEXTS!r}).tolist()))"
    )
    environment = {**os.environ, **client_environment(hub.url, home)}
    done = subprocess.run(
        [sys.executable, "-c", code, repo_id], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def add_model(page: sync_api.Page, studio: Server, tmp_path: Path, name: str) -> None:
    """A model of one's own, from a ZIP: nothing is distilled for it."""
    static_model().save_pretrained(tmp_path / name, license="mit")
    open_library(page, studio)
    page.locator("input[type=file]").set_input_files(write_zip(tmp_path / name, tmp_path / f"{name}.zip"))
    expect(page.locator(".m2v-model-name")).to_have_text(name)


def assert_is_nowhere(secret: str, studio: Server) -> None:
    files = [path for path in studio.home.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_one_click_to_a_published_model(page: sync_api.Page, studio: Server, hub: LoopbackHub, tmp_path: Path) -> None:
    pytest.importorskip("model2vec")
    open_page(page, studio)
    expect(page.get_by_label("Name on the Hub")).to_have_value("ada/minilm-l6-256")
    choose(page, "Teacher", "tiny", "lab/tiny-teacher")
    expect(page.get_by_label("Name on the Hub")).to_have_value(re.compile(r"ada/tiny-teacher-\d+"))

    page.get_by_label("Name on the Hub").fill("lab/taken")
    expect(page.get_by_text("lab/taken already exists")).to_be_visible()
    page.get_by_role("button", name="Make and publish").click()
    expect(page.locator(".m2v-message .m2v-error")).to_contain_text("already exists")
    page.get_by_label("Name on the Hub").fill("lab/first")
    expect(page.get_by_text("lab/first is available")).to_be_visible()
    page.get_by_role("button", name="Make and publish").click()
    expect(page.locator(".m2v-message .m2v-error")).to_contain_text("does not state a license")
    choose(page, "License", "CC BY 4", "CC BY 4.0")
    page.get_by_role("button", name="Make and publish").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)

    card = page.locator(".m2v-published")
    expect(card).to_contain_text("model2vec")
    expect(card).to_contain_text("the upload was verified")
    expect(page.locator(".m2v-strip")).to_contain_text("pairs of 512 English sentences")
    expect(page.locator(".m2v-strip")).to_contain_text("sentences/s")
    link = page.get_by_role("link", name="lab/first")
    assert link.get_attribute("href") == f"{hub.url}/lab/first"
    with page.expect_popup() as opened:
        link.click()
    assert opened.value.url == f"{hub.url}/lab/first"
    opened.value.close()
    assert hub.repo("lab/first").private
    readme = hub.files("lab/first")["README.md"].decode()
    assert "license: cc-by-4.0" in readme and "Fidelity: " in readme and "sentences/s on" in readme

    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    assert download.value.suggested_filename == "first.zip"
    vectors = loaded_elsewhere(hub, "lab/first", tmp_path / "hf")
    (tmp_path / "pushed").mkdir()
    for name, content in hub.files("lab/first").items():
        if "/" not in name:
            (tmp_path / "pushed" / name).write_bytes(content)
    np.testing.assert_allclose(vectors, StaticModel.from_pretrained(str(tmp_path / "pushed")).encode(TEXTS), atol=1e-3)
    assert TOKEN not in page.content()
    assert TOKEN not in page.evaluate("JSON.stringify(localStorage)")
    assert_is_nowhere(TOKEN, studio)


def test_an_upload_that_fails_is_tried_again_without_distilling(
    page: sync_api.Page, studio: Server, hub: LoopbackHub
) -> None:
    open_page(page, studio)
    choose(page, "Teacher", "tiny", "lab/tiny-teacher")
    expect(page.get_by_label("Name on the Hub")).to_have_value(re.compile(r"ada/tiny-teacher-\d+"))
    page.get_by_label("Name on the Hub").fill("ada/second")
    choose(page, "License", "mit", "MIT")
    method, pattern, fault, said = FAULTS["429"]
    with hub.failing(pattern, methods=(method,), **fault):
        page.get_by_role("button", name="Make and publish").click()
        expect(page.locator(".m2v-job")).to_contain_text("Distilled, but not published", timeout=RUN_MS)
    problem = page.locator(".m2v-job + .m2v-error")
    expect(problem).to_contain_text(said)
    job_id = problem.locator("code").inner_text()
    assert re.fullmatch("[0-9a-f]{32}", job_id)
    expect(page.get_by_role("button", name="Download ZIP")).to_be_visible()
    page.reload()
    hub.requests.clear()
    page.get_by_role("button", name="Retry upload").click()
    expect(page.get_by_role("link", name="ada/second")).to_be_visible(timeout=RUN_MS)
    assert not [path for path in hub.paths() if "tiny-teacher" in path]
    kinds = [json.loads(path.read_text())["kind"] for path in studio.home.glob("jobs/*/spec.json")]
    assert "publish" in kinds
    page.goto(f"{studio.address}/library?model={job_id}")
    expect(page.locator(".m2v-model-name")).to_have_text("second")


@pytest.mark.parametrize("fault", ["refused", "500", "cut"])
def test_each_fault_on_the_publish_page(
    page: sync_api.Page, studio: Server, hub: LoopbackHub, tmp_path: Path, fault: str
) -> None:
    add_model(page, studio, tmp_path, f"model-{fault}")
    open_page(page, studio, "/publish")
    expect(page.get_by_label("Repository")).to_have_value(f"ada/model-{fault}")
    page.get_by_role("button", name="Model card").click()
    editor = page.locator(".m2v-readme textarea")
    editor.fill(editor.input_value() + f"\nMade for {fault}.\n")
    method, pattern, failing, said = FAULTS[fault]
    hub.blobs.clear()  # what the Hub has, nobody sends
    with hub.failing(pattern, methods=(method,), **failing):
        page.get_by_role("button", name="Publish", exact=True).click()
        expect(page.locator(".m2v-job")).to_have_attribute("data-state", "failed", timeout=RUN_MS)
    problem = page.locator(".m2v-job + .m2v-error")
    expect(problem).to_contain_text(said)
    expect(problem).to_contain_text("The model is still in your library")
    assert re.fullmatch("[0-9a-f]{32}", problem.locator("code").inner_text())
    # What was chosen and written is there again.
    page.reload()
    page.get_by_role("button", name="Model card").click()
    expect(editor).to_have_value(re.compile(f"Made for {fault}"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    assert download.value.suggested_filename == f"model-{fault}.zip"
    page.get_by_role("button", name="Retry upload").click()
    expect(page.get_by_role("link", name=f"ada/model-{fault}")).to_be_visible(timeout=RUN_MS)
    assert f"Made for {fault}." in hub.files(f"ada/model-{fault}")["README.md"].decode()


def test_a_second_version_goes_where_one_says(
    page: sync_api.Page, studio: Server, hub: LoopbackHub, tmp_path: Path
) -> None:
    before = hub.files("lab/taken")
    add_model(page, studio, tmp_path, "again")
    open_page(page, studio, "/publish")
    page.get_by_label("Repository").fill("lab/taken")
    expect(page.get_by_text("lab/taken already exists")).to_be_visible()
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.locator(".m2v-message .m2v-error").last).to_contain_text("Choose how to add this model")
    page.get_by_text("Create a branch").click()
    page.get_by_role("textbox", name="Branch").fill("v7")
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_role("link", name="lab/taken")).to_be_visible(timeout=RUN_MS)
    assert hub.files("lab/taken") == before
    assert "model.safetensors" in hub.files("lab/taken", "v7")
    expect(page.locator(".m2v-published")).to_contain_text("revision='v7'")


def test_without_sign_in_it_says_how(page: sync_api.Page, server: Server) -> None:
    page.goto(server.address)
    expect(page.locator(".m2v-account")).to_contain_text("hf auth login")
    expect(page.get_by_role("button", name="Make my model")).to_be_visible()
    expect(page.get_by_label("Name on the Hub")).to_have_count(0)


@pytest.mark.parametrize("path", ["/", "/publish"])
def test_signing_in_with_a_token(
    page: sync_api.Page, start_server: Callable[..., Server], hub: LoopbackHub, tmp_path: Path, path: str
) -> None:
    local = start_server(tmp_path / "local", **client_environment(hub.url, tmp_path / "hf"))
    if path == "/publish":
        add_model(page, local, tmp_path, "mine")
    page.goto("about:blank")  # the answers to another page can't be read
    answers: list[sync_api.Response] = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(local.address + path)
    field = page.get_by_label("Access token")
    expect(field).to_have_attribute("type", "password")
    expect(page.get_by_role("link", name="huggingface.co/settings/tokens")).to_have_attribute("target", "_blank")
    field.fill("hf_" + "X" * 34)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.locator(".m2v-sign-in .m2v-error")).to_contain_text("not valid")
    expect(field).to_have_value("")
    assert not (tmp_path / "hf" / "token").exists()

    field.fill(TOKEN)
    field.press("Enter")
    expect(page.locator(".m2v-account").first).to_contain_text("Signed in as ada")
    expect(field).to_have_count(0)
    if path == "/publish":
        expect(page.get_by_label("Repository")).to_have_value("ada/mine")
        expect(page.get_by_text("ada/mine is available")).to_be_visible()
    else:
        expect(page.get_by_role("button", name="Make and publish")).to_be_visible()
    assert (tmp_path / "hf" / "token").read_text() == TOKEN
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    texts = [stored, page.content(), *(answer.text() for answer in answers if is_readable(answer))]
    texts.append(Stranger(local.address).call("enter_token", TOKEN, 0))
    assert "process_completed" in texts[-1]
    assert len(texts) > 10 and not [text for text in texts if TOKEN in text]
    assert_is_nowhere(TOKEN, local)  # the data folder, which contains the log
    page.reload()
    expect(page.locator(".m2v-account").first).to_contain_text("Signed in as ada")
    expect(field).to_have_count(0)
    local.stop()


def is_readable(answer: sync_api.Response) -> bool:
    """Whether this is a text of the app; the body of an open stream can't be read."""
    kind = answer.headers.get("content-type", "")
    return answer.status == 200 and kind.startswith(("text/html", "application/json"))


def test_signing_in_by_oauth(
    page: sync_api.Page, start_server: Callable[..., Server], hub: LoopbackHub, tmp_path: Path
) -> None:
    """Gradio stands in for the Hub's own sign-in where the app is no Space; what follows is the same."""
    pytest.importorskip("itsdangerous", reason="pip install 'gradio[oauth]' for signing in by OAuth")
    stand_in = "mock-oauth-token-for-local-dev"
    hub.users[stand_in] = User("ada", orgs=("lab",))
    variables = client_environment(hub.url, tmp_path / "hf") | {"HF_TOKEN": TOKEN, "OAUTH_CLIENT_ID": "studio"}
    space = start_server(tmp_path / "space", **variables)
    page.goto(f"{space.address}/publish")
    # The token of the machine's owner is nobody's.
    expect(page.locator(".m2v-account")).to_contain_text("Not signed in")
    add_model(page, space, tmp_path, "by-oauth")
    page.goto(f"{space.address}/publish")
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    expect(page.locator(".m2v-account")).to_contain_text("Signed in as ada")
    assert page.url.startswith(f"{space.address}/publish")
    hub.requests.clear()
    expect(page.get_by_text("ada/by-oauth is available")).to_be_visible()  # before that, the form has no name
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_role("link", name="ada/by-oauth")).to_be_visible(timeout=RUN_MS)
    assert {request.hf_token for request in hub.requests} <= {stand_in, None}
    assert_is_nowhere(stand_in, space)
    page.get_by_role("button", name="Sign out (ada)").click()
    expect(page.locator(".m2v-account")).to_contain_text("Not signed in")
    space.stop()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_runs_off_a_phone(browser: sync_api.Browser, studio: Server, tmp_path: Path, theme: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=theme)
    page = phone.new_page()
    add_model(page, studio, tmp_path, "a-long-name-" * 5 + "end")
    open_page(page, studio, "/publish")
    page.get_by_label("Repository").fill("lab/taken")
    expect(page.get_by_text("Replace the existing model")).to_be_visible()
    page.get_by_role("button", name="Model card").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto(studio.address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()
