"""From many files of texts to a folder of embeddings."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import Literal, get_args

from m2v_core.bulk import manifest
from m2v_core.bulk.formats import DType, InputFormat, import_pyarrow
from m2v_core.bulk.inputs import InputFile, find_inputs
from m2v_core.bulk.manifest import Manifest
from m2v_core.bulk.options import EMBEDDING_COLUMN, EncodeOptions, model_fingerprint
from m2v_core.bulk.parquet import schema_of
from m2v_core.bulk.readers import OnError
from m2v_core.bulk.run import found_at, open_reader
from m2v_core.distributed import processes, ray_engine
from m2v_core.distributed.shards import Job, Outcome, Shard, ShardEncoder, add_finished, schema_to
from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.model import StaticModel
from m2v_core.native.cpus import n_usable_cpus
from m2v_core.progress import ProgressCallback, ProgressReporter

Engine = Literal["processes", "ray"]
_N_PROBLEMS = 3  # told of those that were left out


@dataclass
class EncodedFiles:
    """What became of many files.

    Attributes:
        n_files: Outputs of this call's inputs that the folder now holds.
        n_files_resumed: How many of them were there before.
        n_texts: Their rows.
        n_texts_resumed: How many of them were there before.
        n_skipped: Rows of the inputs that were left out.
        problems: Why, of the first three of them.
        warning: What makes the embeddings of the first such file less than they seem; None where nothing does.
        failed: Why a file was left out, path of the file to message.
        dim: Width of the embeddings.
    """

    n_files: int = 0
    n_files_resumed: int = 0
    n_texts: int = 0
    n_texts_resumed: int = 0
    n_skipped: int = 0
    problems: tuple[str, ...] = ()
    warning: str | None = None
    failed: dict[str, str] = field(default_factory=dict)
    dim: int = 0


def encode_files(
    model: str | PathLike[str],
    inputs: str | Path,
    output_folder: str | Path,
    *,
    workers: int | None = None,
    engine: Engine = "processes",
    address: str | None = None,
    column: str | None = None,
    input_format: InputFormat | None = None,
    keep_columns: bool = True,
    embedding_column: str = EMBEDDING_COLUMN,
    dtype: DType = "float32",
    max_length: int | EllipsisType | None = ...,
    normalize: bool | None = None,
    on_error: OnError = "fail",
    restart: bool = False,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> EncodedFiles:
    """Write the embeddings of many files, a Parquet file each, into a folder.

    Each output has the rows of its input, in their order, and appears when complete. After an interruption the same
    call resumes: finished files are skipped, unfinished ones start over, and every row is in the folder once. A worker
    that dies costs its file a retry. Files that join the pattern later are added by the same call; files that changed
    are encoded again.

    Args:
        model: Folder or Hub name; each worker loads it.
        inputs: A file, a folder, a pattern such as `texts/**/*.parquet`, or a URL that fsspec knows (`hf://`, `s3://`),
            of text, JSONL, CSV, TSV or Parquet. A remote file is fetched whole, into `output_folder`, while it is read.
        output_folder: New, empty, or filled by this function. Workers on several machines must share it.
        workers: How many processes, of one core each; None for as many as there are cores, or files: these share the
            cores.
        engine: "processes" starts them here, "ray" on a Ray cluster.
        address: Of the cluster; None for the one that RAY_ADDRESS names, or else this machine.
        column: As in `bulk.run.encode_file`.
        input_format: As there.
        keep_columns: As there. All files must have the same columns then.
        embedding_column: As there.
        dtype: As there.
        max_length: As there.
        normalize: As there.
        on_error: As there; "skip" leaves out files too that can't be read, or have other columns than the first.
        restart: Whether to remove what the folder holds of an earlier run, and begin anew.
        progress: Receives one stage, "encode", in texts over all files.
        cancel: Set it to stop.

    Raises:
        NotFoundError: No such model or no such file.
        InputError: A file can't be used, and `on_error` is "fail", or none can; or an argument is not allowed.
        SaveError: The folder holds something else, or embeddings that were made otherwise, or can't be written.
        MissingExtraError: pyarrow isn't installed, or ray where it is the engine.
        Cancelled: `cancel` was set; the same call resumes.
    """
    import_pyarrow("pyarrow.parquet")
    n_cores = n_usable_cpus()
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}. This machine has {n_cores} cores.")
    if engine not in get_args(Engine):
        raise InputError(f"engine must be one of {', '.join(get_args(Engine))}, not {engine!r}.")
    if address is not None and engine != "ray":
        raise InputError(f"address {address!r} is that of a Ray cluster; choose that engine (engine='ray').")
    if engine == "ray":
        ray_engine.import_ray()
    options = EncodeOptions(
        column, input_format, keep_columns, embedding_column, dtype, max_length, normalize, on_error
    )
    folder = Path(output_folder).expanduser().absolute()
    before = manifest.read(folder)  # refuses a wrong one before the work
    loaded = StaticModel.from_pretrained(model)
    loaded.encode([], **options.encode_arguments)
    files = find_inputs(inputs)
    schema = None
    if keep_columns:
        schema = before["schema"] if before is not None and not restart else _schema(files, options)
    settings = {
        "model": model_fingerprint(loaded),
        "column": column,
        "kept columns": keep_columns,
        **options.fingerprint(loaded),
    }
    for name in ("m2v-studio", "on_error"):  # another version may resume, and one that skips bad rows
        del settings[name]
    with manifest.opened(folder, settings, schema, restart, found_at(model)) as book:
        run = _Run(book, files, loaded.dim, ProgressReporter(progress, cancel))
        n_workers = min(workers or n_cores, max(len(run.shards), 1))
        job = Job(
            model=found_at(model),
            model_fingerprint=settings["model"],
            folder=str(folder),
            options=options,
            schema=book.schema,
            n_cores=1 if engine == "ray" or workers is not None else max(n_cores // n_workers, 1),
        )
        if run.shards:
            outcomes = (
                ray_engine.run_on_ray(partial(ShardEncoder, job), job.folder, run.shards, workers, address)
                if engine == "ray"
                else processes.run_in_processes(job, run.shards, n_workers, run.advance)
            )
            with closing(outcomes):
                for outcome in outcomes:
                    run.add(outcome, on_error)
    return run.encoded


class _Run:
    """The count of what is done."""

    def __init__(self, book: Manifest, files: Sequence[InputFile], dim: int, reporter: ProgressReporter) -> None:
        self._book = book
        self._reporter = reporter
        self._sizes = {file.path: file.n_bytes for file in files}
        self._at_work: dict[str, tuple[int, int]] = {}  # texts done, and in all, of unfinished files
        self._n_bytes_done = 0
        self._n_told = 0
        self.encoded = EncodedFiles(dim=dim)
        outputs = book.outputs(files)
        self.shards = []
        for file in files:
            entry = book.finished(file)
            if entry is None:
                self.shards.append(Shard(file, outputs[file.path]))
                continue
            self._n_bytes_done += entry.n_input_bytes
            self.encoded.n_files += 1
            self.encoded.n_texts += entry.n_texts
            self.encoded.n_skipped += entry.n_skipped
        self.encoded.n_files_resumed, self.encoded.n_texts_resumed = self.encoded.n_files, self.encoded.n_texts
        self._n_told = self.encoded.n_texts
        self._reporter.start("encode", self._total(), self._n_told)

    def add(self, outcome: Outcome, on_error: OnError) -> None:
        """Write down what became of a file.

        Raises:
            M2VError: It failed, and that ends the run.
        """
        self._at_work.pop(outcome.input, None)
        self._n_bytes_done += self._sizes[outcome.input]
        if outcome.entry is None:
            if not (outcome.is_of_input and on_error == "skip"):
                raise outcome.exception()
            self.encoded.failed[outcome.input] = outcome.message
            if len(self.encoded.failed) == len(self._sizes):
                raise InputError(f"None of the {len(self._sizes):,} files can be used. The first: {outcome.message}")
        else:
            add_finished(self._book, outcome.entry)
            self.encoded.n_files += 1
            self.encoded.n_texts += outcome.entry.n_texts
            self.encoded.n_skipped += outcome.entry.n_skipped
            self.encoded.warning = self.encoded.warning or outcome.warning
            self.encoded.problems = (self.encoded.problems + outcome.problems)[:_N_PROBLEMS]
        self.advance("", 0, 0)

    def advance(self, path: str, n_texts: int, n_in_all: int) -> None:
        """Count what workers report of a file; "" only looks whether to stop."""
        if path:
            self._at_work[path] = (n_texts, n_in_all)
        n_done = self.encoded.n_texts + sum(n for n, _ in self._at_work.values())
        n_new = max(n_done - self._n_told, 0)  # a file that is begun once more is not counted down
        self._n_told += n_new
        self._reporter.advance(n_new, self._total())

    def _total(self) -> int:
        """Texts in all, by the bytes that those so far took."""
        n_bytes, n_texts = float(self._n_bytes_done), self.encoded.n_texts
        for path, (done, in_all) in self._at_work.items():
            if in_all:
                n_bytes += self._sizes[path] * done / in_all
                n_texts += done
        total = round(n_texts * sum(self._sizes.values()) / n_bytes) if n_bytes else 0
        return max(total, self._n_told) if total else 0


def _schema(files: Sequence[InputFile], options: EncodeOptions) -> str:
    """The columns of the first file that can be read.

    Raises:
        InputError: None can, or the first can't and `on_error` is "fail".
    """
    first: M2VError | None = None
    for file in files:
        try:
            with file.local(Path(tempfile.gettempdir()), f"m2v-{os.getpid()}") as path:
                return schema_to(schema_of(open_reader(path, options.input_format, options.wanted())))
        except (InputError, NotFoundError) as error:
            if options.on_error == "fail":
                raise
            first = first or error
    raise InputError(f"None of the {len(files):,} files can be used. The first: {first}")
