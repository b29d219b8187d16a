"""How far a run came, kept beside its output, so that the next one goes on from there.

`vectors.npy.part` is the output so far, and `vectors.npy.part.json` says how much of it is sure, where the reader stood
then, and what was being done. Whatever kills a run, the part is cut to what is sure, and all goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from m2v_core.errors import SaveError

if TYPE_CHECKING:
    from m2v_core.model import StaticModel

_BYTES_COMPARED = 1 << 20  # at each end of an input
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass
class Progressed:
    """How far a run came.

    Attributes:
        n_bytes: Of the part that are sure.
        n_texts: Encoded so far.
        n_skipped: Rows left out so far.
        problems: Why, of the first of them.
        position: Where the reader stood; None at the start.
        writer: The state of the writer.
    """

    n_bytes: int = 0
    n_texts: int = 0
    n_skipped: int = 0
    problems: list[str] = field(default_factory=list)
    position: list[int] | None = None
    writer: Any = None


class Checkpoint:
    """The unfinished form of one output.

    Args:
        output_path: Where the output is to appear.
    """

    def __init__(self, output_path: Path) -> None:
        self.output_path = output_path
        self.part_path = output_path.with_name(f"{output_path.name}.part")
        self._state_path = output_path.with_name(f"{output_path.name}.part.json")
        self._new_state_path = output_path.with_name(f"{output_path.name}.part.json.new")

    @property
    def n_texts(self) -> int | None:
        """Texts that an unfinished run has encoded; None where there is none to go on with."""
        state = self._read()
        return None if state is None else int(state["progressed"]["n_texts"])

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The part, to read and write, for one process at a time.

        Raises:
            SaveError: Another process has it open.
        """
        with os.fdopen(os.open(self.part_path, os.O_RDWR | os.O_CREAT, 0o666), "rb+") as file:
            if not _is_ours_alone(file, self.part_path):
                raise SaveError(f"Another run is writing {self.output_path}. Wait for it, or name another output.")
            yield file

    def wait_until_free(self, seconds: float) -> None:
        """Wait for another process that is writing the part, such as one that is about to notice its parent's end."""
        until = time.monotonic() + seconds
        while self.part_path.exists() and time.monotonic() < until:
            with contextlib.suppress(OSError), self.part_path.open("rb+") as file:
                if _is_ours_alone(file, self.part_path):
                    return
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def resume(self, file: BinaryIO, fingerprint: dict[str, Any], is_restarted: bool | None) -> Progressed:
        """How far the run before this one came; the part is cut to that.

        Args:
            file: The part.
            fingerprint: All that the output depends on.
            is_restarted: Whether to begin anew, whatever is there; None to do so where it was made of something else.

        Raises:
            SaveError: What is there was made of something else.
        """
        state = None if is_restarted else self._read()
        if state is not None and os.fstat(file.fileno()).st_size < state["progressed"]["n_bytes"]:
            state = None
        progressed = Progressed()
        changed = (
            [] if state is None else [n for n, value in fingerprint.items() if state["fingerprint"].get(n) != value]
        )
        if changed and is_restarted is None:
            state = None
        if state is not None:
            if changed:
                raise SaveError(
                    f"{self.part_path} was left by a run that stopped after {state['progressed']['n_texts']:,} texts, "
                    f"and since then this changed: {', '.join(changed)}. Repeat that run as it was, or begin anew "
                    "(restart=True, --restart)."
                )
            progressed = Progressed(**state["progressed"])
        else:
            self._forget()
        file.truncate(progressed.n_bytes)
        file.seek(progressed.n_bytes)
        return progressed

    def save(self, file: BinaryIO, fingerprint: dict[str, Any], progressed: Progressed) -> None:
        """Make sure of all that has been written."""
        file.flush()
        os.fsync(file.fileno())
        with self._new_state_path.open("w", encoding="utf-8") as state:
            json.dump({"fingerprint": fingerprint, "progressed": asdict(progressed)}, state)
            state.flush()
            os.fsync(state.fileno())
        self._new_state_path.replace(self._state_path)

    def publish(self, file: BinaryIO) -> None:
        """Give the finished part its name."""
        file.flush()
        os.fsync(file.fileno())
        self.part_path.replace(self.output_path)
        self._forget()

    def remove(self) -> None:
        """Leave nothing."""
        with contextlib.suppress(OSError):
            self.part_path.unlink(missing_ok=True)
            self._forget()

    def _forget(self) -> None:
        for path in (self._state_path, self._new_state_path):
            path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = json.loads(self._state_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return state if self.part_path.is_file() else None


def model_fingerprint(model: StaticModel) -> str:
    """A digest of all that a model's embeddings depend on, but for what `encode` is told."""
    digest = hashlib.sha256(model.tokenizer.to_str().encode())
    for part in (model.token_embeddings, model.weights, model.token_mapping):
        if part is not None:
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    return digest.hexdigest()


def input_fingerprint(path: Path) -> str:
    """A digest of a file's size, time of change and both ends: reading it whole would take as long as encoding it."""
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_BYTES_COMPARED))
        file.seek(max(status.st_size - _BYTES_COMPARED, 0))
        digest.update(file.read(_BYTES_COMPARED))
    return digest.hexdigest()


def _is_ours_alone(file: BinaryIO, path: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # where an open file can't be removed or renamed by another process anyway
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Between our opening and locking it, another run may have finished it.
    return path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
