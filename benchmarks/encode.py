"""Speed, startup time and memory of encoding, compared with other static encoders.

All encoders use the same texts and, except for WordLlama, the same model, saved by the real model2vec. They must agree
on a sample of the texts before anything is timed. In each round they take turns, so that other load affects all of
them; the median of the rounds is reported. Ratios are the other encoder's time divided by ours, in the same run.

    python benchmarks/encode.py                          everything; half an hour on a quiet machine
    python benchmarks/encode.py --only news,batches      some groups
    python benchmarks/encode.py --cores 1                everything on one core
    python benchmarks/encode.py --scale                  only m2v_core, from 10,000 to 1,000,000 texts
    python benchmarks/encode.py --compat                 m2v_core.compat compared with m2v_core and model2vec
    python benchmarks/encode.py --markdown               the same with a Markdown table on standard output

Groups:

- `news`, `documents`, `short`, `sentences`: a corpus, on the first pass of a new model and warm.
- `batches`: one sentence, and 2, 3, 8 and 32 short texts, warm.
- `first-process`: each corpus in a new interpreter with empty home and cache folders, and again in a second
  interpreter with the same home. StaticEmbedding and WordLlama are skipped, because they cache nothing.
- `unigram-32k`, `unigram-250k`, `bpe-32k`, `bpe-250k`: loading, and the sentences, with other tokenizers.
- `start`: interpreter start to the first embedding.
- `memory`: private and peak memory after encoding news, documents and sentences in a separate process.
- `limit`: bytes of rows gathered per second, against the bandwidth of this machine. Needs a corpus in the same run.
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
from pathlib import Path
from typing import Any

from encoding.encoders import COMPAT, LOADERS, OURS, OWN_MODEL, PEER, missing_modules
from encoding.models import NAMES
from encoding.report import Row, markdown
from encoding.texts import CORPORA, DATA, SENTENCE
from encoding.worker import count_cores

CHECKOUT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PEERS = [name for name in LOADERS if name != COMPAT]
TOKENIZERS = NAMES[1:]
GROUPS = [*CORPORA, "batches", "first-process", *TOKENIZERS, "start", "memory", "limit"]
WITH_FRESH_HOME = (OURS, PEER, "laghu")
PASSES = {"first": "first pass", "warm": "warm"}
MEMORY = {"private": "private memory (RssAnon)", "peak": "peak memory (VmHWM)"}
FIRST_EMBEDDING = "import sys; from pathlib import Path; from encoding.encoders import LOADERS; "
FIRST_EMBEDDING += f"LOADERS[sys.argv[1]](Path(sys.argv[2]))([{SENTENCE!r}])"


class Benchmark:
    """Runs the groups, prints each row when it is measured, and stores all rows."""

    def __init__(self, options: argparse.Namespace, encoders: list[str], models: Path, homes: Path) -> None:
        self.encoders = encoders
        self.rows: list[Row] = []
        self.lines: list[str] = []
        self._rounds: int = options.rounds
        self._settle: float = options.settle
        self._dtype: str = options.dtype
        self._models = models / options.dtype
        self._homes = homes
        self._gathered: dict[str, tuple[dict[str, Any], float]] = {}
        self._output = sys.stderr if options.markdown else sys.stdout
        self._used_home = self._new_home()

    def prepare(self) -> dict[str, Any]:
        """Build the model, let m2v_core fill the caches of the home for later processes, and describe both."""
        folder = self._model("wordpiece")
        self._work("sequence", self._used_home, folder=folder, encoder=OURS)
        time.sleep(self._settle)
        return self._work("describe", folder=folder, encoders=self.encoders)

    def run(self, group: str) -> None:
        """Measure one group."""
        if group in CORPORA:
            self._corpus(group)
        elif group in TOKENIZERS:
            self._tokenizer(group)
        else:
            {
                "batches": self._batches,
                "first-process": self._first_process,
                "start": self._start,
                "memory": self._memory,
                "limit": self._limit,
            }[group]()

    def scale(self) -> dict[str, float]:
        """Measure m2v_core with increasing numbers of texts."""
        found = self._work("scale", folder=self._model("wordpiece"), rounds=self._rounds)
        for count, taken in found.items():
            self.report(f"{count:>10} texts {taken:8.3f} s, {int(count.replace(',', '')) / taken:12,.0f} texts/s")
        return found

    def report_ratios(self) -> None:
        """Print the time of `m2v_core.compat` as a multiple of that of m2v_core."""
        ratios = {row.title: row.ratio(COMPAT) for row in self.rows}
        for title, ratio in ratios.items():
            self.report(f"m2v_core.compat / m2v_core: {ratio:.2f}, {title}")

    def report(self, line: str) -> None:
        """Print and store a line."""
        self.lines.append(line)
        print(line, file=self._output, flush=True)

    def _corpus(self, corpus: str) -> None:
        found = self._measure_corpus("wordpiece", corpus, self.encoders)
        for name, title in PASSES.items():
            self._add(f"{corpus} ({found['n_texts']:,} texts), {title}", found[name])
        self._gathered[corpus] = (found, statistics.median(found["warm"][OURS]))
        if corpus == "sentences":
            self._add("loading the model", found["load"])

    def _tokenizer(self, model: str) -> None:
        encoders = [encoder for encoder in self.encoders if encoder not in OWN_MODEL]
        found = self._measure_corpus(model, "sentences", encoders)
        for name, title in PASSES.items():
            self._add(f"{model}: {found['n_texts']:,} sentences, {title}", found[name])
        self._add(f"{model}: loading the model", found["load"])

    def _measure_corpus(self, model: str, corpus: str, encoders: list[str]) -> dict[str, Any]:
        folder = self._model(model)
        return self._work("corpus", folder=folder, corpus=corpus, encoders=encoders, rounds=self._rounds)

    def _batches(self) -> None:
        found = self._work("batches", folder=self._model("wordpiece"), encoders=self.encoders, rounds=self._rounds)
        for size, times in found.items():
            self._add("one short sentence" if size == "1" else f"{size} short texts", times, "µs")

    def _first_process(self) -> None:
        folder = self._model("wordpiece")
        encoders = [encoder for encoder in self.encoders if encoder in WITH_FRESH_HOME]
        times: dict[str, dict[str, list[float]]] = {}
        for _ in range(self._rounds):
            for encoder in encoders:
                home = self._new_home()
                for process in ("first process", "later process"):
                    found = self._work("sequence", home, folder=folder, encoder=encoder)
                    for corpus, passes in found.items():
                        for name, title in PASSES.items():
                            values = times.setdefault(f"{process} on the machine: {corpus}, {title}", {})
                            values.setdefault(encoder, []).extend(passes[name])
                    if process == "first process" and encoder == OURS:
                        time.sleep(self._settle)
        for title, rounds in times.items():
            self._add(title, rounds)

    def _start(self) -> None:
        folder = str(self._model("wordpiece"))
        times: dict[str, list[float]] = {encoder: [] for encoder in self.encoders}
        for number in range(self._rounds + 1):
            for encoder in self.encoders:
                started = time.perf_counter()
                _run([sys.executable, "-c", FIRST_EMBEDDING, encoder, folder], self._used_home)
                if number:  # the first round fills the disk cache
                    times[encoder].append(time.perf_counter() - started)
        self._add("interpreter start to the first embedding", times)

    def _memory(self) -> None:
        if not Path("/proc/self/status").exists():
            self.report("Memory was not measured: this system has no /proc.")
            return
        folder = self._model("wordpiece")
        found: dict[str, dict[str, list[float]]] = {name: {} for name in MEMORY}
        for encoder in self.encoders:  # one process each, because it varies little between runs
            for name, value in self._work("memory", folder=folder, encoder=encoder).items():
                found[name][encoder] = [value]
        floor = self._work("memory", folder=folder, encoder=None)
        for name, title in MEMORY.items():
            self._add(f"{title} after news, documents and sentences", found[name], "MiB")
            self.report(f"{title} of only Python, NumPy and the texts: {floor[name] / 2**20:.1f} MiB")

    def _limit(self) -> None:
        if not self._gathered:
            self.report("The limit was not measured: it needs a corpus in the same run.")
            return
        bandwidth = self._work("bandwidth", rounds=self._rounds)
        for corpus, (found, seconds) in self._gathered.items():
            rate = found["n_rows"] * found["row_bytes"] / seconds
            shares = [f"{rate / full:.0%} of the {full / 1e9:.1f} GB/s of {name}" for name, full in bandwidth.items()]
            self.report(
                f"limit: {corpus}, warm: {rate / 1e9:.2f} GB/s of rows gathered from a table of "
                f"{found['table_bytes'] / 1e6:.1f} MB: {', '.join(shares)}"
            )

    def _add(self, title: str, times: dict[str, list[float]], unit: str = "s") -> None:
        row = Row(title, unit, times)
        self.rows.append(row)
        print(row.text(), file=self._output, flush=True)

    def _model(self, name: str) -> str:
        folder = self._models / name
        self._work("build", name=name, folder=str(folder), dtype=self._dtype)
        return str(folder)

    def _new_home(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._homes))

    def _work(self, task: str, home: Path | None = None, **arguments: Any) -> Any:
        """Run a task of `encoding.worker` in a separate process and return its result."""
        command = [sys.executable, "-m", "encoding.worker", json.dumps({"task": task, **arguments})]
        return json.loads(_run(command, home or self._used_home).splitlines()[-1])


def _run(command: list[str], home: Path) -> str:
    """Return what a command prints. Its caches are in `home`."""
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(CHECKOUT)])
    # The last variable allows bytecode for this checkout, as for installed packages; otherwise every start compiles it.
    for name in ("HF_HOME", "LAGHU_CACHE", "NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{done.stderr}\nA measurement failed with status {done.returncode}.")
    return done.stdout


def _chosen(names: str, known: list[str]) -> list[str]:
    """Return the names of a comma-separated list, in the order of `known`."""
    chosen = names.split(",")
    if unknown := set(chosen) - set(known):
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. Choose from {', '.join(known)}.")
    return [name for name in known if name in chosen]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _save(record: dict[str, Any], benchmark: Benchmark, path: Path) -> None:
    """Write the results so far."""
    results = {**record, "lines": benchmark.lines, "rows": [row.record() for row in benchmark.rows]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"groups to measure: {', '.join(GROUPS)}")
    parser.add_argument("--encoders", default=",".join(PEERS), help=f"peers to compare: {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, help="cores to use; all by default")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="number format of the table")
    parser.add_argument("--models", type=Path, help="a folder to cache the models for the next run")
    parser.add_argument(
        "--settle", type=float, default=0.0, help="seconds to wait for compilers still running after a first process"
    )
    parser.add_argument("--scale", action="store_true", help="measure only m2v_core with increasing numbers of texts")
    parser.add_argument(
        "--compat",
        action="store_true",
        help="compare m2v_core.compat with m2v_core and model2vec, without other encoders",
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table, the rest to stderr")
    return parser


def main() -> None:
    options = _parser().parse_args()
    groups = _chosen(options.only or ",".join([*CORPORA, "batches"] if options.compat else GROUPS), GROUPS)
    if not DATA.is_dir():
        sys.exit(f"The evaluation texts are not in {DATA}; nothing was measured.")
    if options.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    missing = {name: missing_modules(name) for name in LOADERS}
    if missing[PEER]:
        sys.exit("model2vec is not installed; it writes the models and is the reference for all others.")
    others = [COMPAT] if options.compat else _chosen(options.encoders, PEERS)
    chosen = [name for name in LOADERS if name in (OURS, PEER, *others)]
    encoders = [name for name in chosen if not missing[name]]
    absent = [f"{name} ({', '.join(missing[name])} not installed)" for name in chosen if missing[name]]
    kind = "scale" if options.scale else "compat" if options.compat else "part" if groups != GROUPS else ""
    cores = "" if options.cores is None else f"cores{options.cores}"
    path = RESULTS / ("_".join(filter(None, ["encode", kind, cores])) + ".json")
    with tempfile.TemporaryDirectory() as temporary:
        homes = Path(temporary, "homes")
        homes.mkdir()
        benchmark = Benchmark(options, encoders, (options.models or Path(temporary, "models")).absolute(), homes)
        record: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d"),
            "processor": _processor(),
            "cores": count_cores(),
            "python": platform.python_version(),
            "table": options.dtype,
            "rounds": options.rounds,
            "absent": absent,
            **benchmark.prepare(),
        }
        for name, value in record.items():
            benchmark.report(f"{name}: {value if value else 'none'}")
        if "laghu" in encoders:
            benchmark.report(
                "laghu gets a float32 copy of each model without truncation and padding, as its Rust code needs."
            )
        if options.scale:
            record["scale"] = benchmark.scale()
        else:
            for group in groups:
                benchmark.run(group)
                _save(record, benchmark, path)
        if options.compat and not options.scale:
            benchmark.report_ratios()
        _save(record, benchmark, path)
    if options.markdown:
        print("\n".join(["", *[f"- {line}" for line in benchmark.lines], "", markdown(benchmark.rows, encoders)]))


if __name__ == "__main__":
    main()
