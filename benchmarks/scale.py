"""Encoding many files to a folder of embeddings: one worker, two workers, Ray, and model2vec in two processes.

Texts are drawn from the public sentences next to the project and written as Parquet files of several row groups. Every
run is the `m2v` command in its own process, with float16 and other columns kept. "After start-up" is the time from the
start of the first output to the last line of the manifest; each worker loads its kernels in that time.

    python benchmarks/scale.py                   1,000,000 texts in 16 files
    python benchmarks/scale.py --texts 20000     a quick check that everything works
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow
from pyarrow import parquet

CORPUS = Path(__file__).parents[2] / "shared" / "eval" / "corpus" / "sentences.txt"
RESULT = Path(__file__).parent / "results" / "scale.json"
N_FILES = 16
ROWS_PER_GROUP = 10_000
WORKERS = ("spawn_main", "ray::MapWorker")  # names of the processes that encode
SECONDS_BETWEEN_LOOKS = 0.3
MACHINES, CORES, DOCUMENTS = 10, 16, 1e9


def write_texts(folder: Path, n_texts: int) -> None:
    """Write files of texts with an id."""
    folder.mkdir()
    sentences = [line for line in CORPUS.read_text("utf-8").split("\n") if line]
    draw = random.Random(0)
    for i in range(N_FILES):
        ids = range(n_texts * i // N_FILES, n_texts * (i + 1) // N_FILES)
        table = pyarrow.table({"id": ids, "text": draw.choices(sentences, k=len(ids))})
        parquet.write_table(table, folder / f"{i:02}.parquet", row_group_size=ROWS_PER_GROUP)


def timed(command: list[str], output: Path) -> tuple[float, float, float]:
    """Run a command; return its time in seconds, the time after start-up, and the peak memory of a worker in MiB."""
    started, began = time.time(), None
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    looked = 0.0
    while process.poll() is None:
        time.sleep(0.02)
        if began is None and any(output.glob("*.par*")):
            began = time.time()
        if time.time() - looked < SECONDS_BETWEEN_LOOKS:  # listing all of Ray's processes takes CPU time from them
            continue
        looked = time.time()
        try:
            for child in process.children(recursive=True):
                if any(name in " ".join(child.cmdline()) for name in WORKERS):
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]))  # kB
        except (psutil.Error, OSError, IndexError):  # a process has just ended
            continue
    if process.returncode:
        sys.exit(process.stderr.read().decode())
    assert began is not None
    return time.time() - started, (output / "_manifest.jsonl").stat().st_mtime - began, peak / 1024


def run(model: str, texts: Path, *arguments: str) -> tuple[float, float, float, int]:
    """Run `m2v encode` on a folder, and remove its output; return times, memory, and bytes of the output."""
    output = texts.with_name("vectors")
    pattern = str(texts / "*.parquet")
    command = ["-m", "m2v_core", "encode", "--model", model, "--input", pattern, "--output", str(output)]
    found = timed([sys.executable, *command, "--dtype", "float16", *arguments], output)
    n_rows = sum(parquet.read_metadata(path).num_rows for path in output.glob("*.parquet"))
    assert n_rows == sum(parquet.read_metadata(path).num_rows for path in texts.glob("*.parquet"))
    n_bytes = sum(path.stat().st_size for path in output.glob("*.parquet"))
    shutil.rmtree(output)
    return *found, n_bytes


def peer(model: str, texts: Path, part: int, of: int) -> None:
    """Encode in one of several processes with model2vec; prints when it started and ended."""
    from model2vec import StaticModel

    loaded = StaticModel.from_pretrained(model)
    loaded.encode(["warm"])
    began = time.time()
    for path in sorted(texts.glob("*.parquet"))[part::of]:
        with parquet.ParquetFile(path) as source:
            writer = None
            for batch in source.iter_batches(ROWS_PER_GROUP):
                embeddings = loaded.encode(batch.column("text").to_pylist()).astype("float16")
                lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), embeddings.shape[1])
                table = pyarrow.Table.from_batches([batch]).append_column("embedding", lists)
                writer = writer or parquet.ParquetWriter(texts / f"{path.stem}.vectors", table.schema)
                writer.write_table(table)
            writer.close()
    print(json.dumps([began, time.time()]))


def peer_speed(model: str, texts: Path, n_texts: int) -> float:
    """Texts per second of model2vec in two processes, from when both were ready."""
    command = [sys.executable, __file__, "--folder", model, "--peer-texts-in", str(texts)]
    parts = [subprocess.Popen([*command, "--part", str(part)], stdout=subprocess.PIPE, text=True) for part in range(2)]
    times = [json.loads(process.communicate()[0].splitlines()[-1]) for process in parts]
    return n_texts / max(end - began for began, end in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--peer-texts", type=int, default=100_000, help="maximum number of texts for model2vec")
    parser.add_argument("--folder", help="a saved model instead of the bundled teacher's")
    parser.add_argument("--peer-texts-in", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer_texts_in:
        peer(options.folder, options.peer_texts_in, options.part, 2)
        return
    if not CORPUS.is_file():
        sys.exit(f"The texts are not in {CORPUS}; nothing was measured.")
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        model = options.folder
        if model is None:
            from m2v_core import distill
            from m2v_core.distillation.teacher.bundled import bundled_folder

            model = str(home / "model")
            distill(str(bundled_folder()), device="cpu").save_pretrained(model)
        n_peer = min(options.peer_texts, options.texts)
        for name, n_texts in (("texts", options.texts), ("peer", n_peer)):
            write_texts(home / name, n_texts)
        record: dict = {"texts": options.texts, "files": N_FILES, "cpus": os.cpu_count()}
        runs = {"1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"]}
        try:
            import ray  # noqa: F401
        except ImportError:
            print("Ray is not installed, so it was skipped.")
        else:
            runs["Ray, 2 actors"] = ["--engine", "ray", "--workers", "2"]
        for name, arguments in runs.items():
            seconds, after_start_seconds, peak, n_bytes = run(model, home / "texts", *arguments)
            after_start = options.texts / after_start_seconds
            record[name] = {"seconds": seconds, "after_start": after_start, "peak_mib": peak, "bytes": n_bytes}
            print(
                f"{name:<14} {seconds:7.1f} s, {options.texts / seconds:9,.0f} texts/s; after start-up "
                f"{after_start:9,.0f} texts/s; {peak:,.0f} MiB per worker at most"
            )
        record["model2vec"] = speed = peer_speed(model, home / "peer", n_peer)
        print(f"{'model2vec':<14} {speed:,.0f} texts/s in 2 processes, after start-up, on {n_peer:,} texts")
    two = record["2 workers"]
    ratios = {
        "2 workers / 1 worker": two["after_start"] / record["1 worker"]["after_start"],
        "2 workers / 1 worker, with start-up": record["1 worker"]["seconds"] / two["seconds"],
        "2 workers / model2vec in 2 processes": two["after_start"] / speed,
    }
    if "Ray, 2 actors" in record:
        ratios["Ray / 2 workers"] = record["Ray, 2 actors"]["after_start"] / two["after_start"]
    for name, ratio in ratios.items():
        print(f"{name:<38} {ratio:6.2f}")
    minutes = DOCUMENTS / (two["after_start"] / 2 * MACHINES * CORES) / 60
    written = two["bytes"] / options.texts * DOCUMENTS / MACHINES
    print(f"Computed, not measured: {DOCUMENTS:,.0f} such texts on {MACHINES} machines of {CORES} cores")
    print(
        f"  every core as fast as one of the 2 workers here: {minutes:.1f} minutes, if each machine writes its "
        f"{written / 1e9:,.0f} GB at {written / 1e6 / minutes / 60:,.0f} MB/s"
    )
    print(f"  written at 200 MB/s: {written / 200e6 / 60:.1f} minutes")
    record |= {"ratios": ratios, "computed_minutes": minutes, "computed_bytes_a_machine": written}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
