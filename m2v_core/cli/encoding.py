"""`m2v encode` and `m2v info`."""

from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import click

from m2v_core.cli import searching
from m2v_core.cli.console import (
    AT_LEAST_1,
    DTYPES,
    cancelled_by_interrupt,
    folder_bytes,
    json_option,
    load_model,
    print_facts,
    print_json,
    progress_bars,
    size_text,
    stop,
)
from m2v_core.errors import Cancelled, InputError


@click.command()
@click.option("--model", required=True, help="A model folder, or its Hub name.")
@click.option(
    "--input",
    "input_path",
    required=True,
    help="File of texts: text (one per line), .jsonl, .csv, .tsv or .parquet; - for standard input. Or many: a "
    "folder, a pattern in quotes such as 'texts/*.parquet', or a URL (hf://, s3://).",
)
@click.option(
    "--output",
    "output_path",
    required=True,
    help="File to write: .npy, .parquet or .jsonl; or a folder, which gets a .parquet for each input.",
)
@click.option("--column", help='Column or key with the texts. [default: "text", or the only candidate]')
@click.option(
    "--input-format",
    type=click.Choice(["text", "jsonl", "csv", "tsv", "parquet"]),
    help="Format of the input. [default: by file extension, otherwise text]",
)
@click.option(
    "--keep-columns/--no-keep-columns", default=True, help="Write the columns of the input too, to .parquet and .jsonl."
)
@click.option(
    "--embedding-column", default="embedding", help="Name of the column of embeddings, in .parquet and .jsonl."
)
@click.option(
    "--dtype",
    type=DTYPES,
    default="float32",
    help="Precision of the embeddings; int8, with a column of scales, only in .parquet.",
)
@click.option("--max-length", type=int, help="Maximum tokens per text. [default: the model's limit]")
@click.option("--normalize/--no-normalize", default=None, help="Override the model's setting for unit length.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    help="What to do with a malformed row or a row without text; skip is not available for .npy.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--restart", is_flag=True, help="Encode all files of a folder again, also the finished ones.")
@click.option("--workers", type=AT_LEAST_1, help="Number of one-core processes for many files. [default: all cores]")
@click.option(
    "--engine",
    type=click.Choice(["processes", "ray"]),
    default="processes",
    help="Run workers as processes on this machine, or with Ray on several machines.",
)
@click.option("--address", help="Address of a Ray cluster. [default: RAY_ADDRESS, or this machine]")
@click.option("--index", is_flag=True, help="Also build the index for m2v search, next to the .parquet output.")
def encode(
    model: str,
    input_path: str,
    output_path: str | Path,
    max_length: int | None,
    overwrite: bool,
    restart: bool,
    workers: int | None,
    engine: str,
    address: str | None,
    index: bool,
    **options: Any,
) -> None:
    """Encode one file of texts of any size, or many files into a folder.

    After an interrupted run, the same command resumes a folder at the first unfinished file; a single file starts over.
    """
    from m2v_core.bulk.formats import STDIN, is_output_name
    from m2v_core.bulk.inputs import is_multi_file

    options["max_length"] = ... if max_length is None else max_length
    is_folder = str(output_path).endswith(("/", os.sep))
    output_path = Path(output_path)
    is_folder = is_folder or output_path.is_dir() or not output_path.suffix
    if is_folder and input_path == STDIN:
        raise InputError(f"{output_path} is a folder, but standard input has no name for a file in it. Pass a file.")
    is_many_inputs = workers is not None or engine != "processes" or address is not None or is_multi_file(input_path)
    is_many_inputs = is_many_inputs or is_folder
    if index and not is_many_inputs and output_path.suffix.lower() not in (".parquet", ".pq"):
        raise InputError(f"--index is for vectors in Parquet, not {output_path}. Choose an output ending in .parquet.")
    if is_many_inputs:
        if overwrite:
            raise InputError("--overwrite is for a single file. Use --restart for a folder.")
        if is_output_name(output_path) and not is_folder:
            raise InputError(f"{output_path} is a file name. Pass a folder, which gets one file per input.")
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
                model_name=model,
                progress=show,
                cancel=cancel,
                **options,
            )
    except (KeyboardInterrupt, Cancelled):
        stop(f"Stopped; {output_path} was not written. The same command starts over.")
    seconds = time.perf_counter() - started
    if encoded.n_skipped:
        examples = " ".join(encoded.problems)
        warnings.warn(f"{encoded.n_skipped:,} rows were skipped. First: {examples}", stacklevel=1)
    if encoded.warning:
        warnings.warn(encoded.warning, stacklevel=1)
    if encoded.n_texts == 0:
        warnings.warn(f"{input_path} contains no texts, so {output_path} has no rows.", stacklevel=1)
    facts = {"rows": f"{encoded.n_texts:,}", "dim": static_model.dim}
    speed = f"{encoded.n_texts / seconds:,.0f} texts/s"
    print_facts(**facts, speed=speed, path=output_path)
    if index:
        searching.build(output_path, model=model)


def _encode_many(model: str, inputs: str, folder: Path, options: dict[str, Any]) -> None:
    from m2v_core.distributed.run import encode_files

    started = time.perf_counter()
    try:
        with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
            encoded = encode_files(model, inputs, folder, progress=show, cancel=cancel, **options)
    except (KeyboardInterrupt, Cancelled):
        stop(f"Stopped. Finished files are kept in {folder}. Rerun the same command to resume.")
    seconds = time.perf_counter() - started
    for message in encoded.failed.values():
        warnings.warn(f"A file was skipped: {message}", stacklevel=1)
    if encoded.n_skipped:
        examples = f" First: {' '.join(encoded.problems)}" if encoded.problems else ""
        warnings.warn(f"{encoded.n_skipped:,} rows were skipped.{examples}", stacklevel=1)
    if encoded.warning:
        warnings.warn(encoded.warning, stacklevel=1)
    facts = {"files": f"{encoded.n_files:,}", "rows": f"{encoded.n_texts:,}", "dim": encoded.dim}
    if encoded.n_files_resumed:
        facts["resumed"] = f"after {encoded.n_files_resumed:,} files"
    speed = f"{(encoded.n_texts - encoded.n_texts_resumed) / seconds:,.0f} texts/s"
    print_facts(**facts, speed=speed, path=folder)


@click.command()
@click.argument("model", help="A model folder, or its Hub name.")
@json_option
def info(model: str, as_json: bool) -> None:
    """Show a model's teacher, size, precision, tokenizer and recipe."""
    from m2v_core import native
    from m2v_core.storage.formats import Form

    static_model = load_model(model)
    path = Path(model)
    is_local = path.is_dir()
    n_bytes = folder_bytes(path) if is_local else static_model.n_bytes
    settings = static_model.config.get("m2v")
    facts = {
        "name": path.resolve().name if is_local else model,
        "teacher": static_model.base_model_name or (settings.get("teacher") if isinstance(settings, dict) else None),
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
    readers = Form.of(static_model.stored()).readers()
    if as_json:
        print_json(facts | {"readers": readers, "size_bytes": n_bytes})
    else:
        opened_by = "; ".join(f"{package} {releases}" for package, releases in readers.items())
        print_facts(**facts, readers=opened_by, size=size_text(n_bytes))
