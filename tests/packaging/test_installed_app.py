"""The app of the installed wheel, from an empty folder."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.live_app import start_app
from tests.packaging.conftest import Environment

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Environment:
    """One that has the packages of this one, and the wheel in place of the checkout."""
    made = Environment(tmp_path / "environment")
    (made.site_packages / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    made.pip("install", "--no-deps", wheel, variables=made.variables)
    return made


def test_every_page_of_the_installed_app_opens(environment: Environment, page: Any, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    command = (environment.python.parent / "m2v", "app")
    server = start_app(tmp_path / "home", {"PYTHONPATH": ""}, empty, command)
    try:
        for path, heading in {
            "": "Your own small",
            "distill": "Distill",
            "explore": "Explore",
            "compare": "Compare",
            "evaluate": "Evaluate",
            "publish": "Publish",
            "library": "Library",
        }.items():
            page.goto(f"{server.address}/{path}")
            page.get_by_role("heading", name=heading).first.wait_for()
        # The style sheet came along, and not just the text.
        assert page.evaluate("getComputedStyle(document.body).getPropertyValue('--m2v-strong')") != ""
    finally:
        server.stop()
    log = (tmp_path / "home" / "server.log").read_text()
    assert "Traceback" not in log, log
    assert list(empty.iterdir()) == []
