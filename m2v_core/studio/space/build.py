"""Rendering a Space that the Hub can run from a checkout of this project.

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
# pyproject.toml says how the kernels are compiled.
FILES = ("LICENSE", "app.py", "pyproject.toml", "spaces.yaml")
# What the code folders may hold; anything else in them was left by a tool.
_SUFFIXES = frozenset({".c", ".css", ".h", ".html", ".js", ".json", ".py", ".pyi", ".svg", ".typed", ".wordnet", ".xz"})

_README = """\
# {title}

{short_description}: pick a teacher, press a button, look at what you got, and publish it.

`m2v space build` rendered this Space: change `spaces.yaml` and render it again, rather than this file.
"""


def build_space(
    target: Path, *, overwrite: bool = False, checkout: Path = CHECKOUT, extra_index_url: str | None = None
) -> list[str]:
    """Write a deployable Space into a folder; returns the paths of its files, sorted.

    Args:
        target: A folder that doesn't exist or is empty; with `overwrite`, one that holds an earlier Space, which is
            replaced whole.
        overwrite: Whether to replace what is there.
        checkout: The project to render, with its `spaces.yaml`, `pyproject.toml` and `constraints.txt`.
        extra_index_url: A package index that the Space uses beside its default one, see `requirements`.

    Raises:
        NotFoundError: `checkout` is none.
        InputError: `spaces.yaml` or `constraints.txt` holds something wrong.
        SaveError: `target` holds something else, or can't be written.
    """
    if missing := [name for name in (*FILES, "constraints.txt") if not (checkout / name).is_file()]:
        raise NotFoundError(f"{checkout} is no checkout of this project: it has no {missing[0]}. Run this in one.")
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
        raise SaveError(f"{target} can't be written: {error.strerror or error}. Name another folder.") from error
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


def sources(checkout: Path) -> Iterator[Path]:
    """The files of the checkout that the app consists of."""
    yield from (checkout / name for name in FILES)
    if _has_current_module(checkout):
        yield checkout / MODULE
    for folder in FOLDERS:
        for path in sorted((checkout / folder).rglob("*")):
            parts = path.relative_to(checkout).parts
            is_ours = path.suffix in _SUFFIXES and not any(part.startswith((".", "__pycache__")) for part in parts)
            if is_ours and path.is_file():
                yield path


def _has_current_module(checkout: Path) -> bool:
    """Whether the checkout has the compiled kernels for the machines of the Hub, and no source is newer."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or not (checkout / MODULE).is_file():
        return False
    compiled_at = (checkout / MODULE).stat().st_mtime
    return all(path.stat().st_mtime <= compiled_at for path in (checkout / MODULE).parent.glob("src/*"))


def readme(settings: SpaceSettings) -> str:
    """README.md of the Space, whose front matter configures it."""
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
    """requirements.txt of the Space: the packages that the app needs and all that they need, at the pinned versions.

    What a package needs is read from those installed here; of one that isn't, only itself is listed.

    Args:
        settings: The Space's settings.
        checkout: The project, with its `pyproject.toml` and `constraints.txt`.
        extra_index_url: An index to install from as well. The default one has torch with the libraries of GPUs, which
            a Space on a CPU doesn't need; PyTorch's index of CPU builds has it at a tenth of the size.

    Raises:
        InputError: A package of the app is not pinned, or gradio otherwise than `sdk_version` says.
    """
    pins = _pins(checkout / "constraints.txt")
    if pins.get("gradio") != settings.sdk_version:
        raise InputError(
            f"spaces.yaml says sdk_version {settings.sdk_version}, and constraints.txt pins gradio "
            f"{pins.get('gradio')}. Make them the same."
        )
    waiting = [Requirement(line) for line in _wanted(checkout / "pyproject.toml", settings.extras)]
    if unpinned := [each.name for each in waiting if canonicalize_name(each.name) not in pins]:
        raise InputError(f"constraints.txt doesn't pin {unpinned[0]}. Add it there.")
    extras: dict[str, set[str]] = {}  # of each package, those that are needed
    while waiting:
        requirement = waiting.pop()
        name = str(canonicalize_name(requirement.name))
        # What isn't pinned is for another system.
        if name in pins and not (name in extras and requirement.extras <= extras[name]):
            extras.setdefault(name, set()).update(requirement.extras)
            waiting += _needed_by(name, extras[name])
    lines = [f"{name}[{','.join(sorted(more))}]" if more else name for name, more in extras.items()]
    pinned = [f"{line}=={pins[line.partition('[')[0]]}" for line in sorted(lines)]
    index = [f"--extra-index-url {extra_index_url}"] if extra_index_url else []
    return "\n".join([*index, *pinned]) + "\n"


def _check_target(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise SaveError(f"{target} is a file. Name a folder that doesn't exist yet.")
    if not target.is_dir() or not any(target.iterdir()):
        return
    is_space = all((target / name).is_file() for name in ("README.md", "requirements.txt", *FILES))
    # A checkout must never be taken for a Space, whatever lies in it.
    if not is_space or (target / "constraints.txt").exists() or (target / ".git").exists():
        raise SaveError(f"{target} holds something else than a Space. Name a folder that doesn't exist yet.")
    if not overwrite:
        raise SaveError(f"{target} holds a Space already. Name another folder, or add --overwrite.")


def _pins(path: Path) -> dict[str, str]:
    pins = {}
    for line in path.read_text(encoding="utf-8").split():
        name, equals, version = line.partition("==")
        if not equals:
            raise InputError(f"{path} holds {line!r}; each line must pin one package, such as numpy==2.4.6.")
        pins[str(canonicalize_name(name))] = version
    return pins


def _wanted(path: Path, extras: Iterable[str]) -> list[str]:
    import tomllib

    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    if unknown := [extra for extra in extras if extra not in optional]:
        raise InputError(f"spaces.yaml names the extra {unknown[0]!r}; pyproject.toml has {', '.join(optional)}.")
    lines = [*project["dependencies"]]
    waiting = list(extras)
    for extra in waiting:  # an extra may name others
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
