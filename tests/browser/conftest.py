"""A real app in a process of its own, and a real browser to use it with."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'm2v-studio[dev]' for the browser tests")

# Generous: a busy machine is no failure of the app.
WAIT_MS = 30_000
playwright.expect.set_options(timeout=WAIT_MS)
ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Server:
    """A running app.

    Attributes:
        address: "http://127.0.0.1:port", without a slash at the end.
        home: Its data folder.
        seconds_to_first_page: From its start until it served a page.
    """

    address: str
    home: Path
    process: subprocess.Popen[str]
    seconds_to_first_page: float


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts an app with the given data folder, and more variables if any; stopped at the end of the session."""
    processes: list[subprocess.Popen[str]] = []

    def start(home: Path, **variables: str) -> Server:
        port = _free_port()
        home.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(port),
            "M2V_STUDIO_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
        }
        for name in ("GRADIO_TEMP_DIR", "SPACE_ID", "OAUTH_CLIENT_ID"):
            environment.pop(name, None)
        environment |= variables
        with (home / "server.log").open("w") as log:
            started = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log, text=True
            )
        processes.append(process)
        address = f"http://127.0.0.1:{port}"
        while not _answers(address):
            if process.poll() is not None or time.monotonic() - started > 120:
                pytest.fail(f"the app did not start:\n{(home / 'server.log').read_text()}")
            time.sleep(0.1)
        return Server(address, home, process, time.monotonic() - started)

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="session")
def server(start_server: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The app that most tests share; each browser context is another person to it."""
    return start_server(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="session")
def browser() -> Iterator[playwright.Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium on PATH; install one, on Debian with: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield launched
        launched.close()


@pytest.fixture
def context(browser: playwright.Browser) -> Iterator[playwright.BrowserContext]:
    """One person's browser: storage of its own, no jobs yet."""
    made = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    made.set_default_timeout(2 * WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: playwright.BrowserContext) -> Iterator[playwright.Page]:
    """A page that fails the test if anything on it raised an error."""
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    assert not errors
