"""The built-in engine: worker processes on this machine, each with its own model, encoding one file at a time."""

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

from m2v_core.distributed.shards import MAX_ATTEMPTS, Job, Outcome, Shard, ShardEncoder, worker_died
from m2v_core.errors import M2VError
from m2v_core.progress import Progress

_SECONDS_BETWEEN_REPORTS = 0.2
_SECONDS_TO_END = 5.0

OnProgress = Callable[[str, int, int], None]  # path of an input, finished texts, total texts (0 if unknown)


def run_in_processes(
    job: Job, shards: Sequence[Shard], n_workers: int, on_progress: OnProgress
) -> Generator[Outcome, None, None]:
    """Yield the outcome of each file in order of completion.

    A worker that dies is replaced, and its file is retried. All workers are stopped when the caller stops iterating.

    Args:
        job: The settings shared by all files.
        shards: The files.
        n_workers: Number of processes.
        on_progress: Called several times per second; an exception that it raises ends the run.

    Raises:
        M2VError: Workers can't start.
    """
    pending = deque(shards)
    attempts: Counter[str] = Counter()
    workers: list[_Worker] = []
    try:
        while pending or any(worker.shard for worker in workers):
            while pending and len(workers) < n_workers:
                workers.append(_Worker.start(job))
            for worker in workers:
                if worker.shard is None and pending:
                    worker.send(pending.popleft())
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
                shard, ending = worker.shard, worker.exit_reason()
                if shard is None:
                    continue
                attempts[shard.input.path] += 1
                if attempts[shard.input.path] < MAX_ATTEMPTS:
                    pending.appendleft(shard)
                    continue
                yield worker_died(shard, ending)
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
    def start(cls, job: Job) -> _Worker:
        spawning = multiprocessing.get_context("spawn")
        ours, theirs = spawning.Pipe()
        process = spawning.Process(target=_work, args=(theirs, job), name="m2v-encode", daemon=True)
        with _block_interrupts():  # inherited by the process, where an interrupt during startup would print a traceback
            process.start()
        theirs.close()  # so that the pipe closes when the worker exits
        return cls(process, ours)

    def send(self, shard: Shard) -> None:
        self.shard = shard
        with contextlib.suppress(OSError):  # a dead worker is detected by its closed pipe
            self.connection.send(shard)

    def messages(self) -> Iterator[Any]:
        """Yield the worker's messages; an outcome makes it available for the next file."""
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, Outcome):
                    if not message.input:  # the worker could not start
                        raise message.exception()
                    self.shard = None
                yield message
        except (EOFError, OSError) as error:
            if isinstance(error, M2VError):
                raise
            self.is_dead = True

    def exit_reason(self) -> str:
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
def _block_interrupts() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block, and keep it from the processes started there."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it later, with the first process, would unblock interrupts
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the process
    came: list[int] = []  # delivered to another thread
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
    """Encode shards until the driver closes the pipe or exits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the driver handles it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        encoder = ShardEncoder(job)
    except M2VError as error:
        connection.send(Outcome("", message=str(error), error=type(error).__name__))
        return
    with contextlib.suppress(EOFError, ConnectionError):  # the driver closed the pipe
        while True:
            shard = connection.recv()
            connection.send(encoder.encode(shard, _reporter(connection, shard.input.path)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _reporter(connection: Connection, path: str) -> Callable[[Progress], None]:
    """Return a progress callback that sends progress at a limited rate."""
    sent_at = 0.0

    def report(event: Progress) -> None:
        nonlocal sent_at
        now = time.monotonic()
        if event.stage == "encode" and now - sent_at >= _SECONDS_BETWEEN_REPORTS:
            sent_at = now
            connection.send((path, event.done, event.total))

    return report
