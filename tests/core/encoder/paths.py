"""Engines held to one path, and the slow reading that judges them."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer

from m2v_core.encoder.engine import Engine
from m2v_core.encoder.native import kernels_ready
from m2v_core.encoder.plain import Table
from m2v_core.encoder.splitting import Splitting

DIM = 3


class KernelEngine(Engine):
    """Sends everything through the kernels."""

    def _pays_for_kernels(self, texts: list[str]) -> bool:
        return isinstance(self.splitting, Splitting) and kernels_ready(wait=True)


class SmallEngine(Engine):
    """Never loads the kernels."""

    def _pays_for_kernels(self, texts: list[str]) -> bool:
        return False


PATHS = {"kernel": KernelEngine, "small": SmallEngine}


def engine(path: str, tokenizer: Tokenizer, characters_per_token: int = 3, unknown: int | None = None) -> Engine:
    """An engine without memories; unless `unknown` is passed the unknown token counts as any other."""
    n_rows = tokenizer.get_vocab_size(with_added_tokens=True)
    rows = np.random.default_rng(0).standard_normal((n_rows, DIM)).astype(np.float32)
    return PATHS[path](Table(rows, None, None, unknown), tokenizer, characters_per_token)


def judged(tokenizer: Tokenizer, text: str, max_length: int | None = None, characters_per_token: int = 3) -> list[int]:
    """The ids that the tokenizer gives for the text whole."""
    if max_length is not None:
        text = text[: max_length * characters_per_token]
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids[:max_length]
