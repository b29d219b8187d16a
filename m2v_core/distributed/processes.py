"""The built-in engine: worker processes on this machine, each with the model, each one file at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from m2v_core.distributed.shards import MOST_ATTEMPTS, Job, Outcome, Shard, ShardEncoder, died
from m2v_core.errors import M2VError
from m2v_core.progress import Progress

_SECONDS_BETWEEN_REPORTS = 0.2
_SECONDS_TO_END = 5.0

OnProgress = Callable[[str, int, int], None]  # path of an input, its texts so far, and in all (0: unknown)


def run_in_processes(
    job: Job, shards: Sequence[Shard], n_workers: int, on_progress: OnProgress
) -> Generator[Outcome, None, None]:
    """The outcome of each file, in the order in which they end.

    A worker that dies is replaced, and its file tried again. When the caller stops, however it does, no worker is left.

    Args:
        job: What the files have in common.
        shards: The files.
        n_workers: How many processes.
        on_progress: Called several times a second; what it raises ends the run.

    Raises:
        M2VError: Workers can't start.
    """
    pending = deque(shards)
    attempts: Counter[str] = Counter()
    workers: list[_Worker] = []
    try:
        while pending or any(worker.shard for worker in workers):
            while pending and len(workers) < n_workers:
                workers.append(_Worker.started(job))
            for worker in workers:
                if worker.shard is None and pending:
                    worker.take(pending.popleft())
            wait([worker.connection for worker in workers], _SECONDS_BETWEEN_REPORTS)
            on_progress("", 0, 0)
            for worker in list(workers):
                for message in worker.messages():
                    if isinstance(message, Outcome):
                        yield message
                    else:
                        on_progress(*message)
                if not worker.is_dead:
                    continue
                workers.remove(worker)
                shard, ending = worker.shard, worker.ending()
                if shard is None:
                    continue
                attempts[shard.input.path] += 1
                if attempts[shard.input.path] < MOST_ATTEMPTS:
                    pending.appendleft(shard)
                    continue
                yield died(shard, ending)
    finally:
        for worker in workers:
            worker.stop()


@dataclass
class _Worker:
    process: Any
    connection: Connection
    shard: Shard | None = None
    is_dead: bool = False

    @classmethod
    def started(cls, job: Job) -> _Worker:
        spawning = multiprocessing.get_context("spawn")
        ours, theirs = spawning.Pipe()
        process = spawning.Process(target=_work, args=(theirs, job), name="m2v-encode", daemon=True)
        with _interrupts_held():  # and inherited so: one that comes while it starts would end it with a traceback
            process.start()
        theirs.close()  # so that the worker's end is the pipe's end
        return cls(process, ours)

    def take(self, shard: Shard) -> None:
        self.shard = shard
        with contextlib.suppress(OSError):  # a dead one is found by its pipe
            self.connection.send(shard)

    def messages(self) -> Iterator[Any]:
        """What it has to say; an outcome frees it for the next file."""
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, Outcome):
                    if not message.input:  # it could not start
                        raise message.exception()
                    self.shard = None
                yield message
        except (EOFError, OSError) as error:
            if isinstance(error, M2VError):
                raise
            self.is_dead = True

    def ending(self) -> str:
        self.process.join(_SECONDS_TO_END)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"signal {-code} ({signal.Signals(-code).name})"
        return f"exit code {code}"

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(_SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end of this, and doesn't reach the processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it, which the first process otherwise does, lets them through again
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # here, and by inheritance there
    came: list[int] = []  # through another thread
    is_main = threading.current_thread() is threading.main_thread()
    handler_before = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler_before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _work(connection: Connection, job: Job) -> None:
    """What a worker does until the driver closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the driver decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        encoder = ShardEncoder(job)
    except M2VError as error:
        connection.send(Outcome("", message=str(error), error=type(error).__name__))
        return
    with contextlib.suppress(EOFError, ConnectionError):  # the driver has what it wants
        while True:
            shard = connection.recv()
            connection.send(encoder.encode(shard, _reporter(connection, shard.input.path)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _reporter(connection: Connection, path: str) -> Callable[[Progress], None]:
    """Sends progress, not more often than anybody can see."""
    sent_at = 0.0

    def report(event: Progress) -> None:
        nonlocal sent_at
        now = time.monotonic()
        if event.stage == "encode" and now - sent_at >= _SECONDS_BETWEEN_REPORTS:
            sent_at = now
            connection.send((path, event.done, event.total))

    return report
