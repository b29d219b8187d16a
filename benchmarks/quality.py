"""Scores and time of each recipe compared with model2vec, from the same teacher, at the same size.

256 dimensions, float16. Scores are 100 x Spearman's rho of cosine and human score (sts, wordsim), accuracy in percent
of logistic regression on standardized embeddings (class), 100 x nDCG@10 (ret), mean average precision (rank) and
average precision (pairs): means over the public tasks next to the project.

    python benchmarks/quality.py             every recipe
    python benchmarks/quality.py fast        some of them
    python benchmarks/quality.py --teacher FOLDER fast    from another teacher than the bundled one
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.evaluation.data import read_tasks
from m2v_core.evaluation.encoders import EncoderFacts
from m2v_core.evaluation.run import evaluate

DATA = Path(__file__).parents[2] / "shared" / "eval"
RESULT = Path(__file__).parent / "results" / "quality.json"
KINDS = {"sts": "STS", "wordsim": "WordSim", "class": "Class", "ret": "Ret", "rank": "Rank", "pairs": "PairClass"}
Encode = Callable[[list[str]], np.ndarray]


def published(teacher: str) -> Encode:
    from model2vec.distill import distill

    return distill(teacher, pca_dims=256, device="cpu").encode


def recipe(name: str, with_corpus: bool = False, **settings: Any) -> Callable[[str], Encode]:
    def run(teacher: str) -> Encode:
        from m2v_core import distill

        corpus = None
        if with_corpus:
            corpus = (DATA / "corpus" / "sentences.txt").read_text("utf-8").splitlines()
        return distill(teacher, device="cpu", recipe=name, corpus=corpus, **settings).encode

    return run


RUNS = {
    "model2vec-package": published,
    "model2vec": recipe("model2vec"),
    "fast": recipe("fast"),
    "calibrated": recipe("calibrated"),
    "balanced": recipe("calibrated", effort="balanced"),
    "quick": recipe("calibrated", effort="quick"),
    "without dictionary": recipe("calibrated", dictionary="none"),
    "fast+words": recipe("fast", vocabulary="auto:en"),
    "without dictionary+words": recipe("calibrated", dictionary="none", vocabulary="auto:en"),
    "fast+corpus": recipe("fast", with_corpus=True),
    "calibrated+corpus": recipe("calibrated", with_corpus=True),
}


class Recipe:
    """A new model as an encoder for the evaluation."""

    def __init__(self, name: str, encode: Encode) -> None:
        self.facts = EncoderFacts(name, "static", encode(["width"]).shape[1], "cpu", 1, None)
        self.encode = lambda texts: encode(list(texts))


def scores_of(name: str, encode: Encode) -> dict[str, float]:
    """The score of each task, and the mean of each kind of task."""
    found = evaluate([Recipe(name, encode)], read_tasks(DATA), resamples=0).scores
    means = {
        kind: float(np.mean([score.score for score in found if score.group == group])) for kind, group in KINDS.items()
    }
    return {score.task: score.score for score in found} | means


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"The evaluation data is not in {DATA}; nothing was measured.")
    import m2v_core.distillation.teacher.teacher  # noqa: F401  its import, and that of torch, are no part of the seconds

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default=str(bundled_folder()))
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=", ".join(RUNS))
    asked = parser.parse_args()
    record: dict = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    record |= {"model2vec": version("model2vec"), "teacher": Path(asked.teacher).name}
    print(f"{'recipe':<26}" + "".join(f"{kind:>9}" for kind in (*KINDS, "seconds")))
    for name in asked.recipes or RUNS:
        started = time.perf_counter()
        encode = RUNS[name](asked.teacher)
        seconds = time.perf_counter() - started
        scores = scores_of(name, encode)
        record[name] = scores | {"seconds": seconds}
        print(f"{name:<26}" + "".join(f"{scores[kind]:9.2f}" for kind in KINDS) + f"{seconds:9.1f}", flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
