"""A real app in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Server:
    """A running app.

    Attributes:
        address: "http://127.0.0.1:port", without a slash at the end.
        home: Its data folder.
        seconds_to_first_page: From its start until it served a page.
    """

    address: str
    home: Path
    process: subprocess.Popen[str]
    seconds_to_first_page: float

    def stop(self) -> None:
        """End it as Ctrl-C would."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start_app(
    home: Path,
    variables: Mapping[str, str] | None = None,
    checkout: Path = ROOT,
    command: Sequence[str | Path] = (sys.executable, "app.py"),
) -> Server:
    """An app with the given data folder, once it serves pages; RuntimeError with its log if it never does.

    Args:
        home: Its data folder; its log is `server.log` in there.
        variables: Of its environment, beside those of this process; an empty one is taken out.
        checkout: Where its code and its `spaces.yaml` are.
        command: Starts it there.
    """
    port = _free_port()
    home.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "M2V_STUDIO_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "M2V_STUDIO_DEMO": "0",  # would take the processor from the first tests
    }
    for name in ("GRADIO_TEMP_DIR", "SPACE_ID", "OAUTH_CLIENT_ID"):
        environment.pop(name, None)
    environment |= variables or {}
    environment = {name: value for name, value in environment.items() if value or name not in (variables or {})}
    with (home / "server.log").open("w") as log:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=log, text=True)
    address = f"http://127.0.0.1:{port}"
    while not _answers(address):
        if process.poll() is not None or time.monotonic() - started > 120:
            process.kill()
            printed = (home / "server.log").read_text()
            if "Cannot find empty port" in printed:  # another process took it in the meantime
                return start_app(home, variables, checkout, command)
            raise RuntimeError(f"the app did not start:\n{printed}")
        time.sleep(0.05)
    return Server(address, home, process, time.monotonic() - started)


def limited_checkout(folder: Path, **limits: Mapping[str, int]) -> Path:
    """`folder`, now a checkout with the code of this one and other limits.

    Args:
        folder: Made when absent; made anew when not.
        limits: By section of `spaces.yaml`: `laptop={"documents": 5}`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("m2v_core", "pages"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    # No link: Python would look for its neighbours beside the original.
    shutil.copyfile(ROOT / "app.py", folder / "app.py")
    settings = yaml.safe_load((ROOT / "spaces.yaml").read_text(encoding="utf-8"))
    for section, changes in limits.items():
        assert changes.keys() <= settings["limits"][section].keys()
        settings["limits"][section] |= changes
    (folder / "spaces.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return folder


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False
