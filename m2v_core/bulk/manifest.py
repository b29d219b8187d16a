"""The manifest of a folder of embeddings, `_manifest.jsonl`: one line of settings, and one line per finished file.

Readers of Parquet folders skip names that begin with an underscore. Only the process that coordinates a run writes the
manifest, while holding its lock. A file counts as finished once the manifest has its line; a file that was finished but
not recorded is encoded again under the same name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from m2v_core.bulk.inputs import FETCHED, InputFile
from m2v_core.errors import M2VError, NotFoundError, SaveError
from m2v_core.storage.atomic import exclusive, replacing_file

NAME = "_manifest.jsonl"
_LOCK = "_manifest.lock"
ATTEMPTS = "_attempts-"  # prefix of the files that count attempts, on Ray
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A finished file.

    Attributes:
        input: Path or URL of its texts.
        version: Version of the input when it was read.
        output: Name of the output in the folder.
        n_texts: Number of rows.
        n_skipped: Number of skipped input rows.
        n_bytes: Size of the output.
        n_input_bytes: Size of the input.
    """

    input: str
    version: str
    output: str
    n_texts: int
    n_skipped: int
    n_bytes: int
    n_input_bytes: int


@dataclass(frozen=True)
class Contents:
    """The contents of a folder, according to its manifest.

    Attributes:
        settings: As in `open_manifest`.
        model: Folder or Hub name of the model, as passed to the run; None if an older version created the folder.
        entries: The finished files.
    """

    settings: dict[str, Any]
    model: str | None
    entries: tuple[Entry, ...]


class Manifest:
    """The manifest of a folder, open for one run.

    Args:
        folder: Folder of the embeddings.
        file: The manifest, positioned at its end.
        schema: Names and types of the kept columns, as Arrow serializes them, in Base64; None if none are kept.
        entries: The finished files.
    """

    def __init__(self, folder: Path, file: BinaryIO, schema: str | None, entries: Iterable[Entry]) -> None:
        self.folder = folder
        self.schema = schema
        self._file = file
        self._entries = {entry.input: entry for entry in entries}

    def finished(self, file: InputFile) -> Entry | None:
        """The entry of an input file; None if it must be encoded because it is new or it or its output has changed."""
        entry = self._entries.get(file.path)
        is_good = entry is not None and entry.version == file.version and self.exists(entry)
        return entry if is_good else None

    def exists(self, entry: Entry) -> bool:
        """Whether the output exists in the folder with its recorded size."""
        with contextlib.suppress(OSError):
            return (self.folder / entry.output).stat().st_size == entry.n_bytes
        return False

    def outputs(self, files: Iterable[InputFile]) -> dict[str, str]:
        """A name for the output of each file: the file's own, with a digest of its path if names collide."""
        taken = {entry.output: path for path, entry in self._entries.items()}
        found = {}
        for file in files:
            entry = self._entries.get(file.path)
            name = file.name
            output = name if Path(name).suffix == ".parquet" else f"{name}.parquet"
            if entry is not None:
                output = entry.output
            elif taken.get(output, file.path) != file.path:
                digest = hashlib.sha256(file.path.encode()).hexdigest()[:8]
                output = f"{Path(name).stem}-{digest}.parquet"
            taken[output] = file.path
            found[file.path] = output
        return found

    def add(self, entry: Entry) -> None:
        """Record that a file is finished.

        Raises:
            SaveError: The manifest can't be written.
        """
        try:
            self._file.write(_line(asdict(entry)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _could_not_write(self.folder, error) from error
        self._entries[entry.input] = entry


@contextmanager
def open_manifest(
    folder: Path, settings: dict[str, Any], schema: str | None, is_restarted: bool, model: str | None = None
) -> Iterator[Manifest]:
    """Open the manifest of a folder, creating it if needed.

    Args:
        folder: Folder of the embeddings.
        settings: Everything except the texts that determines the embeddings, under names suitable for messages.
        schema: As in `Manifest`, of the first input file.
        is_restarted: Whether to remove finished files and start over.
        model: Location of the model, for searching the embeddings.

    Raises:
        SaveError: The folder contains other files or embeddings with other settings, another process is writing to it,
            or it can't be written.
    """
    read(folder)  # rejects an unsuitable folder before anything is written
    busy = f"Another run is writing to {folder}. Wait for it, or choose another folder."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / _LOCK, 0, busy=busy, is_removed=True):
            before = None if is_restarted else read(folder)
            if before is not None:
                changed = [name for name in settings if before["settings"].get(name) != settings[name]]
                if changed:
                    raise SaveError(
                        f"{folder} contains embeddings with other settings: {', '.join(changed)}. Choose another "
                        "folder, or start over, which removes them (restart=True, --restart)."
                    )
                schema = before["schema"]
            else:
                with contextlib.suppress(NotFoundError):
                    for entry in contents(folder).entries:
                        (folder / entry.output).unlink(missing_ok=True)
                head = {"m2v_manifest": _VERSION, "settings": settings, "schema": schema, "model": model}
                with replacing_file(folder / NAME) as new:
                    new.write_bytes(_line(head))
            _tidy(folder)
            try:
                with (folder / NAME).open("rb+") as file:
                    yield Manifest(folder, file, schema, _entries(file))
            finally:
                _tidy(folder)
    except M2VError:
        raise
    except OSError as error:
        raise _could_not_write(folder, error) from error


def read(folder: Path) -> dict[str, Any] | None:
    """Read the `settings` and `schema` of a folder; None for a folder that is empty or missing.

    Raises:
        SaveError: The path is not a folder, or the folder contains other files.
    """
    if not folder.exists() or (folder.is_dir() and all(path.suffix in (".lock", ".part") for path in folder.iterdir())):
        return None
    if not folder.is_dir():
        raise SaveError(f"{folder} is a file. The embeddings of many files are written to a folder; pass one.")
    try:
        with (folder / NAME).open("rb") as file:
            head = json.loads(file.readline())
        if head["m2v_manifest"] == _VERSION:
            return {"settings": dict(head["settings"]), "schema": head["schema"]}
    except (OSError, KeyError, TypeError):
        pass
    except ValueError:  # a run was killed while it created the folder
        return {"settings": {}, "schema": None}
    raise SaveError(
        f"{folder} is not empty, and its files were not written by this command. Choose a folder that is empty or "
        "doesn't exist yet."
    )


def contents(folder: Path) -> Contents:
    """The finished files of a folder, to which another process may be writing.

    Raises:
        NotFoundError: There is no such folder, or no manifest in it.
    """
    try:
        with (folder / NAME).open("rb") as file:
            head = json.loads(file.readline())
            if head["m2v_manifest"] == _VERSION:
                entries, _ = _parsed(file)
                last = {entry.input: entry for entry in entries}
                return Contents(dict(head["settings"]), head.get("model"), tuple(last.values()))
    except (OSError, KeyError, TypeError, ValueError):
        pass
    raise NotFoundError(
        f"{folder} is not a folder of embeddings written by m2v encode: it has no readable {NAME}. Choose another, or "
        "create one (m2v encode --input 'texts/*.parquet' --output FOLDER)."
    )


def _tidy(folder: Path) -> None:
    for pattern in (f"{FETCHED}*", f"{ATTEMPTS}*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _entries(file: BinaryIO) -> list[Entry]:
    """Read the finished files, and truncate an incomplete last line left by a killed process."""
    file.readline()
    entries, n_bytes = _parsed(file)
    if n_bytes < file.seek(0, os.SEEK_END):
        file.truncate(n_bytes)
        file.seek(n_bytes)
    return entries


def _parsed(file: BinaryIO) -> tuple[list[Entry], int]:
    """The entries after the first line, and the end of the last complete one."""
    n_bytes = file.tell()
    entries = []
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):  # an empty block after a crash of the machine
            break
        n_bytes += len(line)
    return entries, n_bytes


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _could_not_write(folder: Path, error: OSError) -> SaveError:
    return SaveError(
        f"Could not write {folder}: {error.strerror or error}. Fix this and rerun the same command, which resumes "
        "at the first unfinished file, or choose another folder."
    )
