"""The kinds of files read and written, told apart by the endings of their names."""

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
# Nobody means these as text, one text a line.
_NO_TEXT = {
    ".json": "Write one object a line and call it .jsonl, or say that it is so already (input_format, --input-format)",
    ".npy": "Give the texts, not their embeddings",
    ".xlsx": "Export the sheet as CSV",
    ".gz": "Unpack it first",
    ".zst": "Unpack it first",
    ".zip": "Unpack it first",
}


def input_format(path: str | Path, chosen: InputFormat | None) -> InputFormat:
    """What a file of texts is: what was chosen, or else what its ending says; text, one a line, for unknown endings.

    Raises:
        InputError: There is no such format, or the file is surely of none.
    """
    if chosen is not None:
        if chosen not in get_args(InputFormat):
            raise InputError(f"input_format must be one of {', '.join(get_args(InputFormat))}, not {chosen!r}.")
        if chosen == "parquet" and path == STDIN:
            raise InputError(
                "A Parquet file is not read from front to back, so it can't come from stdin. Name the file."
            )
        return chosen
    ending = Path(path).suffix.lower()
    if ending in _NO_TEXT:
        raise InputError(f"{path} is not read as text, JSONL, CSV, TSV or Parquet. {_NO_TEXT[ending]}.")
    return _INPUT_ENDINGS.get(ending, "text")


def is_input_name(path: str) -> bool:
    """Whether a file in a folder of texts is one of them: its ending says so, and it is not hidden."""
    parts = path.strip("/").split("/")
    ending = Path(path).suffix.lower()
    return (ending in _INPUT_ENDINGS or ending == ".txt") and not any(part.startswith((".", "_")) for part in parts)


def is_output_name(path: Path) -> bool:
    """Whether a name says by its ending what a file of embeddings is to be."""
    return path.suffix.lower() in _OUTPUT_ENDINGS


def output_format(path: Path) -> OutputFormat:
    """What a file of embeddings is to be.

    Raises:
        SaveError: Its ending is none that is written.
    """
    if not is_output_name(path):
        endings = ", ".join(_OUTPUT_ENDINGS)
        raise SaveError(f"{path} says by its ending no format to write. Name a file that ends in one of {endings}.")
    return _OUTPUT_ENDINGS[path.suffix.lower()]


def import_pyarrow(module: str = "pyarrow") -> Any:
    """A module of pyarrow, which reads and writes Parquet.

    Raises:
        MissingExtraError: It isn't installed.
    """
    with NeedsExtra("pyarrow", "bulk"):
        return import_module(module)
