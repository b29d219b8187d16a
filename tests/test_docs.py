"""What the documents and the help promise."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from m2v_core.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = TEXTS["README.md"]
COMMANDS = app.commands
OPTIONS = [(name, option) for name, command in COMMANDS.items() for option in command.params]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
PYTHON_BLOCKS = [code for language, code in BLOCKS if language == "python"]
M2V_LINES = [
    line
    for language, code in BLOCKS
    if language != "python"
    for line in code.replace("\\\n", " ").splitlines()
    if line.startswith("m2v ")
]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_documented(name):
    assert COMMANDS[name].help
    assert any(line.split()[1] == name for line in M2V_LINES), f"the README never runs m2v {name}"


@pytest.mark.parametrize(
    ("command", "option"), OPTIONS, ids=[f"{command} {option.opts[0]}" for command, option in OPTIONS]
)
def test_option_is_documented(command, option):
    assert option.help, f"m2v {command} {option.opts[0]} has no help"


@pytest.mark.parametrize("line", M2V_LINES)
def test_readme_command_parses(line):
    _, name, *arguments = shlex.split(line, comments=True)
    COMMANDS[name].make_context(name, arguments).close()


@pytest.mark.parametrize("code", PYTHON_BLOCKS)
def test_readme_python_compiles(code):
    compile(code, "README.md", "exec")


def test_readme_has_code_of_both_kinds():
    assert PYTHON_BLOCKS and M2V_LINES


@pytest.mark.parametrize("name", TEXTS)
def test_links_and_paths_lead_to_files(name):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", TEXTS[name])
    # In backticks: what begins with a folder of the project, or ends like a file of it; no placeholders, no patterns.
    folders = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())
    suffixes = "c|css|h|html|js|md|py|toml|yaml"
    paths = re.findall(rf"`((?:{folders})/[\w./-]+|[\w./-]+\.(?:{suffixes}))`", TEXTS[name])
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_package_is_in_the_architecture():
    packages = [path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("m2v_core/**/__init__.py")]
    assert packages and [name for name in packages if f"`{name}`" not in TEXTS["docs/architecture.md"]] == []


@pytest.mark.parametrize("name", TEXTS)
def test_make_targets_exist(name):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    mentioned = re.findall(r"(?:^|`)make ([a-z]+)", TEXTS[name], flags=re.MULTILINE)
    assert set(mentioned) <= set(targets)
