"""A small model, and a folder of its vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from m2v_core import StaticModel
from m2v_core.distributed.run import encode_files
from tests.core.distributed.files import write_folder
from tests.static_models import static_model

N_FILES, N_ROWS = 3, 120


@pytest.fixture(scope="package")
def model() -> StaticModel:
    return static_model()


@pytest.fixture(scope="package")
def model_folder(model: StaticModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="package")
def encoded_once(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `texts` and their `vectors`; treat it as read-only."""
    folder = tmp_path_factory.mktemp("encoded")
    encode_files(model_folder, write_folder(folder / "texts", N_FILES, N_ROWS), folder / "vectors", workers=1)
    return folder


@pytest.fixture
def vectors(encoded_once: Path, tmp_path: Path) -> Path:
    """A writable copy of those vectors."""
    return shutil.copytree(encoded_once / "vectors", tmp_path / "vectors")
