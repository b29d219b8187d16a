"""Measurements that run in a process of their own: `python -m encoding.worker JSON`.

The argument is an object with the name of the task and its arguments; the last line printed is the result as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoding.encoders import COMPAT, LOADERS, OURS, OWN_MODEL, PEER
from encoding.texts import CORPORA, SENTENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from encoding.encoders import Encode

Rounds = dict[str, list[float]]
"""Seconds of each round, by encoder."""

SAMPLE_SIZE = 200
CALLS = 200
BATCH_SIZES = (1, 2, 3, 8, 32)
WARM_PASSES = 3
OTHER_TEXTS = [f"{i} {chr(0x61 + i % 26)}" for i in range(20_000)]
PAUSE = 0.3
"""Seconds between two encoders: worker threads of the first, such as torch's, may spin for a while after its call."""
LARGE, SMALL = 2**28, 2**18
"""Bytes of an array larger than the caches, and of one that fits the level 2 cache twice."""


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds(encode: Encode, texts: list[str]) -> float:
    """Time one call.

    model2vec turns off the threads of `tokenizers` for the whole process when it encodes more than 10,000 texts. They
    are turned on again here, or every later call of any encoder would tokenize on one core.
    """
    os.environ.pop("TOKENIZERS_PARALLELISM", None)
    started = time.perf_counter()
    encode(texts)
    return time.perf_counter() - started


def build_model(name: str, folder: str, dtype: str) -> None:
    """Build the named model unless it is there."""
    from encoding.models import build

    build(name, Path(folder), dtype)


def measure_corpus(folder: str, corpus: str, encoders: list[str], rounds: int) -> dict[str, Any]:
    """Measure loading, the first pass of a new model, and a warm pass, with the encoders taking turns."""
    texts = CORPORA[corpus]()
    found: dict[str, Rounds] = {name: {encoder: [] for encoder in encoders} for name in ("load", "first", "warm")}
    models = {encoder: LOADERS[encoder](Path(folder)) for encoder in encoders}
    _check_agreement(models, texts, Path(folder))
    for encode in models.values():
        encode(OTHER_TEXTS)  # starts threads and compiles code, without showing the model any of the texts
    for _ in range(rounds):
        for encoder in encoders:
            del models[encoder]
            gc.collect()
            time.sleep(PAUSE)
            started = time.perf_counter()
            models[encoder] = LOADERS[encoder](Path(folder))
            found["load"][encoder].append(time.perf_counter() - started)
            models[encoder]([SENTENCE])
            found["first"][encoder].append(seconds(models[encoder], texts))
    for _ in range(rounds):
        for encoder, encode in models.items():
            time.sleep(PAUSE)
            found["warm"][encoder].append(seconds(encode, texts))
    return {**found, "n_texts": len(texts), **_gathered_rows(Path(folder), texts)}


def _check_agreement(models: dict[str, Encode], texts: list[str], folder: Path) -> None:
    """Raise an error if an encoder of the same model gives other embeddings than model2vec.

    Texts with unknown tokens are left out: StaticEmbedding averages the row of the unknown token, the others don't.
    """
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(folder / PEER)
    encodings = model.tokenizer.encode_batch(texts[:SAMPLE_SIZE], add_special_tokens=False)
    known = [model.unk_token_id not in encoding.ids for encoding in encodings]
    sample = [text for text, is_known in zip(texts, known, strict=False) if is_known]
    expected = model.encode(sample).astype(np.float32)
    for name, encode in models.items():
        if name in OWN_MODEL:
            continue
        embeddings = np.asarray(encode(sample), dtype=np.float32)
        norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(expected, axis=1)
        worst = float(np.min(np.sum(embeddings * expected, axis=1) / norms))
        if not worst > 0.999:
            raise ValueError(f"{name} and model2vec disagree on a text of {folder.name}: their cosine is {worst:.4f}.")


def _gathered_rows(folder: Path, texts: list[str]) -> dict[str, int]:
    """Count the rows that one pass adds up, and the bytes of a row in the table."""
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(folder / PEER)
    cut = [text[: model.max_length * model.median_token_length] for text in texts]
    return {
        "n_rows": sum(map(len, model.tokenize(cut))),
        "row_bytes": model.dim * model.embedding.itemsize,
        "table_bytes": model.embedding.nbytes,
    }


def measure_batches(folder: str, encoders: list[str], rounds: int) -> dict[str, Rounds]:
    """Measure warm calls with one sentence and with few short texts: {batch size: {encoder: seconds}}."""
    texts = CORPORA["short"]()
    models = {encoder: LOADERS[encoder](Path(folder)) for encoder in encoders}
    for encode in models.values():
        seconds(encode, texts)
    found = {}
    for size in BATCH_SIZES:
        batch = [SENTENCE] if size == 1 else texts[:size]
        times: Rounds = {encoder: [] for encoder in encoders}
        for _ in range(rounds):
            for encoder, encode in models.items():
                time.sleep(PAUSE)
                times[encoder].append(statistics.median(seconds(encode, batch) for _ in range(CALLS)))
        found[str(size)] = times
    return found


def measure_sequence(folder: str, encoder: str) -> dict[str, dict[str, list[float]]]:
    """Encode every corpus with one encoder and a new model for each: the first pass, then warm ones."""
    found = {}
    for name, read in CORPORA.items():
        texts = read()
        encode = LOADERS[encoder](Path(folder))
        found[name] = {
            "first": [seconds(encode, texts)],
            "warm": [seconds(encode, texts) for _ in range(WARM_PASSES)],
        }
    return found


def measure_memory(folder: str, encoder: str | None) -> dict[str, int]:
    """Return bytes of private and peak memory after encoding three corpora; without an encoder, after reading them."""
    corpora = [CORPORA[name]() for name in ("news", "documents", "sentences")]
    if encoder is not None:
        encode = LOADERS[encoder](Path(folder))
        for texts in corpora:
            encode(texts)
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
    return {name: int(status[key].split()[0]) * 1024 for name, key in (("private", "RssAnon"), ("peak", "VmHWM"))}


def measure_bandwidth(rounds: int) -> dict[str, float]:
    """Return the bytes per second that all cores read and write together, in memory and in the level 2 cache."""
    n_cores = count_cores()
    # Each core has its own level 2 cache, so one thread is measured there and multiplied.
    return {
        "memory": max(_bandwidth(LARGE // n_cores, n_cores, 1) for _ in range(rounds)),
        "level 2 cache": n_cores * max(_bandwidth(SMALL, 1, 1000) for _ in range(rounds)),
    }


def _bandwidth(n_bytes: int, n_threads: int, repetitions: int) -> float:
    """Return the faster of a sum and a copy, in bytes per second; a copy reads and writes."""
    pairs = [(np.ones(n_bytes // 4, np.float32), np.ones(n_bytes // 4, np.float32)) for _ in range(n_threads)]

    def add(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repetitions):
            pair[0].sum()

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repetitions):
            np.copyto(pair[1], pair[0])

    rates = []
    with ThreadPoolExecutor(n_threads) as pool:
        for work, n_moved in ((add, n_bytes), (copy, 2 * n_bytes)):
            started = time.perf_counter()
            list(pool.map(work, pairs))
            rates.append(n_moved * n_threads * repetitions / (time.perf_counter() - started))
    return max(rates)


def measure_scale(folder: str, rounds: int) -> dict[str, float]:
    """Return the median seconds that m2v_core takes for more and more texts, warm."""
    encode = LOADERS[OURS](Path(folder))
    texts = CORPORA["sentences"]()
    encode(texts)
    found = {}
    for count in (10_000, 100_000, 1_000_000):
        many = (texts * (1 + count // len(texts)))[:count]
        found[f"{count:,}"] = statistics.median(seconds(encode, many) for _ in range(rounds))
    return found


def describe(folder: str, encoders: list[str]) -> dict[str, Any]:
    """Return how m2v_core and laghu read the model, and the versions of the encoders."""
    from m2v_core import StaticModel

    path = StaticModel.from_pretrained(Path(folder) / "model2vec").encoder_path
    versions = {name: version(name) for name in encoders if name not in (OURS, COMPAT)}
    found: dict[str, Any] = {"m2v_core_reads": path, "versions": versions}
    if "laghu" in encoders:
        from laghu import load

        is_rust = load(str(Path(folder) / "laghu"), fallback=False).tokenizer.rs is not None
        found["versions"]["laghu-rs"] = version("laghu-rs")
        found["laghu_tokenizes_with"] = "Rust" if is_rust else "tokenizers"
    return found


TASKS: dict[str, Callable[..., Any]] = {
    "build": build_model,
    "corpus": measure_corpus,
    "batches": measure_batches,
    "sequence": measure_sequence,
    "memory": measure_memory,
    "bandwidth": measure_bandwidth,
    "scale": measure_scale,
    "describe": describe,
}

if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    print(json.dumps(TASKS[arguments.pop("task")](**arguments)))
