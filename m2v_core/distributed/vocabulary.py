"""Encodes a vocabulary with a teacher on each GPU or machine of a cluster, and gathers the vectors on disk.

The sequences are split into shards of about the same length. An actor encodes a shard, writes its vectors into a folder
shared by all machines, and returns its manifest entry. Finished shards are kept, so that the same call resumes an
interrupted run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from m2v_core.bulk import manifest
from m2v_core.bulk.inputs import InputFile
from m2v_core.bulk.manifest import Entry, Manifest
from m2v_core.distributed.ray_engine import Share, import_ray, run_on_ray
from m2v_core.distributed.shards import MAX_ATTEMPTS, Outcome, Shard, record_finished
from m2v_core.errors import InputError, LimitError
from m2v_core.progress import ProgressReporter
from m2v_core.storage.atomic import replacing_file

_SHARD_TOKENS = 16_384
_VERSION = 1
_SEQUENCES = "_sequences.npz"
_VECTORS = "_vectors.npy"


class SequenceEncoder(Protocol):
    """The interface of a teacher for the actors."""

    def embed(self, sequences: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """Return one vector for each sequence of token ids, `(n_sequences, teacher_dim) float32`."""


class ShardReader:
    """Encodes shards one at a time with one teacher.

    Args:
        load: Loads the teacher on any machine.
        folder: Folder of the sequences and vectors, absolute.

    Raises:
        M2VError: The teacher can't be loaded.
    """

    def __init__(self, load: Callable[[], SequenceEncoder], folder: Path) -> None:
        self._folder = folder
        self._teacher = load()
        with np.load(self._folder / _SEQUENCES) as stored:
            self._ids, self._starts = stored["ids"], stored["starts"]

    def encode(self, shard: Shard) -> Outcome:
        """Write the vectors of a shard, `(n_sequences, teacher_dim) float32`."""
        first, last = _rows(shard)
        sequences = [self._ids[self._starts[i] : self._starts[i + 1]].tolist() for i in range(first, last)]
        vectors = self._teacher.embed(sequences)
        output = self._folder / shard.output
        with replacing_file(output) as part, part.open("wb") as file:
            np.save(file, vectors)
        n_bytes = output.stat().st_size
        return Outcome(
            shard.input.path,
            Entry(shard.input.path, shard.input.version, shard.output, len(vectors), 0, n_bytes, shard.input.n_bytes),
        )


class ClusterReader:
    """Encodes the vocabulary of a distillation on a Ray cluster instead of in this process.

        distill("BAAI/bge-m3", vocabulary=words, recipe="fast", reader=ClusterReader("/shared/vectors"))

    The same call resumes an interrupted run.

    Args:
        folder: Folder shared by all machines, with room for twice 4 bytes x rows x the teacher's width. Each vocabulary
            gets its own subfolder.
        workers: Number of teachers; None for one per GPU or, without GPUs, one per machine.
        address: Address of the cluster; None for the current connection, the cluster of RAY_ADDRESS, or this machine.

    Raises:
        InputError: `workers` is below 1.
        MissingExtraError: ray is not installed.
    """

    def __init__(self, folder: str | Path, workers: int | None = None, address: str | None = None) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"workers must be at least 1, not {workers}.")
        import_ray()
        self._folder = Path(folder).expanduser().absolute()
        self._workers = workers
        self._address = address

    def embed(
        self,
        load: Callable[[], SequenceEncoder],
        key: Sequence[Any],
        uses_gpu: bool,
        sequences: Sequence[Sequence[int]],
        reporter: ProgressReporter,
    ) -> npt.NDArray[np.float32]:
        """Return one vector for each entry of a vocabulary, stored on disk.

        Args:
            load: Loads the teacher on a machine of the cluster; must be picklable.
            key: Everything except the sequences that determines the vectors, as JSON.
            uses_gpu: Whether each teacher gets a GPU if the cluster has any; otherwise it gets a machine.
            sequences: Token ids of each entry.
            reporter: Advances by shards.

        Returns:
            `(n_sequences, teacher_dim) float32`, read-only: a mapped file.

        Raises:
            SaveError: The folder can't be written, or machines don't share it.
            LimitError: A shard repeatedly killed its worker.
            M2VError: An actor failed, or the cluster can't be reached.
        """
        order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
        ids = np.fromiter(chain.from_iterable(sequences[i] for i in order), np.int32)
        starts = np.cumsum([0, *(len(sequences[i]) for i in order)])
        digest = hashlib.sha256(json.dumps([_VERSION, *key]).encode())
        for array in (order, ids, starts):
            digest.update(array.tobytes())
        folder = self._folder / digest.hexdigest()[:32]
        kept = _gathered(folder, len(sequences))
        if kept is not None:
            return kept
        with manifest.open_manifest(folder, {"vectors": digest.hexdigest()}, None, False) as book:
            np.savez(folder / _SEQUENCES, ids=ids, starts=starts)
            shards = _split(starts)
            self._read(partial(ShardReader, load, folder), book, shards, uses_gpu, reporter)
            return _gather(folder, shards, order)

    def _read(
        self,
        make: Callable[[], ShardReader],
        book: Manifest,
        shards: Sequence[Shard],
        uses_gpu: bool,
        reporter: ProgressReporter,
    ) -> None:
        """Encode all unfinished shards."""
        missing = [shard for shard in shards if book.finished(shard.input) is None]
        n_sequences, n_missing = (sum(last - first for first, last in map(_rows, some)) for some in (shards, missing))
        reporter.start("encode", n_sequences, n_sequences - n_missing)
        if not missing:
            return
        share: Share = "gpu" if uses_gpu else "machine"
        with closing(run_on_ray(make, str(book.folder), missing, self._workers, self._address, share)) as outcomes:
            for outcome in outcomes:
                if outcome.entry is None and outcome.is_input_error:
                    raise LimitError(
                        f"Entries {outcome.input} of the vocabulary, by length, killed their worker {MAX_ATTEMPTS} "
                        "times. Check whether each GPU or machine has enough memory for the teacher, and use fewer "
                        "workers or a smaller teacher. Repeat the same call to resume."
                    )
                if outcome.entry is None:
                    raise outcome.exception()
                record_finished(book, outcome.entry)
                reporter.advance(outcome.entry.n_texts)


def _split(starts: npt.NDArray[np.int64]) -> list[Shard]:
    """Split the sequences into shards of a fixed number of tokens; the last one is smaller."""
    shards = []
    first, n_sequences = 0, len(starts) - 1
    while first < n_sequences:
        last = max(int(np.searchsorted(starts, starts[first] + _SHARD_TOKENS, side="right")) - 1, first + 1)
        n_tokens = int(starts[last] - starts[first])
        shards.append(Shard(InputFile(f"{first}-{last}", n_tokens, ""), f"{first:09}.npy"))
        first = last
    return shards


def _rows(shard: Shard) -> tuple[int, int]:
    """The range of a shard's sequences, sorted by length: start and end."""
    first, _, last = shard.input.path.partition("-")
    return int(first), int(last)


def _gather(folder: Path, shards: Sequence[Shard], order: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Write all vectors to one file in the order of the vocabulary, and delete the shards."""
    with replacing_file(folder / _VECTORS, is_alone=True) as part:
        dim = np.load(folder / shards[0].output, mmap_mode="r").shape[1]
        vectors = np.lib.format.open_memmap(part, "w+", np.float32, (len(order), dim))
        _reserve(part)
        for shard in shards:
            first, last = _rows(shard)
            vectors[order[first:last]] = np.load(folder / shard.output)
        vectors.flush()
        del vectors
    found = _gathered(folder, len(order))
    assert found is not None, "it was written just now"
    for path in [folder / _SEQUENCES, *(folder / shard.output for shard in shards), *folder.glob("*.part")]:
        path.unlink(missing_ok=True)
    return found


def _reserve(path: Path) -> None:
    """Allocate the file, so that lack of space raises an error: in a mapped file, it would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _gathered(folder: Path, n_sequences: int) -> npt.NDArray[np.float32] | None:
    """The vectors of an earlier run; None if they are incomplete."""
    try:
        vectors = np.load(folder / _VECTORS, mmap_mode="r")
    except (OSError, ValueError):
        return None
    is_whole = vectors.ndim == 2 and len(vectors) == n_sequences and vectors.dtype == np.float32
    return np.asarray(vectors) if is_whole else None
