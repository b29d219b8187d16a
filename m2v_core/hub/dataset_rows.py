"""The first rows of a data set on the Hub, streamed: only what is needed of its files is downloaded."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from m2v_core.errors import HubError, InputError, NeedsExtra, NotFoundError, first_line
from m2v_core.hub.download import HTTP_ERROR, is_repo_id
from m2v_core.storage.atomic import saving

MAX_ROWS = 10_000
_MAX_CHARACTERS = 50_000_000  # of all rows; a few rows may contain whole books
_PREFERRED_SPLIT = "train"


@dataclass(frozen=True)
class DatasetRows:
    """Rows of a data set.

    Attributes:
        split: Their split.
        columns: Names of the columns with text or numbers; others are omitted.
        rows: Values of these columns, one list per row.
        is_complete: Whether these are all rows of the split.
    """

    split: str
    columns: list[str]
    rows: list[list[str | float]]
    is_complete: bool

    def write_csv(self, path: Path) -> None:
        """Write a CSV file with a heading.

        Raises:
            SaveError: The file can't be written.
        """
        with saving(path.name), path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self.columns, *self.rows])


def read_dataset(
    name: str, subset: str | None = None, max_rows: int = MAX_ROWS, token: str | None = None
) -> DatasetRows:
    """Return the first rows of the split `train`, or of the first split if there is none.

    Args:
        name: The data set on the Hub, `owner/name`.
        subset: Name of a configuration, required for data sets that have several.
        max_rows: Maximum number of rows.
        token: Hub token; None to read public data sets only.

    Raises:
        InputError: `name` is not valid, a subset is required or unknown, or the data set has no text.
        NotFoundError: There is no such data set, or it is private or gated.
        HubError: The Hub can't be reached, or the files of the data set can't be read.
        MissingExtraError: The package datasets is not installed.
    """
    if not is_repo_id(name):
        raise InputError(f"{name!r} can't be the name of a data set. Enter one such as 'stanfordnlp/imdb'.")
    with NeedsExtra("datasets", "app"):
        from datasets import load_dataset
    try:
        splits: Mapping[str, Any] = load_dataset(name, subset or None, streaming=True, token=token or False)
        split = _PREFERRED_SPLIT if _PREFERRED_SPLIT in splits else next(iter(splits))
        return _first_rows(splits[split], split, max_rows)
    except FileNotFoundError as error:  # also DatasetNotFoundError and DataFilesNotFoundError
        raise NotFoundError(
            f"{name} was not found on the Hub, is private or gated, or has no files in a format that can be read. "
            "Check the name, or download the data set and upload a file."
        ) from error
    except (ConnectionError, TimeoutError, HTTP_ERROR) as error:
        raise HubError(f"{name} can't be read: {first_line(error)} Try again in a minute.") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{name} can't be read: {first_line(error)}") from error


def _first_rows(rows: Any, split: str, max_rows: int) -> DatasetRows:
    kept: list[dict[str, Any]] = []
    n_characters, is_complete = 0, True
    for row in islice(rows, max_rows + 1):
        # Images and other large values are dropped as soon as they are read.
        values = {column: value for column, value in row.items() if isinstance(value, str | int | float | None)}
        n_characters += sum(len(value) for value in values.values() if isinstance(value, str))
        if len(kept) == max_rows or n_characters > _MAX_CHARACTERS:
            is_complete = False
            break
        kept.append(values)
    columns = [
        column
        for column in next(iter(kept), {})
        if all(column in row for row in kept) and any(row[column] is not None for row in kept)
    ]
    if not any(isinstance(row[column], str) for column in columns for row in kept):
        raise ValueError("its rows contain no text. Choose another data set or subset.")
    cells = [["" if row[column] is None else row[column] for column in columns] for row in kept]
    return DatasetRows(split, columns, cells, is_complete)
