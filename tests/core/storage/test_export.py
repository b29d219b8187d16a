import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from m2v_core.errors import NotFoundError, SaveError
from m2v_core.storage.export import write_zip


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "0_StaticEmbedding").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "0_StaticEmbedding" / "model.safetensors").write_bytes(bytes(range(256)) * 9000)
    return folder


def test_every_file_is_in_one_folder(model_folder: Path, tmp_path: Path) -> None:
    path = write_zip(model_folder, tmp_path / "my model.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["my model/0_StaticEmbedding/model.safetensors", "my model/config.json"]
        archive.extractall(tmp_path / "out")
    weights = tmp_path / "out/my model/0_StaticEmbedding/model.safetensors"
    assert weights.read_bytes() == (model_folder / "0_StaticEmbedding" / "model.safetensors").read_bytes()


def test_the_same_files_give_the_same_archive(model_folder: Path, tmp_path: Path) -> None:
    first = write_zip(model_folder, tmp_path / "a.zip").read_bytes()
    (model_folder / "config.json").touch()
    assert write_zip(model_folder, tmp_path / "a.zip").read_bytes() == first


def test_no_incomplete_archive_remains(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_text("the old one")

    def disk_is_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", disk_is_full)
    with pytest.raises(SaveError, match="No space left on device"):
        write_zip(model_folder, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "model"]


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        write_zip(tmp_path / "nowhere", tmp_path / "a.zip")


def test_two_concurrent_exports_do_not_interfere(model_folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: write_zip(model_folder, tmp_path / "a.zip"), range(16)))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "model"]
