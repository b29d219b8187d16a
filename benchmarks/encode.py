"""Texts to embeddings, here and in other static encoders: speed, latency, start and memory, side by side.

The bundled teacher is distilled once; model2vec and Sentence Transformers' StaticEmbedding read the very same model,
WordLlama brings its own of the same width. Texts are the public ones beside the project. In each round the encoders
take turns, so that a busy moment hits all of them, and the median of the rounds counts.

    python benchmarks/encode.py              the tables
    python benchmarks/encode.py --scale      cost from 10,000 to 1,000,000 texts
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROUNDS = 3
DATA = Path(__file__).parents[2] / "shared" / "eval"
RESULT = Path(__file__).parent / "results" / "encode.json"
OURS, PEER = "m2v_core", "model2vec"
SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank."
Encode = Callable[[list[str]], np.ndarray]


def ours(folder: str) -> Encode:
    from m2v_core import StaticModel

    return StaticModel.from_pretrained(folder).encode


def model2vec(folder: str) -> Encode:
    from model2vec import StaticModel

    return StaticModel.from_pretrained(folder).encode


def sentence_transformers(folder: str) -> Encode:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    return SentenceTransformer(modules=[StaticEmbedding.from_model2vec(folder)], device="cpu").encode


def wordllama(folder: str) -> Encode:
    import wordllama

    package = Path(wordllama.__file__).parent  # weights and tokenizer lie in the package
    model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
    return lambda texts: model.embed(texts, norm=True)


ENCODERS = {OURS: ours, PEER: model2vec, "sentence-transformers": sentence_transformers, "wordllama": wordllama}


def news() -> list[str]:
    parts = [DATA / "classification" / "AGNews" / f"{part}.tsv" for part in ("train", "test")]
    return [line.split("\t", 1)[1] for part in parts for line in part.read_text("utf-8").splitlines()]


def sentences(count: int) -> list[str]:
    """Sentences, each once: the corpus first, then both sides of the pairs, then halves of what is longest."""
    lines = (DATA / "corpus" / "sentences.txt").read_text("utf-8").split("\n")
    for path in sorted((DATA / "sts").glob("*.tsv")):
        lines += [side for line in path.read_text("utf-8").splitlines() for side in line.split("\t")[1:]]
    for part in ("train", "test"):
        rows = (DATA / "classification" / "SST2" / f"{part}.tsv").read_text("utf-8").splitlines()
        lines += [row.split("\t", 1)[1] for row in rows]
    found = list(dict.fromkeys(line for line in lines if line.strip()))
    longest = sorted(range(len(found)), key=lambda i: -len(found[i]))[: max(0, count - len(found))]
    for i in longest:
        words = found[i].split(" ")
        found[i] = " ".join(words[: len(words) // 2])
        found.append(" ".join(words[len(words) // 2 :]))
    return found[:count]


def documents() -> list[str]:
    texts = news()
    return [" ".join(texts[i : i + 16]) for i in range(0, len(texts), 8)]


def seconds(encode: Encode, texts: list[str]) -> float:
    started = time.perf_counter()
    encode(texts)
    return time.perf_counter() - started


def throughput(folder: str, n_cores: int | None) -> dict[str, dict[str, list[float]]]:
    """Seconds of each round: {corpus: {encoder: [...]}}."""
    if n_cores is not None:
        os.sched_setaffinity(0, range(n_cores))
    corpora = {"news": news(), "sentences": sentences(100_000), "documents": documents()}
    found: dict[str, dict[str, list[float]]] = {}
    if n_cores is None:
        # Each time a new model, which has seen nothing; its code has run before, on other texts.
        other = [f"{i} {chr(0x61 + i % 26)}" for i in range(50_000)] * 8
        for load in ENCODERS.values():
            load(folder)(other)
        for name in ("news", "sentences"):
            times: dict[str, list[float]] = {encoder: [] for encoder in ENCODERS}
            for _ in range(ROUNDS):
                for encoder, load in ENCODERS.items():
                    times[encoder].append(first_pass(load(folder), corpora[name]))
            found[f"{name}, never seen"] = times
    encoders = {name: load(folder) for name, load in ENCODERS.items()}
    for name, texts in corpora.items():
        for encode in encoders.values():
            encode(texts)
        times = {encoder: [] for encoder in ENCODERS}
        for _ in range(ROUNDS):
            for encoder, encode in encoders.items():
                times[encoder].append(seconds(encode, texts))
        found[f"{name}, seen"] = times
    one: dict[str, list[float]] = {encoder: [] for encoder in ENCODERS}
    for _ in range(ROUNDS):
        for encoder, encode in encoders.items():
            one[encoder].append(statistics.median(seconds(encode, [SENTENCE]) for _ in range(500)))
    found["one short sentence"] = one
    return found


def first_pass(encode: Encode, texts: list[str]) -> float:
    encode([SENTENCE])
    return seconds(encode, texts)


def start(encoder: str, folder: str) -> float:
    """Seconds from starting the interpreter to the first embedding."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import encode\n"
    if encoder in (OURS, PEER):
        module = "m2v_core" if encoder == OURS else "model2vec"
        code = f"from {module} import StaticModel as M; M.from_pretrained({folder!r}).encode({SENTENCE!r})"
    else:
        code += f"encode.ENCODERS[{encoder!r}]({folder!r})([{SENTENCE!r}])"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment())
    return time.perf_counter() - started


def peak_memory(encoder: str, folder: str) -> int:
    """Bytes of the largest resident memory while 100,000 sentences are encoded in a process of their own."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import encode\n"
        f"texts = encode.sentences(100_000); run = encode.ENCODERS[{encoder!r}]({folder!r})\n"
        "embeddings = run(texts)\n"
        "import re, pathlib\n"  # ru_maxrss would begin with what this process had when it forked
        "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment())
    return int(done.stdout.split()[-1]) * 1024


def scale(folder: str) -> dict[str, float]:
    """Seconds for ever more texts, seen before, ours alone."""
    encode = ours(folder)
    texts = sentences(100_000)
    encode(texts)
    found = {}
    for count in (10_000, 100_000, 1_000_000):
        many = (texts * (1 + count // len(texts)))[:count]
        found[f"{count:,}"] = statistics.median(seconds(encode, many) for _ in range(3))
    return found


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def in_own_process(folder: str, task: str) -> dict:
    command = [sys.executable, __file__, "--folder", folder, "--task", task]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(title: str, times: dict[str, list[float]], unit: float = 1.0, sign: str = "s") -> dict:
    medians = {encoder: statistics.median(values) for encoder, values in times.items()}
    print(title)
    for encoder, median in medians.items():
        spread = f"{min(times[encoder]) * unit:.3g} to {max(times[encoder]) * unit:.3g}"
        ratio = medians[PEER] / median
        print(f"  {encoder:<22} {median * unit:8.4g} {sign:<3} ({spread})   {ratio:6.2f} x model2vec")
    return {
        "rounds": times,
        "median": medians,
        "model2vec_over_ours": medians[PEER] / medians[OURS],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="a saved model instead of the bundled teacher's")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"The texts are not in {DATA}; nothing was measured.")
    if options.task:
        cores = {"all": None, "one": 1}.get(options.task)
        found = scale(options.folder) if options.task == "scale" else throughput(options.folder, cores)
        print(json.dumps(found))
        return
    from m2v_core.encoder.native import kernels_ready

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder
        if folder is None:
            from m2v_core import distill
            from m2v_core.distillation.bundled import bundled_folder

            folder = temporary
            distill(str(bundled_folder()), device="cpu", recipe="fast").save_pretrained(folder)
        kernels_ready(wait=True)  # they are compiled once for each machine, in the background
        record: dict = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()}
        record["versions"] = {name: version(name) for name in ("model2vec", "sentence-transformers", "wordllama")}
        if options.scale:
            record["scale"] = scaled = in_own_process(folder, "scale")
            for count, taken in scaled.items():
                print(f"{count:>10} texts {taken:8.3f} s, {int(count.replace(',', '')) / taken:12,.0f} texts a second")
        else:
            for title, times in in_own_process(folder, "all").items():
                short = title == "one short sentence"
                record[title] = show(title, times, 1e6 if short else 1.0, "us" if short else "s")
            for title, times in in_own_process(folder, "one").items():
                if title != "one short sentence":
                    record[f"{title}, one core"] = show(f"{title}, one core", times)
            starts = {encoder: [start(encoder, folder) for _ in range(ROUNDS)] for encoder in ENCODERS}
            record["start"] = show("interpreter start to first embedding", starts)
            memory = {encoder: [float(peak_memory(encoder, folder))] for encoder in ENCODERS}
            record["memory"] = show("peak memory, 100,000 sentences", memory, 2**-20, "MiB")
    RESULT.parent.mkdir(exist_ok=True)
    name = RESULT.with_stem("encode_scale") if options.scale else RESULT
    name.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
