"""What the README and the help promise."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from m2v_core.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
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
