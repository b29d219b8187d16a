"""Text files that people made: every encoding that spreadsheets and editors write."""

from __future__ import annotations

import random

import pytest

from m2v_core.errors import InputError, NotFoundError
from m2v_core.storage.text_files import decode_text, log_warnings, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_the_file_proves(encoding):
    decoded = decode_text("żółw\n猫\n".encode(encoding), "words.txt")
    assert decoded.text == "żółw\n猫\n" and decoded.warning is None


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("café\nnaïve", "cp1252", "Windows-1252"),
        ("1,é,b", "latin-1", "Windows-1252"),
        ("“quotes” – it’s 5 € here\n", "cp1252", "Windows-1252"),
        ("kočka\npes\nžluťoučký kůň\nřeka\n", "cp1250", "Windows-1250"),
        ("привет\nмир\nслово\nкошка\nсобака\nгород", "cp1251", "Windows-1251"),
        ("καλημέρα\nκόσμος\nλέξη", "cp1253", "Windows-1253"),
        ("こんにちは\n世界\n猫\n犬\n東京", "cp932", "cp932"),
        ("我能吞下玻璃而不伤身体。今天天气很好,我们去公园散步吧。\n" * 9, "gb18030", "gb18030"),
        ("the\nof\n", "utf-16-le", "utf-16-le"),
        ("привет мир\n", "utf-16-be", "utf-16-be"),
    ],
)
def test_encodings_that_are_guessed(text, encoding, shown):
    decoded = decode_text(text.encode(encoding), "words.txt")
    assert decoded.text == text
    assert f"words.txt is not valid UTF-8 and was read as {shown}. " in decoded.warning


@pytest.mark.parametrize(
    "content", [random.Random(0).randbytes(4000), bytes(range(256)), b"a\0b\0\0c" * 50], ids=["random", "all", "NUL"]
)
def test_what_is_no_text(content):
    with pytest.raises(InputError, match="data is binary, or text in an unknown encoding. Save it as text in UTF-8"):
        decode_text(content, "data")


def test_files(tmp_path, caplog):
    path = tmp_path / "words.txt"
    path.write_bytes(b"caf\xe9")
    decoded = read_text(path)
    assert decoded.text == "café"
    log_warnings(decoded.warning, None)
    assert f"{path} is not valid UTF-8 and was read as Windows-1252" in caplog.text
    with pytest.raises(NotFoundError, match=r"no file absent\.txt\. Check the path"):
        read_text(tmp_path / "absent.txt", "absent.txt")
    with pytest.raises(InputError, match="can't be read"):
        read_text(tmp_path)
