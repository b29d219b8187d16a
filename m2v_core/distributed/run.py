"""Encodes many files of texts into a folder of embeddings."""

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
from m2v_core.distributed.shards import Job, Outcome, Shard, ShardEncoder, record_finished, schema_to
from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.model import StaticModel
from m2v_core.native.cpus import n_usable_cpus
from m2v_core.progress import ProgressCallback, ProgressReporter

Engine = Literal["processes", "ray"]
_N_PROBLEMS = 3  # number of skipped rows to report


@dataclass
class EncodedFiles:
    """Result of encoding many files.

    Attributes:
        n_files: Number of finished outputs in the folder for the inputs of this call.
        n_files_resumed: How many of them existed before this call.
        n_texts: Number of rows in these outputs.
        n_texts_resumed: How many of them existed before this call.
        n_skipped: Skipped rows of the inputs.
        problems: Reasons for the first three of them.
        warning: The first reason why embeddings of a file may be of low quality; None if there is none.
        failed: Error messages of skipped files, by path.
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
    """Write the embeddings of many files into a folder, one Parquet file each.

    Each output has the rows of its input in order, and appears when it is complete. After an interruption, the same
    call resumes: finished files are skipped, unfinished ones start over, and no row is duplicated. If a worker dies,
    its file is retried. Files that match the pattern later are added by the same call; changed files are encoded again.

    Args:
        model: Folder or Hub name; each worker loads it.
        inputs: A file, a folder, a pattern such as `texts/**/*.parquet`, or a URL that fsspec supports (`hf://`,
            `s3://`), of text, JSONL, CSV, TSV or Parquet. Remote files are downloaded to `output_folder` while they are
            read.
        output_folder: A new or empty folder, or one written by this function. Workers on several machines must share
            it.
        workers: Number of processes with one core each; None for one per core, or one per file with the cores divided
            between them.
        engine: "processes" for local processes, "ray" for a Ray cluster.
        address: Address of the cluster; None for that of RAY_ADDRESS, or for this machine.
        column: As in `bulk.run.encode_file`.
        input_format: As in `bulk.run.encode_file`.
        keep_columns: As in `bulk.run.encode_file`. All files must then have the same columns.
        embedding_column: As in `bulk.run.encode_file`.
        dtype: As in `bulk.run.encode_file`.
        max_length: As in `bulk.run.encode_file`.
        normalize: As in `bulk.run.encode_file`.
        on_error: As in `bulk.run.encode_file`; "skip" also skips files that can't be read or whose columns differ from
            those of the first.
        restart: Whether to remove the files of earlier runs and start over.
        progress: Receives one stage, "encode", in texts over all files.
        cancel: Set it to stop.

    Raises:
        NotFoundError: The model or the files do not exist.
        InputError: A file is invalid and `on_error` is "fail", all files are invalid, or an argument is not allowed.
        SaveError: The folder contains other files or embeddings with other settings, or can't be written.
        MissingExtraError: pyarrow isn't installed, or Ray for the engine "ray".
        Cancelled: `cancel` was set; the same call resumes.
    """
    import_pyarrow("pyarrow.parquet")
    n_cores = n_usable_cpus()
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}. This machine has {n_cores} cores.")
    if engine not in get_args(Engine):
        raise InputError(f"engine must be one of {', '.join(get_args(Engine))}, not {engine!r}.")
    if address is not None and engine != "ray":
        raise InputError(f"address {address!r} is the address of a Ray cluster; use that engine (engine='ray').")
    if engine == "ray":
        ray_engine.import_ray()
    options = EncodeOptions(
        column, input_format, keep_columns, embedding_column, dtype, max_length, normalize, on_error
    )
    folder = Path(output_folder).expanduser().absolute()
    before = manifest.read(folder)  # rejects an unsuitable folder before the work
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
    for name in ("m2v-studio", "on_error"):  # other versions and other values of on_error may resume
        del settings[name]
    with manifest.open_manifest(folder, settings, schema, restart, found_at(model)) as book:
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
    """Counts finished texts and files."""

    def __init__(self, book: Manifest, files: Sequence[InputFile], dim: int, reporter: ProgressReporter) -> None:
        self._book = book
        self._reporter = reporter
        self._sizes = {file.path: file.n_bytes for file in files}
        self._in_progress: dict[str, tuple[int, int]] = {}  # finished and total texts of unfinished files
        self._n_bytes_done = 0
        self._n_reported = 0
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
        self._n_reported = self.encoded.n_texts
        self._reporter.start("encode", self._total(), self._n_reported)

    def add(self, outcome: Outcome, on_error: OnError) -> None:
        """Record the outcome of a file.

        Raises:
            M2VError: The file failed, and failures end the run.
        """
        self._in_progress.pop(outcome.input, None)
        self._n_bytes_done += self._sizes[outcome.input]
        if outcome.entry is None:
            if not (outcome.is_input_error and on_error == "skip"):
                raise outcome.exception()
            self.encoded.failed[outcome.input] = outcome.message
            if len(self.encoded.failed) == len(self._sizes):
                raise InputError(f"None of the {len(self._sizes):,} files can be used. The first: {outcome.message}")
        else:
            record_finished(self._book, outcome.entry)
            self.encoded.n_files += 1
            self.encoded.n_texts += outcome.entry.n_texts
            self.encoded.n_skipped += outcome.entry.n_skipped
            self.encoded.warning = self.encoded.warning or outcome.warning
            self.encoded.problems = (self.encoded.problems + outcome.problems)[:_N_PROBLEMS]
        self.advance("", 0, 0)

    def advance(self, path: str, n_texts: int, n_total: int) -> None:
        """Count the progress of a file; an empty path only checks for cancellation."""
        if path:
            self._in_progress[path] = (n_texts, n_total)
        n_done = self.encoded.n_texts + sum(n for n, _ in self._in_progress.values())
        n_new = max(n_done - self._n_reported, 0)  # progress does not decrease when a file is retried
        self._n_reported += n_new
        self._reporter.advance(n_new, self._total())

    def _total(self) -> int:
        """Estimated total of texts, from the average bytes per text so far."""
        n_bytes, n_texts = float(self._n_bytes_done), self.encoded.n_texts
        for path, (done, in_all) in self._in_progress.items():
            if in_all:
                n_bytes += self._sizes[path] * done / in_all
                n_texts += done
        total = round(n_texts * sum(self._sizes.values()) / n_bytes) if n_bytes else 0
        return max(total, self._n_reported) if total else 0


def _schema(files: Sequence[InputFile], options: EncodeOptions) -> str:
    """The columns of the first readable file.

    Raises:
        InputError: No file is readable, or the first one is not and `on_error` is "fail".
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
