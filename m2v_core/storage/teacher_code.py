"""Code that comes with a Sentence Transformer: whether loading it would run some, and its refusal."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2v_core.errors import RemoteCodeError, TeacherError


def read_modules(folder: Path, name: str) -> list[dict[str, str]]:
    """The modules that a Sentence Transformer lists, each with type and path; none where there is no list.

    Raises:
        TeacherError: The list is damaged.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return []
    try:
        return [{key: str(module[key]) for key in ("type", "path")} for module in json.loads(file.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"modules.json of {name} is damaged ({error!r}); download the teacher again.") from error


def own_code(
    config: Mapping[str, Any], known_types: Container[object], modules: Sequence[Mapping[str, str]] = ()
) -> str | None:
    """The first class that can't be loaded without code from the teacher's repository; None if there is none.

    Args:
        config: The transformer's config.json.
        known_types: The model types that transformers has; it loads those with its own code.
        modules: As `read_modules` returns them. Before version 6, sentence-transformers runs any module that lies in
            a local folder.
    """
    others = [module["type"] for module in modules if not module["type"].startswith("sentence_transformers.")]
    if others:
        return others[0]
    auto_map = config.get("auto_map")
    if not auto_map or str(config.get("model_type")) in known_types:
        return None
    return str(auto_map.get("AutoModel", "auto_map")) if isinstance(auto_map, dict) else "auto_map"


def refuse_own_code(name: str, code: str | None, remedy: str) -> None:
    """Refuse what `own_code` found.

    Raises:
        RemoteCodeError: There is some.
    """
    if code is not None:
        raise RemoteCodeError(f"{name} needs code of its own ({code}). {remedy}")
