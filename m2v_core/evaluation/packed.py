"""Reads test data from a folder of tasks, a ZIP archive of such a folder, or a single table."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2v_core.errors import InputError
from m2v_core.evaluation.data import KIND_FOLDERS, read_tasks
from m2v_core.evaluation.own_data import read_own_set
from m2v_core.evaluation.tasks import Task
from m2v_core.storage.intake import read_zip
from m2v_core.storage.text_files import decode_text, log_warnings

MAX_BYTES = 200_000_000
"""Maximum uncompressed size of the tasks in an archive."""


@dataclass(frozen=True)
class TaskArchive:
    """An archive of a folder of tasks.

    Attributes:
        name: Display name.
        files: The text of each file, by its path relative to the folder of the kinds: `"sts/STS13.tsv"`.
        warnings: Warnings about how its files were decoded.
    """

    name: str
    files: dict[str, str]
    warnings: tuple[str, ...] = ()

    def tasks(self, names: Sequence[str] = ()) -> tuple[Task, ...]:
        """Return its tasks, as `read_tasks` does for a folder.

        Raises:
            InputError: See `read_tasks`; file names are those in the archive.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place).resolve()
            try:
                for name, text in self.files.items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(text.encode())
            except OSError as error:  # an invalid file name, or a file with the name of a folder
                raise InputError(f"{self.name} can't be extracted ({error.strerror or error}). Recreate it.") from error
            try:
                return read_tasks(folder, names)
            except InputError as error:
                said = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), self.name)
                raise InputError(said) from error

    def to_line(self) -> str:
        """Serialize the archive as one line of text; see `from_line`."""
        return json.dumps([self.name, self.files], ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> TaskArchive:
        """Parse the result of `to_line`."""
        return cls(*json.loads(line))


def read_archive(path: str | Path) -> TaskArchive:
    """Read the tasks in a ZIP archive of a folder of tasks; other files are ignored.

    The archive is untrusted: paths outside of the archive, links, encrypted files and duplicate names are rejected, and
    at most the declared size is read.

    Args:
        path: Archive with the folders of the kinds (`sts/`, `classification/`, ...), at the top or in one folder.

    Raises:
        NotFoundError: No such file.
        InputError: Not a ZIP archive, a rejected one, one without tasks, or one with tasks in several folders.
        ModelFormatError: The archive is damaged.
        LimitError: The archive is too large, or has too many entries.
    """
    path = Path(path)
    found = {name: content for name, content in read_zip(path, _is_set, MAX_BYTES).items() if _root(name) is not None}
    roots = sorted({_root(name) or "" for name in found})
    if not found:
        kinds = ", ".join(f"{kind}/" for kind in KIND_FOLDERS)
        raise InputError(f"{path.name} contains no tasks. Put .tsv files into {kinds}. Upload single tables directly.")
    if len(roots) > 1:
        raise InputError(
            f"{path.name} contains tasks in several folders, {roots[0] or 'the top one'} and {roots[1]}. Use one."
        )
    inside = [decode_text(content, name.removeprefix(roots[0])) for name, content in found.items()]
    warnings = tuple(file.warning for file in inside if file.warning)
    return TaskArchive(path.name, {file.name: file.text for file in inside}, warnings)


def _is_set(name: str) -> bool:
    """Whether a file can belong to a task; macOS adds hidden companion files."""
    parts = name.split("/")
    return name.endswith(".tsv") and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _root(name: str) -> str | None:
    """The folder in an archive with those of the kinds: empty, or with a trailing slash; None without any."""
    parts = name.split("/")
    for place in range(len(parts)):
        if "/".join(parts[place:]).startswith(tuple(f"{kind}/" for kind in KIND_FOLDERS)):
            return "".join(f"{part}/" for part in parts[:place])
    return None


def read_test_data(path: str | Path, names: Sequence[str] = ()) -> tuple[Task, ...]:
    """Read the tasks in a folder, in a ZIP archive of such a folder, or in a single table.

    Args:
        path: A folder for `read_tasks`, such a folder as `.zip`, or a table for `read_own_set`.
        names: Which tasks of a folder or an archive; empty for all.

    Raises:
        M2VError: See `read_tasks`, `read_archive` and `read_own_set`.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".zip" and path.is_file():
        archive = read_archive(path)
        log_warnings(*archive.warnings)
        return archive.tasks(names)
    if not path.is_file():
        return read_tasks(path, names)
    if names:
        raise InputError(f"{path} is a single task, so there is nothing to choose: omit the names of tasks.")
    own = read_own_set(path)
    log_warnings(own.warning)
    return (own.task(),)
