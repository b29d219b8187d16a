"""Sources of teachers: a folder, the Hub, or the bundled teacher as the offline fallback."""

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
"""File names of sentencepiece models in different model families."""

SLOW_TOKENIZER_FILES = ("vocab.txt", "vocab.json", *SENTENCEPIECE_FILES)
"""Files that a tokenizer can be converted from if there is no tokenizer.json."""

TEACHER_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py", "README.md")


@dataclass(frozen=True)
class TeacherSource:
    """The files of a teacher.

    Attributes:
        name: Requested folder or repository on the Hub.
        folder: Local folder of its files.
        revision: Commit on the Hub; None for a local or bundled teacher.
    """

    name: str
    folder: Path
    revision: str | None = None

    @property
    def repo_id(self) -> str | None:
        """Name on the Hub; None for a local folder."""
        if is_bundled(self.name) and not Path(self.name).is_dir():
            return BUNDLED_TEACHER
        return None if self.revision is None else self.name

    @property
    def title(self) -> str:
        """Name on the Hub, or else the name of its folder, without the parent path, which may be private."""
        return self.repo_id or self.folder.resolve().name

    @property
    def fingerprint(self) -> str:
        """Cache key that changes with the teacher: its commit, or its files' sizes and modification times."""
        if self.revision is not None:
            return f"{self.name}@{self.revision}"
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        stats = [(path.relative_to(self.folder).as_posix(), path.stat()) for path in files]
        listing = ",".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)
        return f"{self.folder.resolve()}[{listing}]"

    @property
    def listing(self) -> str:
        """Identity of the teacher across machines: its commit, or its files' names and sizes."""
        if self.revision is not None:
            return self.revision
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return ",".join(f"{path.relative_to(self.folder).as_posix()}:{path.stat().st_size}" for path in files)


def locate_teacher(
    model_name: str | Path, revision: str | None = None, reporter: ProgressReporter | None = None
) -> TeacherSource:
    """Return the teacher's files, downloading them if necessary.

    Args:
        model_name: A folder, or a repository on the Hub.
        revision: Branch, tag or commit on the Hub; None for `main`.
        reporter: Reports the stage `"download"`, in bytes, if anything is downloaded.

    Raises:
        InputError: the name is not a string, or a revision is given for a folder.
        NotFoundError: neither a folder nor a repository of this name exists.
        HubError: the Hub can't be reached, and the teacher is not the bundled one.
        TeacherError: the bundled teacher's files were modified.
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
                f"{model_name} is a folder, which has no revision {revision!r}. Omit revision, or pass a repository "
                "on the Hub."
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
            raise HubError(f"{error} To use {BUNDLED_TEACHER} without the Hub: {missing}") from error
        logger.warning("The Hub can't be reached; using the bundled copy of %s.", BUNDLED_TEACHER)
        logger.info("Hub error: %s", error)
        return TeacherSource(model_name, folder)
    return TeacherSource(model_name, folder, revision=folder.name)
