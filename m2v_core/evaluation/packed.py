"""Test data from wherever people have it: a folder of tasks, the same packed as a ZIP archive, or one table."""

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
"""Of the sets in an archive, unpacked."""


@dataclass(frozen=True)
class TaskArchive:
    """A packed folder of tasks.

    Attributes:
        name: What people call it.
        files: The text of each file, by its path from the folder of the kinds: `"sts/STS13.tsv"`.
        warnings: What a person should know about how its files were decoded.
    """

    name: str
    files: dict[str, str]
    warnings: tuple[str, ...] = ()

    def tasks(self, names: Sequence[str] = ()) -> tuple[Task, ...]:
        """The tasks in it, as `read_tasks` finds them in a folder.

        Raises:
            InputError: As `read_tasks`; it names files as the archive does.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place).resolve()
            try:
                for name, text in self.files.items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(text.encode())
            except OSError as error:  # a name that no file can have, or a file where another has a folder
                raise InputError(f"{self.name} can't be unpacked ({error.strerror or error}). Pack it anew.") from error
            try:
                return read_tasks(folder, names)
            except InputError as error:
                said = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), self.name)
                raise InputError(said) from error

    def to_line(self) -> str:
        """The archive as one line of text, for `from_line`."""
        return json.dumps([self.name, self.files], ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> TaskArchive:
        """What `to_line` made."""
        return cls(*json.loads(line))


def read_archive(path: str | Path) -> TaskArchive:
    """The sets in a ZIP archive of a folder of tasks; what else it holds is left alone.

    The archive may come from anybody: a path that leads out of it, a link, an encrypted file or a name that is there
    twice is refused, and no more is read than it says to hold.

    Args:
        path: Holds the folders of the kinds (`sts/`, `classification/`, ...), at the top or in one folder.

    Raises:
        NotFoundError: No such file.
        InputError: It is no ZIP archive, or a refused one, it holds no sets, or they are in several folders.
        ModelFormatError: It is damaged.
        LimitError: It is too large, or has too many entries.
    """
    path = Path(path)
    found = {name: content for name, content in read_zip(path, _is_set, MAX_BYTES).items() if _root(name) is not None}
    roots = sorted({_root(name) or "" for name in found})
    if not found:
        kinds = ", ".join(f"{kind}/" for kind in KIND_FOLDERS)
        raise InputError(
            f"{path.name} holds no sets. They are looked for in {kinds}, as .tsv files. Give single tables unpacked."
        )
    if len(roots) > 1:
        raise InputError(
            f"{path.name} holds sets in several folders, {roots[0] or 'the top one'} and {roots[1]}. Pack one."
        )
    inside = [decode_text(content, name.removeprefix(roots[0])) for name, content in found.items()]
    warnings = tuple(file.warning for file in inside if file.warning)
    return TaskArchive(path.name, {file.name: file.text for file in inside}, warnings)


def _is_set(name: str) -> bool:
    """Whether a file can be a set's; macOS packs shadows of files beside them."""
    parts = name.split("/")
    return name.endswith(".tsv") and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _root(name: str) -> str | None:
    """The folder in an archive that holds those of the kinds: empty, or with a slash at its end; None without any."""
    parts = name.split("/")
    for place in range(len(parts)):
        if "/".join(parts[place:]).startswith(tuple(f"{kind}/" for kind in KIND_FOLDERS)):
            return "".join(f"{part}/" for part in parts[:place])
    return None


def read_test_data(path: str | Path, names: Sequence[str] = ()) -> tuple[Task, ...]:
    """The tasks in a folder, in a ZIP archive of one, or in a table of one's own.

    Args:
        path: A folder as `read_tasks` wants it, such a folder as `.zip`, or a table as `read_own_set` reads it.
        names: Which tasks of a folder or an archive; none for all.

    Raises:
        M2VError: As `read_tasks`, `read_archive` and `read_own_set`.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".zip" and path.is_file():
        archive = read_archive(path)
        log_warnings(*archive.warnings)
        return archive.tasks(names)
    if not path.is_file():
        return read_tasks(path, names)
    if names:
        raise InputError(f"{path} is one set, so there is nothing to choose: leave the names of tasks out.")
    own = read_own_set(path)
    log_warnings(own.warning)
    return (own.task(),)
