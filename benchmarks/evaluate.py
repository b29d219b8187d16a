"""Time of evaluating a static model on all public tasks next to the project, and its scores.

The model is distilled from the bundled teacher with the default recipe, 256 dimensions, float16. Loading it is not
timed; encoding, classifiers and bootstrap intervals are.

    python benchmarks/evaluate.py
"""

import json
import sys
import time
from pathlib import Path

from m2v_core import distill
from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.evaluation.data import read_tasks
from m2v_core.evaluation.encoders import StaticEncoder
from m2v_core.evaluation.run import evaluate
from m2v_core.evaluation.speed import this_machine

DATA = Path(__file__).parents[2] / "shared" / "eval"
RESULT = Path(__file__).parent / "results" / "evaluate.json"
LIMIT_SECONDS = 20.0


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"The evaluation data is not in {DATA}; nothing was measured.")
    encoder = StaticEncoder(distill(str(bundled_folder()), device="cpu", recipe="fast"), "static")
    started = time.perf_counter()
    found = evaluate([encoder], read_tasks(DATA))
    seconds = time.perf_counter() - started
    for score in found.scores:
        print(f"{score.task:<10} {score.score:6.2f}  ({score.low:.2f} to {score.high:.2f})  {score.seconds:6.2f} s")
    print(f"{seconds:.1f} s in total, {seconds / LIMIT_SECONDS:.2f} of the limit of {LIMIT_SECONDS:.0f} s")
    record = found.to_json() | {"seconds": seconds, "machine": vars(this_machine())}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
