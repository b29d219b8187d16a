"""Fixtures shared by all tests.

No test reaches the real Hub: before anything imports huggingface_hub, which reads its settings on import, the
whole session is pointed at a loopback Hub with a cache of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.hub.server import LoopbackHub
from tests.live_app import Server, start_app

# How long an example takes is no reason to fail: the processor may be busy.
hypothesis.settings.register_profile("any time", deadline=None)
hypothesis.settings.load_profile("any time")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_HUB = LoopbackHub().start()
# The bundled teacher's name is refused, so that its bundled copy is what it means.
_REFUSAL = _HUB.failing("/all-MiniLM-L6-v2(/|$)", status=403, message="Not from here.")
_REFUSAL.__enter__()
_HOME = Path(tempfile.mkdtemp(prefix="m2v-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(_HUB.environment(_HOME))
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # test runs share the processor
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker per core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests import teachers  # noqa: E402 - imports huggingface_hub


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-kernels", action="store_true", help="Run as where the extension was not built.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-kernels"):
        sys.modules["m2v_core.native.extension"] = None  # type: ignore[assignment]


@pytest.fixture
def session_hub() -> Iterator[LoopbackHub]:
    """The Hub that this process knows as its only one; its list of requests starts empty."""
    _HUB.requests.clear()
    yield _HUB


@pytest.fixture(scope="session")
def build_teacher_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's teacher, built on first use; treat it as read-only."""
    root = tmp_path_factory.mktemp("teachers")

    def build(family: str) -> Path:
        folder = root / family
        return folder if folder.is_dir() else teachers.build_teacher(family, folder)

    return build


@pytest.fixture(scope="session", params=teachers.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each tokenizer family in turn."""
    return request.param


@pytest.fixture(scope="session")
def teacher_folder(family: str, build_teacher_once: Callable[[str], Path]) -> Path:
    """A small random teacher of each tokenizer family in turn; treat it as read-only."""
    return build_teacher_once(family)


@pytest.fixture
def broken_teacher(build_teacher_once: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Builds the broken teacher of the given kind (one of `teachers.BROKEN`)."""
    return lambda kind: teachers.build_broken_teacher(kind, tmp_path / kind)


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts an app with the given data folder, and more variables if any; stopped at the end of the session."""
    servers: list[Server] = []

    def start(home: Path, **variables: str) -> Server:
        servers.append(start_app(home, variables))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The app that most tests share; each browser context, and each key, is another person to it."""
    return start_server(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; one for the whole run, as a second driver would not start beside it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'm2v-studio[dev]'")
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
def context(browser: Any) -> Iterator[Any]:
    """One person's browser: storage of its own, no jobs yet."""
    made = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture
def page(context: Any) -> Iterator[Any]:
    """A page that fails the test if anything on it raised an error."""
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(f"{opened.url}: {error.stack or error}"))
    yield opened
    assert not errors
