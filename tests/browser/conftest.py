"""What the tests with a real browser share; the browser itself is a fixture of all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import LoopbackHub, User, client_environment
from tests.live_app import Server, limited_checkout, start_app

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'm2v-studio[dev]' for the browser tests")

# Generous: a busy machine is no failure of the app.
playwright.expect.set_options(timeout=60_000)

from tests.browser.small_studio import LIMITS, READER, WRITER, unfit_teachers  # noqa: E402 - it needs playwright


@pytest.fixture(scope="package")
def faulty_hub() -> Iterator[LoopbackHub]:
    """What has "silent" in its name does not answer."""
    with LoopbackHub() as hub, hub.failing("/all-MiniLM-L6-v2(/|$)", status=403), hub.failing("silent", read_bytes=0):
        hub.users = {WRITER: User("ada"), READER: User("bob", role="read")}
        for name, files in unfit_teachers().items():
            hub.add(name, files, gated=name == "lab/gated")
        yield hub


@pytest.fixture(scope="package")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whoever's token is in it is signed in; no file, nobody."""
    return tmp_path_factory.mktemp("hf") / "token"


@pytest.fixture(scope="package")
def small_studio(
    faulty_hub: LoopbackHub, token_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """An app with the limits of `small_studio.LIMITS`."""
    folder = tmp_path_factory.mktemp("limited")
    checkout = limited_checkout(folder / "checkout", laptop=LIMITS)
    started = start_app(folder / "home", client_environment(faulty_hub.url, token_file.parent), checkout)
    yield started
    started.stop()
