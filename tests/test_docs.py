"""What the documents and the help promise; `tests/docs` runs their code and builds the site."""

from __future__ import annotations

import re
import shlex
import tomllib

import click
import pytest
from packaging.requirements import Requirement

from m2v_core.cli import app
from pages.glossary import GLOSSARY
from tests.docs.blocks import BLOCKS, COMMANDS, ROOT, TEXTS

README = TEXTS["README.md"]
OPTIONS = [(name, option) for name, command in app.commands.items() for option in command.params]
PYTHON_BLOCKS = [(block.document, block.code) for block in BLOCKS if block.language == "python"]
M2V_COMMANDS = [(document, command) for document, command in COMMANDS if command.startswith("m2v ")]
ALL_COMMANDS = [*app.commands.values(), *app.commands["space"].commands.values()]
INLINE_CODE = [(name, code) for name, text in TEXTS.items() for code in re.findall(r"`([^`\n]+)`", text)]
PIP_COMMANDS = [
    (name, command)
    for name, command in [*COMMANDS, *INLINE_CODE]
    if command.startswith("pip install ") and not command.endswith(".whl")
]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
MAX_README_LINES = 150


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a line runs, and its arguments."""
    command: click.Command = app
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("name", app.commands)
def test_command_is_documented(name):
    assert app.commands[name].help
    assert any(command.split()[1] == name for _, command in M2V_COMMANDS), f"no page runs m2v {name}"


@pytest.mark.parametrize(
    ("command", "option"), OPTIONS, ids=[f"{command} {option.opts[0]}" for command, option in OPTIONS]
)
def test_option_is_documented(command, option):
    assert option.help, f"m2v {command} {option.opts[0]} has no help"


@pytest.mark.parametrize(("document", "line"), M2V_COMMANDS)
def test_command_parses(document, line):
    command, arguments = command_of(shlex.split(line.partition(" < ")[0])[1:])
    command.make_context("m2v", arguments).close()


@pytest.mark.parametrize(("document", "code"), [item for item in INLINE_CODE if item[1].startswith(("m2v ", "--"))])
def test_inline_command_exists(document, code):
    """Options without a command are those of any command."""
    command, words = command_of(code.split()[1:]) if code.startswith("m2v ") else (None, code.split())
    assert not isinstance(command, click.Group) or not words or words[0].startswith("-"), f"{code}: no such command"
    commands = [command] if command is not None else ALL_COMMANDS
    known = {name for each in commands for option in each.params for name in [*option.opts, *option.secondary_opts]}
    assert {word for word in words if word.startswith("--")} <= known | {"--help", "--version"}


@pytest.mark.parametrize(("document", "code"), PYTHON_BLOCKS)
def test_python_compiles(document, code):
    compile(code, document, "exec")


@pytest.mark.parametrize(("document", "command"), PIP_COMMANDS)
def test_requirements_exist(document, command):
    """Packages are named as pip takes them, and extras of this project are those that it has."""
    for requirement in map(Requirement, shlex.split(command)[2:]):
        if requirement.name == "m2v-studio":
            assert requirement.extras and requirement.extras <= set(EXTRAS)


def test_installation_lists_every_extra():
    listed = re.findall(r"^\| `(\w+)` \|", TEXTS["docs/get-started/installation.md"], flags=re.MULTILINE)
    assert set(listed) == set(EXTRAS)


def test_readme_is_short_and_has_code_of_both_kinds():
    assert len(README.splitlines()) < MAX_README_LINES
    assert {"Installation", "How it works", "Benchmarks"} <= set(re.findall("^## (.*)", README, flags=re.MULTILINE))
    assert {"README.md"} < {name for name, _ in PYTHON_BLOCKS} & {name for name, _ in M2V_COMMANDS}


def test_readme_repeats_measured_scores():
    """Its table has some columns of the table of the benchmarks."""
    table = re.findall(r"^\| ([^|]+) \| ([\d.]*) ?\|(?: ([^|]+) \|)+$", TEXTS["docs/benchmarks.md"], flags=re.MULTILINE)
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]*) ?\| ([^|]+) \|$", README, flags=re.MULTILINE)
    assert len(rows) > 3 and set(rows) <= set(table)


def test_glossary_is_that_of_the_app():
    assert (
        dict(re.findall(r"^\| ([^|]+) \| ([A-Z][^|]+\.) \|$", TEXTS["docs/glossary.md"], flags=re.MULTILINE))
        == GLOSSARY
    )


@pytest.mark.parametrize("name", TEXTS)
def test_links_and_paths_lead_to_files(name):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", TEXTS[name])
    # In backticks: what begins with a folder of the project, or ends like a file of it; no placeholders, no patterns.
    folders = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir() and path.name != "build")
    suffixes = "c|css|h|html|js|md|py|toml|yaml"
    paths = re.findall(rf"`((?:{folders})/[\w./-]+|[\w./-]+\.(?:{suffixes}))`", TEXTS[name])
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []
    # `python benchmarks/encode.py --compat` and the like.
    paths += re.findall(r"`(?:python|pytest) ([\w./-]+\.py)[^`]*`", TEXTS[name])
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_package_is_in_the_architecture():
    packages = [path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("m2v_core/**/__init__.py")]
    assert packages and [name for name in packages if f"`{name}`" not in TEXTS["docs/architecture.md"]] == []


@pytest.mark.parametrize("name", TEXTS)
def test_make_targets_exist(name):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    mentioned = re.findall(r"(?:^|`)make ([a-z]+)", TEXTS[name], flags=re.MULTILINE)
    assert set(mentioned) <= set(targets)
