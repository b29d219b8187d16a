"""Teachers in other processes, for embedding a vocabulary."""

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
    """Embeds a vocabulary in other processes, such as `m2v_core.distributed.vocabulary.ClusterReader`."""

    def embed(
        self,
        load: Callable[[], PooledTeacher],
        key: Sequence[Any],
        uses_gpu: bool,
        sequences: Sequence[Sequence[int]],
        reporter: ProgressReporter,
    ) -> npt.NDArray[np.float32]:
        """Return one vector per sequence of token ids, `(n_sequences, teacher_dim) float32`.

        Args:
            load: Loads the teacher in another process; picklable.
            key: Everything that the vectors depend on except the sequences, as JSON values.
            uses_gpu: Whether teachers may use GPUs.
            sequences: Token ids of each entry of the vocabulary, special tokens included.
            reporter: Reports the stage `"encode"`, in sequences.
        """


@dataclass(frozen=True)
class RemoteTeacher:
    """A picklable description of a teacher that another process can load.

    Attributes:
        model_name: Absolute folder or Hub name.
        revision: Commit on the Hub; None for a folder or the bundled teacher.
        listing: `TeacherSource.listing` in the process that runs the distillation.
        device: Device to run on; see `teacher.resolve_device`.
        trust_remote_code: Whether code from the teacher's repository may run.
        pooling: As for `Teacher.embed`.
        n_special: As for `Teacher.embed`.
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
    ) -> RemoteTeacher:
        """Build the description of a teacher that is available in this process."""
        path = Path(source.name).expanduser()
        name = str(path.absolute()) if path.is_dir() else source.name
        return cls(
            name, source.revision, source.listing, device, trust_remote_code, pooling, n_special, applies_modules
        )

    def load(self) -> PooledTeacher:
        """Load the teacher in the calling process.

        Raises:
            TeacherError: The teacher differs from the described one, or is not supported.
            NotFoundError, HubError: The teacher does not exist, or the Hub can't be reached.
        """
        return PooledTeacher(self)


class PooledTeacher:
    """A teacher with a fixed pooling.

    Args:
        description: The teacher to load.
    """

    def __init__(self, description: RemoteTeacher) -> None:
        from m2v_core.distillation.teacher.teacher import Teacher

        source = locate_teacher(description.model_name, description.revision)
        if source.listing != description.listing:
            raise TeacherError(
                f"The files of {description.model_name} on this worker differ from those of the process that started "
                "the run. Use a folder that all machines share, or the same version on every machine."
            )
        self._description = description
        self._teacher = Teacher.load(
            source,
            description.device,
            description.trust_remote_code,
            applies_modules=description.applies_modules,
        )
        cast(Any, self._teacher.model).to(self._teacher.device)  # once, instead of in every call

    def embed(self, sequences: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """Return one vector per sequence of token ids, `(n_sequences, teacher_dim) float32`."""
        description = self._description
        return self._teacher.embed(sequences, description.pooling, ProgressReporter(), description.n_special)
