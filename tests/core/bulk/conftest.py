"""Fixtures for encoding files."""

from __future__ import annotations

import pytest

from m2v_core.bulk import readers
from tests.static_models import static_model


@pytest.fixture(scope="module")
def model():
    return static_model()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(readers, "ROWS_PER_BLOCK", 5)
