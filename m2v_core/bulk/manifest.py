"""What a folder of embeddings holds: `_manifest.jsonl`, a line on how they are made, and one for each finished file.

Readers of Parquet folders pass over names that begin with an underscore. Only the process that drives a run writes the
manifest, and holds its lock. A file counts as finished once its line is there; one that was finished but not yet
written down is made again, under the same name.
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
ATTEMPTS = "_attempts-"  # at a file, on Ray
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A finished file.

    Attributes:
        input: Path or URL of its texts.
        version: Of the input, when it was read.
        output: Its name in the folder.
        n_texts: Rows it has.
        n_skipped: Rows of the input that were left out.
        n_bytes: Its size.
        n_input_bytes: That of the input.
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
    """What a folder holds, by its manifest.

    Attributes:
        settings: As in `opened`.
        model: Folder or Hub name of the model, as the run was told; None where an older version began the folder.
        entries: The finished files.
    """

    settings: dict[str, Any]
    model: str | None
    entries: tuple[Entry, ...]


class Manifest:
    """The manifest of one folder, open for one run.

    Args:
        folder: Of the embeddings.
        file: The manifest, at its end.
        schema: Names and types of the kept columns, as Arrow serializes them, in Base64; None where none are kept.
        entries: The finished files.
    """

    def __init__(self, folder: Path, file: BinaryIO, schema: str | None, entries: Iterable[Entry]) -> None:
        self.folder = folder
        self.schema = schema
        self._file = file
        self._entries = {entry.input: entry for entry in entries}

    def finished(self, file: InputFile) -> Entry | None:
        """The entry of a file of texts; None where it is to be encoded, as it is new, has changed or its output has."""
        entry = self._entries.get(file.path)
        is_good = entry is not None and entry.version == file.version and self.is_there(entry)
        return entry if is_good else None

    def is_there(self, entry: Entry) -> bool:
        """Whether the output stands in the folder as this process sees it."""
        with contextlib.suppress(OSError):
            return (self.folder / entry.output).stat().st_size == entry.n_bytes
        return False

    def outputs(self, files: Iterable[InputFile]) -> dict[str, str]:
        """A name for the output of each file: its own, with a digest of its path where another file has that."""
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
        """Write down that a file is finished.

        Raises:
            SaveError: It can't be written.
        """
        try:
            self._file.write(_line(asdict(entry)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _could_not_write(self.folder, error) from error
        self._entries[entry.input] = entry


@contextmanager
def opened(
    folder: Path, settings: dict[str, Any], schema: str | None, is_restarted: bool, model: str | None = None
) -> Iterator[Manifest]:
    """The manifest of a folder, which is made where there is none.

    Args:
        folder: Of the embeddings.
        settings: All that they depend on but the texts, under names that a message may show.
        schema: As in `Manifest`, of the first file of texts.
        is_restarted: Whether to remove what is finished, and begin anew.
        model: Where the model is found, for those who search the embeddings.

    Raises:
        SaveError: The folder holds something else, or embeddings made otherwise; another process fills it; or it can't
            be written.
    """
    read(folder)  # refuses a wrong one before anything is written
    busy = f"Another run is filling {folder}. Wait for it, or name another folder."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / _LOCK, 0, busy=busy, is_removed=True):
            before = None if is_restarted else read(folder)
            if before is not None:
                changed = [name for name in settings if before["settings"].get(name) != settings[name]]
                if changed:
                    raise SaveError(
                        f"{folder} holds embeddings, and since they were made this changed: {', '.join(changed)}. Name "
                        "another folder, or begin anew, which removes them (restart=True, --restart)."
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
    """How the embeddings of a folder are made, `settings` and `schema`; None for a folder that is empty or missing.

    Raises:
        SaveError: It is no folder, or holds something else.
    """
    if not folder.exists() or (folder.is_dir() and all(path.suffix in (".lock", ".part") for path in folder.iterdir())):
        return None
    if not folder.is_dir():
        raise SaveError(f"{folder} is a file. The embeddings of many files go into a folder; name one.")
    try:
        with (folder / NAME).open("rb") as file:
            head = json.loads(file.readline())
        if head["m2v_manifest"] == _VERSION:
            return {"settings": dict(head["settings"]), "schema": head["schema"]}
    except (OSError, KeyError, TypeError):
        pass
    except ValueError:  # a run was killed while it began the folder
        return {"settings": {}, "schema": None}
    raise SaveError(
        f"{folder} is not empty, and what it holds was not written by this command. Name a folder that is empty or "
        "doesn't exist yet."
    )


def contents(folder: Path) -> Contents:
    """What is finished in a folder, which another process may be filling meanwhile.

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
        f"{folder} is no folder of embeddings that m2v encode wrote: it has no {NAME} that can be read. Name one, or "
        "write one (m2v encode --input 'texts/*.parquet' --output FOLDER)."
    )


def _tidy(folder: Path) -> None:
    for pattern in (f"{FETCHED}*", f"{ATTEMPTS}*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _entries(file: BinaryIO) -> list[Entry]:
    """The finished files; what a killed process wrote of a last line is cut off."""
    file.readline()
    entries, n_bytes = _parsed(file)
    if n_bytes < file.seek(0, os.SEEK_END):
        file.truncate(n_bytes)
        file.seek(n_bytes)
    return entries


def _parsed(file: BinaryIO) -> tuple[list[Entry], int]:
    """The entries after the first line, and where the last whole one ends."""
    n_bytes = file.tell()
    entries = []
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):  # a block that a crash of the machine left empty
            break
        n_bytes += len(line)
    return entries, n_bytes


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _could_not_write(folder: Path, error: OSError) -> SaveError:
    return SaveError(
        f"Could not write {folder}: {error.strerror or error}. Fix that and run the same command again, which resumes "
        "at the first unfinished file, or name another folder."
    )
