"""Teachers loaded in separate processes for queries: one text at a time, answered in milliseconds.

The process is `python -m m2v_core.studio.serving.teacher_queries TEACHER`. It reads texts as lines of JSON from
standard input and answers with lines: `{"vector": [...]}` or `{"error": "..."}`. It exits at the end of the input.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import M2VError, TeacherError
from m2v_core.storage.cache import RecentlyUsed
from m2v_core.studio import memory_cap
from m2v_core.studio.processes import worker_environment

_MAX_ANSWERS = 500  # cached vectors of a few kB
_ANSWER_SECONDS = 180.0  # timeout of an answer, including loading and downloading a teacher


class TeacherQueries:
    """Embeds queries with teachers, and keeps recently used teachers loaded. Thread-safe.

    Args:
        max_teachers: Maximum number of loaded teachers; the least recently used is unloaded.
        idle_seconds: Seconds without queries after which a teacher is unloaded.
        memory_bytes: Private memory of each process; None for no limit. Enforced on Linux only.
    """

    def __init__(
        self, max_teachers: int = 2, idle_seconds: float = 600.0, memory_bytes: int | None = 6 * 2**30
    ) -> None:
        self._max_teachers = max_teachers
        self._idle_seconds = idle_seconds
        self._memory_bytes = memory_bytes
        self._loaded: OrderedDict[str, _TeacherProcess] = OrderedDict()
        self._answers: RecentlyUsed[tuple[str, str], NDArray[np.float32]] = RecentlyUsed(_MAX_ANSWERS)
        self._lock = threading.Lock()

    def prepare(self, teacher: str) -> None:
        """Start loading a teacher in the background, unless it is loaded."""
        self._process(teacher)

    def is_ready(self, teacher: str, text: str) -> bool:
        """Whether `embed` will return without loading the teacher."""
        with self._lock:
            process = self._loaded.get(teacher)
            return (teacher, text) in self._answers or (process is not None and process.has_answered)

    def embed(self, teacher: str, text: str) -> NDArray[np.float32]:
        """Return the teacher's embedding of a text, (dim,) float32.

        Args:
            teacher: A folder, or a name on the Hub. Validate it first, as any folder will be opened.
            text: The query.

        Raises:
            TeacherError: The teacher can't be loaded or used.
        """
        cached = self._answers.get((teacher, text))
        if cached is not None:
            return cached
        return self._answers.put((teacher, text), self._process(teacher).embed(text))

    def close(self) -> None:
        """Unload all teachers."""
        with self._lock:
            processes = list(self._loaded.values())
            self._loaded.clear()
        for process in processes:
            process.close()

    def _process(self, teacher: str) -> _TeacherProcess:
        dropped: list[_TeacherProcess] = []
        with self._lock:
            process = self._loaded.pop(teacher, None)
            if process is not None and not process.is_alive:
                dropped.append(process)
                process = None
            if process is None:
                process = _TeacherProcess(teacher, self._memory_bytes)
                self._schedule_unload()
            self._loaded[teacher] = process
            process.used_at = time.monotonic()
            while len(self._loaded) > self._max_teachers:
                dropped.append(self._loaded.popitem(last=False)[1])
        for old in dropped:
            old.close()
        return process

    def _schedule_unload(self) -> None:
        timer = threading.Timer(self._idle_seconds, self._unload_idle)
        timer.daemon = True
        timer.start()

    def _unload_idle(self) -> None:
        oldest = time.monotonic() - self._idle_seconds
        with self._lock:
            idle = [teacher for teacher, process in self._loaded.items() if process.used_at <= oldest]
            dropped = [self._loaded.pop(teacher) for teacher in idle]
            if self._loaded:
                self._schedule_unload()
        for process in dropped:
            process.close()


class _TeacherProcess:
    """A process with one teacher."""

    def __init__(self, teacher: str, memory_bytes: int | None) -> None:
        self.used_at = time.monotonic()
        self.has_answered = False
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "m2v_core.studio.serving.teacher_queries", teacher, str(memory_bytes or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=worker_environment(),
            text=True,
            encoding="utf-8",
            start_new_session=True,  # on Ctrl-C the app closes its input
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def embed(self, text: str) -> NDArray[np.float32]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            timer = threading.Timer(_ANSWER_SECONDS, self._process.kill)
            timer.start()
            try:
                # The process may have exited with an error, which can still be read.
                with contextlib.suppress(OSError, ValueError):
                    self._process.stdin.write(json.dumps(text) + "\n")
                    self._process.stdin.flush()
                line = self._process.stdout.readline()
            except ValueError:  # it was closed to load another teacher
                line = ""
            finally:
                timer.cancel()
            answer: dict[str, Any] = json.loads(line) if line.endswith("\n") else {}
            if "vector" not in answer:
                raise TeacherError(answer.get("error", "The teacher's process ended before it answered. Search again."))
            self.has_answered = True
            return np.asarray(answer["vector"], dtype=np.float32)

    def close(self) -> None:
        # Wait for a query in progress to finish.
        with self._lock:
            assert self._process.stdin is not None and self._process.stdout is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()


def main(teacher: str, memory_bytes: str) -> None:
    """Load a teacher and answer queries until the end of the input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep library output out of the answers
    if sys.platform != "win32":
        os.umask(0o077)
    memory_cap.cap(int(memory_bytes) or None)

    def send(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        from m2v_core.distillation.teacher.teacher import resolve_device, trusted_folder
        from m2v_core.evaluation.encoders import TeacherEncoder

        encoder = TeacherEncoder(trusted_folder(teacher), teacher, resolve_device(None))
        for line in sys.stdin:
            send({"vector": encoder.encode([json.loads(line)])[0].tolist()})
    except M2VError as error:
        send({"error": str(error)})
    except Exception as error:  # the app reports it
        traceback.print_exc()
        message = "The teacher could not be used."
        send(
            {"error": memory_cap.message(int(memory_bytes) or None) if memory_cap.is_out_of_memory(error) else message}
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
