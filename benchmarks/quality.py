"""What each recipe gives beside model2vec, from the same teacher, at the same size: scores and seconds.

The bundled teacher, 256 wide, float16. Scores are 100 x Spearman's rho of cosine against the human score (sts, wordsim)
and percent accuracy of standardised logistic regression (classification), means over the public sets beside the
project.

    python benchmarks/quality.py             every recipe
    python benchmarks/quality.py fast        some of them
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from m2v_core.evaluation.data import read_tasks
from m2v_core.evaluation.encoders import EncoderFacts
from m2v_core.evaluation.run import evaluate

DATA = Path(__file__).parents[2] / "shared" / "eval"
RESULT = Path(__file__).parent / "results" / "quality.json"
KINDS = {"sts": "STS", "wordsim": "WordSim", "classification": "Class"}
Encode = Callable[[list[str]], np.ndarray]


def published() -> Encode:
    from model2vec.distill import distill

    from m2v_core.distillation.teacher.bundled import bundled_folder

    return distill(str(bundled_folder()), pca_dims=256, device="cpu").encode


def recipe(name: str, with_corpus: bool = False) -> Callable[[], Encode]:
    def run() -> Encode:
        from m2v_core import distill
        from m2v_core.distillation.teacher.bundled import bundled_folder

        corpus = None
        if with_corpus:
            corpus = (DATA / "corpus" / "sentences.txt").read_text("utf-8").splitlines()
        return distill(str(bundled_folder()), device="cpu", recipe=name, corpus=corpus).encode

    return run


RUNS = {
    "model2vec-package": published,
    "model2vec": recipe("model2vec"),
    "fast": recipe("fast"),
    "calibrated": recipe("calibrated"),
    "fast+corpus": recipe("fast", with_corpus=True),
    "calibrated+corpus": recipe("calibrated", with_corpus=True),
}


class Recipe:
    """A model just made, as the evaluation wants it."""

    def __init__(self, name: str, encode: Encode) -> None:
        self.facts = EncoderFacts(name, "static", encode(["width"]).shape[1], "cpu", 1, None)
        self.encode = lambda texts: encode(list(texts))


def scores_of(name: str, encode: Encode) -> dict[str, float]:
    """A score for each set, and the mean of each kind of set."""
    found = evaluate([Recipe(name, encode)], read_tasks(DATA), resamples=0).scores
    means = {
        kind: float(np.mean([score.score for score in found if score.group == group])) for kind, group in KINDS.items()
    }
    return {score.task: score.score for score in found} | means


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"The evaluation data is not in {DATA}; nothing was measured.")
    import m2v_core.distillation.teacher.teacher  # noqa: F401  its import, and that of torch, are no part of the seconds

    chosen = sys.argv[1:] or list(RUNS)
    record: dict = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    record["model2vec"] = version("model2vec")
    print(f"{'recipe':<20} {'sts':>7} {'wordsim':>8} {'classif.':>9} {'seconds':>8}")
    for name in chosen:
        started = time.perf_counter()
        encode = RUNS[name]()
        seconds = time.perf_counter() - started
        scores = scores_of(name, encode)
        record[name] = scores | {"seconds": seconds}
        shown = f"{scores['sts']:7.2f} {scores['wordsim']:8.2f} {scores['classification']:9.2f} {seconds:8.1f}"
        print(f"{name:<20} {shown}", flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
