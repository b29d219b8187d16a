"""Distilling the bundled teacher, here and in model2vec: seconds and peak memory, side by side.

Each distillation has a fresh process. Counted are the seconds of the call alone, the teacher's loading included and
the imports not, and the process's peak resident memory. The two take turns, so that a busy moment hits both.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROUNDS = 3
RUNS = {
    "m2v_core": "from m2v_core import distill; import m2v_core.distillation.teacher",
    "model2vec": "from model2vec.distill import distill",
}
TIMED = """
import json, resource, sys, time
{statement}
import torch, transformers
from m2v_core.distillation.bundled import bundled_folder
started = time.perf_counter()
model = distill(str(bundled_folder()), pca_dims=256, device="cpu", recipe="model2vec")
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([seconds, peak]))
"""
RESULT = Path(__file__).parent / "results" / "distill.json"


def distillation(statement: str) -> tuple[float, int]:
    code = TIMED.format(statement=statement)
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}  # model2vec asks the Hub for the teacher's language
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in RUNS}
    peaks: dict[str, list[int]] = {name: [] for name in RUNS}
    for _ in range(ROUNDS):
        for name, statement in RUNS.items():
            elapsed, peak = distillation(statement)
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
    RESULT.parent.mkdir(exist_ok=True)
    record = {
        "seconds_of_each_round": seconds,
        "peak_bytes_of_each_round": peaks,
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
