"""What the tests with a real browser share; the browser itself is a fixture of all tests."""

from __future__ import annotations

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'm2v-studio[dev]' for the browser tests")

# Generous: a busy machine is no failure of the app.
playwright.expect.set_options(timeout=30_000)
