"""The settings of a distillation that people type, as `distill` takes them."""

from __future__ import annotations

import re

from m2v_core.errors import InputError

UNUSED_PATTERN = r"\[unused\d+\]"


def parse_dims(text: str) -> int | float | str | None:
    """`pca_dims` as `distill` takes it.

    Raises:
        InputError: Neither a whole number, a share below 1, "auto" nor "none".
    """
    text = str(text).strip().lower()
    if text in {"", "none"}:
        return None
    if text == "auto":
        return "auto"
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if 0 < number < 1:
        return number
    if number >= 1 and number.is_integer():
        return int(number)
    raise InputError(
        f"Dimensions is {text!r}. Give a whole number such as 256, a share of the variance such as 0.9, "
        "or none for as many as the teacher has."
    )


def parse_coefficient(text: str) -> float:
    """The SIF coefficient.

    Raises:
        InputError: It is no number above zero.
    """
    try:
        coefficient = float(text)
    except ValueError:
        coefficient = 0.0
    if not 0 < coefficient < float("inf"):
        raise InputError(f"The SIF coefficient is {text!r}. Give a number above 0, usually 0.0001.")
    return coefficient


def parse_clusters(text: str) -> int | None:
    """How many rows the tokens share; None for a row each.

    Raises:
        InputError: It is no whole number above zero.
    """
    text = (text or "").strip()
    if text in {"", "none"}:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"Shared rows is {text!r}. Give a whole number such as 10000, or leave it empty.")
    return int(text)


def parse_pattern(text: str) -> str | None:
    """The regular expression of tokens to leave out; None to keep all.

    Raises:
        InputError: It is no regular expression.
    """
    text = (text or "").strip()
    try:
        re.compile(text)
    except re.error as error:
        raise InputError(
            f"Tokens to leave out is {text!r}, which is no regular expression: {error}. "
            f"The usual one is {UNUSED_PATTERN}"
        ) from error
    return text or None
