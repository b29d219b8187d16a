"""Runs the m2v command in this process, in a subprocess or on a terminal, and checks its results."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys

from click.testing import CliRunner

from m2v_core import cli

BUNDLED = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE = os.environ | {"HF_HUB_OFFLINE": "1"}


def m2v(*arguments, **env):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env=env)


def m2v_process(*arguments):
    command = [sys.executable, "-m", "m2v_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=OFFLINE)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def assert_one_error_line(done, message):
    assert done.exit_code == 1, done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.output
    assert done.stdout == ""


def in_terminal(*arguments, interrupt_at=None):
    """Run a command on a terminal; return the output and the exit code.

    Args:
        arguments: Arguments of m2v.
        interrupt_at: Press Ctrl-C when this text appears.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-m", "m2v_core", *map(str, arguments)], OFFLINE)
    shown, is_pressed = b"", False
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError as error:  # Linux raises this when the other end is closed
            assert error.errno == errno.EIO
            break
        if not read:
            break
        shown += read
        if interrupt_at is not None and not is_pressed and interrupt_at.encode() in shown:
            os.write(terminal, b"\x03")
            is_pressed = True
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(status)
