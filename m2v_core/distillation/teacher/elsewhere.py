"""A teacher that reads a vocabulary in other processes than the one that distills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from m2v_core.distillation.settings import Pooling
from m2v_core.distillation.teacher.source import TeacherSource, locate_teacher
from m2v_core.errors import TeacherError
from m2v_core.progress import ProgressReporter


class VocabularyReader(Protocol):
    """Reads a vocabulary in place of this process, such as `m2v_core.distributed.vocabulary.ClusterReader`."""

    def embed(
        self,
        load: Callable[[], PooledTeacher],
        key: Sequence[Any],
        uses_gpu: bool,
        sequences: Sequence[Sequence[int]],
        reporter: ProgressReporter,
    ) -> npt.NDArray[np.float32]:
        """One vector for each sequence of token ids, `(n_sequences, teacher_dim) float32`.

        Args:
            load: Loads the teacher in another process; can be pickled.
            key: All that the vectors depend on beside the sequences, as JSON.
            uses_gpu: Whether a teacher may have a GPU.
            sequences: Token ids of each entry of the vocabulary, special tokens included.
            reporter: Gets the stage `"encode"`, in sequences.
        """


@dataclass(frozen=True)
class TeacherElsewhere:
    """What another process needs to have the same teacher.

    Attributes:
        model_name: The teacher, as every machine finds it.
        revision: Its commit on the Hub; None for a folder or the bundled one.
        listing: Of the process that distills, see `TeacherSource`.
        device: Where to run it; see `teacher.resolve_device`.
        trust_remote_code: Whether code that comes with it may run.
        pooling: As for `Teacher.embed`.
        n_special: As there.
        applies_modules: As for `Teacher.load`.
    """

    model_name: str
    revision: str | None
    listing: str
    device: str | None
    trust_remote_code: bool
    pooling: Pooling
    n_special: tuple[int, int]
    applies_modules: bool

    @classmethod
    def of(
        cls,
        source: TeacherSource,
        device: str | None,
        trust_remote_code: bool,
        pooling: Pooling,
        n_special: tuple[int, int],
        applies_modules: bool,
    ) -> TeacherElsewhere:
        """That of a teacher here."""
        path = Path(source.name).expanduser()
        name = str(path.absolute()) if path.is_dir() else source.name
        return cls(
            name, source.revision, source.listing, device, trust_remote_code, pooling, n_special, applies_modules
        )

    def load(self) -> PooledTeacher:
        """The teacher, in the process that calls this.

        Raises:
            TeacherError: It is another than where this was made, or can't be used.
            NotFoundError, HubError: There is none.
        """
        return PooledTeacher(self)


class PooledTeacher:
    """A teacher with its pooling chosen.

    Args:
        description: What to load.
    """

    def __init__(self, description: TeacherElsewhere) -> None:
        from m2v_core.distillation.teacher.teacher import Teacher

        source = locate_teacher(description.model_name, description.revision)
        if source.listing != description.listing:
            raise TeacherError(
                f"{description.model_name} is another teacher to this worker than to the process that started the run. "
                "Give a folder that all machines share, or the same version everywhere."
            )
        self._description = description
        self._teacher = Teacher.load(
            source,
            description.device,
            description.trust_remote_code,
            applies_modules=description.applies_modules,
        )
        cast(Any, self._teacher.model).to(self._teacher.device)  # once, and not with each call

    def embed(self, sequences: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """One vector for each sequence of token ids, `(n_sequences, teacher_dim) float32`."""
        description = self._description
        return self._teacher.embed(sequences, description.pooling, ProgressReporter(), description.n_special)
