"""Tables for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from m2v_core.storage.atomic import saving

# Including full-width forms, which East Asian editions of spreadsheets treat in the same way.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def plain_cell(text: str) -> str:
    """Escape a text that spreadsheets would run as a formula, with a leading apostrophe.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    is_formula = text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str | int | float]]) -> None:
    """Write a table for spreadsheets: UTF-8 with a byte order mark, texts escaped, numbers unchanged.

    Raises:
        SaveError: The table can't be written.
    """
    with saving(f"The table {path}", "Free up disk space."), path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([plain_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
