"""Kinds of jobs for the tests, run by real workers."""

import ctypes
import errno
import os
import signal
import sys
import time
from pathlib import Path

from m2v_core.errors import InputError, SaveError
from m2v_core.progress import ProgressReporter


def count(order):
    """Count to `units` at `seconds` each, in two stages, and leave the number behind."""
    units, seconds = order.parameters.get("units", 3), order.parameters.get("seconds", 0.0)
    reporter = ProgressReporter(order.progress, order.cancel)
    for stage in ("load", "encode"):
        reporter.start(stage, units)
        for _ in range(units):
            time.sleep(seconds)
            reporter.advance(1)
    words = order.texts.get("vocabulary", [])
    (order.staging / "counted.txt").write_text(f"{units} {len(words)}")
    return {"units": units, "words": words[:5]}


def echo(order):
    sys.stdout.write(f"parameters: {order.parameters}; secrets: {dict(order.secrets)}\n")
    sys.stdout.flush()
    sys.stderr.write("a token of nobody's: hf_" + "x" * 34 + "\n")
    os.write(2, ("straight to the descriptor: " + order.secrets.get("hf_token", "none") + "\n").encode())
    order.private_cache.mkdir()
    (order.private_cache / "private.bin").write_bytes(b"private")
    if order.parameters.get("fail"):
        raise InputError(f"The Hub refused {order.secrets['hf_token']}.")
    return {"echo": order.secrets.get("hf_token")}


def ramble(order):
    """Print a line that is too long for the log, with a secret at each possible cut."""
    for before in range(99_960, 100_001):
        sys.stdout.write("." * before + order.secrets["hf_token"] + "." * 100_000 + "\n")
    sys.stdout.write("the end\n" + "y" * 150_000)
    return {}


def look_around(order):
    """Return what other processes can see of this process."""
    pid, parent = os.getpid(), os.getppid()
    seen = {}
    for number in (pid, parent):
        for name in ("cmdline", "environ"):
            seen[f"{number}/{name}"] = Path(f"/proc/{number}/{name}").read_bytes().decode(errors="replace")
    (order.staging / "seen.txt").write_text(repr(seen))
    return {}


def stubborn(order):
    """Ignore all requests to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    order.progress(_progress("encode"))
    while True:
        time.sleep(60)


def deaf(order):
    """Hold the GIL in native code, so that no thread of the worker can react."""
    order.progress(_progress("encode"))
    ctypes.PyDLL(None).sleep(60)


def refuse(order):
    raise InputError("This teacher has no tokenizer. Choose another.")


def lack(order):
    """Run out of memory with an unrelated error, such as an import that fails."""
    try:
        bytearray(order.parameters["n_bytes"])
    except MemoryError as error:
        raise InputError("numpy is not installed") from error


def starve(order):
    """Use nearly all of the memory, and fail with an unrelated message."""
    taken = bytearray(order.parameters["n_bytes"] * 15 // 16)
    raise SystemError(f"error return without exception set after {len(taken)} bytes")


def save_badly(order):
    raise SaveError(f"Could not write {order.staging}.")


def find_no_room(order):
    raise OSError(errno.ENOSPC, "No space left on device")


def stumble(order):
    raise ZeroDivisionError("hidden from people")


def hoard(order):
    return {"bytes": len(bytearray(order.parameters["n_bytes"]))}


def kill_itself(order):
    sys.stdout.write("last words")  # without a line break
    sys.stdout.flush()
    os.kill(os.getpid(), order.parameters.get("signal", signal.SIGKILL))


def sign(order):
    """Append a line for each run."""
    with Path(order.parameters["file"]).open("a") as file:
        file.write(order.parameters["name"] + "\n")
    time.sleep(order.parameters.get("seconds", 0.2))
    return {}


def _progress(stage):
    from m2v_core.progress import Progress

    return Progress(stage, 1, 10, 1.0, 9.0)


def unspeakable(order):
    return {"model": object()}


def shout(order):
    line = "x" * 1000 + "\n"
    for _ in range(order.parameters["n_bytes"] // len(line)):
        sys.stdout.write(line)
    return {}


def keep_and_die(order):
    """Commit a result, and be killed."""
    (order.staging / "kept.txt").write_text("kept")
    order.commit({"kept": True})
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
