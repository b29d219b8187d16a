"""The documentation site: built without a warning, complete, and loading nothing from the internet."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.docs.blocks import ROOT

pytest.importorskip("mkdocs", reason="pip install 'm2v-studio[docs]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_pages_load_nothing_from_elsewhere(site: Path, address: str, page: Any) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for path in sorted(site.rglob("*.html")):
        page.goto(f"{address}/{path.relative_to(site).as_posix()}", wait_until="load")
    assert len(requests) > 20
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


def test_formulas_are_displayed_without_a_script(site: Path) -> None:
    html = (site / "method.html").read_text(encoding="utf-8")
    assert html.count("<math") > 10
    assert "arithmatex" not in html


@pytest.mark.parametrize("name", ["StaticModel", "distill", "distill_from_model", "Progress", "M2VError"])
def test_public_names_are_in_the_reference(site: Path, name: str) -> None:
    html = (site / "api.html").read_text(encoding="utf-8")
    assert re.search(rf'<h[34] id="m2v_core\.[\w.]*\b{name}"', html)


@pytest.mark.parametrize(
    ("page_name", "text"),
    [
        ("contributing.html", "Make targets"),
        ("changelog.html", "Keep a Changelog"),
        ("experiments.html", "What was tried"),
    ],
)
def test_pages_from_other_folders_are_there(site: Path, page_name: str, text: str) -> None:
    assert text in (site / page_name).read_text(encoding="utf-8")
