"""Rendering of a Space from a checkout of this project.

Source: https://huggingface.co/docs/hub/spaces-config-reference for the front matter of README.md.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from m2v_core.errors import InputError, NotFoundError, SaveError
from m2v_core.studio.space.kernels import MODULE
from m2v_core.studio.space.settings import SETTINGS_FILE, SpaceSettings, load_settings

CHECKOUT = SETTINGS_FILE.parent
FOLDERS = ("m2v_core", "pages")
# pyproject.toml contains the compiler options of the kernels.
FILES = ("LICENSE", "app.py", "pyproject.toml", "spaces.yaml")
# Other files in these folders are created by tools and skipped.
_SUFFIXES = frozenset({".c", ".css", ".h", ".html", ".js", ".json", ".py", ".pyi", ".svg", ".typed", ".wordnet", ".xz"})

_README = """\
# {title}

{short_description}: choose a teacher, distill it, evaluate the model, and publish it.

This Space was rendered by `m2v space build`. To change it, edit `spaces.yaml` and render it again.
"""


def build_space(
    target: Path, *, overwrite: bool = False, checkout: Path = CHECKOUT, extra_index_url: str | None = None
) -> list[str]:
    """Write a deployable Space to a folder, and return the sorted paths of its files.

    Args:
        target: A new or empty folder; with `overwrite`, may also contain an earlier Space.
        overwrite: Whether to replace an earlier Space.
        checkout: The project to render, with its `spaces.yaml`, `pyproject.toml` and `constraints.txt`.
        extra_index_url: An additional package index; see `requirements`.

    Raises:
        NotFoundError: `checkout` is not a checkout of this project.
        InputError: `spaces.yaml` or `constraints.txt` is invalid.
        SaveError: `target` contains other files, or can't be written.
    """
    if missing := [name for name in (*FILES, "constraints.txt") if not (checkout / name).is_file()]:
        raise NotFoundError(
            f"{checkout} is not a checkout of this project: it has no {missing[0]}. Run this in a checkout."
        )
    settings = load_settings(checkout / SETTINGS_FILE.name)
    _check_target(target, overwrite)
    texts = {"README.md": readme(settings), "requirements.txt": requirements(settings, checkout, extra_index_url)}
    try:
        if target.is_dir():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
        for path in sources(checkout):
            copy = target / path.relative_to(checkout)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    except OSError as error:
        raise SaveError(f"{target} can't be written: {error.strerror or error}. Choose another folder.") from error
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


def sources(checkout: Path) -> Iterator[Path]:
    """Yield the files of the checkout that belong to the app."""
    yield from (checkout / name for name in FILES)
    if _has_current_module(checkout):
        yield checkout / MODULE
    for folder in FOLDERS:
        for path in sorted((checkout / folder).rglob("*")):
            parts = path.relative_to(checkout).parts
            is_source = path.suffix in _SUFFIXES and not any(part.startswith((".", "__pycache__")) for part in parts)
            if is_source and path.is_file():
                yield path


def _has_current_module(checkout: Path) -> bool:
    """Whether the checkout contains up-to-date kernels compiled for the Hub's machines."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or not (checkout / MODULE).is_file():
        return False
    compiled_at = (checkout / MODULE).stat().st_mtime
    return all(path.stat().st_mtime <= compiled_at for path in (checkout / MODULE).parent.glob("src/*"))


def readme(settings: SpaceSettings) -> str:
    """Render README.md of the Space, with its configuration in the front matter."""
    front: dict[str, Any] = {
        "title": settings.title,
        "emoji": settings.emoji,
        "colorFrom": settings.color_from,
        "colorTo": settings.color_to,
        "sdk": settings.sdk,
        "sdk_version": settings.sdk_version,
        "python_version": settings.python_version,
        "app_file": settings.app_file,
        "suggested_hardware": settings.hardware,
        "short_description": settings.short_description,
        "license": settings.license,
        "tags": list(settings.tags),
        "hf_oauth": True,
        "hf_oauth_scopes": list(settings.oauth_scopes),
        "preload_from_hub": list(settings.preloaded_models),
    }
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=10_000)
    body = _README.format(title=settings.title, short_description=settings.short_description)
    return f"---\n{text}---\n\n{body}"


def requirements(settings: SpaceSettings, checkout: Path = CHECKOUT, extra_index_url: str | None = None) -> str:
    """Render requirements.txt of the Space: the app's dependencies, including transitive ones, at the pinned versions.

    Transitive dependencies are read from the installed packages; those of packages that aren't installed are missing.

    Args:
        settings: The Space's settings.
        checkout: The project, with its `pyproject.toml` and `constraints.txt`.
        extra_index_url: An additional package index, such as PyTorch's index of CPU builds, which are a tenth of the
            size of the default builds with CUDA.

    Raises:
        InputError: A package of the app is not pinned, or the pinned gradio differs from `sdk_version`.
    """
    pins = _pins(checkout / "constraints.txt")
    if pins.get("gradio") != settings.sdk_version:
        raise InputError(
            f"spaces.yaml has sdk_version {settings.sdk_version}, but constraints.txt pins gradio "
            f"{pins.get('gradio')}. Use the same version in both."
        )
    waiting = [Requirement(line) for line in _wanted(checkout / "pyproject.toml", settings.extras)]
    if unpinned := [each.name for each in waiting if canonicalize_name(each.name) not in pins]:
        raise InputError(f"constraints.txt doesn't pin {unpinned[0]}. Add it there.")
    extras: dict[str, set[str]] = {}  # required extras of each package
    while waiting:
        requirement = waiting.pop()
        name = str(canonicalize_name(requirement.name))
        # Packages that aren't pinned are for other systems.
        if name in pins and not (name in extras and requirement.extras <= extras[name]):
            extras.setdefault(name, set()).update(requirement.extras)
            waiting += _needed_by(name, extras[name])
    lines = [f"{name}[{','.join(sorted(more))}]" if more else name for name, more in extras.items()]
    pinned = [f"{line}=={pins[line.partition('[')[0]]}" for line in sorted(lines)]
    index = [f"--extra-index-url {extra_index_url}"] if extra_index_url else []
    return "\n".join([*index, *pinned]) + "\n"


def _check_target(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise SaveError(f"{target} is a file. Choose a folder that doesn't exist.")
    if not target.is_dir() or not any(target.iterdir()):
        return
    is_space = all((target / name).is_file() for name in ("README.md", "requirements.txt", *FILES))
    # A checkout must never be overwritten.
    if not is_space or (target / "constraints.txt").exists() or (target / ".git").exists():
        raise SaveError(f"{target} contains files that do not belong to a Space. Choose a folder that doesn't exist.")
    if not overwrite:
        raise SaveError(f"{target} already contains a Space. Choose another folder, or add --overwrite.")


def _pins(path: Path) -> dict[str, str]:
    pins = {}
    for line in path.read_text(encoding="utf-8").split():
        name, equals, version = line.partition("==")
        if not equals:
            raise InputError(f"{path} contains {line!r}; each line must pin one package, such as numpy==2.4.6.")
        pins[str(canonicalize_name(name))] = version
    return pins


def _wanted(path: Path, extras: Iterable[str]) -> list[str]:
    import tomllib

    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    if unknown := [extra for extra in extras if extra not in optional]:
        raise InputError(f"spaces.yaml has the unknown extra {unknown[0]!r}; pyproject.toml has {', '.join(optional)}.")
    lines = [*project["dependencies"]]
    waiting = list(extras)
    for extra in waiting:  # an extra may include others
        for line in optional[extra]:
            requirement = Requirement(line)
            if requirement.name == project["name"]:
                waiting += requirement.extras
            else:
                lines.append(line)
    return lines


def _needed_by(name: str, extras: Iterable[str]) -> list[Requirement]:
    try:
        needed = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:
        return []
    environments = [{"extra": extra} for extra in ("", *extras)]
    return [
        requirement
        for requirement in needed
        if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments)
    ]
