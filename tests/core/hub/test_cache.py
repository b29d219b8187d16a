"""Evicting from the Hub's cache, with the real client, a loopback Hub and a separate cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.hub.server import LoopbackHub

FETCH_AND_TRIM = """
import json, os, sys, time
from pathlib import Path
from huggingface_hub import constants
from m2v_core.hub import download
from m2v_core.hub.cache import trim_hub_cache

found = {"empty": trim_hub_cache(0)}
for name in ("one", "two", "three"):
    download.download(f"someone/{name}", allow_patterns=["*"])
folders = {name: Path(constants.HF_HUB_CACHE, f"models--someone--{name}") for name in ("one", "two", "three")}
for hours, name in enumerate(("three", "one", "two"), 3):
    os.utime(folders[name], (time.time() - 3600 * hours,) * 2)
download.download("someone/one", allow_patterns=["*"])  # used again, from the cache
found["roomy"] = trim_hub_cache(3_000_000)
found["tight"] = trim_hub_cache(1_500_000)
found["none"] = trim_hub_cache(0)
found["left"] = [name for name, folder in folders.items() if folder.is_dir()]
found["later"] = trim_hub_cache(0, seconds_in_use=0.0)
found["at last"] = [name for name, folder in folders.items() if folder.is_dir()]
print(json.dumps(found))
"""


def test_the_least_recently_used_repositories_are_evicted_first(session_hub: LoopbackHub, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        session_hub.add(f"someone/{name}", {"model.safetensors": os.urandom(1_000_000)})
    environment = os.environ | session_hub.environment(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", FETCH_AND_TRIM], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "empty": [],
        "roomy": [],
        "tight": ["someone/two", "someone/three"],
        "none": [],
        "left": ["one"],
        "later": ["someone/one"],
        "at last": [],
    }
