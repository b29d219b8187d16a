"""From a file of texts to a file of embeddings."""

from __future__ import annotations

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
from m2v_core.bulk.parquet import ParquetReader, ParquetWriter, check_goes_with, schema_of
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

_N_PROBLEMS = 3  # told of those that were left out
_READERS: dict[InputFormat, Any] = {
    "text": TextReader,
    "jsonl": JsonlReader,
    "csv": CsvReader,
    "tsv": TsvReader,
    "parquet": ParquetReader,
}


@dataclass(frozen=True)
class Encoded:
    """What became of a file.

    Attributes:
        n_texts: Rows of the output.
        n_skipped: Rows of the input that were left out.
        problems: Why, of the first three of them.
        warning: What makes the embeddings less than they seem; None where nothing does.
    """

    n_texts: int
    n_skipped: int = 0
    problems: tuple[str, ...] = ()
    warning: str | None = None


MOST_TEXTS = 100_000  # that `read_texts` gives unasked


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
    """Write the embedding of every text of a file, in its order.

    Input: text, one a line, JSONL, CSV and TSV (UTF-8, with or without a byte order mark; lines end in LF or CRLF),
    Parquet. Output, by the ending of its name: `.npy`, an array `(n_texts, dim)`; `.parquet`, the columns of the input
    and one of fixed-size lists; `.jsonl`, the same as an object a line. Memory stays the same whatever the size of
    either.

    The output appears in one rename when it is complete. After an interruption the same call starts over; many files,
    by `distributed.run.encode_files`, resume at the first unfinished one. A killed process leaves `<output>.part`,
    which the next call replaces.

    Args:
        model: Encodes.
        input_path: File to read; "-" reads stdin.
        output_path: File to write. Missing folders are made.
        column: Column or key that holds the texts; None for "text", or else for the only one there could be.
        input_format: None to tell by the ending; a file of an unknown one is text.
        keep_columns: Whether Parquet and JSONL outputs hold the columns of the input.
        embedding_column: Name of the one that is added.
        dtype: Number format of the embeddings; "int8", in Parquet alone, has a column of scales beside it, one a row.
        max_length: As in `StaticModel.encode`.
        normalize: As in `StaticModel.encode`.
        on_error: What happens at a row that is no JSON object, has too few or many cells, or a null for a text: the run
            fails, naming the row, or the row is left out. Rows of a `.npy` file have nothing but their numbers to be
            told apart by, so there it must be "fail".
        overwrite: Whether to replace a file that stands at `output_path`, once the new one is complete.
        model_name: Folder or Hub name that the model was loaded from, which a Parquet output keeps in its metadata so
            that `m2v search` finds it; None to keep nothing.
        progress: Receives one stage, "encode", in texts; before that, for JSONL to Parquet, "scan".
        cancel: Set it to stop.

    Raises:
        NotFoundError: No such input file.
        InputError: The input can't be read, changed meanwhile, or holds a row that can't be used; or an argument is
            none of those allowed.
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
    """`encode_file` for one of many files.

    Args:
        model: As there.
        input_path: As there.
        output_path: As there.
        options: As there.
        overwrite: As there.
        schema: What the kept columns must be, so that all outputs go together; None for anything.
        made_by: What a Parquet output's metadata holds of the model beside its fingerprint; None for neither.
        wait_seconds: How long to wait for another process that is writing the output.
        progress: As there.
        cancel: As there.

    Raises:
        InputError: As there, or the columns are others.
    """
    output_path = Path(output_path)
    kind = _checked_output(output_path, input_path, overwrite)
    if kind == "npy" and options.on_error == "skip":
        raise InputError(
            "Rows of a .npy file have nothing but their numbers, so none may be left out. Write Parquet or JSONL, or "
            "mend the input."
        )
    if kind != "parquet" and options.dtype == "int8":
        raise InputError("Embeddings of int8 have a scale each, and only Parquet has a column for it. Write .parquet.")
    model.encode([], **options.encode_arguments)  # refuses wrong ones before anything is opened
    wanted = Wanted(options.column, options.keep_columns and kind != "npy", options.on_error)
    reader = open_reader(input_path, options.input_format, wanted)
    if kind == "parquet":
        import_pyarrow("pyarrow.parquet")
    if wanted.with_rows:
        options.vector_column(model).check_is_free(reader.columns or ())
        if kind == "parquet" and input_path == STDIN and reader.columns is None:
            raise InputError(
                "Which columns JSONL has is known only at its end, and stdin can't be read twice. "
                "Save it as a file, write JSONL, or leave the other columns out (keep_columns=False, "
                "--no-keep-columns)."
            )
    run = _Run(
        model, reader, kind, options, wanted.with_rows, output_path, schema, made_by, ProgressReporter(progress, cancel)
    )
    version = _version(input_path)
    try:
        output_path.absolute().parent.mkdir(parents=True, exist_ok=True)
        busy = f"Another run is writing {output_path}. Wait for it, or name another output."
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
            "there. Fix that and run the same command again, which starts this file over, or name another output."
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
            check_goes_with(schema, self.schema, self.reader)
        made_by = self.made_by and self.made_by | {"fingerprint": model_fingerprint(self.model)}
        return ParquetWriter(file, schema, vectors, made_by)

    def _check_room(self, n_bytes: int) -> None:
        n_free_bytes = _free_bytes(self.output_path)
        if n_bytes > n_free_bytes:
            raise SaveError(
                f"{self.output_path} will need about {n_bytes:,} bytes more, and {n_free_bytes:,} are free there. Make "
                "room, choose float16, or name an output on another disk."
            )


def read_texts(
    path: str | Path,
    column: str | None = None,
    at_most: int = MOST_TEXTS,
    input_format: InputFormat | None = None,
    most_characters: int | None = None,
) -> list[str]:
    """The texts of a file, in its order; of too many, so many drawn at random, each with the same chance.

    The file may be of any size: what is not drawn is forgotten at once.

    Args:
        path: Text (one a line), JSONL, CSV, TSV or Parquet.
        column: The column that holds the texts; None for "text", or else the only one.
        at_most: Texts to give.
        input_format: Its kind; None to tell by its name.
        most_characters: The most that all its texts together may have: a strange file may be small and say much.

    Raises:
        NotFoundError: No such file.
        InputError: It can't be read, or has no such column.
        LimitError: It has more than `most_characters`.
        MissingExtraError: Parquet without pyarrow.
    """
    reader = open_reader(path, input_format, Wanted(column, with_rows=False, on_error="skip"))
    n_left = math.inf if most_characters is None else most_characters
    # A Parquet file says it before any of it is unpacked. A character takes four bytes at most, and lengths take few.
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
            f"The texts of {Path(path).name} have more than {most_characters:,} characters, and no more are allowed "
            "here. Give a part of them."
        )
    return [text for _, text in sorted(drawn)]


def text_blocks(
    path: str | Path, column: str | None = None, input_format: InputFormat | None = None
) -> Iterator[list[str]]:
    """All texts of a file, in its order, some thousands at a time.

    The arguments, and what is raised, are those of `read_texts`; a row without text is an InputError.
    """
    for block in open_reader(path, input_format, Wanted(column, with_rows=False)).blocks():
        yield block.texts


def open_reader(path: str | Path, chosen: InputFormat | None, wanted: Wanted) -> Reader:
    """The file as a reader of its kind.

    Raises:
        NotFoundError: No such file.
        InputError: It can't be read, or has no such column.
    """
    reader: Reader = _READERS[formats.input_format(path, chosen)](path, wanted)
    return reader


def found_at(model: str | PathLike[str]) -> str:
    """Where others find a model: the absolute path of a folder, or its Hub name."""
    local = Path(model).expanduser()
    return str(local.absolute() if local.exists() else model)


def _checked_output(path: Path, input_path: str | Path, overwrite: bool) -> OutputFormat:
    kind = formats.output_format(path)
    if path.is_dir():
        raise SaveError(f"{path} is a folder. Name a file.")
    if path.exists():
        if Path(input_path).exists() and path.samefile(input_path):
            raise SaveError(f"{path} is the input. Name another output.")
        if not overwrite:
            raise SaveError(f"{path} exists. Name another output, or have it replaced (overwrite=True, --overwrite).")
    return kind


def _version(path: str | Path) -> tuple[int, int] | None:
    """Changes when the file does; None for stdin."""
    if path == STDIN:
        return None
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.is_dir())).free
