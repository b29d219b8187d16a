"""Every page in a tab of its own, at the same time."""

from __future__ import annotations

import pytest

from pages import PAGES
from tests.live_app import Server

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


def test_all_pages_open_side_by_side(context: sync_api.BrowserContext, server: Server) -> None:
    # A browser has six connections for one address, and a page that kept one would leave none for the seventh.
    for page in PAGES:
        tab = context.new_page()
        tab.goto(server.address + page.path)
        expect(tab.locator("h1").first).to_be_visible()
        expect(tab).to_have_title("M2V Studio" if page.path == "/" else f"{page.title} \u00b7 M2V Studio")
    tab = context.new_page()
    tab.goto(server.address + "/explore")
    expect(tab.get_by_text("No model yet")).to_be_visible()  # the server's answer
