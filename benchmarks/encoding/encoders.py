"""The encoders under test, each as a function that loads a model.

A model is a folder with two copies of the same model: `model2vec`, as model2vec saved it, and `laghu`, a copy that the
Rust code of laghu accepts. WordLlama can't read either and uses the model in its own package.

Only the standard library is imported at module level, so that start-up times include no other import.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Encode = Callable[[list[str]], np.ndarray]

OURS, PEER, COMPAT = "m2v_core", "model2vec", "m2v_core.compat"


def load_m2v_core(folder: Path) -> Encode:
    from m2v_core import StaticModel

    return StaticModel.from_pretrained(folder / "model2vec").encode


def load_compat(folder: Path) -> Encode:
    # Without install(), which would replace the real model2vec in this process.
    from m2v_core.compat.model2vec import StaticModel

    return StaticModel.from_pretrained(folder / "model2vec").encode


def load_model2vec(folder: Path) -> Encode:
    from model2vec import StaticModel

    return StaticModel.from_pretrained(folder / "model2vec").encode


def load_laghu(folder: Path) -> Encode:
    from laghu import load

    return load(str(folder / "laghu"), fallback=False).encode


def load_sentence_transformers(folder: Path) -> Encode:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder / "model2vec"), device="cpu").encode


def load_wordllama(folder: Path) -> Encode:
    import wordllama

    package = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
    return lambda texts: model.embed(texts, norm=True)


LOADERS: dict[str, Callable[[Path], Encode]] = {
    OURS: load_m2v_core,
    COMPAT: load_compat,
    PEER: load_model2vec,
    "laghu": load_laghu,
    "sentence-transformers": load_sentence_transformers,
    "wordllama": load_wordllama,
}
REQUIRED_MODULES = {"laghu": ["laghu", "laghu_rs"], "sentence-transformers": ["sentence_transformers"]}
OWN_MODEL = ("wordllama",)
"""Encoders that use a model of their own instead of the one given."""


def missing_modules(name: str) -> list[str]:
    """Return the modules that the encoder needs and that are not installed."""
    return [module for module in REQUIRED_MODULES.get(name, [name]) if find_spec(module) is None]
