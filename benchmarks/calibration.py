"""Time of the computations of calibration, without the teacher: closed form and descent on 100,000 sentences.

Uses sentences of the corpus next to the project and halves of its longest ones; the targets are random, which does not
affect the time. Compared with SciPy's products in alternating rounds, and with a gradient step of the same batch in
plain torch, on a dense matrix of token counts.

    python benchmarks/calibration.py
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import encode
import numpy as np
import torch
from tokenizers import Tokenizer

from m2v_core.distillation.calibration.closed_form import (
    InitialTable,
    RotatedTargets,
    fit_closed_form,
    multiply_by_gram,
)
from m2v_core.distillation.calibration.descent import descend, n_descent_steps
from m2v_core.distillation.calibration.fit import count_tokens
from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.native import kernels
from m2v_core.native.cpus import n_usable_cpus
from m2v_core.progress import ProgressReporter

N_SENTENCES, DIM, EMBEDDING_DIM = 100_000, 384, 384  # tables are fitted at the teacher's width
N_COLUMNS, ROUNDS = 32, 21
CLOSED_FORM_SECONDS, DESCENT_SECONDS = 15, 60
RESULT = Path(__file__).parent / "results" / "calibration.json"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def products_seconds(counts: Any, table: np.ndarray) -> tuple[float, float]:
    """Median times of A^T (A table) on every core at the same time, by the kernel and by SciPy."""
    if kernels is None:
        sys.exit("The compiled kernels are not installed; nothing was measured.")
    n_threads = n_usable_cpus()
    with ThreadPoolExecutor(n_threads) as pool:

        def on_every_core(work: Callable[[int], object]) -> float:
            return seconds(lambda: list(pool.map(work, range(n_threads))))

        def round_of_both() -> tuple[float, float]:
            ours = on_every_core(lambda _: multiply_by_gram(counts, table))
            return ours, on_every_core(lambda _: counts.T @ (counts @ table))

        rounds = [round_of_both() for _ in range(ROUNDS)]
    ours, peers = zip(*rounds, strict=True)
    return statistics.median(ours), statistics.median(peers)


def dense_step(counts: object, rows: int, random: np.random.Generator) -> float:
    """Time of one step on 1,024 sentences, in the simplest implementation."""
    table = torch.nn.Parameter(torch.randn(rows, DIM))
    optimizer = torch.optim.Adam([table], lr=1e-2)
    batch = torch.from_numpy(counts[:1024].toarray())
    wanted = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(1024, DIM)).astype(np.float32)))

    def step() -> None:
        optimizer.zero_grad()
        embeddings = torch.nn.functional.normalize(batch @ table, dim=1)
        (1 - (embeddings * wanted).sum(dim=1)).mean().backward()
        optimizer.step()

    step()
    return statistics.median(seconds(step) for _ in range(5))


def main() -> None:
    if not encode.DATA.is_dir():
        sys.exit(f"The evaluation data is not in {encode.DATA}; nothing was measured.")
    random = np.random.default_rng(0)
    tokenizer = Tokenizer.from_file(str(bundled_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = tokenizer.get_vocab_size()
    counts = count_tokens(tokenizer, encode.sentences(N_SENTENCES), None, rows)
    targets = random.normal(size=(N_SENTENCES, EMBEDDING_DIM)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    turn = np.linalg.qr(random.normal(size=(EMBEDDING_DIM, DIM)))[0].astype(np.float32)
    table = random.normal(size=(rows, DIM)).astype(np.float32) / np.float32(np.sqrt(DIM))
    start = InitialTable(table, np.ones(rows, np.float32))
    quiet = ProgressReporter()
    n_steps = n_descent_steps(N_SENTENCES)
    of_products = products_seconds(counts, table[:, :N_COLUMNS].copy())
    found = {
        "products of 32 columns": of_products[0],
        "the same with SciPy": of_products[1],
        "closed form": seconds(
            lambda: fit_closed_form(start, counts, RotatedTargets.from_rotation(targets, turn), 0.1, quiet)
        ),
        "descent": seconds(
            lambda: descend(
                table, counts, RotatedTargets.from_rotation(targets, turn).to_array(), targets, n_steps, quiet
            )
        ),
    }
    found["one dense step in torch"] = dense_step(counts, rows, random)
    found["one step"] = found["descent"] / n_steps
    for name, value in found.items():
        print(f"{name:<29} {value:8.3f} s")
    print(f"closed form within {CLOSED_FORM_SECONDS} s, descent within {DESCENT_SECONDS} s; {os.cpu_count()} CPUs")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found | {"cpus": os.cpu_count()}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
