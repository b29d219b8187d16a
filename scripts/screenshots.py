"""Take the screenshots of the README and the documentation from the running app: `make screenshots`.

Starts the app with an empty data folder, distills the bundled teacher, measures the model and saves a picture of each
page in `docs/assets`. Takes about ten minutes.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.live_app import start_app  # noqa: E402

ASSETS = ROOT / "docs" / "assets"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
RUN_MS = 900_000


def start_run(page: Page, button: str) -> None:
    """Press a page's button, and wait until its run is shown."""
    page.wait_for_function("localStorage.getItem('m2v-studio-owner') !== null")
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "running")


def wait_until_done(page: Page) -> None:
    expect(page.locator(".m2v-job")).to_have_attribute("data-state", "done", timeout=RUN_MS)


def save(page: Page, name: str, full_page: bool = False) -> None:
    """Save a picture without focus rings and unfinished animations."""
    page.wait_for_timeout(1_500)
    page.evaluate("document.activeElement?.blur()")
    page.screenshot(path=ASSETS / f"{name}.png", full_page=full_page, animations="disabled")
    print(name, flush=True)


def distill(page: Page, address: str) -> None:
    page.goto(f"{address}/distill")
    page.get_by_role("radio", name="Balanced").check()
    start_run(page, "Distill")
    expect(page.locator(".m2v-job")).to_contain_text("dictionary lines", timeout=RUN_MS)
    page.wait_for_timeout(10_000)
    save(page, "distill-running")
    wait_until_done(page)
    query = page.get_by_label("Find similar words")
    query.fill("king")
    query.press("Enter")
    expect(page.get_by_text("monarch", exact=True).first).to_be_visible()
    save(page, "distill-light", full_page=True)


def explore(page: Page, address: str) -> None:
    page.goto(f"{address}/explore")
    page.get_by_role("tab", name="Map").click()
    expect(page.locator(".m2v-map-frame[data-words][data-colored=true][data-method=UMAP]")).to_be_visible(
        timeout=RUN_MS
    )
    page.locator("label", has_text="Topic").click()
    expect(page.locator(".m2v-legend li").first).to_be_visible(timeout=RUN_MS)
    save(page, "explore-light")


def measure(page: Page, address: str, path: str, button: str, name: str) -> None:
    page.goto(f"{address}/{path}")
    if path == "evaluate":
        expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile("minilm-l6-256"))
    start_run(page, button)
    wait_until_done(page)
    save(page, name, full_page=True)


def look(page: Page, address: str, path: str, name: str) -> None:
    page.goto(f"{address}/{path}")
    page.wait_for_load_state("networkidle")
    save(page, name)


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        sys.exit("No Chromium was found. Install chromium, and run this again.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = start_app(Path(folder) / "home")
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])

        def new_page(theme: Any, width: int = 1280, height: int = 900, state: Any = None) -> Page:
            size = {"width": width, "height": height}
            return browser.new_context(viewport=size, color_scheme=theme, storage_state=state).new_page()

        try:
            page = new_page("light")
            distill(page, server.address)
            explore(page, server.address)
            measure(page, server.address, "compare", "Measure", "compare-light")
            measure(page, server.address, "evaluate", "Evaluate", "evaluate-light")
            state = page.context.storage_state()
            dark = new_page("dark", state=state)
            look(dark, server.address, "", "home-dark")
            look(dark, server.address, "library", "library-dark")
            phone = new_page("dark", 390, 844, state)
            phone.goto(f"{server.address}/distill")
            wait_until_done(phone)
            expect(phone.get_by_label("Name").first).to_have_value(re.compile("minilm"))
            expect(phone.get_by_text("Tokenizer")).to_be_visible()
            save(phone, "distill-phone-dark", full_page=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
