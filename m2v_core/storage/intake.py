"""Taking files in from elsewhere: those of a model folder, or others that are asked for, and nothing else."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from m2v_core.errors import InputError, LimitError, ModelFormatError, NotFoundError, SaveError
from m2v_core.storage.formats import CARD, LAYOUTS, all_paths

# Configuration and card are read whole and parsed in Python; honest ones have a few kilobytes.
_MAX_TEXT_BYTES = 2 * 2**20
_MAX_ENTRIES = 2000
_BLOCK_BYTES = 2**20

# "End of central directory", which closes an archive: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT,
# 4.3.15 and 4.3.16.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_MAX_COMMENT_BYTES = 2**16
_BYTES_AN_ENTRY = 46 + 1024  # its record in the directory, and a long name


def take_folder(folder: Path, target: Path, max_bytes: int) -> None:
    """Copy the model in `folder` to the empty folder `target`; other files stay where they are.

    Args:
        folder: Trusted: links in it are followed, as the Hub's cache consists of them.
        target: An empty folder.
        max_bytes: How large the model may be.

    Raises:
        NotFoundError: No such folder.
        ModelFormatError: It holds no static model.
        LimitError: The model is larger.
        SaveError: The copy can't be written.
    """
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}. Check the path.")
    take_files({path: folder / path for path in all_paths() if (folder / path).is_file()}, target, max_bytes)


def take_files(files: Mapping[str, Path], target: Path, max_bytes: int) -> None:
    """Copy the files of a model to the empty folder `target`.

    Args:
        files: Each file by its path inside the model's folder; those that no layout knows are left out.
        target: An empty folder.
        max_bytes: How large the model may be.

    Raises:
        ModelFormatError: They are no static model.
        LimitError: The model is larger.
        SaveError: The copy can't be written.
    """
    wanted = {name: files[name] for name in all_paths() if name in files}
    _check_layout(wanted, files)
    sizes = {name: path.stat().st_size for name, path in wanted.items()}
    _check_sizes(sizes, max_bytes)
    for name, path in wanted.items():
        with path.open("rb") as source:
            _write(source, target / name, sizes[name])


def take_zip(zip_path: Path, target: Path, max_bytes: int) -> None:
    """Unpack the model in an archive to the empty folder `target`.

    The archive may come from anybody. One that holds a path out of itself, a link, an encrypted file or a
    name twice is refused whole; of any other, only the files of a model are written.

    Args:
        zip_path: Holds one model, at the top or in a folder.
        target: An empty folder.
        max_bytes: How large the model may be, unpacked.

    Raises:
        NotFoundError: No such file.
        InputError: No ZIP archive, or a refused one.
        ModelFormatError: It holds no static model, or it is damaged.
        LimitError: The model is larger, or the archive has too many entries.
        SaveError: The files can't be written.
    """
    with _opened(zip_path) as (archive, entries):
        root = _model_root(entries)
        wanted = {path: entries[root + path] for path in all_paths() if root + path in entries}
        sizes = {path: entry.file_size for path, entry in wanted.items()}
        _check_sizes(sizes, max_bytes)
        for path, entry in wanted.items():
            with archive.open(entry) as source:
                _write(source, target / path, entry.file_size)


def read_zip(zip_path: Path, is_wanted: Callable[[str], bool], max_bytes: int) -> dict[str, bytes]:
    """The files of an archive that are wanted, by name, in its order; refused as in `take_zip`.

    Args:
        zip_path: From anybody.
        is_wanted: Says of a file's path inside the archive whether to read it.
        max_bytes: How large those files may be together, unpacked.

    Raises:
        NotFoundError: No such file.
        InputError: No ZIP archive, or a refused one.
        ModelFormatError: It is damaged.
        LimitError: The files are larger, or the archive has too many entries.
    """
    with _opened(zip_path) as (archive, entries):
        wanted = {name: entry for name, entry in entries.items() if is_wanted(name)}
        n_bytes = sum(entry.file_size for entry in wanted.values())
        if n_bytes > max_bytes:
            raise LimitError(
                f"This ZIP archive holds {n_bytes:,} bytes, unpacked, and {max_bytes:,} are allowed. Pack less of it."
            )
        found: dict[str, bytes] = {}
        for name, entry in wanted.items():
            with archive.open(entry) as source:
                found[name] = source.read(entry.file_size)  # no more than announced, whatever it goes on to say
            if len(found[name]) < entry.file_size:
                raise ModelFormatError(f"{name[:200]} ends too early. Pack the archive or fetch it again.")
        return found


@contextmanager
def _opened(zip_path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An archive and its files by name, none of them harmful; what is damaged says so."""
    _check_directory(zip_path)
    try:
        with zipfile.ZipFile(zip_path) as archive:
            yield archive, _checked_entries(archive)
    # What the standard library raises for bytes that are no archive, or no longer one.
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, UnicodeDecodeError) as error:
        raise ModelFormatError(f"The ZIP archive is damaged ({error}). Pack it or fetch it again.") from error


def _check_directory(zip_path: Path) -> None:
    """Refuse a directory of millions of entries before anything reads it into memory."""
    try:
        with zip_path.open("rb") as file:
            n_bytes = file.seek(0, 2)
            file.seek(max(0, n_bytes - _MAX_COMMENT_BYTES - _END.size - _ZIP64_LOCATOR_BYTES))
            tail = file.read()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {zip_path.name}. Upload it again.") from error
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) < place + _END.size:
        raise InputError("This file is no ZIP archive. Pack the folder as .zip, or upload its files as they are.")
    directory_bytes = _END.unpack_from(tail, place)[5]
    if tail[max(0, place - _ZIP64_LOCATOR_BYTES) : place].startswith(_ZIP64_LOCATOR):
        raise LimitError("This ZIP archive is larger than 4 GB, or says so. Upload the files by themselves.")
    if directory_bytes > _MAX_ENTRIES * _BYTES_AN_ENTRY:
        raise LimitError(_too_many())


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, all of them harmless."""
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise LimitError(_too_many())
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        # The name as it is stored: zipfile cuts it at a null byte, and turns other separators into "/".
        name = info.orig_filename
        kind = stat.S_IFMT(info.external_attr >> 16)
        if _leads_out(name):
            raise InputError(
                f"This ZIP archive holds the path {name[:200]!r}, which leads out of it. Pack the folder anew."
            )
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(
                f"This ZIP archive holds a link, {name[:200]!r}. Pack the files that links point to instead."
            )
        if info.flag_bits & 1:
            raise InputError("This ZIP archive is encrypted. Pack the folder without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                "This ZIP archive is packed by a method that is not read here. Pack it as plain ZIP (deflate)."
            )
        if name in entries:
            raise InputError(f"This ZIP archive holds {name[:200]!r} twice. Pack the folder anew.")
        if not info.is_dir():
            entries[name] = info
    return entries


def _leads_out(name: str) -> bool:
    has_drive = len(name) > 1 and name[1] == ":"
    return name.startswith("/") or has_drive or "\\" in name or "\0" in name or ".." in name.split("/")


def _model_root(entries: Iterable[str]) -> str:
    """The folder in an archive that holds the model: empty, or with a slash at its end."""
    names = set(entries)
    folders = {parent for name in names for parent in PurePosixPath(name).parents}
    roots = sorted({_prefix(folder) for folder in folders}, key=lambda root: (root.count("/"), root))
    complete = [
        root for root in roots if _is_complete({name.removeprefix(root) for name in names if name.startswith(root)})
    ]
    if not complete:
        # Named after the folder that comes closest, which is the top one where there is but one.
        root = max(roots, key=lambda root: len({root + path for path in all_paths()} & names), default="")
        _check_layout({name.removeprefix(root) for name in names if name.startswith(root)}, names)
    nearest = [root for root in complete if root.count("/") == complete[0].count("/")]
    if len(nearest) > 1:
        raise InputError(
            f"This ZIP archive holds {len(nearest)} models, in {nearest[0]} and {nearest[1]}. Pack one by itself."
        )
    return nearest[0]


def _prefix(folder: PurePosixPath) -> str:
    return "" if folder == PurePosixPath(".") else f"{folder}/"


def _is_complete(names: Iterable[str]) -> bool:
    found = set(names)
    return any(found.issuperset(layout.files) for layout in LAYOUTS)


def _check_layout(names: Iterable[str], everything: Iterable[str]) -> None:
    found = set(names)
    if _is_complete(found):
        return
    nearest = max(LAYOUTS, key=lambda layout: len(found.intersection(layout.files)))
    missing = ", ".join(name for name in nearest.files if name not in found)
    has_pickle = any(name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt")) for name in everything)
    pickle = " Weights are read from safetensors alone, for other formats can run code." if has_pickle else ""
    raise ModelFormatError(f"This holds no static model: {missing} missing.{pickle}")


def _check_sizes(sizes: Mapping[str, int], max_bytes: int) -> None:
    weights = {layout.tensors for layout in LAYOUTS}
    tokenizers = {layout.tokenizer for layout in LAYOUTS}
    for name, n_bytes in sizes.items():
        if name not in weights | tokenizers and n_bytes > _MAX_TEXT_BYTES:
            what = "leave it out" if name == CARD else "this is no model's configuration"
            raise LimitError(f"{name} has {n_bytes:,} bytes, and {_MAX_TEXT_BYTES:,} are allowed: {what}.")
    if sum(sizes.values()) > max_bytes:
        raise LimitError(
            f"The model has {sum(sizes.values()):,} bytes, and {max_bytes:,} are allowed here. "
            "Make it smaller: fewer dimensions, or int8."
        )


def _write(source: IO[bytes], path: Path, n_bytes: int) -> None:
    """Write no more than announced, whatever the source goes on to say."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            while n_bytes > 0 and (block := source.read(min(_BLOCK_BYTES, n_bytes))):
                target.write(block)
                n_bytes -= len(block)
    except OSError as error:
        raise SaveError(
            f"The model can't be copied ({error.strerror or error}). Free some space and try again."
        ) from error
    if n_bytes:
        raise ModelFormatError(f"{path.name} ends too early. Fetch or upload it again.")


def _too_many() -> str:
    return f"This ZIP archive has more than {_MAX_ENTRIES:,} entries. Pack one folder by itself."
