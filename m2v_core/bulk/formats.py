"""Supported file formats, recognized by file extension."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from m2v_core.errors import InputError, NeedsExtra, SaveError

InputFormat = Literal["text", "jsonl", "csv", "tsv", "parquet"]
OutputFormat = Literal["npy", "parquet", "jsonl"]
DType = Literal["float32", "float16", "int8"]

STDIN = "-"
_INPUT_ENDINGS: dict[str, InputFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_OUTPUT_ENDINGS: dict[str, OutputFormat] = {
    ".npy": "npy",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
# Extensions that are never plain text with one text per line.
_NO_TEXT = {
    ".json": "Convert it to one object per line (.jsonl), or pass input_format (--input-format) if it already is",
    ".npy": "Pass the texts, not their embeddings",
    ".xlsx": "Export the sheet as CSV",
    ".gz": "Decompress it first",
    ".zst": "Decompress it first",
    ".zip": "Extract it first",
}


def input_format(path: str | Path, chosen: InputFormat | None) -> InputFormat:
    """The format of a file of texts: the chosen one, or the one of its extension; text for unknown extensions.

    Raises:
        InputError: There is no such format, or files with this extension are not supported.
    """
    if chosen is not None:
        if chosen not in get_args(InputFormat):
            raise InputError(f"input_format must be one of {', '.join(get_args(InputFormat))}, not {chosen!r}.")
        if chosen == "parquet" and path == STDIN:
            raise InputError("Parquet files are not read sequentially, so they can't be read from stdin. Pass a file.")
        return chosen
    ending = Path(path).suffix.lower()
    if ending in _NO_TEXT:
        raise InputError(f"{path} can't be read as text, JSONL, CSV, TSV or Parquet. {_NO_TEXT[ending]}.")
    return _INPUT_ENDINGS.get(ending, "text")


def is_input_name(path: str) -> bool:
    """Whether a file in a folder is one of its input files: it has a supported extension, and is not hidden."""
    parts = path.strip("/").split("/")
    ending = Path(path).suffix.lower()
    return (ending in _INPUT_ENDINGS or ending == ".txt") and not any(part.startswith((".", "_")) for part in parts)


def is_output_name(path: Path) -> bool:
    """Whether the extension of a file name is an output format."""
    return path.suffix.lower() in _OUTPUT_ENDINGS


def output_format(path: Path) -> OutputFormat:
    """The output format of a file of embeddings.

    Raises:
        SaveError: The extension is not supported.
    """
    if not is_output_name(path):
        endings = ", ".join(_OUTPUT_ENDINGS)
        raise SaveError(f"The extension of {path} is not an output format. Choose one of {endings}.")
    return _OUTPUT_ENDINGS[path.suffix.lower()]


def import_pyarrow(module: str = "pyarrow") -> Any:
    """Import a module of pyarrow, which reads and writes Parquet.

    Raises:
        MissingExtraError: pyarrow isn't installed.
    """
    with NeedsExtra("pyarrow", "bulk"):
        return import_module(module)
