"""Models for the tests of the commands."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from m2v_core import StaticModel


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A model with four tokens and three dimensions."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2, "sat": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model = StaticModel(
        table,
        tokenizer,
        max_length=64,
        base_model_name="some/teacher",
        config={"m2v": {"recipe": "model2vec"}},
    )
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def teacher(build_teacher_once):
    return build_teacher_once("wordpiece")
