"""The encoder's tests have their kernels from the start."""

from __future__ import annotations

import pytest

from m2v_core.encoder.native import kernels_ready


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    """Built once for this machine."""
    assert kernels_ready(wait=True)
