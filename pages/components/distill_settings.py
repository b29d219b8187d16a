"""Conversion between the form's settings and the arguments of `distill`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from m2v_core.distillation.settings import DEFAULTS as DEFAULT_SETTINGS
from m2v_core.errors import InputError

# Labels and values; the lines after the first describe the choice.
WEIGHTINGS = [("SIF", "sif"), ("Zipf", "zipf"), ("None", "none")]
RECIPES = [
    ("Calibrated\nBest quality: the model is fitted to the teacher's embeddings of texts.", "calibrated"),
    ("Fast\nBetter than Model2Vec at the same cost.", "fast"),
    ("Model2Vec\nThe published method.", "model2vec"),
]
POOLINGS = [
    ("Automatic", "auto"),
    ("The token and [CLS]", "piece_cls"),
    ("The token and half of [CLS]", "piece_half_cls"),
    ("Mean of all tokens", "mean"),
    ("Last token", "last"),
    ("First token, [CLS]", "first"),
    ("The teacher's pooler", "pooler"),
]
DICTIONARIES = [("For English teachers", "auto"), ("English", "english"), ("None", "none")]
PRECISIONS = [("float32", "float32"), ("float16", "float16"), ("int8", "int8")]
EFFORTS = [
    ("Quick\nFor a first try. Expected score: 65.6.", "quick"),
    ("Balanced\nAbout half the time of Best. Expected score: 66.3.", "balanced"),
    ("Best\nFits the model to the most texts. Expected score: 67.0.", "best"),
]
# Measured: the rows in bold, and the package model2vec, in benchmarks/quality.md.
EFFORT_INFO = "Mean scores of six kinds of tasks; Model2Vec reaches 62.3."
DEVICES = [("Automatic", "auto"), ("CPU", "cpu"), ("CUDA", "cuda"), ("Apple MPS", "mps")]


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
    "effort": "best",
}
"""Initial values of the form by component name."""


def parse_dims(text: str) -> int | float | str | None:
    """Parse `pca_dims`.

    Raises:
        InputError: It is not a whole number, a share below 1, "auto" or "none".
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
        f"Dimensions is {text!r}. Enter a whole number such as 256, a share of the variance such as 0.9, "
        "or none to keep all dimensions of the teacher."
    )


def parse_coefficient(text: str) -> float:
    """Parse the SIF coefficient.

    Raises:
        InputError: It is not a number between 0 and 1.
    """
    try:
        coefficient = float(text)
    except ValueError:
        coefficient = 0.0
    if not 0 < coefficient < 1:
        usual = DEFAULTS["sif_coefficient"]
        raise InputError(f"The SIF coefficient is {text!r}. Enter a number between 0 and 1, usually {usual}.")
    return coefficient


def parse_clusters(text: str) -> int | None:
    """Parse the number of shared rows; None for one row per token.

    Raises:
        InputError: It is not a positive whole number.
    """
    text = (text or "").strip()
    if text in {"", "none"}:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"Shared rows is {text!r}. Enter a whole number such as 10000, or leave it empty.")
    return int(text)


def parse_size(text: str) -> int | str:
    """Parse `vocabulary_size`; `distill` validates sizes such as "40MB"."""
    text = text.strip().replace(",", "")
    return int(text) if text.isdecimal() else text or DEFAULT_SETTINGS.vocabulary_size


def parse_pattern(text: str) -> str | None:
    """Parse the regular expression of tokens to drop; None to keep all.

    Raises:
        InputError: It is not a valid regular expression.
    """
    text = (text or "").strip()
    try:
        re.compile(text)
    except re.error as error:
        raise InputError(
            f"Tokens to drop is {text!r}, which is not a valid regular expression: {error}. "
            f"The default is {DEFAULTS['remove_pattern']}"
        ) from error
    return text or None


def effort_choices(times: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the choices of effort with their estimated times.

    Args:
        times: "about 2 min" by effort, where known.
    """
    return [
        (label.replace("\n", f", {times[effort]}\n", 1) if effort in times else label, effort)
        for label, effort in EFFORTS
    ]


def parsed_settings(form: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the form's values, named as in `DEFAULTS`, to keyword arguments of `distill`.

    Raises:
        InputError: A setting is invalid.
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
        "effort": form["effort"],
        "device": form["device"],
        "apply_zipf": weighting != "none",
    }
    if weighting != "none":
        parameters["weighting"] = weighting
    if weighting == "sif":
        parameters["sif_coefficient"] = parse_coefficient(form["sif_coefficient"])
    return parameters


def restored_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the parameters of a job to the form's values, named as in `DEFAULTS`.

    Parameters from the API may be missing or null. Without SIF weights there is no SIF coefficient.
    """

    def one_of(name: str, choices: list[tuple[str, str]], field: str = "") -> Any:
        value = parameters.get(name)
        return value if value in [choice for _, choice in choices] else DEFAULTS[field or name]

    dims, clusters = parameters.get("pca_dims", DEFAULT_SETTINGS.pca_dims), parameters.get("vocabulary_quantization")
    coefficient = parameters.get("sif_coefficient")
    weighting = one_of("weighting", WEIGHTINGS) if parameters.get("apply_zipf", True) else "none"
    if weighting == "sif" and parameters.get("sif_coefficient", 0) is None:
        weighting = "none"  # equivalent in `distill`
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
        "effort": one_of("effort", EFFORTS),
    }
    if settings["recipe"] != "calibrated":
        settings["effort"] = None
    if isinstance(coefficient, (int, float)):
        settings["sif_coefficient"] = f"{coefficient:g}"
    return settings
