"""Imports files from untrusted sources: the files of a model folder, or other requested files, and nothing else."""

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

# Configuration and card are read whole and parsed in Python; real ones have a few kilobytes.
_MAX_TEXT_BYTES = 2 * 2**20
_MAX_ENTRIES = 2000
_BLOCK_BYTES = 2**20

# "End of central directory" record at the end of an archive:
# https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT,
# 4.3.15 and 4.3.16.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_MAX_COMMENT_BYTES = 2**16
_BYTES_PER_ENTRY = 46 + 1024  # directory record with a long name


def copy_model_folder(folder: Path, target: Path, max_bytes: int) -> None:
    """Copy the model in `folder` to the empty folder `target`; other files are not copied.

    Args:
        folder: Trusted: links are followed, because the Hub's cache consists of links.
        target: An empty folder.
        max_bytes: Maximum size of the model.

    Raises:
        NotFoundError: No such folder.
        ModelFormatError: The folder contains no static model.
        LimitError: The model is too large.
        SaveError: The copy can't be written.
    """
    if not folder.is_dir():
        raise NotFoundError(f"Folder not found: {folder}. Check the path.")
    copy_model_files({path: folder / path for path in all_paths() if (folder / path).is_file()}, target, max_bytes)


def copy_model_files(files: Mapping[str, Path], target: Path, max_bytes: int) -> None:
    """Copy the files of a model to the empty folder `target`.

    Args:
        files: Files by their path in the model's folder; files that belong to no layout are skipped.
        target: An empty folder.
        max_bytes: Maximum size of the model.

    Raises:
        ModelFormatError: They are not a static model.
        LimitError: The model is too large.
        SaveError: The copy can't be written.
    """
    wanted = {name: files[name] for name in all_paths() if name in files}
    _check_layout(wanted, files)
    sizes = {name: path.stat().st_size for name, path in wanted.items()}
    _check_sizes(sizes, max_bytes)
    for name, path in wanted.items():
        with path.open("rb") as source:
            _write(source, target / name, sizes[name])


def unpack_model(zip_path: Path, target: Path, max_bytes: int) -> None:
    """Extract the model in an archive to the empty folder `target`.

    The archive is untrusted. Archives with a path outside of the archive, a link, an encrypted file or a duplicate
    name are rejected; from all others, only the files of a model are extracted.

    Args:
        zip_path: Archive with one model, at the top level or in a folder.
        target: An empty folder.
        max_bytes: Maximum uncompressed size of the model.

    Raises:
        NotFoundError: No such file.
        InputError: Not a ZIP archive, or a rejected one.
        ModelFormatError: The archive contains no static model, or is damaged.
        LimitError: The model is too large, or the archive has too many entries.
        SaveError: The files can't be written.
    """
    with _open_archive(zip_path) as (archive, entries):
        root = _model_root(entries)
        wanted = {path: entries[root + path] for path in all_paths() if root + path in entries}
        sizes = {path: entry.file_size for path, entry in wanted.items()}
        _check_sizes(sizes, max_bytes)
        for path, entry in wanted.items():
            with archive.open(entry) as source:
                _write(source, target / path, entry.file_size)


def read_zip(zip_path: Path, is_wanted: Callable[[str], bool], max_bytes: int) -> dict[str, bytes]:
    """Read selected files of an archive, by name, in its order; archives are rejected as in `unpack_model`.

    Args:
        zip_path: An untrusted archive.
        is_wanted: Returns whether to read the file at a path in the archive.
        max_bytes: Maximum total uncompressed size of those files.

    Raises:
        NotFoundError: No such file.
        InputError: Not a ZIP archive, or a rejected one.
        ModelFormatError: The archive is damaged.
        LimitError: The files are too large, or the archive has too many entries.
    """
    with _open_archive(zip_path) as (archive, entries):
        wanted = {name: entry for name, entry in entries.items() if is_wanted(name)}
        n_bytes = sum(entry.file_size for entry in wanted.values())
        if n_bytes > max_bytes:
            raise LimitError(
                f"This ZIP archive has {n_bytes:,} bytes uncompressed, but at most {max_bytes:,} are allowed. "
                "Include fewer files."
            )
        found: dict[str, bytes] = {}
        for name, entry in wanted.items():
            with archive.open(entry) as source:
                found[name] = source.read(entry.file_size)  # at most the declared size, even if there is more data
            if len(found[name]) < entry.file_size:
                raise ModelFormatError(f"{name[:200]} is incomplete. Create or download the archive again.")
        return found


@contextmanager
def _open_archive(zip_path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an archive and validate its entries; return both. Damage raises an error."""
    _check_directory(zip_path)
    try:
        with zipfile.ZipFile(zip_path) as archive:
            yield archive, _checked_entries(archive)
    # Exceptions of the standard library for data that is not an archive, or a damaged one.
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, UnicodeDecodeError) as error:
        raise ModelFormatError(f"The ZIP archive is damaged ({error}). Create or download it again.") from error


def _check_directory(zip_path: Path) -> None:
    """Reject a directory of millions of entries before it is read into memory."""
    try:
        with zip_path.open("rb") as file:
            n_bytes = file.seek(0, 2)
            file.seek(max(0, n_bytes - _MAX_COMMENT_BYTES - _END.size - _ZIP64_LOCATOR_BYTES))
            tail = file.read()
    except FileNotFoundError as error:
        raise NotFoundError(f"File not found: {zip_path.name}. Upload it again.") from error
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) < place + _END.size:
        raise InputError("This file is not a ZIP archive. Compress the folder as .zip, or upload its files directly.")
    directory_bytes = _END.unpack_from(tail, place)[5]
    if tail[max(0, place - _ZIP64_LOCATOR_BYTES) : place].startswith(_ZIP64_LOCATOR):
        raise LimitError("This ZIP archive is declared to be larger than 4 GB. Upload the files directly.")
    if directory_bytes > _MAX_ENTRIES * _BYTES_PER_ENTRY:
        raise LimitError(_too_many())


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, after validating all of them."""
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise LimitError(_too_many())
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        # The stored name: zipfile truncates it at a null byte, and converts other separators to "/".
        name = info.orig_filename
        kind = stat.S_IFMT(info.external_attr >> 16)
        if _escapes_archive(name):
            raise InputError(
                f"This ZIP archive contains the path {name[:200]!r}, which points outside of it. Compress the folder "
                "again."
            )
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(
                f"This ZIP archive contains a link, {name[:200]!r}. Replace links by the files they point to."
            )
        if info.flag_bits & 1:
            raise InputError("This ZIP archive is encrypted. Compress the folder without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                "This ZIP archive uses an unsupported compression method. Compress the folder with deflate."
            )
        if name in entries:
            raise InputError(f"This ZIP archive contains {name[:200]!r} twice. Compress the folder again.")
        if not info.is_dir():
            entries[name] = info
    return entries


def _escapes_archive(name: str) -> bool:
    has_drive = len(name) > 1 and name[1] == ":"
    return name.startswith("/") or has_drive or "\\" in name or "\0" in name or ".." in name.split("/")


def _model_root(entries: Iterable[str]) -> str:
    """The path of the folder in an archive with the model: empty, or with a trailing slash."""
    names = set(entries)
    folders = {parent for name in names for parent in PurePosixPath(name).parents}
    roots = sorted({_prefix(folder) for folder in folders}, key=lambda root: (root.count("/"), root))
    complete = [
        root for root in roots if _is_complete({name.removeprefix(root) for name in names if name.startswith(root)})
    ]
    if not complete:
        # The error is about the best match among the folders, which is the top folder if there is only one.
        root = max(roots, key=lambda root: len({root + path for path in all_paths()} & names), default="")
        _check_layout({name.removeprefix(root) for name in names if name.startswith(root)}, names)
    nearest = [root for root in complete if root.count("/") == complete[0].count("/")]
    if len(nearest) > 1:
        raise InputError(
            f"This ZIP archive contains {len(nearest)} models, in {nearest[0]} and {nearest[1]}. Compress only one of "
            "them."
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
    pickle = " Weights are only read from safetensors, because other formats can run code." if has_pickle else ""
    raise ModelFormatError(f"This is not a static model: {missing} missing.{pickle}")


def _check_sizes(sizes: Mapping[str, int], max_bytes: int) -> None:
    weights = {layout.tensors for layout in LAYOUTS}
    tokenizers = {layout.tokenizer for layout in LAYOUTS}
    for name, n_bytes in sizes.items():
        if name not in weights | tokenizers and n_bytes > _MAX_TEXT_BYTES:
            what = "remove it" if name == CARD else "this is not a model configuration"
            raise LimitError(f"{name} has {n_bytes:,} bytes, but at most {_MAX_TEXT_BYTES:,} are allowed: {what}.")
    if sum(sizes.values()) > max_bytes:
        raise LimitError(
            f"The model has {sum(sizes.values()):,} bytes, but at most {max_bytes:,} are allowed here. "
            "Make it smaller: fewer dimensions, or int8."
        )


def _write(source: IO[bytes], path: Path, n_bytes: int) -> None:
    """Write at most the declared size, even if the source has more data."""
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
        raise ModelFormatError(f"{path.name} is incomplete. Download or upload it again.")


def _too_many() -> str:
    return f"This ZIP archive has more than {_MAX_ENTRIES:,} entries. Compress one folder alone."
