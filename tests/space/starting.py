"""Starting a rendered Space as the Hub does."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

# Far beyond what it takes, for a busy machine is no failure of the Space.
SECONDS_TO_START = 180


@contextmanager
def running_space(
    space: Path, python: str | Path, home: Path, **variables: str
) -> Iterator[tuple[str, psutil.Process, Path]]:
    """The address, the process and the log of a Space; its environment is that of the Hub, and `variables`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "M2V_STUDIO_DEMO": "0",
        "HF_TOKEN": "hf_the_owner",
        "GRADIO_SERVER_NAME": "127.0.0.1",  # on the Hub 0.0.0.0
        "GRADIO_SERVER_PORT": str(port),
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/studio",
        "SPACE_AUTHOR_NAME": "someone",
        "SPACE_REPO_NAME": "studio",
        "SPACE_TITLE": "M2V Studio",
        "SPACE_HOST": "someone-studio.hf.space",
        "SPACE_CREATOR_USER_ID": "0123456789abcdef01234567",
        "CPU_CORES": "2",
        "MEMORY": "16Gi",
        **variables,
    }
    log = home.parent / "log"
    with log.open("w") as output:
        process = psutil.Popen([python, "app.py"], cwd=space, env=environment, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + SECONDS_TO_START
    while not answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the Space did not start:\n{log.read_text()}")
        time.sleep(0.2)
    yield address, process, log
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except psutil.TimeoutExpired:
        process.kill()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except OSError:
        return False
