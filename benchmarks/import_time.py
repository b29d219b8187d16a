"""Import time in addition to that of NumPy, compared with model2vec.

Each figure is the median of fresh interpreters, in turn so that other load affects all of them. A first
round, which writes bytecode and warms the disk cache, is not counted.
"""

import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROUNDS = 7
STATEMENTS = {
    "m2v_core": "import m2v_core",
    "m2v_core.StaticModel": "from m2v_core import StaticModel",
    "model2vec.StaticModel": "from model2vec import StaticModel",
}
TIMED = """
import numpy, time
started = time.perf_counter()
{statement}
print(time.perf_counter() - started)
"""
RESULT = Path(__file__).parent / "results" / "import_time.json"


def import_seconds(statement: str) -> float:
    code = TIMED.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for round_number in range(ROUNDS + 1):
        for name, statement in STATEMENTS.items():
            measured = import_seconds(statement)
            if round_number:
                seconds[name].append(measured)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<22} {median:.3f} s beyond NumPy  ({min(seconds[name]):.3f} to {max(seconds[name]):.3f})")
    ratio = medians["model2vec.StaticModel"] / medians["m2v_core.StaticModel"]
    print(f"StaticModel is imported {ratio:.1f} times as fast as model2vec's")
    RESULT.parent.mkdir(exist_ok=True)
    record = {
        "seconds_beyond_numpy": medians,
        "seconds_of_each_round": seconds,
        "ratio_to_model2vec": ratio,
        "python": platform.python_version(),
        "model2vec": version("model2vec"),
        "numpy": version("numpy"),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
