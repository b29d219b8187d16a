"""The settings of a distillation that people type, as `distill` takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from m2v_core.distillation.settings import DEFAULTS as DEFAULT_SETTINGS
from m2v_core.errors import InputError

# Names as people read them, and values. What stands below the first line explains the choice.
WEIGHTINGS = [("SIF", "sif"), ("Zipf", "zipf"), ("None", "none")]
RECIPES = [
    ("Calibrated\nThe best; the teacher also reads a dictionary.", "calibrated"),
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
DICTIONARIES = [("For English teachers", "auto"), ("English", "english"), ("None", "none")]
PRECISIONS = [("float32", "float32"), ("float16", "float16"), ("int8", "int8")]
DEVICES = [("Best there is", "auto"), ("CPU", "cpu"), ("CUDA", "cuda"), ("Apple MPS", "mps")]


DEFAULTS = {
    "dims": str(DEFAULT_SETTINGS.pca_dims),
    "weighting": DEFAULT_SETTINGS.weighting,
    "sif_coefficient": f"{DEFAULT_SETTINGS.sif_coefficient:g}",
    "pooling": DEFAULT_SETTINGS.pooling,
    "precision": DEFAULT_SETTINGS.quantize_to,
    "clusters": str(DEFAULT_SETTINGS.vocabulary_quantization or ""),
    "remove_pattern": DEFAULT_SETTINGS.token_remove_pattern or "",
    "prompt": DEFAULT_SETTINGS.prompt_name or "",
    "dictionary": DEFAULT_SETTINGS.dictionary,
    "device": "auto",
    "recipe": DEFAULT_SETTINGS.recipe,
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
        InputError: It is no number between 0 and 1.
    """
    try:
        coefficient = float(text)
    except ValueError:
        coefficient = 0.0
    if not 0 < coefficient < 1:
        usual = DEFAULTS["sif_coefficient"]
        raise InputError(f"The SIF coefficient is {text!r}. Give a number between 0 and 1, usually {usual}.")
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
            f"The usual one is {DEFAULTS['remove_pattern']}"
        ) from error
    return text or None


def parsed_settings(form: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments of `distill` for what the form holds, by the names of `DEFAULTS`.

    Raises:
        InputError: A setting can't be used.
    """
    weighting = form["weighting"]
    parameters: dict[str, Any] = {
        "pca_dims": parse_dims(form["dims"]),
        "pooling": form["pooling"],
        "recipe": form["recipe"],
        "quantize_to": form["precision"],
        "token_remove_pattern": parse_pattern(form["remove_pattern"]),
        "vocabulary_quantization": parse_clusters(form["clusters"]),
        "prompt_name": form["prompt"].strip() or None,
        "dictionary": form["dictionary"],
        "device": form["device"],
        "apply_zipf": weighting != "none",
    }
    if weighting != "none":
        parameters["weighting"] = weighting
    if weighting == "sif":
        parameters["sif_coefficient"] = parse_coefficient(form["sif_coefficient"])
    return parameters


def restored_settings(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What the form shows for the parameters of a job, as `DEFAULTS`; no SIF coefficient where there is none.

    A program may have left any of them out, or null.
    """

    def one_of(name: str, choices: list[tuple[str, str]], field: str = "") -> str:
        value = parameters.get(name)
        return value if value in [choice for _, choice in choices] else DEFAULTS[field or name]

    dims, clusters = parameters.get("pca_dims", DEFAULT_SETTINGS.pca_dims), parameters.get("vocabulary_quantization")
    coefficient = parameters.get("sif_coefficient")
    weighting = one_of("weighting", WEIGHTINGS) if parameters.get("apply_zipf", True) else "none"
    if weighting == "sif" and parameters.get("sif_coefficient", 0) is None:
        weighting = "none"  # as `distill` takes it
    settings = {
        "dims": "none" if dims is None else str(dims),
        "weighting": weighting,
        "pooling": one_of("pooling", POOLINGS),
        "precision": one_of("quantize_to", PRECISIONS, "precision"),
        "clusters": "" if clusters is None else str(clusters),
        "remove_pattern": str(parameters.get("token_remove_pattern", DEFAULTS["remove_pattern"]) or ""),
        "prompt": str(parameters.get("prompt_name") or ""),
        "dictionary": one_of("dictionary", DICTIONARIES),
        "device": one_of("device", DEVICES),
        "recipe": one_of("recipe", RECIPES),
    }
    if isinstance(coefficient, (int, float)):
        settings["sif_coefficient"] = f"{coefficient:g}"
    return settings
