"""Permissions of written files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from m2v_core.bulk.run import encode_file
from m2v_core.classification import StaticClassifier
from m2v_core.distributed.run import encode_files
from m2v_core.exploration.index.building import build_index
from m2v_core.storage.atomic import replacing_file
from m2v_core.storage.export import write_zip
from tests.static_models import LINES, static_model

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Other systems have no umask.")


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def test_everything_written_has_the_mode_of_the_umask(tmp_path: Path, umask: int):
    model = static_model("WordPiece")
    places = tmp_path / "written"
    model.save_pretrained(places / "model")
    model.save_pretrained(places / "model")  # replaces existing files
    write_zip(places / "model", places / "model.zip")
    model.export(places / "onnx", "onnx")
    model.export(places / "words.txt", "word2vec")
    StaticClassifier(model).fit([*LINES, *LINES], ["a", "b", "c"] * 4, read_tokens=False).save_pretrained(
        places / "classifier"
    )
    for texts in (tmp_path / "one.txt", tmp_path / "two.txt"):
        texts.write_text("\n".join(LINES))
    for name in ("vectors.npy", "vectors.jsonl", "vectors.parquet"):
        encode_file(model, tmp_path / "one.txt", places / name)
    build_index(places / "vectors.parquet", engine="faiss", model=str(places / "model"))
    if umask == 0o022:  # slow, because it starts processes
        encode_files(places / "model", str(tmp_path / "*.txt"), places / "many", workers=1)
        build_index(places / "many", engine="usearch")

    found = modes(places)
    assert {"model/model.safetensors", "classifier/head.safetensors", "onnx/onnx/model.onnx"} <= set(found)
    assert found == {name: (0o777 if (places / name).is_dir() else 0o666) & ~umask for name in found}


def test_a_library_that_writes_for_the_owner_only(tmp_path: Path, umask: int):
    with replacing_file(tmp_path / "table") as part:
        save_file({"table": np.zeros(3)}, part)
    assert stat.S_IMODE((tmp_path / "table").stat().st_mode) == 0o666 & ~umask
