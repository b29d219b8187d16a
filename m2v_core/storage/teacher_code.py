"""Detects and rejects Sentence Transformers that require code from their own repository."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from m2v_core.errors import RemoteCodeError, TeacherError


def read_modules(folder: Path, name: str) -> list[dict[str, str]]:
    """The modules that a Sentence Transformer lists, each with type and path; empty without a list.

    Raises:
        TeacherError: The list is damaged.
    """
    file = folder / "modules.json"
    return parse_modules(file.read_bytes(), name) if file.is_file() else []


def parse_modules(content: bytes, name: str) -> list[dict[str, str]]:
    """The modules in a modules.json, each with type and path.

    Args:
        content: Content of the file.
        name: The teacher's name, for the error message.

    Raises:
        TeacherError: The list is damaged.
    """
    try:
        return [{key: str(module[key]) for key in ("type", "path")} for module in json.loads(content)]
    except (ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"modules.json of {name} is damaged ({error!r}); download the teacher again.") from error


@functools.cache
def _known_types() -> frozenset[str]:
    """The model types that transformers implements, read from its source: importing it takes seconds."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    folder = Path(spec.origin).parent / "models" / "auto"
    sources = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*auto*.py"))]
    return frozenset(name for source in sources for name in re.findall(r'"([^"]+)"\s*[,:]\s*"\w+Config"', source))


def find_custom_code(config: Mapping[str, Any], modules: Sequence[Mapping[str, str]] = ()) -> str | None:
    """The first class that requires code from the teacher's repository; None if there is none.

    Args:
        config: The transformer's config.json.
        modules: As returned by `read_modules`. sentence-transformers before version 6 runs the code of any module in
            a local folder.
    """
    others = [module["type"] for module in modules if not module["type"].startswith("sentence_transformers.")]
    if others:
        return others[0]
    auto_map = config.get("auto_map")
    if not auto_map or str(config.get("model_type")) in _known_types():
        return None
    return str(auto_map.get("AutoModel", "auto_map")) if isinstance(auto_map, dict) else "auto_map"


def reject_custom_code(name: str, code: str | None, remedy: str) -> None:
    """Raise an error if `find_custom_code` found any.

    Raises:
        RemoteCodeError: The teacher requires custom code.
    """
    if code is not None:
        raise RemoteCodeError(f"{name} requires custom code ({code}). {remedy}")
