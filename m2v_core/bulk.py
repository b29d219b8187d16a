"""From a file of texts to a file of embeddings, in memory that doesn't grow with either."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.lib.format import write_array_header_1_0

from m2v_core.errors import InputError, NotFoundError, SaveError
from m2v_core.persistence.atomic import replacing
from m2v_core.progress import ProgressCallback, ProgressReporter

if TYPE_CHECKING:
    from m2v_core.model import StaticModel

TEXTS_PER_BLOCK = 4096  # held in memory at a time, and counted as one step of progress
NPY_MAGIC = b"\x93NUMPY"


def encode_file(
    model: StaticModel,
    input_path: str | Path,
    output_path: str | Path,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> int:
    """The number of texts encoded, one a line of the input; blank lines keep their (zero) row.

    Args:
        model: Encodes.
        input_path: UTF-8 text, with or without a byte order mark; lines end in LF or CRLF.
        output_path: NumPy file to write: `(n_texts, dim)` float32. It appears when complete; until then, a
            NumPy file that stands there stays. Missing folders are made.
        progress: Receives one stage, "encode", in texts.
        cancel: Set it to stop.

    Raises:
        NotFoundError: No such input file.
        InputError: The input can't be read, isn't UTF-8, or changed meanwhile.
        SaveError: Something else than a NumPy file stands at `output_path`, or it can't be written.
        Cancelled: `cancel` was set; nothing was written.
    """
    input_path, output_path = Path(input_path), Path(output_path)
    if output_path.exists() and not _is_array(output_path):
        raise SaveError(f"{output_path} exists and is no NumPy file. Name another output.")
    n_texts = sum(1 for _ in _read_lines(input_path))
    reporter = ProgressReporter(progress, cancel)
    reporter.start("encode", n_texts)
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_texts, model.dim)}
    with (
        replacing(output_path.absolute().parent, 4 * n_texts * model.dim) as staging,
        (staging / output_path.name).open("wb") as output,
    ):
        write_array_header_1_0(output, header)
        texts = _read_lines(input_path)
        n_encoded = 0
        while block := list(itertools.islice(texts, TEXTS_PER_BLOCK)):
            output.write(model.encode(block).astype("<f4", copy=False).tobytes())
            n_encoded += len(block)
            reporter.advance(len(block))
        if n_encoded != n_texts:
            raise InputError(f"{input_path} changed while it was being encoded. Encode it again.")
    return n_texts


def _read_lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                number += 1
                yield line.removesuffix("\n").removesuffix("\r")
    except FileNotFoundError as error:
        raise NotFoundError(f"No input file at {path}. Check the path.") from error
    except UnicodeDecodeError as error:
        # The decoder reads ahead of the line, by some kilobytes.
        raise InputError(f"{path} is not UTF-8, from about line {number + 1} on. Save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}). Give a text file.") from error


def _is_array(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(NPY_MAGIC)) == NPY_MAGIC
