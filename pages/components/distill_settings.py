"""The settings of a distillation that people type, as `distill` takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from m2v_core.distillation.settings import DEFAULT_RECIPE
from m2v_core.errors import InputError

UNUSED_PATTERN = r"\[unused\d+\]"
# Names as people read them, and values. What stands below the first line explains the choice.
WEIGHTINGS = [("SIF", "sif"), ("Zipf", "zipf"), ("None", "none")]
RECIPES = [
    ("Calibrated\nThe best; the teacher reads four times as much.", "calibrated"),
    ("Fast\nBetter than Model2Vec at the same cost.", "fast"),
    ("Model2Vec\nThe method as published.", "model2vec"),
]
POOLINGS = [
    ("Chosen for the teacher", "auto"),
    ("The token and [CLS]", "piece_cls"),
    ("The token and half of [CLS]", "piece_half_cls"),
    ("Mean of all tokens", "mean"),
    ("Last token", "last"),
    ("First token, [CLS]", "first"),
    ("The teacher's pooler", "pooler"),
]
PRECISIONS = [("float32", "float32"), ("float16", "float16"), ("int8", "int8")]
DEVICES = [("Best there is", "auto"), ("CPU", "cpu"), ("CUDA", "cuda"), ("Apple MPS", "mps")]


DEFAULTS = {
    "dims": "256",
    "weighting": "sif",
    "sif_coefficient": "0.0001",
    "pooling": "auto",
    "precision": "float16",
    "clusters": "",
    "remove_pattern": UNUSED_PATTERN,
    "device": "auto",
    "recipe": DEFAULT_RECIPE,
}
"""What the form begins with, by the name of its component."""


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


def restored_settings(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What the form shows for the parameters of a job, as `DEFAULTS`; no SIF coefficient where there is none.

    A program may have left any of them out, or null.
    """

    def one_of(name: str, choices: list[tuple[str, str]], default: str) -> str:
        value = parameters.get(name)
        return value if value in [choice for _, choice in choices] else default

    dims, clusters = parameters.get("pca_dims", 256), parameters.get("vocabulary_quantization")
    coefficient = parameters.get("sif_coefficient")
    weighting = one_of("weighting", WEIGHTINGS, "sif") if parameters.get("apply_zipf", True) else "none"
    if weighting == "sif" and parameters.get("sif_coefficient", 0) is None:
        weighting = "none"  # as `distill` takes it
    settings = {
        "dims": "none" if dims is None else str(dims),
        "weighting": weighting,
        "pooling": one_of("pooling", POOLINGS, "auto"),
        "precision": one_of("quantize_to", PRECISIONS, "float16"),
        "clusters": "" if clusters is None else str(clusters),
        "remove_pattern": str(parameters.get("token_remove_pattern", UNUSED_PATTERN) or ""),
        "device": one_of("device", DEVICES, "auto"),
        "recipe": one_of("recipe", RECIPES, DEFAULT_RECIPE),
    }
    if isinstance(coefficient, (int, float)):
        settings["sif_coefficient"] = f"{coefficient:g}"
    return settings
