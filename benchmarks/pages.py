"""Waiting times: for the first page, for each switch between pages, and for a model with other settings.

Uses a real app, a real browser and a library with one model of 30,000 words. A switch ends when the heading of the new
page is visible and the page has received its first response from the server. The first round, which fills the
browser's cache, is not counted. The time for other settings of a cached teacher is from the click on the button until
the page shows that the model is done; the first of them is the first run of a new app. The figures include other load
on the machine and the browser itself: use the median, and check the load printed next to it.
"""

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import permutations
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.exploration import word_model  # noqa: E402
from m2v_core.storage.export import write_zip  # noqa: E402
from tests.live_app import start_app  # noqa: E402

STARTS, ROUNDS, RETUNINGS = 3, 5, 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGES = {name: name.lower() for name in ("Distill", "Explore", "Compare", "Publish", "Library")} | {"Home": ""}
RESULT = Path(__file__).parent / "results" / "pages.json"
# Limits that the app promises.
START_LIMIT, SWITCH_LIMIT, RETUNING_LIMIT = 8.0, 0.5, 3.0
# The page's first response contains the browser's key, which is then stored again, encrypted differently each time.
KEY = "localStorage.getItem('m2v-studio-owner')"
# Measured inside the page: polling from the driver would be delayed, and take time itself.
SECONDS_TO_DONE = """() => new Promise(resolve => {
  const started = performance.now();
  let isNew = false;
  new MutationObserver((_, observer) => {
    const state = document.querySelector(".m2v-job")?.dataset.state;
    isNew ||= state !== "done";
    if (isNew && state === "done") {
      observer.disconnect();
      resolve((performance.now() - started) / 1000);
    }
  }).observe(document.body, {subtree: true, childList: true, attributes: true});
  document.querySelector("button.m2v-start").click();
})"""


def start_seconds(folder: Path) -> list[float]:
    """Times from the start of the app to its first page."""
    seconds = []
    for number in range(STARTS):
        app = start_app(folder / str(number))
        seconds.append(app.seconds_to_first_page)
        app.stop()
    return seconds


@contextmanager
def browser_page(browser_path: str) -> Iterator[Any]:
    """An empty page of a new browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=browser_path,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
        )
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


def switch_seconds(folder: Path, browser_path: str) -> dict[str, list[dict[str, float]]]:
    """For each pair of pages the times of each round, until the heading is `seen` and the page is `connected`."""
    word_model().save_pretrained(folder / "words")
    archive = write_zip(folder / "words", folder / "words.zip")
    app = start_app(folder / "studio")
    pairs = list(permutations(PAGES, 2))
    seconds: dict[str, list[dict[str, float]]] = {f"{old} to {new}": [] for old, new in pairs}
    try:
        with browser_page(browser_path) as page:
            page.goto(f"{app.address}/library")
            page.locator("input[type=file]").set_input_files(archive)
            page.locator(".m2v-model-name").wait_for()
            for number in range(ROUNDS + 1):
                for old, new in pairs:
                    key = page.evaluate(KEY)
                    page.goto(f"{app.address}/{PAGES[old]}")
                    page.wait_for_function(f"key => {KEY} !== key", arg=key)
                    page.wait_for_timeout(500)  # users wait until a page has settled
                    key = page.evaluate(KEY)
                    link = page.locator("nav a", has_text=new).first
                    link.hover()
                    started = time.perf_counter()
                    link.click()
                    page.wait_for_url(f"{app.address}/{PAGES[new]}", wait_until="commit")
                    page.locator("h1").first.wait_for()
                    seen = time.perf_counter() - started
                    page.wait_for_function(f"key => {KEY} !== key", arg=key)
                    connected = time.perf_counter() - started
                    if number:
                        seconds[f"{old} to {new}"].append({"seen": seen, "connected": connected})
    finally:
        app.stop()
    return seconds


def retuning_seconds(folder: Path, browser_path: str) -> dict[str, list[float]]:
    """For each setting, the times from the click on the button to each model, with cached vectors."""
    home = folder / "retuned"
    app = start_app(home)
    try:
        with browser_page(browser_path) as page:
            page.goto(f"{app.address}/distill")
            page.locator(".m2v-preflight:not([aria-busy])").wait_for()
            page.evaluate(SECONDS_TO_DONE)  # the teacher encodes, which takes a minute
        app.stop()
        app = start_app(home)
        seconds: dict[str, list[float]] = {"weighting": [], "dimensions": [], "precision": []}
        with browser_page(browser_path) as page:
            page.goto(f"{app.address}/distill")
            page.get_by_role("button", name="Advanced settings").click()
            for number in range(RETUNINGS):
                for setting, label, value in (
                    ("weighting", "SIF coefficient", f"{(number + 2) / 10_000}"),
                    ("dimensions", "Dimensions", f"{64 + 32 * number}"),
                    ("precision", "Precision", ("int8", "float32", "float16")[number % 3]),
                ):
                    field = page.get_by_label(label).first
                    field.fill(value)
                    field.press("Enter" if setting == "precision" else "Tab")
                    page.wait_for_timeout(2000)  # users read what the page shows about a setting
                    seconds[setting].append(page.evaluate(SECONDS_TO_DONE))
                    page.wait_for_timeout(2000)
        return seconds
    finally:
        app.stop()


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    switches: dict[str, list[dict[str, float]]] = {}
    retunings: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="m2v-pages-") as name:
        starts = start_seconds(Path(name))
        median = statistics.median(starts)
        verdict = "within" if median <= START_LIMIT else "OVER"
        print(f"start to first page  {median:.1f} s median, {max(starts):.1f} worst; {verdict} {START_LIMIT:.0f} s")
        if browser_path is None:
            print("No Chromium on PATH, so pages were not switched. On Debian: apt-get install chromium")
        else:
            switches = switch_seconds(Path(name), browser_path)
            retunings = retuning_seconds(Path(name), browser_path)
    for what in ("seen", "connected") if switches else ():
        medians = {pair: statistics.median(each[what] for each in rounds) for pair, rounds in switches.items()}
        slowest = max(medians, key=lambda pair: medians[pair])
        every = [each[what] for rounds in switches.values() for each in rounds]
        verdict = "within" if medians[slowest] <= SWITCH_LIMIT else "OVER"
        print(
            f"next page {what:<10} {1000 * statistics.median(every):.0f} ms median, {1000 * max(every):.0f} worst; "
            f"slowest pair {slowest}, {1000 * medians[slowest]:.0f} median: {verdict} {1000 * SWITCH_LIMIT:.0f} ms"
        )
    for setting, every in retunings.items():
        median = statistics.median(every)
        verdict = "within" if median <= RETUNING_LIMIT else "OVER"
        print(
            f"another {setting:<12} {median:.2f} s median, {every[0]:.2f} first, {max(every):.2f} worst; "
            f"{verdict} {RETUNING_LIMIT:.0f} s"
        )
    RESULT.parent.mkdir(exist_ok=True)
    record = {
        "seconds_to_first_page": starts,
        "seconds_to_next_page": switches,
        "seconds_to_a_retuned_model": retunings,
        "limits_in_seconds": {"start": START_LIMIT, "switch": SWITCH_LIMIT, "retuning": RETUNING_LIMIT},
        "browser": browser_path,
        "cpus": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "gradio": version("gradio"),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
