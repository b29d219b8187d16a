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
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

DATA = Path(__file__).parents[2] / "shared" / "eval"
RESULT = Path(__file__).parent / "results" / "quality.json"
Encode = Callable[[list[str]], np.ndarray]


def published() -> Encode:
    from model2vec.distill import distill

    from m2v_core.distillation.bundled import bundled_folder

    return distill(str(bundled_folder()), pca_dims=256, device="cpu").encode


def recipe(name: str, with_corpus: bool = False) -> Callable[[], Encode]:
    def run() -> Encode:
        from m2v_core import distill
        from m2v_core.distillation.bundled import bundled_folder

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


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()]


def unit(embeddings: np.ndarray) -> np.ndarray:
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def correlation(encode: Encode, path: Path) -> float:
    scores, left, right = zip(*rows(path), strict=True)
    cosines = (unit(encode(list(left))) * unit(encode(list(right)))).sum(axis=1)
    return 100 * float(spearmanr([float(score) for score in scores], cosines).statistic)


def accuracy(encode: Encode, folder: Path) -> float:
    (train_labels, train), (labels, texts) = (
        zip(*rows(folder / f"{part}.tsv"), strict=True) for part in ("train", "test")
    )
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(encode(list(train)), train_labels)
    return 100 * float(classifier.score(encode(list(texts)), labels))


def evaluate(encode: Encode) -> dict[str, float]:
    found = {
        path.stem: correlation(encode, path) for kind in ("sts", "wordsim") for path in (DATA / kind).glob("*.tsv")
    }
    found |= {folder.name: accuracy(encode, folder) for folder in (DATA / "classification").iterdir()}
    for kind in ("sts", "wordsim", "classification"):
        names = [path.stem for path in (DATA / kind).iterdir()]
        found[kind] = float(np.mean([found[name] for name in names]))
    return found


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"The evaluation data is not in {DATA}; nothing was measured.")
    import torch  # noqa: F401  its import is nobody's time

    chosen = sys.argv[1:] or list(RUNS)
    record: dict = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    record["model2vec"] = version("model2vec")
    print(f"{'recipe':<20} {'sts':>7} {'wordsim':>8} {'classif.':>9} {'seconds':>8}")
    for name in chosen:
        started = time.perf_counter()
        encode = RUNS[name]()
        seconds = time.perf_counter() - started
        scores = evaluate(encode)
        record[name] = scores | {"seconds": seconds}
        shown = f"{scores['sts']:7.2f} {scores['wordsim']:8.2f} {scores['classification']:9.2f} {seconds:8.1f}"
        print(f"{name:<20} {shown}", flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
