from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from m2v_core.errors import SaveError
from m2v_core.studio.jobs.kept_texts import KeptTexts


def test_texts_are_found_by_their_owner_alone(tmp_path: Path) -> None:
    kept = KeptTexts(tmp_path / "texts", 60)
    assert kept.find("ada") == []
    kept.keep(["one", "lone \ud800 surrogate"], "ada")
    kept.keep(["other"], "bob")
    assert KeptTexts(tmp_path / "texts", 60).find("ada") == ["one", "lone \ud800 surrogate"]
    assert not any("ada" in path.name for path in (tmp_path / "texts").iterdir())
    assert (tmp_path / "texts").stat().st_mode & 0o077 == 0
    kept.forget("ada")
    kept.forget("ada")
    assert kept.find("ada") == [] and kept.find("bob") == ["other"]


def test_old_texts_go(tmp_path: Path) -> None:
    kept = KeptTexts(tmp_path, 60)
    kept.keep(["old"], "ada")
    (file,) = tmp_path.iterdir()
    os.utime(file, (time.time() - 61,) * 2)
    assert kept.find("ada") == []
    kept.keep(["new"], "bob")
    assert len(list(tmp_path.iterdir())) == 1 and kept.find("bob") == ["new"]


@pytest.mark.parametrize("damaged", ["", "{}", "[1]", '["a"'])
def test_what_is_damaged_is_nothing(tmp_path: Path, damaged: str) -> None:
    kept = KeptTexts(tmp_path, 60)
    kept.keep(["text"], "ada")
    next(tmp_path.iterdir()).write_text(damaged)
    assert kept.find("ada") == []


def test_a_folder_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="can't be written"):
        KeptTexts(tmp_path / "file" / "texts", 60).keep(["a"], "ada")
