"""Text files in all encodings that spreadsheets and editors write."""

from __future__ import annotations

import io
import random
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from m2v_core.errors import InputError, NotFoundError
from m2v_core.storage.text_files import Encoding, Transcoded, decode_text, log_warnings, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_the_content_proves(encoding):
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
def test_files_that_are_not_text(content):
    with pytest.raises(InputError, match="data is binary, or text in an unknown encoding. Save it as text in UTF-8"):
        decode_text(content, "data")


def test_files(tmp_path, caplog):
    path = tmp_path / "words.txt"
    path.write_bytes(b"caf\xe9")
    decoded = read_text(path)
    assert decoded.text == "café"
    log_warnings(decoded.warning, None)
    assert f"{path} is not valid UTF-8 and was read as Windows-1252" in caplog.text
    with pytest.raises(NotFoundError, match=r"File not found: absent\.txt\. Check the path"):
        read_text(tmp_path / "absent.txt", "absent.txt")
    with pytest.raises(InputError, match="can't be read"):
        read_text(tmp_path)


LISTS = {
    "gb18030": ["苹果", "香蕉", "橙子", "葡萄", "西瓜", "天气", "公园", "散步", "音乐", "学习", "电脑", "朋友"],
    "koi8_r": ["яблоко", "банан", "апельсин", "виноград", "арбуз", "погода", "парк", "прогулка", "музыка", "учёба"],
    "big5": ["蘋果", "香蕉", "橙子", "葡萄", "天氣", "公園", "散步", "音樂", "學習", "電腦"],
    "cp932": ["りんご", "バナナ", "天気", "公園", "散歩", "音楽", "勉強", "東京", "ひらがな"],
    "euc_jp": ["りんご", "バナナ", "天気", "公園", "散歩", "音楽", "勉強", "東京", "ひらがな"],
    "cp949": ["사과", "바나나", "날씨", "공원", "산책", "음악", "공부", "친구", "컴퓨터"],
    "cp1251": ["Яблоко", "банан", "апельсин", "виноград", "арбуз", "погода", "парк", "прогулка", "музыка"],
    "cp1253": ["μήλο", "μπανάνα", "πορτοκάλι", "σταφύλι", "καρπούζι", "καιρός", "πάρκο", "μουσική"],
    "cp1255": ["תפוח", "בננה", "תפוז", "ענבים", "אבטיח", "מזג", "פארק", "טיול", "מוזיקה"],
    "cp1256": ["تفاحة", "موزة", "برتقال", "عنب", "بطيخ", "طقس", "حديقة", "نزهة", "موسيقى"],
    "cp1252": ["café", "naïve", "Müller", "Straße", "garçon", "señor", "smörgås", "élève", "crème"],
    "cp874": ["แอปเปิล", "กล้วย", "ส้ม", "องุ่น", "แตงโม", "อากาศ", "สวน", "ดนตรี", "เรียน"],
}


@pytest.mark.parametrize("n_words", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("encoding", LISTS)
def test_short_lists_are_decoded_correctly_or_rejected(encoding, n_words):
    for first in range(len(LISTS[encoding])):
        words = (LISTS[encoding][first:] + LISTS[encoding][:first])[:n_words]
        text = "\n".join(words) + "\n"
        if _is_utf8(text.encode(encoding)):  # possible by chance for one or two words
            continue
        try:
            decoded = decode_text(text.encode(encoding), "words.txt")
        except InputError as error:
            assert re.search(r"not UTF-8 in line \d+ \(byte \d+\).* could be .*Convert it to UTF-8", str(error))
            assert n_words < 8 or encoding not in ("gb18030", "koi8_r", "big5", "cp932", "cp1251", "cp1253", "cp1252")
        else:
            assert decoded.text == text
            assert decoded.warning.startswith("words.txt is not valid UTF-8 and was read as ")


def _is_utf8(content):
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_utf8_is_never_rejected_or_guessed(text):
    for signature in (b"PK\x03\x04", b"%PDF", b"PAR1"):
        assume(not text.encode().startswith(signature))
    decoded = decode_text(text.encode(), "words.txt")
    assert decoded.text == text.removeprefix("\ufeff") and decoded.warning is None


def test_damaged_utf8_is_not_decoded_in_another_encoding():
    content = "я\nпривет мир\nещё слово\n".encode() + b"caf\xe9\n" + "и ещё одно\n".encode()
    with pytest.raises(InputError, match=r"words\.txt is utf-8, but damaged in line 4 \(byte 44\)"):
        decode_text(content, "words.txt")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "cp1252", "gb18030", "cp932"])
def test_conversion_in_parts(encoding):
    text = "".join(f"row {i} é\r\n" if encoding == "cp1252" else f"row {i} 東京\r\n" for i in range(20_000))
    file = Transcoded(io.BytesIO(text.encode(encoding)), "words.txt", Encoding(encoding))
    assert io.BufferedReader(file).read().decode().removeprefix("\ufeff") == text
    assert file.n_read == len(text.encode(encoding))


def test_the_error_names_the_damaged_line():
    content = "東京\n".encode("cp932") * 30_000 + b"a\x81\x01\n"
    file = io.BufferedReader(Transcoded(io.BytesIO(content), "words.txt", Encoding("cp932")))
    with pytest.raises(InputError, match=r"damaged in line 30,001 \(byte 150,001\)"):
        file.read()
