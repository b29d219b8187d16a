"""Short texts pay for nothing that only long ones need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.encoder import forms
from tests.static_models import random_table, static_model

SCRIPT = """
import sys, threading
from m2v_core.model import StaticModel
model = StaticModel.from_pretrained({folder!r})
for _ in range(50):
    model.encode("The quick brown fox, and the sea.")
    model.tokenize("She sells sea shells.")
    model.encode(["one text", "and another", ""])
    model.encode_as_sequence("new york")
heavy = [name for name in ("numba", "llvmlite", "m2v_core.encoder.run") if name in sys.modules]
listed = [thread.name for thread in threading.enumerate()]
print(heavy, listed)
{then}
print("m2v_core.encoder.run" in sys.modules, "numba" in sys.modules, "llvmlite" in sys.modules)
"""


def said_by(folder: Path, then: str = "") -> list[str]:
    script = SCRIPT.format(folder=str(folder), then=then)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer is read chunk by chunk."""
    path = tmp_path_factory.mktemp("model")
    static_model("WordPiece").save_pretrained(path)
    return path


def test_short_texts_load_no_numba_and_start_no_thread(folder):
    assert said_by(folder) == ["[] ['MainThread']", "False False False"]


def test_a_corpus_takes_the_kernels_and_no_numba(folder):
    then = "model.encode(['the sea and the fox ' * 50] * 2_100, max_length=None)"
    assert said_by(folder, then) == ["[] ['MainThread']", "True False False"]


def test_a_model_read_whole_never_does(tmp_path):
    from tokenizers import Tokenizer

    from m2v_core.model import StaticModel

    spec = forms.build(forms.word_level(), None, {"type": "Digits", "individual_digits": True})
    tokenizer = Tokenizer.from_str(spec)
    StaticModel(random_table(tokenizer.get_vocab_size()), tokenizer).save_pretrained(tmp_path)
    then = "model.encode(['the sea and the fox ' * 50] * 2_100, max_length=None)"
    assert said_by(tmp_path, then) == ["[] ['MainThread']", "False False False"]
