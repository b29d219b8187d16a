"""Encodes one of many files, in the process of any engine."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m2v_core import errors
from m2v_core.bulk.formats import import_pyarrow
from m2v_core.bulk.inputs import InputFile
from m2v_core.bulk.manifest import Entry, Manifest
from m2v_core.bulk.options import EncodeOptions, model_fingerprint
from m2v_core.bulk.run import encode_one
from m2v_core.errors import InputError, M2VError, ModelFormatError, NotFoundError, SaveError
from m2v_core.model import StaticModel
from m2v_core.native.cpus import limit_cpus
from m2v_core.progress import Progress

if TYPE_CHECKING:
    import pyarrow

MAX_ATTEMPTS = 3  # per file whose worker dies
_SECONDS_TO_WAIT = 30.0  # for workers of a killed run to exit


@dataclass(frozen=True)
class Job:
    """Settings shared by all files of a run.

    Attributes:
        model: Folder or Hub name.
        model_fingerprint: Fingerprint of the driver's model.
        folder: Folder of the embeddings, absolute.
        options: How to encode each file.
        schema: As in `Manifest`.
        n_cores: Number of threads per worker.
    """

    model: str
    model_fingerprint: str
    folder: str
    options: EncodeOptions
    schema: str | None
    n_cores: int


@dataclass(frozen=True)
class Shard:
    """One file to encode, and the name of its output."""

    input: InputFile
    output: str


@dataclass(frozen=True)
class Outcome:
    """Result of encoding a file.

    Attributes:
        input: Path of the file.
        entry: Entry for the manifest; None if it failed.
        problems: Reasons for the first skipped rows.
        warning: A reason why its embeddings may be of low quality; None if there is none.
        message: Error message.
        error: Name of the error class.
        is_input_error: Whether the content of the file caused the error, so that other files may succeed.
    """

    input: str
    entry: Entry | None = None
    problems: tuple[str, ...] = ()
    warning: str | None = None
    message: str = ""
    error: str = ""
    is_input_error: bool = False

    def exception(self) -> M2VError:
        """The error, to raise it in another process."""
        kind = getattr(errors, self.error, M2VError)
        return M2VError(self.message) if kind is errors.MissingExtraError else kind(self.message)


class ShardEncoder:
    """Encodes files one at a time with one model.

    Raises:
        ModelFormatError: The model here differs from the driver's.
        NotFoundError: The model does not exist here.
    """

    def __init__(self, job: Job) -> None:
        limit_cpus(job.n_cores)
        self._job = job
        self._model = StaticModel.from_pretrained(job.model)
        self._schema = None if job.schema is None else schema_from(job.schema)
        if model_fingerprint(self._model) != job.model_fingerprint:
            raise ModelFormatError(
                f"{job.model} is a different model for this worker than for the process that started the run. Use a "
                "folder that all machines share, or the same version everywhere."
            )

    def encode(self, shard: Shard, progress: Callable[[Progress], None] | None = None) -> Outcome:
        """Write the output of one file, or return the reason for the failure."""
        folder = Path(self._job.folder)
        output = folder / shard.output
        try:
            with shard.input.local(folder, shard.output) as path:
                encoded = encode_one(
                    self._model,
                    path,
                    output,
                    self._job.options,
                    overwrite=True,
                    schema=self._schema,
                    wait_seconds=_SECONDS_TO_WAIT,
                    progress=progress,
                )
        except M2VError as error:
            kind = type(error).__name__
            is_input_error = isinstance(error, InputError | NotFoundError)
            return Outcome(shard.input.path, message=str(error), error=kind, is_input_error=is_input_error)
        entry = Entry(
            shard.input.path,
            shard.input.version,
            shard.output,
            encoded.n_texts,
            encoded.n_skipped,
            output.stat().st_size,
            shard.input.n_bytes,
        )
        return Outcome(shard.input.path, entry, encoded.problems, encoded.warning)


def worker_died(shard: Shard, ending: str) -> Outcome:
    """The outcome of a file after each worker that tried it died."""
    return Outcome(
        shard.input.path,
        message=f"{shard.input.path}: its worker died {MAX_ATTEMPTS} times, the last time by {ending}. Check whether "
        "there is enough memory, use fewer workers, or skip the file (on_error='skip', --on-error skip).",
        error="LimitError",
        is_input_error=True,
    )


def record_finished(book: Manifest, entry: Entry) -> None:
    """Record that a worker has finished a file.

    Raises:
        SaveError: The file isn't visible to this process, or the manifest can't be written.
    """
    if not book.exists(entry):
        raise SaveError(
            f"A worker wrote {entry.output}, but {book.folder} does not contain it. Use a folder that all machines "
            "share."
        )
    book.add(entry)


def schema_to(schema: pyarrow.Schema) -> str:
    """Serialize columns as text for a manifest."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def schema_from(text: str) -> pyarrow.Schema:
    """Parse the result of `schema_to`."""
    ipc = import_pyarrow("pyarrow.ipc")
    return ipc.read_schema(import_pyarrow().py_buffer(base64.b64decode(text)))
