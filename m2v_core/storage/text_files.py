"""Reads text files and detects their encoding."""

from __future__ import annotations

import codecs
import io
import logging
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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
# Encodings that spreadsheets and editors write without a byte order mark. charset-normalizer also supports encodings of
# terminals and old Macs, and prefers them for lists of a few words.
_USUAL = "cp1252"
_LATIN = (_USUAL, "cp1250", "cp1254", "cp1257")
_ONE_BYTE = [*_LATIN, "cp1251", "cp1253", "cp1255", "cp1256", "cp874", "koi8_r"]
# The first and the last lead byte of an encoding's common characters: its level 1 of Han, or Hangul.
_COMMON_LEADS = {
    "cp932": (0x82, 0x97),
    "cp949": (0xB0, 0xC8),
    "gb18030": (0xB0, 0xD7),
    "big5": (0xA4, 0xC6),
    "euc_jp": (0xA4, 0xCF),
}
_WITHOUT_NUL = [*_ONE_BYTE, *_COMMON_LEADS]
_WITH_NUL = ["utf_16_le", "utf_16_be"]
SAMPLE_BYTES = 1 << 22
"""Bytes used to detect the encoding of a file that is not read whole."""
_JUDGED_BYTES = 1 << 16
_MAX_ODD_WORDS = 0.03
_MAX_RARE_LETTERS = 0.05  # share of characters outside the common ones of an encoding
_SOME_COHERENCE, _COHERENCE_GAP = 0.3, 0.2  # charset-normalizer's score of how well the letters fit a language
_ENOUGH_LETTERS = 40  # in Japanese, so many letters always include kana
_VOWELS = re.compile(
    "[\u0430\u0435\u0438\u043e\u0443\u044b\u044d-\u044f\u0451\u0454\u0456\u0457\u045e\u03b1\u03b5\u03b7\u03b9\u03bf\u03c5\u03c9\u03ac-\u03ce\u0390]"
)
_ACCENTS = re.compile("[\u0386\u0388-\u0390\u03ac-\u03b0\u03cc-\u03ce]")
# Brackets and quotation marks inside a word, control characters, symbols.
_ODD_CATEGORIES = frozenset({"Pi", "Pf", "Ps", "Pe", "Cc", "Cn", "Co", "Sm", "Sc", "So", "Sk", "No"})
_KANA = re.compile("[\u3041-\u30ff]")
_WORD = re.compile(r"[^\s!-/:-@\[-`{-~]+")
_ODD = re.compile(
    # a capital inside a word
    "[a-z\u00df-\u00f6\u00f8-\u00ff\u0430-\u045f][A-Z\u00c0-\u00d6\u00d8-\u00de\u0400-\u042f]"
    "|[\uff61-\uff9f\u0192]"  # half-width katakana, and a lead byte of full-width katakana
    "|(?:^|[^\u0e01-\u0e4e])[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]"  # a Thai mark without a letter
    "|[\u0e40-\u0e44](?:$|[^\u0e01-\u0e2e])|[\u0e30\u0e32-\u0e3a]{2}|\u0e3f"
    "|^\u00ff$|^[\u00c0-\u017f]{2,}$|[\u00c0-\u017f]{4}"  # only accented letters, or many in a row
    "|[\u03c2\u05da\u05dd\u05df\u05e3\u05e5]\\w"  # a final letter inside a word
)


@dataclass(frozen=True)
class Encoding:
    """The encoding of a text file.

    Attributes:
        codec: Its name in Python.
        is_guessed: Whether the encoding was guessed rather than proven by the content.
    """

    codec: str
    is_guessed: bool = False

    @property
    def shown(self) -> str:
        """The name for users."""
        return self.codec.replace("cp12", "Windows-12").replace("_", "-").removesuffix("-sig")

    def warning(self, name: str) -> str | None:
        """A warning about how the file `name` was decoded; None if there is no doubt."""
        if not self.is_guessed:
            return None
        return f"{name} is not valid UTF-8 and was read as {self.shown}. If letters look wrong, save the file as UTF-8."


@dataclass(frozen=True)
class DecodedText:
    """The text of a file.

    Attributes:
        name: Name of the file in messages.
        text: The text, without a byte order mark.
        encoding: The encoding of the file.
    """

    name: str
    text: str
    encoding: Encoding

    @property
    def warning(self) -> str | None:
        """A warning about how the file was decoded; None if there is no doubt."""
        return self.encoding.warning(self.name)


def decode_text(content: bytes, name: str) -> DecodedText:
    """Decode a file as UTF-8, by its byte order mark, or in the encoding that charset-normalizer detects.

    Args:
        content: All bytes of the file.
        name: Name of the file in messages.

    Raises:
        InputError: The file isn't text, is damaged, or could be in several encodings.
        MissingExtraError: The file isn't UTF-8, and charset-normalizer is not installed.
    """
    encoding = detect_encoding(content, name)
    try:
        text = content.decode(encoding.codec)
    except UnicodeDecodeError as error:
        raise _damaged(name, encoding, content[: error.start].count(b"\n") + 1, error.start) from error
    return DecodedText(name, text.removeprefix("\ufeff"), encoding)


def detect_encoding(content: bytes, name: str, *, is_whole: bool = True, may_have_nul: bool = False) -> Encoding:
    """Detect the encoding of a text file.

    Args:
        content: Its bytes, or the first part of them.
        name: Name of the file in messages.
        is_whole: Whether `content` is the whole file.
        may_have_nul: Whether UTF-8 with NUL counts as text instead of binary.

    Raises:
        InputError: The file isn't text, is damaged, or could be in several encodings.
        MissingExtraError: The file isn't UTF-8, and charset-normalizer is not installed.
    """
    for signature, found, remedy in _SIGNATURES:
        if content.startswith(signature):
            raise InputError(f"{name} is {found}, not text: {remedy}.")
    for mark, codec in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return Encoding(codec)
    has_nul = b"\0" in content
    bad = _first_bad_byte(content, is_whole)
    if bad is None and not has_nul:
        return Encoding("utf-8")
    with NeedsExtra("charset-normalizer", "distill"):
        from charset_normalizer import from_bytes

    judged = content[:_JUDGED_BYTES] if has_nul else _non_ascii_lines(content)
    matches = from_bytes(judged, cp_isolation=_WITH_NUL if has_nul else _WITHOUT_NUL)
    if has_nul:
        best = matches.best()
        if best is not None:
            return Encoding(best.encoding, is_guessed=True)
        if may_have_nul and bad is None:
            return Encoding("utf-8")
    if bad is not None:
        line = content[:bad].count(b"\n") + 1
        replaced = judged.decode("utf-8", "replace")
        if sum(character > "\x7f" for character in replaced) > 3 * replaced.count("\ufffd"):
            raise _damaged(name, Encoding("utf-8"), line, bad)
    if bad is None or not len(matches):
        raise InputError(f"{name} is binary, or text in an unknown encoding. Save it as text in UTF-8.")
    # Encodings that decode to the same text are one match.
    readings = {
        codec: (str(match), match.coherence)
        for match in matches
        for codec in (match.encoding, *match.could_be_from_charset)
        if codec in _WITHOUT_NUL
    }
    likely = {codec: reading for codec, reading in readings.items() if _is_likely(codec, reading[0])}
    only = _only_codec(likely)
    if only is None:
        could_be = ", ".join(Encoding(each).shown for each in likely or readings)
        raise InputError(
            f"{name} is not UTF-8 in line {line:,} (byte {bad:,}), and has too little text to detect its encoding: it "
            f"could be {could_be}. Convert it to UTF-8, for example with iconv or an editor."
        )
    return Encoding(only, is_guessed=True)


def _only_codec(likely: dict[str, tuple[str, float]]) -> str | None:
    """The only possible encoding of a text; None if it is ambiguous."""
    most = max((coherence for _, coherence in likely.values()), default=0.0)
    codecs_of: dict[str, list[str]] = {}
    for codec, (text, coherence) in likely.items():
        if most < _SOME_COHERENCE or coherence > most - _COHERENCE_GAP:
            codecs_of.setdefault(text, []).append(codec)
    latin = {text: named for text, named in codecs_of.items() if _is_latin(text)}
    # Texts in other scripts have few ASCII letters.
    if any(sum(map(str.isalpha, text)) <= 2 * sum(map(_is_ascii_letter, text)) for text in latin):
        codecs_of = latin
    if len(codecs_of) == 1 or (codecs_of and codecs_of == latin):
        named = [codec for each in codecs_of.values() for codec in each]
        return _USUAL if _USUAL in named else named[0]
    chosen = {named[0]: text for text, named in codecs_of.items()}
    if set(chosen) == {"cp1251", "koi8_r"}:
        # Each decodes the other's lowercase letters as uppercase: the better language score must agree with the case.
        small, large = sorted(chosen, key=lambda codec: -sum(map(str.islower, chosen[codec])))
        return small if likely[small][1] > likely[large][1] else None
    return None


def _is_latin(text: str) -> bool:
    return all(_script(character) == "LATIN" for character in set(text) if character.isalpha())


def _is_ascii_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _is_likely(codec: str, text: str) -> bool:
    """Whether a decoded text looks plausible: few of its words are odd."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    if not words:
        return codec in _LATIN  # only quotation marks and symbols
    n_odd = sum(map(_is_odd, words))
    if codec in _COMMON_LEADS:
        first, last = _COMMON_LEADS[codec]
        leads = [character.encode(codec)[0] for character in text if character.isalpha() and character > "\x7f"]
        n_rare = sum(not first <= lead <= last for lead in leads)
        if n_rare > _MAX_RARE_LETTERS * len(leads):
            return False
        if codec in ("cp932", "euc_jp") and len(leads) >= _ENOUGH_LETTERS and not _KANA.search(text):
            return False
    return n_odd <= _MAX_ODD_WORDS * len(words)


def _is_odd(word: str) -> bool:
    if _ODD.search(word):
        return True
    letters = word.strip(
        "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2013\u2014\u2026\u20ac\u00a3\u00b0\u00a1\u00bf\u00a9\u00ae\u2122\u3001\u3002\uff0c\uff01\uff1f\u00b7\u2022"
    )
    scripts = set()
    for character in letters:
        category = unicodedata.category(character)
        if category[0] == "L":
            scripts.add(_script(character))
        elif character != "\u2019" and category in _ODD_CATEGORIES:
            return True
    if len(scripts) > 1:
        return True
    if scripts <= {"CYRILLIC", "GREEK"} and len(letters) > 2 and not _VOWELS.search(letters.casefold()):
        return True
    # Greek words of several syllables have one accent, unless they are in uppercase.
    return scripts == {"GREEK"} and len(letters) > 3 and not letters.isupper() and len(_ACCENTS.findall(letters)) != 1


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").partition(" ")[0]
    return "CJK" if name in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC") else name


def _non_ascii_lines(content: bytes) -> bytes:
    """The first non-ASCII lines, about as many bytes as are used for detection."""
    lines, n_bytes = [], 0
    for line in content.split(b"\n"):
        if not line.isascii():
            lines.append(line)
            n_bytes += len(line)
            if n_bytes > _JUDGED_BYTES:
                break
    return b"\n".join(lines) + b"\n"


def _first_bad_byte(content: bytes, is_whole: bool) -> int | None:
    """The index of the first byte that is not UTF-8; None if there is none."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, is_whole)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _damaged(name: str, encoding: Encoding, line: int, place: int) -> InputError:
    return InputError(
        f"{name} is {encoding.shown}, but damaged in line {line:,} (byte {place:,}). Repair that line, or convert the "
        "file to UTF-8."
    )


class Transcoded(io.RawIOBase):
    """A text file as a stream of UTF-8, converted while it is read.

    Args:
        file: The file, at its start.
        name: Name of the file in messages.
        encoding: Its encoding.
    """

    def __init__(self, file: BinaryIO, name: str, encoding: Encoding) -> None:
        self._file, self._name, self._encoding = file, name, encoding
        self._decoder = codecs.getincrementaldecoder(encoding.codec)()
        self._rest = b""
        self._line, self._n_read = 1, 0

    @property
    def n_read(self) -> int:
        """Number of bytes read from the file."""
        return self._n_read

    def readable(self) -> bool:
        """True, as required by `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with UTF-8.

        Raises:
            InputError: The file is damaged; the message names the line.
        """
        while not self._rest:
            content = self._file.read(_JUDGED_BYTES)
            before = self._decoder.getstate()
            try:
                text = self._decoder.decode(content, not content)
            except UnicodeDecodeError as error:
                good = self._good_part(before, content)
                place = self._n_read - len(before[0]) + error.start
                raise _damaged(self._name, self._encoding, self._line + good.count("\n"), place) from error
            self._n_read += len(content)
            self._line += text.count("\n")
            self._rest = text.encode("utf-8", "replace")
            if not content:
                break
        n_bytes = min(len(buffer), len(self._rest))
        buffer[:n_bytes] = self._rest[:n_bytes]
        self._rest = self._rest[n_bytes:]
        return n_bytes

    def _good_part(self, before: Any, content: bytes) -> str:
        decoder = codecs.getincrementaldecoder(self._encoding.codec)("replace")
        decoder.setstate(before)
        return decoder.decode(content).partition("\ufffd")[0]


def read_text(path: str | Path, name: str | None = None) -> DecodedText:
    """Read the text of the file at `path`, decoded by `decode_text`.

    Args:
        path: Path of the file.
        name: Name of the file in messages; None for the path.

    Raises:
        NotFoundError: There is no such file.
        InputError: The file can't be read, isn't text, or is damaged.
    """
    name = name or str(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"File not found: {name}. Check the path.") from error
    except OSError as error:
        raise InputError(f"{name} can't be read ({error.strerror or error}). Pass the path of a text file.") from error
    return decode_text(content, name)


def log_warnings(*warnings: str | None) -> None:
    """Log warnings about how files were decoded, if any."""
    for warning in filter(None, warnings):
        logger.warning("%s", warning)
