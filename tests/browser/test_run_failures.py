"""What a person reads when a run can't begin or does not end well; after each, the app goes on.

The workers are killed in earnest, and the limits of time and memory are met in earnest.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.browser.small_studio import BUNDLED, says, type_teacher
from tests.browser.test_distill import RUN_MS, open_page
from tests.live_app import Server, limited_checkout, start_app

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

LIMITS = {"running_jobs": 1, "waiting_jobs": 2, "jobs_per_person": 2, "job_seconds": 3600}
JOB_SECONDS = 3
MEMORY_BYTES = 250_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limited")


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Server]:
    """One job at a time, two may wait, and two may be one person's."""
    started = start_app(folder / "home", checkout=limited_checkout(folder / "checkout", laptop=LIMITS))
    yield started
    started.stop()


def begin(page: sync_api.Page, state: str) -> sync_api.Locator:
    """The panel of a run that takes longer than any test."""
    page.get_by_role("button", name="Distill", exact=True).click()
    panel = page.locator(".m2v-job")
    expect(panel).to_have_attribute("data-state", state)
    return panel


def cancel(page: sync_api.Page) -> None:
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "cancelled")


def keeper_of(studio: Server) -> psutil.Process:
    """The process that watches over the one running job, once it and its worker are there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in studio.home.glob("jobs/*/state.json"):
            state = json.loads(file.read_text())
            if state["state"] == "running":
                supervisor = psutil.Process(state["worker"]["pid"])
                if supervisor.children():
                    return supervisor
        time.sleep(0.05)
    raise AssertionError("no job runs")


def check_failed(page: sync_api.Page, *words: str) -> str:
    """The id of the failed job, after a look at what the page says of it."""
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "failed", timeout=RUN_MS)
    failure = page.locator(".m2v-job + .m2v-error")
    says(failure, *words, "Nothing was saved", "run it again")
    job_id: str = failure.locator("code").inner_text()
    assert re.fullmatch("[0-9a-f]{32}", job_id)
    return job_id


def test_a_killed_worker_is_named_and_the_next_run_begins(page: sync_api.Page, studio: Server) -> None:
    open_page(page, studio)
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Dimensions").fill("77")
    begin(page, "running")
    [worker] = keeper_of(studio).children()
    worker.send_signal(signal.SIGKILL)
    job_id = check_failed(page, "worker was killed", "out of memory")
    assert (studio.home / "jobs" / job_id).is_dir()
    expect(page.get_by_label("Dimensions")).to_have_value("77")
    page.reload()
    assert check_failed(page, "worker was killed") == job_id
    begin(page, "running")
    cancel(page)


def test_a_queue_says_ones_place_and_whom_it_has_no_room_for(browser: sync_api.Browser, studio: Server) -> None:
    ada, bob, cyd = (browser.new_context() for _ in range(3))
    first, second, third = (ada.new_page() for _ in range(3))
    for tab in (first, second, third):  # before any run, so that each has the button
        open_page(tab, studio)
    begin(first, "running")
    expect(begin(second, "queued")).to_contain_text("Next in the queue")
    refuse(third, r"You have 2 unfinished jobs; the limit here is 2", "Wait until one finishes, or cancel one")
    waiting, refused = bob.new_page(), cyd.new_page()
    open_page(waiting, studio)
    expect(begin(waiting, "queued")).to_contain_text("Number 2 in the queue")
    open_page(refused, studio)
    refuse(refused, "queue is full", r"queue is full \(2 jobs", "Try again later")

    cancel(second)
    expect(waiting.locator(".m2v-job")).to_contain_text("Next in the queue")
    expect(begin(refused, "queued")).to_contain_text("Number 2 in the queue")
    expect(refused.locator(".block.m2v-message")).not_to_contain_text("queue is full")
    for tab in (refused, first, waiting):
        cancel(tab)
    for context in (ada, bob, cyd):
        context.close()


def refuse(page: sync_api.Page, *words: str) -> None:
    page.get_by_role("button", name="Advanced settings").click()
    page.get_by_label("Dimensions").fill("33")
    page.get_by_role("button", name="Distill", exact=True).click()
    says(page.locator(".block.m2v-message"), *words)
    expect(page.get_by_label("Dimensions")).to_have_value("33")
    expect(page.get_by_role("button", name="Distill", exact=True)).to_be_enabled()


def test_a_job_that_was_lost_with_the_app_and_the_limits_of_a_job(
    page: sync_api.Page, studio: Server, folder: Path
) -> None:
    open_page(page, studio)
    begin(page, "running")
    owner = page.evaluate("localStorage.getItem('m2v-studio-owner')")
    supervisor = keeper_of(studio)
    os.kill(studio.process.pid, signal.SIGKILL)  # the machine goes down: nobody can write down how the job ended
    supervisor.send_signal(signal.SIGKILL)
    studio.process.wait(20)

    second = restarted(page, folder, owner, laptop={**LIMITS, "job_seconds": JOB_SECONDS})
    try:
        check_failed(page, "worker was killed", "or the machine restarted", "Start the job again")
        page.get_by_role("button", name="Distill", exact=True).click()
        check_failed(page, f"Stopped after {JOB_SECONDS} seconds", "time limit for jobs")
        expect(page.get_by_role("button", name="Distill", exact=True)).to_be_enabled()
    finally:
        second.stop()
    third = restarted(page, folder, owner, space={"job_memory_bytes": MEMORY_BYTES})
    try:
        page.get_by_role("button", name="Distill", exact=True).click()
        check_failed(page, "more memory than", r"limit of 0\.233 GiB for a job", "smaller teacher or vocabulary")
        card = page.locator(".m2v-preflight")
        type_teacher(page, "../../etc")
        says(card.get_by_role("alert"), r"'\.\./\.\./etc' is not a Hub id", "Enter an owner and a name")
        expect(page.get_by_role("button", name="Distill", exact=True)).to_be_disabled()
        type_teacher(page, BUNDLED)
        expect(card.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("button", name="Distill", exact=True)).to_be_enabled()
    finally:
        third.stop()


def restarted(page: sync_api.Page, folder: Path, owner: str, **limits: dict[str, int]) -> Server:
    """The app, started again with other limits, and the same person at its Distill page; a Space for `space`."""
    variables = {"SPACE_ID": "someone/studio"} if "space" in limits else {}
    server = start_app(folder / "home", variables, limited_checkout(folder / "checkout", **limits))
    # Another port is another place to the browser, which a restart in daily life is not.
    page.goto(server.address + "/theme.css")
    page.evaluate("owner => localStorage.setItem('m2v-studio-owner', owner)", owner)
    open_page(page, server)
    return server
