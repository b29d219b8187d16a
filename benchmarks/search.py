"""Search in stored vectors: the cost of an index, the time of a search, and its recall.

Vectors are generated around centers, like those of texts, in float16, in a folder of 16 Parquet files with one text per
row. Every search is a different query, from the vector to the texts found. Recall is relative to a matrix product over
all rows, in the same run.

    python benchmarks/search.py                            1,000,000 vectors of 256 dimensions, usearch
    python benchmarks/search.py --engines usearch faiss    both engines
    python benchmarks/search.py --rows 20000               a quick check that everything works
"""

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from m2v_core.bulk import manifest
from m2v_core.bulk.vectors import VectorColumn
from m2v_core.exploration.index.building import build_index
from m2v_core.exploration.index.searching import VectorSearch
from m2v_core.native.cosines import unit_rows

RESULT = Path(__file__).parent / "results" / "search.json"
N_FILES, ROWS_PER_GROUP, N_QUERIES, N_EXACT, K = 16, 10_000, 200, 5, 10


def block_of(number: int, n_rows: int, centers: np.ndarray) -> np.ndarray:
    """(n_rows, dim) float16 around the centers, the same each time for a block number."""
    rng = np.random.default_rng([1, number])
    rows = centers[rng.integers(len(centers), size=n_rows)] + rng.standard_normal((n_rows, centers.shape[1]))
    return rows.astype(np.float16)


def write_vectors(folder: Path, n_rows: int, centers: np.ndarray) -> None:
    """Write a folder like `m2v encode`."""
    column = VectorColumn("embedding", centers.shape[1], "float16")
    settings = {"embedding column": "embedding", "dtype": "float16"}
    with manifest.open_manifest(folder, settings, None, is_restarted=False) as book:
        for number in range(N_FILES):
            ids = range(n_rows * number // N_FILES, n_rows * (number + 1) // N_FILES)
            table = pyarrow.table({"id": ids, "text": [f"a text of some words, the one with number {i}" for i in ids]})
            (array,) = column.arrays(block_of(number, len(ids), centers))
            path = folder / f"{number:02}.parquet"
            table = table.append_column(column.fields()[0], array)
            parquet.write_table(table, path, row_group_size=ROWS_PER_GROUP, use_dictionary=["text"])
            book.add(manifest.Entry(f"/{number}", "", path.name, len(ids), 0, path.stat().st_size, 1))


def nearest(queries: np.ndarray, n_rows: int, centers: np.ndarray) -> list[set[int]]:
    """The ids of the `K` nearest rows of each query, by matrix product over all rows."""
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    ids = np.zeros((len(queries), K), dtype=np.int64)
    for number in range(N_FILES):
        start, end = n_rows * number // N_FILES, n_rows * (number + 1) // N_FILES
        cosines = unit_rows(queries) @ unit_rows(block_of(number, end - start, centers)).T
        all_cosines = np.hstack([best, cosines])
        all_ids = np.hstack([ids, np.broadcast_to(np.arange(start, end), cosines.shape)])
        order = np.argpartition(-all_cosines, K, axis=1)[:, :K]
        best, ids = np.take_along_axis(all_cosines, order, 1), np.take_along_axis(all_ids, order, 1)
    return [set(row.tolist()) for row in ids]


def milliseconds(search: VectorSearch, queries: np.ndarray) -> tuple[list[float], list[set[int]]]:
    """The time of each search in milliseconds, and the ids found; the first search is repeated before timing."""
    search.search(queries[:1], K)
    times, found = [], []
    for query in queries:
        started = time.perf_counter()
        (hits,) = search.search(query[None], K)
        times.append(1000 * (time.perf_counter() - started))
        found.append({hit.columns["id"] for hit in hits})
    return times, found


def recall(found: list[set[int]], true: list[set[int]]) -> float:
    return statistics.fmean(len(a & b) / K for a, b in zip(found, true, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--engines", nargs="+", default=["usearch"], choices=["usearch", "faiss"])
    parser.add_argument("--dtypes", nargs="+", default=["float16"], choices=["float32", "float16", "int8"])
    parser.add_argument("--folder", type=Path, help="where to work; needs about 3 kB per row for 256 dimensions")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((max(arguments.rows // 1000, 10), arguments.dim))
    queries = block_of(N_FILES, N_QUERIES, centers).astype(np.float32)
    runs = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch) / "vectors"
        write_vectors(folder, arguments.rows, centers)
        n_bytes = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        print(f"{arguments.rows:,} vectors of {arguments.dim} dimensions, {n_bytes / 1e6:,.0f} MB in {N_FILES} files")
        true = nearest(queries, arguments.rows, centers)
        times, found = milliseconds(VectorSearch(folder, exact=True), queries[:N_EXACT])
        exact_ms = statistics.median(times)
        print(f"{'exact':<16} search {exact_ms:8,.1f} ms, recall@{K} {recall(found, true[:N_EXACT]):.3f}")
        for engine in arguments.engines:
            for dtype in arguments.dtypes:
                if (engine, dtype) == ("faiss", "int8"):
                    continue
                started = time.perf_counter()
                built = build_index(folder, engine=engine, dtype=dtype, restart=True)
                build_seconds = time.perf_counter() - started
                started = time.perf_counter()
                search = VectorSearch(folder)
                open_ms = 1000 * (time.perf_counter() - started)
                times, found = milliseconds(search, queries)
                run = {
                    "engine": engine,
                    "dtype": dtype,
                    "build_seconds": build_seconds,
                    "rows_per_second": arguments.rows / build_seconds,
                    "index_bytes": built.record.n_bytes,
                    "open_ms": open_ms,
                    "search_ms": statistics.median(times),
                    "search_ms_95th": float(np.percentile(times, 95)),
                    "recall_at_10": recall(found, true),
                }
                runs.append(run)
                print(
                    f"{engine + ' ' + dtype:<16} search {run['search_ms']:8,.1f} ms ({run['search_ms_95th']:,.1f} at "
                    f"the 95th), recall@{K} {run['recall_at_10']:.3f}; built in {build_seconds:,.1f} s "
                    f"({run['rows_per_second']:,.0f} rows/s), {built.record.n_bytes / 1e6:,.0f} MB, opened in "
                    f"{open_ms:,.1f} ms"
                )
    RESULT.parent.mkdir(exist_ok=True)
    record = {
        "rows": arguments.rows,
        "dim": arguments.dim,
        "exact_search_ms": exact_ms,
        "runs": runs,
        "peak_memory_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "pyarrow", "usearch")},
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
