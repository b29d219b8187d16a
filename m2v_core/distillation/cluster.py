"""A vocabulary read by a teacher on each GPU or machine of a cluster, its vectors gathered on disk.

The sequences are cut into shards of one length, or nearly. An actor reads a shard, writes its vectors into the folder
that all machines share, and sends back its line of the manifest. What is finished stays there, so that whatever ends a
run, the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from m2v_core.bulk import manifest
from m2v_core.bulk.inputs import InputFile
from m2v_core.bulk.manifest import Entry, Manifest
from m2v_core.distillation.settings import DistillRequest, Pooling
from m2v_core.distillation.teacher.source import TeacherSource, locate_teacher
from m2v_core.distributed.ray_engine import Share, import_ray, run_on_ray
from m2v_core.distributed.shards import MOST_ATTEMPTS, Outcome, Shard
from m2v_core.errors import InputError, LimitError, SaveError, TeacherError
from m2v_core.progress import ProgressReporter
from m2v_core.storage.atomic import replacing_file

MOST_BYTES_AT_ONCE = 4 << 30  # of vectors that all lie in memory, over ten times as calibrating needs them
_SHARD_TOKENS = 16_384
_VERSION = 1
_SEQUENCES = "_sequences.npz"
_VECTORS = "_vectors.npy"


@dataclass(frozen=True)
class ReadingJob:
    """What all shards have in common.

    Attributes:
        model_name: The teacher, as every machine finds it.
        revision: Its commit on the Hub; None for a folder or the bundled one.
        listing: Of the driver's, see `TeacherSource`.
        device: Where to run it; see `teacher.resolve_device`.
        trust_remote_code: Whether code that comes with it may run.
        pooling: As for `Teacher.embed`.
        n_special: As there.
        folder: Of the sequences and the vectors, absolute.
    """

    model_name: str
    revision: str | None
    listing: str
    device: str | None
    trust_remote_code: bool
    pooling: Pooling
    n_special: tuple[int, int]
    folder: str


class ShardReader:
    """Reads one shard after the other with one teacher.

    Args:
        job: What they have in common.

    Raises:
        TeacherError: The teacher here is another than the driver's, or can't be used.
        NotFoundError, HubError: There is none.
    """

    def __init__(self, job: ReadingJob) -> None:
        from m2v_core.distillation.teacher.teacher import Teacher

        source = locate_teacher(job.model_name, job.revision)
        if source.listing != job.listing:
            raise TeacherError(
                f"{job.model_name} is another teacher to this worker than to the process that started the run. Give a "
                "folder that all machines share, or the same version everywhere."
            )
        self._job = job
        self._teacher = Teacher.load(source, job.device, job.trust_remote_code)
        cast(Any, self._teacher.model).to(self._teacher.device)  # once, and not with each shard
        with np.load(Path(job.folder, _SEQUENCES)) as stored:
            self._ids, self._starts = stored["ids"], stored["starts"]

    def encode(self, shard: Shard) -> Outcome:
        """Write the vectors of a shard, `(n_sequences, teacher_dim) float32`."""
        first, last = _rows(shard)
        sequences = [self._ids[self._starts[i] : self._starts[i + 1]].tolist() for i in range(first, last)]
        vectors = self._teacher.embed(sequences, self._job.pooling, ProgressReporter(), self._job.n_special)
        output = Path(self._job.folder, shard.output)
        with replacing_file(output) as part, part.open("wb") as file:
            np.save(file, vectors)
        n_bytes = output.stat().st_size
        return Outcome(
            shard.input.path,
            Entry(shard.input.path, shard.input.version, shard.output, len(vectors), 0, n_bytes, shard.input.n_bytes),
        )


class Cluster:
    """Where a teacher reads a vocabulary, in place of this process.

    Args:
        source: The teacher; every machine must find it by its name.
        device: Of the actors. None: a GPU each where the cluster has some, and else a machine each.
        trust_remote_code: Whether code that comes with the teacher may run.
        folder: That all machines share; each vocabulary gets a folder in it.
        workers: How many actors; None for one for each GPU or machine.
        address: As for `ray_engine.run_on_ray`.

    Raises:
        MissingExtraError: ray is not installed.
    """

    def __init__(
        self,
        source: TeacherSource,
        device: str | None,
        trust_remote_code: bool,
        folder: str | Path,
        workers: int | None,
        address: str | None,
    ) -> None:
        import_ray()
        self._source = source
        self._device = device
        self._trust_remote_code = trust_remote_code
        self._folder = Path(folder).expanduser().absolute()
        self._workers = workers
        self._address = address

    @staticmethod
    def check_memory(settings: DistillRequest, n_rows: int, teacher_dim: int | None) -> None:
        """Refuses before the work what needs all vectors in memory at once, where they are too many.

        Raises:
            InputError: They are.
        """
        n_bytes = 4 * n_rows * (teacher_dim or 0)
        if n_bytes <= MOST_BYTES_AT_ONCE:
            return
        size = f"{n_rows:,} rows of {teacher_dim:,} take {n_bytes / 2**30:.1f} GiB"
        if settings.is_calibrated:
            raise InputError(
                f"{size}, and fitting them to sentences takes over ten times that in the memory of one machine; "
                f"{MOST_BYTES_AT_ONCE >> 30} GiB are the most. Use recipe='fast' without a corpus (--recipe fast)."
            )
        if settings.vocabulary_quantization is not None:
            raise InputError(
                f"{size}, and vocabulary_quantization needs them in the memory of one machine several times; "
                f"{MOST_BYTES_AT_ONCE >> 30} GiB are the most. Leave it out, and compress the model afterwards: "
                "model.compressed(vocabulary_quantization=...)."
            )

    def embed(
        self,
        sequences: Sequence[Sequence[int]],
        pooling: Pooling,
        reporter: ProgressReporter,
        n_special: tuple[int, int],
    ) -> npt.NDArray[np.float32]:
        """One vector for each entry of a vocabulary, as from `Teacher.embed`, on disk.

        Args:
            sequences: As there.
            pooling: As there.
            reporter: Advances by shards.
            n_special: As there.

        Returns:
            `(n_sequences, teacher_dim) float32`, read-only: a mapped file.

        Raises:
            SaveError: The folder can't be written, or machines don't share it.
            LimitError: A shard ended its worker again and again.
            M2VError: What an actor met, or the cluster can't be reached.
        """
        order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
        ids = np.fromiter(chain.from_iterable(sequences[i] for i in order), np.int32)
        starts = np.cumsum([0, *(len(sequences[i]) for i in order)])
        digest = hashlib.sha256(json.dumps([_VERSION, self._source.fingerprint, pooling, n_special]).encode())
        for array in (order, ids, starts):
            digest.update(array.tobytes())
        folder = self._folder / digest.hexdigest()[:32]
        kept = _gathered(folder, len(sequences))
        if kept is not None:
            return kept
        with manifest.opened(folder, {"vectors": digest.hexdigest()}, None, False) as book:
            np.savez(folder / _SEQUENCES, ids=ids, starts=starts)
            job = ReadingJob(
                model_name=_name_everywhere(self._source),
                revision=self._source.revision,
                listing=self._source.listing,
                device=self._device,
                trust_remote_code=self._trust_remote_code,
                pooling=pooling,
                n_special=n_special,
                folder=str(folder),
            )
            shards = _cut(starts)
            self._read(job, book, shards, len(sequences), reporter)
            return _gather(folder, shards, order)

    def _read(
        self, job: ReadingJob, book: Manifest, shards: Sequence[Shard], n_sequences: int, reporter: ProgressReporter
    ) -> None:
        """Have all shards read that are not yet."""
        missing = [shard for shard in shards if book.finished(shard.input) is None]
        n_missing = sum(last - first for first, last in map(_rows, missing))
        reporter.start("encode", n_sequences, n_sequences - n_missing)
        if not missing:
            return
        share: Share = "machine" if self._device == "cpu" else "gpu"
        outcomes = run_on_ray(partial(ShardReader, job), job.folder, missing, self._workers, self._address, share)
        try:
            for outcome in outcomes:
                if outcome.entry is None:
                    raise _too_often(outcome) if outcome.is_of_input else outcome.exception()
                if not book.is_there(outcome.entry):
                    raise SaveError(
                        f"A worker wrote {outcome.entry.output}, but {book.folder} doesn't have it here. Name a "
                        "cache_folder that all machines share."
                    )
                book.add(outcome.entry)
                reporter.advance(outcome.entry.n_texts)
        finally:
            outcomes.close()


def _cut(starts: npt.NDArray[np.int64]) -> list[Shard]:
    """Shards of so many tokens each, the last of what is left."""
    shards = []
    first, n_sequences = 0, len(starts) - 1
    while first < n_sequences:
        last = max(int(np.searchsorted(starts, starts[first] + _SHARD_TOKENS, side="right")) - 1, first + 1)
        n_tokens = int(starts[last] - starts[first])
        shards.append(Shard(InputFile(f"{first}-{last}", n_tokens, ""), f"{first:09}.npy"))
        first = last
    return shards


def _rows(shard: Shard) -> tuple[int, int]:
    """First and one past last of its sequences, by length."""
    first, _, last = shard.input.path.partition("-")
    return int(first), int(last)


def _gather(folder: Path, shards: Sequence[Shard], order: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """All vectors in one file, in the order of the vocabulary; the shards go."""
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
    """Fail here for lack of space: writing to a mapped file that has none ends the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _gathered(folder: Path, n_sequences: int) -> npt.NDArray[np.float32] | None:
    """The vectors of an earlier run; None where they are not all there."""
    try:
        vectors = np.load(folder / _VECTORS, mmap_mode="r")
    except (OSError, ValueError):
        return None
    is_whole = vectors.ndim == 2 and len(vectors) == n_sequences and vectors.dtype == np.float32
    return np.asarray(vectors) if is_whole else None


def _name_everywhere(source: TeacherSource) -> str:
    path = Path(source.name).expanduser()
    return str(path.absolute()) if path.is_dir() else source.name


def _too_often(outcome: Outcome) -> LimitError:
    return LimitError(
        f"Entries {outcome.input} of the vocabulary, by length, ended their worker {MOST_ATTEMPTS} times. Is there "
        "enough memory for the teacher on each GPU or machine? Take fewer workers, or a smaller teacher; the same call "
        "goes on with what is left."
    )
