"""Validates the texts and options that callers pass."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from m2v_core.errors import InputError

_SURROGATES = re.compile("[\ud800-\udfff]")
_TEXT_COLUMN = "text"
_PACKAGE = f"{__name__.partition('.')[0]}."


def checked_texts(sentences: str | Iterable[str], what: str = "a text or a list of texts") -> list[str]:
    """Return the texts as a list.

    Args:
        sentences: One text, or any container of texts: a list, a generator, a column of pandas, Polars or pyarrow, a
            one-dimensional NumPy array.
        what: The expected input, for the error message.

    Raises:
        InputError: Not a text or a container of texts; names the first item that is not a text.
    """
    if isinstance(sentences, str):
        return [str.__str__(sentences)]
    if (n_axes := _n_axes(sentences)) is not None and n_axes > 1:
        raise InputError(
            f"Pass {what}, not an array of {n_axes} dimensions. Pass one column of it, such as array[:, 0]."
        )
    texts = list(iterable_items(sentences, what))
    if set(map(type, texts)) <= {str}:
        return texts
    return [checked_text(text, index) for index, text in enumerate(texts)]


def checked_text(text: object, index: int) -> str:
    """Return the text if it is a string.

    Args:
        text: An item of a container.
        index: Its index, for the error message.

    Raises:
        InputError: The item is not a string.
    """
    if not isinstance(text, str):
        raise InputError(
            f"Every text must be a string, but text {index} (counting from 0) is of type "
            f"{type(text).__name__}; convert or drop it."
        )
    return str.__str__(text)  # tokenizers and JSON need str itself, not a subclass


def iterable_items(items: object, what: str = "a text or a list of texts") -> Iterable[Any]:
    """Return the items of a container, as Python objects.

    Args:
        items: A list, a generator, a column of pandas, Polars or pyarrow, a one-dimensional NumPy array.
        what: The expected input, for the error message.

    Raises:
        InputError: A single value, or a table or dict, where iterating yields column names or keys.
    """
    if isinstance(items, Mapping) or _columns(items) is not None:
        raise InputError(
            f"Pass {what}, not {_type_name(items)}: iterating over it does not yield its texts. Pass one column of "
            f"it, such as {_column_example(items)}."
        )
    is_single = isinstance(items, (str, bytes, bytearray)) or _n_axes(items) == 0
    if is_single or not isinstance(items, Iterable):
        raise InputError(f"Pass {what}, not {_type_name(items)}.")
    # Iterating over pyarrow and NumPy arrays yields their own scalar types.
    for name in ("to_pylist", "tolist"):
        if hasattr(type(items), name) and type(items).__module__.partition(".")[0] in ("pyarrow", "numpy"):
            as_list: list[Any] = getattr(items, name)()
            return as_list
    return items


def _n_axes(value: object) -> int | None:
    """Return the number of dimensions of a NumPy array; None for other types. Does not import NumPy."""
    numpy = sys.modules.get("numpy")
    return value.ndim if numpy is not None and isinstance(value, numpy.ndarray) else None


def _type_name(value: object) -> str:
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package in ("builtins", "collections") else f"{package}.{kind.__name__}"


def _columns(table: object) -> list[str] | None:
    """Return the column names of a table of pandas, Polars, pyarrow or Datasets; None for other types."""
    for name in ("column_names", "columns"):
        if hasattr(type(table), name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Polars warns that this is slow for lazy tables
                columns = getattr(table, name)
            return [str(column) for column in (() if columns is None else columns)]
    return None


def _column_example(table: Any) -> str:
    """Return an expression for the text column of a table, such as `df["text"]`."""
    names = [str(key) for key in table] if isinstance(table, Mapping) else _columns(table) or []
    name = _TEXT_COLUMN if _TEXT_COLUMN in names or not names else names[0]
    kind = type(table).__name__
    variable = "df" if kind.endswith("Frame") else "dataset" if "Dataset" in kind else "table"
    if isinstance(table, Mapping):
        inner = table.get(name)
        columns = _columns(inner)
        rest = "" if columns is None else _column_example(inner).partition("[")[2]
        return f'{variable if rest else "data"}["{name}"]' + (f"[{rest}" if rest else "")
    return f'{variable}["{name}"]'


def checked_max_length(max_length: int | None) -> int | None:
    """Return the limit in tokens, or None for no limit.

    Raises:
        InputError: Not a whole number of 1 or more.
    """
    return None if max_length is None else _checked_count("max_length", max_length, ", or None for no limit")


def checked_batch_size(batch_size: int) -> int:
    """Return the number of texts per batch.

    Raises:
        InputError: Not a whole number of 1 or more.
    """
    return _checked_count("batch_size", batch_size)


def _checked_count(name: str, value: int, alternative: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} must be a whole number of 1 or more{alternative}, not {value!r}.")
    return int(value)


def well_formed(texts: list[str]) -> list[str]:
    """Return the texts in a form valid in UTF-8: pairs of surrogates are joined, and lone surrogates become U+FFFD.

    Warns if any were replaced. Tokenizers reject surrogates, so every text must pass through this function.
    """
    found, n_lone = list(texts), 0
    for index, text in enumerate(texts):
        found[index], n_replaced = replace_surrogates(text)
        n_lone += n_replaced
    warn_about_surrogates(n_lone)
    return found


def replace_surrogates(text: str) -> tuple[str, int]:
    """Join pairs of surrogates and replace lone ones with U+FFFD; return the text and the number of lone ones."""
    if text.isascii():
        return text, 0
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return _SURROGATES.subn("\ufffd", joined)
    return text, 0


def warn_about_surrogates(n_lone: int, where: str = "") -> None:
    """Warn if lone surrogates were replaced.

    Args:
        n_lone: Number of lone surrogates.
        where: The name of their file, for the message.
    """
    if not n_lone:
        return
    what = "1 lone surrogate, which is not a character, was" if n_lone == 1 else f"{n_lone:,} lone surrogates were"
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{f'{where}: ' if where else ''}{what} replaced with U+FFFD. To silence this, decode the source of the texts "
        "with errors='replace'.",
        UserWarning,
        stacklevel=level,  # of the caller of this package
    )
