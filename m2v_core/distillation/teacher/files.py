"""The small files that describe a teacher, from a folder or the Hub, read without trusting them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from m2v_core.hub import info
from m2v_core.storage.front_matter import FrontMatter

Access = Literal["public", "gated", "private", "folder", "bundled"]

_FILES = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "README.md",
)
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class TeacherFiles:
    """A teacher's files as they were found.

    Attributes:
        name: As the teacher was asked for.
        access: Who may read it, or where it is.
        commit: Its commit on the Hub; None for a local one.
        license: As its card states it; None where it doesn't.
        sizes: Bytes of each file, by path.
        n_parameters: Of its safetensors files; None where that is unknown.
        contents: The small ones; None behind a closed gate.
    """

    name: str
    access: Access
    commit: str | None
    license: str | None
    sizes: Mapping[str, int]
    n_parameters: int | None
    contents: Mapping[str, bytes] | None

    def read(self, name: str) -> bytes:
        """A file from the transformer's folder, or else from the root; empty where there is none."""
        contents = self.contents or {}
        nested = f"{_encoder_path(contents)}/{name}"
        return contents.get(nested, contents.get(name, b""))

    def json(self, name: str) -> Mapping[str, Any]:
        """The JSON object in a file; empty where there is none that can be read."""
        try:
            value = json.loads(self.read(name))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer; None where there is none that can be read."""
        try:
            return Tokenizer.from_str(self.read("tokenizer.json").decode("utf-8"))
        # The bindings raise a bare Exception for whatever they can't parse.
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, UnicodeDecodeError):
                raise
            return None


def files_of_repo(name: str, token: str | None, endpoint: str | None) -> TeacherFiles:
    """What the Hub has.

    Raises:
        NotFoundError: No such repository.
        HubError: The Hub can't be reached, or it refused.
    """
    found = info.repo_facts(name, token=token, endpoint=endpoint)
    contents = info.read_files(found, _FILES, token=token, endpoint=endpoint)
    if contents is not None:
        nested = [path for path in (f"{_encoder_path(contents)}/{file}" for file in _FILES[:6]) if path in found.sizes]
        contents |= info.read_files(found, nested, token=token, endpoint=endpoint) or {}
    return TeacherFiles(name, found.access, found.commit, found.license, found.sizes, found.n_parameters, contents)


def files_of_folder(name: str, folder: Path, access: Access) -> TeacherFiles:
    """What is in a folder and in the folders in it; not deeper, for it may be anyone's home."""
    found = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    wanted = [path for path in sizes if path.rpartition("/")[2] in _FILES and sizes[path] <= _MAX_BYTES]
    contents = {path: (folder / path).read_bytes() for path in wanted}
    metadata = FrontMatter.of(folder / "README.md").fields()
    license_name = metadata.get("license")
    weights = [folder / path for path in sizes if path.endswith(".safetensors")]
    return TeacherFiles(
        name=name,
        access=access,
        commit=None,
        license=license_name if isinstance(license_name, str) else None,
        sizes=sizes,
        n_parameters=sum(map(_parameters_in, weights)) or None,
        contents=contents,
    )


def _encoder_path(contents: Mapping[str, bytes]) -> str:
    """The folder of the transformer within a Sentence Transformer; empty for its root."""
    try:
        modules = json.loads(contents.get("modules.json", b"[]"))
        paths = [str(module["path"]) for module in modules if module["type"].endswith(".Transformer")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return paths[0].strip("/.") if paths else ""


def number(values: Mapping[str, Any], *names: str) -> int | None:
    """The first of the named values that is a number above zero, and none that stands for "no limit"."""
    for name in names:
        value = values.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10**12:
            return int(value)
    return None


def text_of(value: object) -> str | None:
    """A token as a settings file writes it: a string, or an object with its content."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _parameters_in(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header; 0 for one that is damaged.

    Source: the header is 8 bytes of length, then JSON: https://github.com/huggingface/safetensors#format
    """
    try:
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(n_bytes, 100 << 20)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
