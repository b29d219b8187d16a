"""The signatures in `m2v_core.compat.model2vec`, compared with those of the real model2vec."""

from __future__ import annotations

import inspect
from enum import Enum
from importlib import import_module
from typing import Any

import pytest

pytest.importorskip("model2vec")

FUNCTIONS = [
    *(f"model.StaticModel.{name}" for name in ("__init__", "encode", "encode_as_sequence", "from_pretrained")),
    *(f"model.StaticModel.{name}" for name in ("push_to_hub", "save_pretrained", "tokenize")),
    "model.quantize_model",
    "distill.distill",
    "distill.distill_from_model",
    *(f"inference.StaticModelPipeline.{name}" for name in ("__init__", "evaluate", "from_pretrained", "predict")),
    *(f"inference.StaticModelPipeline.{name}" for name in ("predict_proba", "push_to_hub", "save_pretrained")),
    "inference.convert_legacy_pipeline",
    "inference.evaluate_single_or_multi_label",
    "inference.mlp.MLPHead.__init__",
    *(f"train.StaticModelForClassification.{name}" for name in ("encode", "evaluate", "fit", "predict")),
    *(f"train.StaticModelForClassification.{name}" for name in ("predict_proba", "to_pipeline", "to_static_model")),
    *(f"train.StaticModelFor{name}.fit" for name in ("PairSimilarity", "Regression", "Similarity")),
    "tokenizer.clean_and_create_vocabulary",
    "tokenizer.turn_tokens_into_ids",
]


def resolved(package: str, name: str) -> Any:
    parts = name.split(".")
    for n_modules in range(len(parts) - 1, 0, -1):
        try:
            found = import_module(".".join([package, *parts[:n_modules]]))
        except ModuleNotFoundError:
            continue
        for part in parts[n_modules:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{package} has no module for {name}")


def parameters(package: str, name: str) -> dict[str, tuple[Any, Any]]:
    found = inspect.signature(resolved(package, name)).parameters.values()
    return {each.name: (each.kind, plain(each.default)) for each in found}


def plain(default: Any) -> Any:
    if type(default).__name__ in ("_UnsetType", "ellipsis"):
        return "not passed"
    return default.value if isinstance(default, Enum) else default


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_argument_of_model2vec_exists(name):
    ours, theirs = parameters("m2v_core.compat.model2vec", name), parameters("model2vec", name)
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for parameter, (kind, default) in theirs.items():
        assert parameter in ours
        assert ours[parameter][1] == default
        # A keyword argument may also be positional here.
        assert ours[parameter][0] == kind or kind == inspect.Parameter.KEYWORD_ONLY
    order = [parameter for parameter, (kind, _) in theirs.items() if kind in positional]
    assert [parameter for parameter, (kind, _) in ours.items() if kind in positional][: len(order)] == order


def test_public_names_equal_those_of_model2vec():
    for module in ("", ".distill", ".inference", ".train"):
        theirs, ours = import_module(f"model2vec{module}"), import_module(f"m2v_core.compat.model2vec{module}")
        assert set(ours.__all__) == set(theirs.__all__)
        assert all(hasattr(ours, name) for name in ours.__all__)
    assert import_module("m2v_core.compat.model2vec").__version__ == import_module("model2vec").__version__
