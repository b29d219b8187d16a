"""Encodes a file of texts into a file of embeddings."""

from __future__ import annotations

import logging
import math
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from m2v_core.bulk import formats
from m2v_core.bulk.formats import STDIN, DType, InputFormat, OutputFormat, import_pyarrow
from m2v_core.bulk.options import EMBEDDING_COLUMN, EncodeOptions, model_fingerprint
from m2v_core.bulk.parquet import ParquetReader, ParquetWriter, check_same_columns, schema_of
from m2v_core.bulk.readers import (
    BYTES_PER_BLOCK,
    CsvReader,
    JsonlReader,
    OnError,
    Reader,
    TextReader,
    TsvReader,
    Wanted,
)
from m2v_core.bulk.vectors import in_dtype
from m2v_core.bulk.writers import JsonlWriter, NpyWriter, Writer
from m2v_core.errors import InputError, LimitError, M2VError, SaveError
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage.atomic import exclusive, replacing_file

if TYPE_CHECKING:
    import pyarrow

    from m2v_core.model import StaticModel

logger = logging.getLogger(__name__)

_N_PROBLEMS = 3  # number of skipped rows to report
_READERS: dict[InputFormat, Any] = {
    "text": TextReader,
    "jsonl": JsonlReader,
    "csv": CsvReader,
    "tsv": TsvReader,
    "parquet": ParquetReader,
}


@dataclass(frozen=True)
class Encoded:
    """Result of encoding a file.

    Attributes:
        n_texts: Rows of the output.
        n_skipped: Skipped rows of the input.
        problems: Reasons for the first three of them.
        warning: A reason why the embeddings may be of low quality; None if there is none.
    """

    n_texts: int
    n_skipped: int = 0
    problems: tuple[str, ...] = ()
    warning: str | None = None


MAX_TEXTS = 100_000  # default limit of `read_texts`


def encode_file(
    model: StaticModel,
    input_path: str | Path,
    output_path: str | Path,
    *,
    column: str | None = None,
    input_format: InputFormat | None = None,
    keep_columns: bool = True,
    embedding_column: str = EMBEDDING_COLUMN,
    dtype: DType = "float32",
    max_length: int | EllipsisType | None = ...,
    normalize: bool | None = None,
    on_error: OnError = "fail",
    overwrite: bool = False,
    model_name: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Encoded:
    """Write the embedding of every text of a file, in order.

    Input formats: text (one per line), JSONL, CSV, TSV (UTF-8, with or without a byte order mark; line ends LF or CRLF)
    and Parquet. Output formats, by file extension: `.npy`, an array `(n_texts, dim)`; `.parquet`, the columns of the
    input and a column of fixed-size lists; `.jsonl`, the same as one object per line. Memory use does not depend on the
    size of the files.

    The output appears in one rename when it is complete. After an interruption, the same call starts over; runs over
    many files, with `distributed.run.encode_files`, resume at the first unfinished file. A killed process leaves
    `<output>.part`, which the next call replaces.

    Args:
        model: The model.
        input_path: File to read; "-" reads stdin.
        output_path: File to write. Missing folders are created.
        column: Column or key with the texts; None for "text", or for the only candidate.
        input_format: Format of the input; None to use the extension. Files with unknown extensions are text.
        keep_columns: Whether Parquet and JSONL outputs include the columns of the input.
        embedding_column: Name of the column of embeddings.
        dtype: Number format of the embeddings; "int8", only in Parquet, adds a column with one scale per row.
        max_length: As in `StaticModel.encode`.
        normalize: As in `StaticModel.encode`.
        on_error: What to do about a row that is not a JSON object, has too few or many cells, or has null for a text:
            "fail" raises an error that names the row, "skip" skips it. Rows of a `.npy` file can only be identified
            by their index, so they require "fail".
        overwrite: Whether to replace an existing file at `output_path`, once the new one is complete.
        model_name: Folder or Hub name of the model, which is saved in the metadata of Parquet outputs for
            `m2v search`; None to save nothing.
        progress: Receives one stage, "encode", in texts; before that, for JSONL to Parquet, "scan".
        cancel: Set it to stop.

    Raises:
        NotFoundError: No such input file.
        InputError: The input can't be read, changed in the meantime, or contains an invalid row; or an argument has a
            value that is not allowed.
        SaveError: The output exists, is being written by another process, can't be written or won't fit on the disk.
        MissingExtraError: Parquet without pyarrow.
        Cancelled: `cancel` was set; nothing was written.
    """
    options = EncodeOptions(
        column, input_format, keep_columns, embedding_column, dtype, max_length, normalize, on_error
    )
    return encode_one(
        model,
        input_path,
        output_path,
        options,
        overwrite=overwrite,
        made_by=None if model_name is None else {"model": found_at(model_name)},
        progress=progress,
        cancel=cancel,
    )


def encode_one(
    model: StaticModel,
    input_path: str | Path,
    output_path: str | Path,
    options: EncodeOptions,
    *,
    overwrite: bool = False,
    schema: pyarrow.Schema | None = None,
    wait_seconds: float = 0.0,
    made_by: dict[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Encoded:
    """Encode one of many files, as `encode_file` does.

    Args:
        model: See `encode_file`.
        input_path: See `encode_file`.
        output_path: See `encode_file`.
        options: The other options of `encode_file`.
        overwrite: See `encode_file`.
        schema: Required schema of the kept columns, so that all outputs are compatible; None for any.
        made_by: Metadata about the model for Parquet outputs, in addition to its fingerprint; None for neither.
        wait_seconds: How long to wait for another process that is writing the output.
        progress: See `encode_file`.
        cancel: See `encode_file`.

    Raises:
        InputError: See `encode_file`; or the columns differ from `schema`.
    """
    output_path = Path(output_path)
    kind = _checked_output(output_path, input_path, overwrite)
    if kind == "npy" and options.on_error == "skip":
        raise InputError(
            "Rows of a .npy file can only be identified by their index, so none may be skipped. Write Parquet or "
            "JSONL, or correct the input."
        )
    if kind != "parquet" and options.dtype == "int8":
        raise InputError("int8 embeddings have a scale per row, which only Parquet can store. Write .parquet.")
    model.encode([], **options.encode_arguments)  # raises an error for invalid options before any file is opened
    wanted = Wanted(options.column, options.keep_columns and kind != "npy", options.on_error)
    reader = open_reader(input_path, options.input_format, wanted)
    if kind == "parquet":
        import_pyarrow("pyarrow.parquet")
    if wanted.with_rows:
        options.vector_column(model).check_is_free(reader.columns or ())
        if kind == "parquet" and input_path == STDIN and reader.columns is None:
            raise InputError(
                "The columns of JSONL are only known at its end, and stdin can't be read twice. "
                "Save it as a file, write JSONL, or omit the other columns (keep_columns=False, "
                "--no-keep-columns)."
            )
    run = _Run(
        model, reader, kind, options, wanted.with_rows, output_path, schema, made_by, ProgressReporter(progress, cancel)
    )
    version = _version(input_path)
    try:
        output_path.absolute().parent.mkdir(parents=True, exist_ok=True)
        busy = f"Another run is writing {output_path}. Wait for it, or choose another output."
        lock = output_path.with_name(f"{output_path.name}.lock")
        with (
            exclusive(lock, wait_seconds, busy=busy, is_removed=True),
            replacing_file(output_path, is_alone=True) as part,
        ):
            encoded = run.write(part)
            if _version(input_path) != version:
                raise InputError(f"{input_path} changed while it was being encoded. Encode it again.")
    except M2VError:
        raise
    except OSError as error:
        raise SaveError(
            f"Could not write {output_path}: {error.strerror or error}. {_free_bytes(output_path):,} bytes are free "
            "there. Fix this and rerun the same command, which starts this file over, or choose another output."
        ) from error
    return encoded


@dataclass
class _Run:
    model: StaticModel
    reader: Reader
    kind: OutputFormat
    options: EncodeOptions
    with_rows: bool
    output_path: Path
    schema: pyarrow.Schema | None
    made_by: dict[str, Any] | None
    reporter: ProgressReporter

    def write(self, part: Path) -> Encoded:
        n_texts, n_skipped, warning = 0, 0, None
        problems: list[str] = []
        with part.open("wb") as file, closing(self._writer(file)) as writer:
            self.reporter.start("encode")
            for block in self.reader.blocks():
                if n_texts == 0:
                    warning = self.model.coverage(block.texts).warning(f"the texts in {self.reader.name}")
                embeddings = self.model.encode(block.texts, **self.options.encode_arguments)
                writer.write(block, in_dtype(embeddings, self.options.dtype, n_texts))
                if n_texts == 0 and block.share:
                    self._check_room(round(file.tell() * (1 / block.share - 1)))
                n_texts += len(block.texts)
                n_skipped += len(block.problems)
                problems = (problems + block.problems)[:_N_PROBLEMS]
                self.reporter.advance(len(block.texts), round(n_texts / block.share) if block.share else None)
        return Encoded(n_texts, n_skipped, tuple(problems), warning)

    def _writer(self, file: BinaryIO) -> Writer:
        vectors = self.options.vector_column(self.model)
        if self.kind == "npy":
            return NpyWriter(file, vectors.dim, vectors.dtype)
        if self.kind == "jsonl":
            return JsonlWriter(file, vectors)
        self.reporter.start("scan")
        import pyarrow

        schema = schema_of(self.reader) if self.with_rows else pyarrow.schema([])
        vectors.check_is_free(schema.names)
        if self.schema is not None:
            check_same_columns(schema, self.schema, self.reader)
        made_by = self.made_by and self.made_by | {"fingerprint": model_fingerprint(self.model)}
        return ParquetWriter(file, schema, vectors, made_by)

    def _check_room(self, n_bytes: int) -> None:
        n_free_bytes = _free_bytes(self.output_path)
        if n_bytes > n_free_bytes:
            raise SaveError(
                f"{self.output_path} needs about {n_bytes:,} more bytes, but only {n_free_bytes:,} are free. Free some "
                "space, use float16, or choose an output on another disk."
            )


def read_texts(
    path: str | Path,
    column: str | None = None,
    at_most: int = MAX_TEXTS,
    input_format: InputFormat | None = None,
    most_characters: int | None = None,
) -> list[str]:
    """Return the texts of a file in order; if there are too many, a uniform random sample.

    Memory is bounded by the sample, whatever the size of the file.

    Args:
        path: Text (one per line), JSONL, CSV, TSV or Parquet.
        column: Name of the column with the texts; None for "text", or for the only column.
        at_most: Maximum number of texts.
        input_format: Format of the file; None to use its extension.
        most_characters: Maximum total number of characters: a small compressed file can contain long texts.

    Raises:
        NotFoundError: No such file.
        InputError: The file can't be read, or has no such column.
        LimitError: The texts have more than `most_characters`.
        MissingExtraError: Parquet without pyarrow.
    """
    reader = open_reader(path, input_format, Wanted(column, with_rows=False, on_error="skip"))
    n_left = math.inf if most_characters is None else most_characters
    # The metadata of a Parquet file bounds the size before decompression: a character has at most four bytes.
    if isinstance(reader, ParquetReader) and reader.unpacked_bytes > 4 * n_left + BYTES_PER_BLOCK:
        n_left = -1
    random = np.random.default_rng(0)
    drawn: list[tuple[int, str]] = []
    n_read = 0
    for block in reader.blocks() if n_left >= 0 else ():
        n_left -= sum(map(len, block.texts))
        if n_left < 0:
            break
        for text in block.texts:
            if n_read < at_most:
                drawn.append((n_read, text))
            elif (place := int(random.integers(n_read + 1))) < at_most:
                drawn[place] = (n_read, text)
            n_read += 1
    if n_left < 0:
        raise LimitError(
            f"The texts of {Path(path).name} have more than {most_characters:,} characters, the limit here. "
            "Use a part of them."
        )
    if n_read > at_most:
        logger.warning(
            "%s has %s texts; %s of them, drawn at random with a fixed seed, are read.",
            Path(path).name,
            f"{n_read:,}",
            f"{at_most:,}",
        )
    return [text for _, text in sorted(drawn)]


def text_blocks(
    path: str | Path, column: str | None = None, input_format: InputFormat | None = None
) -> Iterator[list[str]]:
    """Yield all texts of a file in order, a few thousand at a time.

    Arguments and errors are those of `read_texts`; a row without text raises InputError.
    """
    for block in open_reader(path, input_format, Wanted(column, with_rows=False)).blocks():
        yield block.texts


def open_reader(path: str | Path, chosen: InputFormat | None, wanted: Wanted) -> Reader:
    """Open the file with the reader of its format.

    Raises:
        NotFoundError: No such file.
        InputError: The file can't be read, or has no such column.
    """
    reader: Reader = _READERS[formats.input_format(path, chosen)](path, wanted)
    return reader


def found_at(model: str | PathLike[str]) -> str:
    """The location of a model for other processes: the absolute path of a folder, or its Hub name."""
    local = Path(model).expanduser()
    return str(local.absolute() if local.exists() else model)


def _checked_output(path: Path, input_path: str | Path, overwrite: bool) -> OutputFormat:
    kind = formats.output_format(path)
    if path.is_dir():
        raise SaveError(f"{path} is a folder. Pass a file.")
    if path.exists():
        if Path(input_path).exists() and path.samefile(input_path):
            raise SaveError(f"{path} is the input. Choose another output.")
        if not overwrite:
            raise SaveError(f"{path} exists. Choose another output, or replace it (overwrite=True, --overwrite).")
    return kind


def _version(path: str | Path) -> tuple[int, int] | None:
    """A value that changes when the file changes; None for stdin."""
    if path == STDIN:
        return None
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.is_dir())).free
