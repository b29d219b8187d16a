"""Encodes with the installed package, in an environment without the test tools, and prints how it did.

Fails where the compiled kernels are missing, unless they are said to be; `[tool.cibuildwheel]` runs this on each wheel.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from m2v_core import StaticModel, native

WORDS = ["the", "sea", "and", "fox", "##es", ",", "."]
TEXTS = ["The foxes, and the sea.", "the sea", "nothing", ""] * 100
NOT_IN_THE_BASE_INSTALL = ("llvmlite", "numba", "scipy", "sklearn", "torch", "transformers", "pyarrow", "gradio")


def tiny_model() -> StaticModel:
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    table = np.random.default_rng(0).standard_normal((len(WORDS) + 1, 24), np.float32)
    return StaticModel(table, tokenizer)


def largest_error(model: StaticModel) -> float:
    """The largest difference from embeddings computed with the tokenizer and NumPy alone."""
    expected = np.zeros((len(TEXTS), model.dim), np.float32)
    for row, text in zip(expected, TEXTS, strict=True):
        if ids := [i for i in model.tokenizer.encode(text, add_special_tokens=False).ids if i]:
            mean = np.asarray(model.token_embeddings)[ids].mean(axis=0)
            row[:] = mean / np.linalg.norm(mean)
    return float(np.abs(model.encode(TEXTS) - expected).max())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-kernels", action="store_true")
    parser.add_argument("--save", help="folder to save the model to")
    options = parser.parse_args()
    model = tiny_model()
    if options.save:
        model.save_pretrained(options.save)
    error = largest_error(model)
    results = {
        "package": native.__file__,
        "encoder_path": model.encoder_path,
        "kernels": native.kernels_in_use(),
        "largest_error": error,
        "beside": [name for name in NOT_IN_THE_BASE_INSTALL if importlib.util.find_spec(name)],
    }
    sys.stdout.write(json.dumps(results) + "\n")
    has_kernels = native.kernels is not None and model.encoder_path == "chunk by chunk"
    return int(error > 1e-6 or has_kernels == options.without_kernels)


if __name__ == "__main__":
    sys.exit(main())
