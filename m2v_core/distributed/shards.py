"""Encoding one file of many, the same in whichever process an engine does it."""

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

MOST_ATTEMPTS = 3  # at a file whose worker dies
_SECONDS_TO_WAIT = 30.0  # for a worker of a killed run to end


@dataclass(frozen=True)
class Job:
    """What all files of a run have in common.

    Attributes:
        model: Folder or Hub name.
        model_fingerprint: Of the model that the driver has.
        folder: Where the embeddings go, absolute.
        options: How each file is encoded.
        schema: As in `Manifest`.
        n_cores: Threads that each worker may use.
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
    """What became of a file.

    Attributes:
        input: Its path.
        entry: For the manifest; None where it failed.
        problems: Why rows were left out, of the first of them.
        warning: What makes its embeddings less than they seem; None where nothing does.
        message: Why it failed.
        error: Name of the error.
        is_of_input: Whether it failed by what it holds, so that others may do better.
    """

    input: str
    entry: Entry | None = None
    problems: tuple[str, ...] = ()
    warning: str | None = None
    message: str = ""
    error: str = ""
    is_of_input: bool = False

    def exception(self) -> M2VError:
        """The error, to raise in another process."""
        kind = getattr(errors, self.error, M2VError)
        return M2VError(self.message) if kind is errors.MissingExtraError else kind(self.message)


class ShardEncoder:
    """Encodes one file after the other with one model.

    Raises:
        ModelFormatError: The model here is another than the driver's.
        NotFoundError: There is none.
    """

    def __init__(self, job: Job) -> None:
        limit_cpus(job.n_cores)
        self._job = job
        self._model = StaticModel.from_pretrained(job.model)
        self._schema = None if job.schema is None else schema_from(job.schema)
        if model_fingerprint(self._model) != job.model_fingerprint:
            raise ModelFormatError(
                f"{job.model} is another model to this worker than to the process that started the run. Give a folder "
                "that all machines share, or the same version everywhere."
            )

    def encode(self, shard: Shard, progress: Callable[[Progress], None] | None = None) -> Outcome:
        """Write the output of one file, or say why not."""
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
            is_of_input = isinstance(error, InputError | NotFoundError)
            return Outcome(shard.input.path, message=str(error), error=type(error).__name__, is_of_input=is_of_input)
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


def died(shard: Shard, ending: str) -> Outcome:
    """The outcome of a file whose workers died, each of them."""
    return Outcome(
        shard.input.path,
        message=f"{shard.input.path}: its worker ended {MOST_ATTEMPTS} times, the last time by {ending}. Is there "
        "enough memory? Take fewer workers, or leave the file out (on_error='skip', --on-error skip).",
        error="LimitError",
        is_of_input=True,
    )


def add_finished(book: Manifest, entry: Entry) -> None:
    """Write down that a worker has finished a file.

    Raises:
        SaveError: The file isn't in the folder as this process sees it, or it can't be written down.
    """
    if not book.is_there(entry):
        raise SaveError(
            f"A worker wrote {entry.output}, but {book.folder} doesn't have it here. Name a folder that all machines "
            "share."
        )
    book.add(entry)


def schema_to(schema: pyarrow.Schema) -> str:
    """Columns as text for a manifest."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def schema_from(text: str) -> pyarrow.Schema:
    """What `schema_to` was given."""
    ipc = import_pyarrow("pyarrow.ipc")
    return ipc.read_schema(import_pyarrow().py_buffer(base64.b64decode(text)))
