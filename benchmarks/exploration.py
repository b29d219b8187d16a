"""Server time of the Explore page: a search, a PCA map and a UMAP map.

Words and texts are generated, with vectors in clusters like real ones: the time depends on their number, not on their
meaning. Each figure is the median of the rounds after a first one that is not counted; UMAP is compiled on its first
use, which is reported separately.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from m2v_core.exploration.neighbors import DocumentNeighbors, WordNeighbors
from m2v_core.exploration.projection import pca_map, umap_map
from m2v_core.model import StaticModel

N_WORDS, N_DOCUMENTS, N_POINTS, DIM = 30_000, 100_000, 10_000, 256
SEARCH_ROUNDS, PCA_ROUNDS, UMAP_ROUNDS = 50, 7, 3
RESULT = Path(__file__).parent / "results" / "exploration.json"
# Limits that the app promises.
LIMITS = {"search_words": 0.1, "search_documents": 0.1, "pca": 1.0, "umap": 30.0}


def word_model() -> StaticModel:
    """A model of `N_WORDS` words with rows around 100 centers."""
    words = ["".join(letters) for letters in product("abcdefghijklmnopqrst", repeat=4)][:N_WORDS]
    vocabulary = {word: rank for rank, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((100, DIM))
    rows = centers[rng.integers(100, size=len(vocabulary))] + rng.standard_normal((len(vocabulary), DIM))
    return StaticModel(rows.astype(np.float32), tokenizer)


def seconds_of(work: Callable[[], object], rounds: int) -> tuple[list[float], float]:
    """Times of all rounds except the first, and the time of the first round."""
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times[1:], times[0]


def main() -> None:
    model = word_model()
    words = WordNeighbors(model)
    rng = np.random.default_rng(1)
    texts = [" ".join(model.tokens[rank] for rank in ranks) for ranks in rng.integers(1, N_WORDS, (N_DOCUMENTS, 8))]
    documents = DocumentNeighbors(model, texts)
    points = words.rows[:N_POINTS]
    work: dict[str, tuple[Callable[[], object], int]] = {
        "search_words": (lambda: words.search(texts[0], 10), SEARCH_ROUNDS),
        "search_documents": (lambda: documents.search(texts[0], 10), SEARCH_ROUNDS),
        "pca": (lambda: pca_map(points), PCA_ROUNDS),
        "umap": (lambda: umap_map(points), UMAP_ROUNDS),
    }
    titles = {
        "search_words": f"search {len(words):,} words",
        "search_documents": f"search {len(documents):,} texts",
        "pca": f"PCA of {N_POINTS:,} points",
        "umap": f"UMAP of {N_POINTS:,} points",
    }
    seconds, first = {}, {}
    for name, (call, rounds) in work.items():
        seconds[name], first[name] = seconds_of(call, rounds)
        median, worst = statistics.median(seconds[name]), max(seconds[name])
        verdict = "within" if median <= LIMITS[name] else "OVER"
        print(
            f"{titles[name]:<24} {1000 * median:8,.1f} ms median, {1000 * worst:8,.1f} worst, "
            f"{1000 * first[name]:8,.1f} the first time; {verdict} {1000 * LIMITS[name]:,.0f} ms"
        )
    RESULT.parent.mkdir(exist_ok=True)
    record = {
        "seconds_of_each_round": seconds,
        "seconds_the_first_time": first,
        "limits_in_seconds": LIMITS,
        "dim": DIM,
        "cpus": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "umap-learn": version("umap-learn"),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
