"""Text files that people made: read whole, their encoding found out."""

from __future__ import annotations

import codecs
import logging
from dataclasses import dataclass
from pathlib import Path

from m2v_core.errors import InputError, NeedsExtra, NotFoundError

logger = logging.getLogger(__name__)

_BYTE_ORDER_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"PK\x03\x04", "a spreadsheet or a ZIP archive", "export the sheet as CSV, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "export the sheet as CSV"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"%PDF", "a PDF document", "save its text as a plain text file"),
    (b"PAR1", "a Parquet table", "export it as CSV"),
)
# What spreadsheets and editors write without a byte order mark. charset-normalizer also knows the encodings of
# terminals and old Macs, and prefers them for lists of a few words.
_USUAL = "cp1252"
_ONE_BYTE = [_USUAL, "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "koi8_r"]
_WITHOUT_NUL = [*_ONE_BYTE, "cp932", "cp949", "gb18030", "big5", "euc_jp"]
_WITH_NUL = ["utf_16_le", "utf_16_be"]


@dataclass(frozen=True)
class DecodedText:
    """The text of a file.

    Attributes:
        name: What messages call the file.
        text: Without a byte order mark.
        encoding: The encoding it was decoded with.
        is_guessed: Nothing in the file proves the encoding; accented letters may be wrong.
    """

    name: str
    text: str
    encoding: str
    is_guessed: bool = False

    @property
    def warning(self) -> str | None:
        """What a person should know about how the file was decoded; None if there is no doubt."""
        if not self.is_guessed:
            return None
        return (
            f"{self.name} is not valid UTF-8 and was read as {self.encoding}. "
            "If accented letters look wrong, save the file as UTF-8."
        )


def decode_text(content: bytes, name: str) -> DecodedText:
    """The text of a file: UTF-8, anything with a byte order mark, or else what charset-normalizer takes it for.

    Args:
        content: All bytes of the file.
        name: What messages call it.

    Raises:
        InputError: It isn't text, or is damaged.
        MissingExtraError: It isn't UTF-8, and charset-normalizer is not installed.
    """
    for signature, found, remedy in _SIGNATURES:
        if content.startswith(signature):
            raise InputError(f"{name} is {found}, not text: {remedy}.")
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if content.startswith(mark)), "")
    try:
        if encoding or b"\0" not in content:
            return DecodedText(name, content.decode(encoding or "utf-8"), (encoding or "utf-8").removesuffix("-sig"))
    except UnicodeDecodeError as error:
        if encoding:
            raise InputError(
                f"{name} says it is {encoding.removesuffix('-sig')} but is damaged at byte {error.start}. "
                "Save it again as UTF-8."
            ) from error
    with NeedsExtra("charset-normalizer", "distill"):
        from charset_normalizer import from_bytes

    matches = from_bytes(content, cp_isolation=_WITH_NUL if b"\0" in content else _WITHOUT_NUL)
    best = matches.best()
    if best is None:
        raise InputError(f"{name} is binary, or text in an unknown encoding. Save it as text in UTF-8.")
    # Several often fit a few words equally well.
    equal = [each for each in matches if (each.chaos, each.coherence) == (best.chaos, best.coherence)]
    if any(_USUAL in each.could_be_from_charset for each in equal):
        return DecodedText(name, content.decode(_USUAL), "Windows-1252", is_guessed=True)
    return DecodedText(name, str(best), best.encoding.replace("cp12", "Windows-12").replace("_", "-"), is_guessed=True)


def read_text(path: str | Path, name: str | None = None) -> DecodedText:
    """The text of the file at `path`, decoded by `decode_text`.

    Args:
        path: Of the file.
        name: What messages call it; the path when None.

    Raises:
        NotFoundError: There is no such file.
        InputError: It can't be read, isn't text, or is damaged.
    """
    name = name or str(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {name}. Check the path.") from error
    except OSError as error:
        raise InputError(f"{name} can't be read ({error.strerror or error}). Give the path of a text file.") from error
    return decode_text(content, name)


def log_warnings(*warnings: str | None) -> None:
    """Log what a person should know about how files were decoded."""
    for warning in filter(None, warnings):
        logger.warning("%s", warning)
