"""`m2v encode` and `m2v info`."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from m2v_core import native
from m2v_core.cli import searching
from m2v_core.cli.console import (
    INTERRUPTED,
    cancelled_by_interrupt,
    errors_as_lines,
    folder_bytes,
    load_model,
    print_facts,
    progress_bars,
    results,
    say,
    size_text,
)
from m2v_core.errors import Cancelled, InputError


@errors_as_lines()
def encode(
    model: Annotated[str, typer.Option(help="A model folder, or its Hub name.")],
    input_path: Annotated[
        str,
        typer.Option(
            "--input",
            help="File of texts: text (one a line), .jsonl, .csv, .tsv or .parquet; - for standard input. Or many: a "
            "folder, a pattern in quotes such as 'texts/*.parquet', or a URL (hf://, s3://).",
        ),
    ],
    output_path: Annotated[
        Path,
        typer.Option(
            "--output", help="File to write: .npy, .parquet or .jsonl; of many inputs the folder for .parquet."
        ),
    ],
    column: Annotated[
        str | None,
        typer.Option(help='Column or key that holds the texts. [default: "text", or the only one there is]'),
    ] = None,
    input_format: Annotated[
        Literal["text", "jsonl", "csv", "tsv", "parquet"] | None,
        typer.Option(help="Where the input's ending doesn't say it. [default: by the ending, or else text]"),
    ] = None,
    keep_columns: Annotated[
        bool, typer.Option(help="Write the columns of the input too, to .parquet and .jsonl.")
    ] = True,
    embedding_column: Annotated[
        str, typer.Option(help="Name of the column of embeddings, in .parquet and .jsonl.")
    ] = "embedding",
    dtype: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option(help="Precision of the embeddings; int8, with a column of scales, in .parquet alone."),
    ] = "float32",
    max_length: Annotated[
        int | None, typer.Option(help="Tokens to read of each text. [default: the model's own limit]")
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Overrule the model on whether rows get unit length."),
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"],
        typer.Option(help="What to do at a row that is malformed or has no text; skip leaves it out, but not of .npy."),
    ] = "fail",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output that is there.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Encode all files of a folder again, also the finished ones.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes of one core each that encode many files. [default: all cores]", min=1)
    ] = None,
    engine: Annotated[
        Literal["processes", "ray"],
        typer.Option(help="What runs them: processes on this machine, or Ray on many."),
    ] = "processes",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster. [default: RAY_ADDRESS, or else this machine]")
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="Build the index for m2v search too, beside the .parquet that is written.")
    ] = False,
) -> None:
    """Encode a file of texts, of any size, or many of them into a folder.

    After an interrupted run, the same command resumes a folder at the first unfinished file; a single file starts over.
    """
    from m2v_core.bulk.formats import is_output_name
    from m2v_core.distributed.inputs import is_many

    options: dict[str, Any] = {
        "column": column,
        "input_format": input_format,
        "keep_columns": keep_columns,
        "embedding_column": embedding_column,
        "dtype": dtype,
        "max_length": ... if max_length is None else max_length,
        "normalize": normalize,
        "on_error": on_error,
    }
    is_many_inputs = workers is not None or engine != "processes" or address is not None or is_many(input_path)
    if index and not is_many_inputs and output_path.suffix.lower() not in (".parquet", ".pq"):
        raise InputError(f"--index is for vectors in Parquet, not {output_path}. Name an output that ends in .parquet.")
    if is_many_inputs:
        if overwrite:
            raise InputError("--overwrite is for a single file. A folder is begun anew by --restart.")
        if is_output_name(output_path) and not output_path.is_dir():
            raise InputError(f"{output_path} is the name of a file. Name a folder: each input gets a file in it.")
        options |= {"restart": restart, "workers": workers, "engine": engine, "address": address}
        _encode_many(model, input_path, output_path, options)
        if index:
            searching.build(output_path)
        return
    from m2v_core.bulk.run import encode_file

    static_model = load_model(model)
    started = time.perf_counter()
    try:
        with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
            encoded = encode_file(
                static_model,
                input_path,
                output_path,
                overwrite=overwrite,
                progress=show,
                cancel=cancel,
                **options,
            )
    except (KeyboardInterrupt, Cancelled):
        say(f"Stopped; {output_path} was not written. The same command starts over.", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    seconds = time.perf_counter() - started
    if encoded.n_skipped:
        examples = " ".join(encoded.problems)
        warnings.warn(f"{encoded.n_skipped:,} rows were left out. The first: {examples}", stacklevel=1)
    if encoded.n_texts == 0:
        warnings.warn(f"{input_path} holds no texts, so {output_path} has no rows.", stacklevel=1)
    facts = {"rows": f"{encoded.n_texts:,}", "dim": static_model.dim}
    speed = f"{encoded.n_texts / seconds:,.0f} texts/s"
    print_facts(**facts, speed=speed, path=output_path)
    if index:
        searching.build(output_path, model)


def _encode_many(model: str, inputs: str, folder: Path, options: dict[str, Any]) -> None:
    from m2v_core.distributed.run import encode_files

    started = time.perf_counter()
    try:
        with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
            encoded = encode_files(model, inputs, folder, progress=show, cancel=cancel, **options)
    except (KeyboardInterrupt, Cancelled):
        say(f"Stopped. What is finished stays in {folder}; the same command goes on from there.", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    seconds = time.perf_counter() - started
    for message in encoded.failed.values():
        warnings.warn(f"A file was left out: {message}", stacklevel=1)
    if encoded.n_skipped:
        examples = f" The first: {' '.join(encoded.problems)}" if encoded.problems else ""
        warnings.warn(f"{encoded.n_skipped:,} rows were left out.{examples}", stacklevel=1)
    facts = {"files": f"{encoded.n_files:,}", "rows": f"{encoded.n_texts:,}", "dim": encoded.dim}
    if encoded.n_files_resumed:
        facts["resumed"] = f"after {encoded.n_files_resumed:,} files"
    speed = f"{(encoded.n_texts - encoded.n_texts_resumed) / seconds:,.0f} texts/s"
    print_facts(**facts, speed=speed, path=folder)


@errors_as_lines()
def info(
    model: Annotated[str, typer.Argument(help="A model folder, or its Hub name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a model is: its teacher, size, precision, tokenizer, recipe."""
    static_model = load_model(model)
    path = Path(model)
    is_local = path.is_dir()
    n_bytes = folder_bytes(path) if is_local else static_model.n_bytes
    settings = static_model.config.get("m2v")
    facts = {
        "name": path.resolve().name if is_local else model,
        "teacher": static_model.base_model_name,
        "recipe": settings.get("recipe") if isinstance(settings, dict) else None,
        "rows": len(static_model.token_embeddings),
        "dim": static_model.dim,
        "precision": str(static_model.token_embeddings.dtype),
        "tokenizer": json.loads(static_model.tokenizer.to_str())["model"]["type"],
        "normalize": static_model.normalize,
        "max_length": static_model.max_length,
        "encoder": static_model.encoder_path,
        "kernels": native.kernels_in_use(),
    }
    if as_json:
        results.print_json(data=facts | {"size_bytes": n_bytes})
    else:
        print_facts(**facts, size=size_text(n_bytes))
