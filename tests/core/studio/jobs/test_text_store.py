from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from m2v_core.errors import SaveError
from m2v_core.studio.jobs.text_store import TextStore


def test_texts_are_accessible_only_to_their_owner(tmp_path: Path) -> None:
    kept = TextStore(tmp_path / "texts", 60)
    assert kept.get("ada") == []
    kept.put(["one", "lone \ud800 surrogate"], "ada")
    kept.put(["other"], "bob")
    assert TextStore(tmp_path / "texts", 60).get("ada") == ["one", "lone \ud800 surrogate"]
    assert not any("ada" in path.name for path in (tmp_path / "texts").iterdir())
    assert (tmp_path / "texts").stat().st_mode & 0o077 == 0
    kept.delete("ada")
    kept.delete("ada")
    assert kept.get("ada") == [] and kept.get("bob") == ["other"]


def test_old_texts_are_deleted(tmp_path: Path) -> None:
    kept = TextStore(tmp_path, 60)
    kept.put(["old"], "ada")
    (file,) = tmp_path.iterdir()
    os.utime(file, (time.time() - 61,) * 2)
    assert kept.get("ada") == []
    kept.put(["new"], "bob")
    assert len(list(tmp_path.iterdir())) == 1 and kept.get("bob") == ["new"]


@pytest.mark.parametrize("damaged", ["", "{}", "[1]", '["a"'])
def test_damaged_files_are_ignored(tmp_path: Path, damaged: str) -> None:
    kept = TextStore(tmp_path, 60)
    kept.put(["text"], "ada")
    next(tmp_path.iterdir()).write_text(damaged)
    assert kept.get("ada") == []


def test_a_folder_that_can_not_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="can't be written"):
        TextStore(tmp_path / "file" / "texts", 60).put(["a"], "ada")
