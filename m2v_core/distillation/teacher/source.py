"""Where a teacher is: in a folder, on the Hub or, where the Hub can't be reached, bundled."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from m2v_core.distillation.teacher.bundled import BUNDLED_TEACHER, bundled_folder, is_bundled
from m2v_core.errors import HubError, InputError, MissingExtraError
from m2v_core.hub import download
from m2v_core.progress import ProgressReporter

logger = logging.getLogger(__name__)

SENTENCEPIECE_FILES = (
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer.model",
)
"""What tokenizers trained by sentencepiece are called, by family of models."""

SLOW_TOKENIZER_FILES = ("vocab.txt", "vocab.json", *SENTENCEPIECE_FILES)
"""A tokenizer is converted from any of these where there is no tokenizer.json."""

TEACHER_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py", "README.md")


@dataclass(frozen=True)
class TeacherSource:
    """The files of a teacher.

    Attributes:
        name: As it was asked for: a folder, or a repository on the Hub.
        folder: Where its files are.
        revision: Its commit on the Hub; None for a local or bundled one.
    """

    name: str
    folder: Path
    revision: str | None = None

    @property
    def repo_id(self) -> str | None:
        """Its name on the Hub; None for a folder of one's own."""
        if is_bundled(self.name) and not Path(self.name).is_dir():
            return BUNDLED_TEACHER
        return None if self.revision is None else self.name

    @property
    def title(self) -> str:
        """Its name on the Hub, or else that of its folder: where that lies is nobody else's business."""
        return self.repo_id or self.folder.resolve().name

    @property
    def fingerprint(self) -> str:
        """What changes when the teacher does: its commit, or its files' sizes and times."""
        if self.revision is not None:
            return f"{self.name}@{self.revision}"
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        stats = [(path.relative_to(self.folder).as_posix(), path.stat()) for path in files]
        listing = ",".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)
        return f"{self.folder.resolve()}[{listing}]"

    @property
    def listing(self) -> str:
        """What every machine that has the same teacher has in common: its commit, or its files' names and sizes."""
        if self.revision is not None:
            return self.revision
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return ",".join(f"{path.relative_to(self.folder).as_posix()}:{path.stat().st_size}" for path in files)


def locate_teacher(
    model_name: str | Path, revision: str | None = None, reporter: ProgressReporter | None = None
) -> TeacherSource:
    """The teacher's files, downloaded where they have to be.

    Args:
        model_name: A folder, or a repository on the Hub.
        revision: Branch, tag or commit on the Hub; None for `main`.
        reporter: Gets the stage `"download"`, in bytes, where there is anything to fetch.

    Raises:
        InputError: the name is no string, or a folder has no revisions.
        NotFoundError: neither a folder nor a repository of this name exists.
        HubError: the Hub can't be reached, and the teacher is not the bundled one.
        TeacherError: the bundled teacher's files were changed.
    """
    if not isinstance(model_name, (str, Path)):
        raise InputError(
            f"model_name is {model_name!r}, a {type(model_name).__name__}; pass a folder or a name on the Hub such "
            f"as {BUNDLED_TEACHER!r}."
        )
    model_name = str(model_name)
    if Path(model_name).is_dir():
        if revision is not None:
            raise InputError(
                f"{model_name} is a folder, which has no revision {revision!r}. Leave out revision, or name a "
                "repository on the Hub."
            )
        return TeacherSource(model_name, Path(model_name))
    try:
        folder = download.download(model_name, allow_patterns=TEACHER_FILES, revision=revision, reporter=reporter)
    except HubError as error:
        if not is_bundled(model_name):
            raise
        try:
            folder = bundled_folder()
        except MissingExtraError as missing:
            raise HubError(f"{error} To have {BUNDLED_TEACHER} without the Hub: {missing}") from error
        logger.warning("The Hub can't be reached; the bundled copy of %s is used.", BUNDLED_TEACHER)
        logger.info("What the Hub said: %s", error)
        return TeacherSource(model_name, folder)
    return TeacherSource(model_name, folder, revision=folder.name)
