"""Tables for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from m2v_core.storage.atomic import saving

# The wide forms too, which East Asian editions take for the others.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def plain_cell(text: str) -> str:
    """The text so that no spreadsheet runs it as a formula: an apostrophe before what would be taken for one.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    is_formula = text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str | int | float]]) -> None:
    """Write a table that spreadsheets open as it is: UTF-8 with a mark, texts neutralised, numbers left alone.

    Raises:
        SaveError: It can't be written.
    """
    with saving(f"The table {path}", "Make room there."), path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([plain_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
