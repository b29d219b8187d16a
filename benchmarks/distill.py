"""Time and peak memory of distilling the bundled teacher, compared with model2vec.

Each distillation runs in a fresh process. The time is that of the call, including loading the teacher but not the
imports; memory is the process's peak resident memory. Both take turns, so that other load affects both.

Also measures other settings with cached teacher vectors (`cache_folder`) and the default recipe, including the imports;
model2vec would start over.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROUNDS = 3
RUNS = {
    "m2v_core": "from m2v_core import distill; import m2v_core.distillation.teacher.teacher; "
    "more = {'recipe': 'model2vec'}",
    "model2vec": "from model2vec.distill import distill; more = {}",
}
OTHER_SETTINGS = {
    "dimensions": "pca_dims=128",
    "precision": "quantize_to='int8'",
    "weighting": "sif_coefficient=3e-4",
}
TIMED = """
import json, resource, sys, time
{statement}
import torch, transformers
from m2v_core.distillation.teacher.bundled import bundled_folder
started = time.perf_counter()
model = distill(str(bundled_folder()), pca_dims=256, device="cpu", **more)
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([seconds, peak]))
"""
WITH_CACHE = """
import json, sys, time
started = time.perf_counter()
from m2v_core import distill
from m2v_core.distillation.teacher.bundled import bundled_folder
distill(str(bundled_folder()), device="cpu", cache_folder={folder!r}, {setting})
print(json.dumps(time.perf_counter() - started))
"""
RESULT = Path(__file__).parent / "results" / "distill.json"


def printed(code: str) -> Any:
    """Run code in a fresh process, and parse the JSON that it prints last."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}  # model2vec requests the teacher's language from the Hub
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def with_cache() -> dict[str, float]:
    """Time of a first distillation, and of others with its cache."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            name: printed(WITH_CACHE.format(folder=folder, setting=setting))
            for name, setting in ({"first": ""} | OTHER_SETTINGS).items()
        }


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in RUNS}
    peaks: dict[str, list[int]] = {name: [] for name in RUNS}
    for _ in range(ROUNDS):
        for name, statement in RUNS.items():
            elapsed, peak = printed(TIMED.format(statement=statement))
            seconds[name].append(elapsed)
            peaks[name].append(peak)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    memory = {name: statistics.median(times) for name, times in peaks.items()}
    for name, median in medians.items():
        spread = f"{min(seconds[name]):.1f} to {max(seconds[name]):.1f}"
        print(f"{name:<10} {median:5.1f} s ({spread}), peak memory {memory[name] / 2**20:.0f} MiB")
    speed = medians["model2vec"] / medians["m2v_core"]
    share = memory["m2v_core"] / memory["model2vec"]
    print(f"{speed:.2f} times as fast as model2vec, with {share:.2f} times its peak memory")
    kept = with_cache()
    print(f"calibrated, first: {kept['first']:.1f} s")
    for name in OTHER_SETTINGS:
        print(
            f"  other {name:<11} {kept[name]:.2f} s, {medians['model2vec'] / kept[name]:.1f} times as fast as model2vec"
        )
    RESULT.parent.mkdir(exist_ok=True)
    record = {
        "seconds_of_each_round": seconds,
        "peak_bytes_of_each_round": peaks,
        "seconds_with_cache": kept,
        "times_as_fast": speed,
        "memory_ratio": share,
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "model2vec": version("model2vec"),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
