"""A small model, and the folder of it."""

from __future__ import annotations

import pytest

from tests.static_models import static_model


@pytest.fixture(scope="package")
def model():
    return static_model()


@pytest.fixture(scope="package")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save_pretrained(folder)
    return folder
