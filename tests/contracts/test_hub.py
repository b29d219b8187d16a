"""Published models loaded from the Hub by other libraries, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.hub.server import LoopbackHub, User, client_environment
from tests.static_models import static_model

HF_TOKEN = "hf_ada"
TEXTS = ["the heart attack of the king", "new york"]
READERS = {
    "model2vec": "from model2vec import StaticModel; model = StaticModel.from_pretrained({name!r}{token})",
    "sentence_transformers": (
        "from sentence_transformers import SentenceTransformer;"
        "model = SentenceTransformer({name!r}, device='cpu'{token})"
    ),
    "m2v_core": "from m2v_core import StaticModel; model = StaticModel.from_pretrained({name!r}{token})",
}


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.users = {HF_TOKEN: User("ada")}
        yield hub


def encoded_by(reader: str, hub: LoopbackHub, home: Path, name: str, token: str = "") -> np.ndarray:
    code = READERS[reader].format(name=name, token=f", token={token!r}" if token else "")
    code += f"; import json; print(json.dumps(model.encode({TEXTS!r}).tolist()))"
    environment = {**os.environ, **client_environment(hub.url, home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("kind", "dtype"), [("WordPiece", "float32"), ("byte-level BPE", "int8")])
def test_a_pushed_model_loads_and_agrees(hub: LoopbackHub, tmp_path: Path, reader: str, kind: str, dtype: str):
    if reader != "m2v_core":
        pytest.importorskip(reader)
    model = static_model(kind, dtype=dtype)
    name = f"ada/{kind.split()[0]}-{dtype}"
    pushed = model.push_to_hub(name, HF_TOKEN, private=True, overwrite=True, endpoint=hub.url)
    assert pushed.verified
    found = encoded_by(reader, hub, tmp_path, name, HF_TOKEN)
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=2e-6)


def test_a_model_pushed_by_model2vec_loads_here(hub: LoopbackHub, tmp_path: Path):
    pytest.importorskip("model2vec")
    static_model().save_pretrained(tmp_path / "model")
    code = (
        f"from model2vec import StaticModel; StaticModel.from_pretrained({str(tmp_path / 'model')!r})"
        f".push_to_hub('ada/theirs', token={HF_TOKEN!r})"
    )
    environment = {**os.environ, **client_environment(hub.url, tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = encoded_by("m2v_core", hub, tmp_path / "home", "ada/theirs", HF_TOKEN)
    np.testing.assert_allclose(found, static_model().encode(TEXTS), atol=2e-6)
