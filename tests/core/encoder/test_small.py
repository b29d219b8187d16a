"""Short texts pay for nothing that only long ones need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.static_models import static_model

SCRIPT = """
import sys, threading
from m2v_core.model import StaticModel
model = StaticModel.from_pretrained({folder!r})
for _ in range(50):
    model.encode("The quick brown fox, and the sea.")
    model.tokenize("She sells sea shells.")
    model.encode(["one text", "and another", ""])
    model.encode_as_sequence("new york")
print([thread.name for thread in threading.enumerate()], model._engine._reader._subwords)
model.encode(["the sea and the fox " * 50] * 2_100, max_length=None)
print(model._engine._reader._subwords is not None)
"""


def test_short_texts_start_no_thread_and_build_no_subword_model(tmp_path: Path):
    static_model("WordPiece").save_pretrained(tmp_path)
    script = SCRIPT.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['MainThread'] None", "True"]
