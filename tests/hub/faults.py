"""Failures on demand: which requests fail, how, and how often."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.hub.wire import Reply, Request


@dataclass
class Fault:
    """How the requests that match fail.

    Attributes:
        reply: What they are answered, without being carried out; None where the connection ends instead.
        cut_after: Bytes of the true answer's body before the connection ends; the request is carried out.
        read_bytes: Bytes of the request's body before the connection ends; the request is not carried out.
        remaining: How many more requests fail; None for all.
    """

    pattern: re.Pattern[str]
    methods: tuple[str, ...]
    reply: Reply | None
    cut_after: int | None
    read_bytes: int | None
    remaining: int | None

    def strikes(self, request: Request) -> bool:
        """Whether this request fails."""
        return (
            self.remaining != 0
            and (not self.methods or request.method in self.methods)
            and self.pattern.search(request.path) is not None
        )


class Faults:
    """The failures that a Hub was told to have."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._faults_lock = threading.Lock()

    @contextmanager
    def failing(
        self,
        pattern: str,
        *,
        status: int = 500,
        message: str = "Told to fail.",
        error_code: str | None = None,
        headers: Mapping[str, str] | None = None,
        cut_after: int | None = None,
        read_bytes: int | None = None,
        methods: tuple[str, ...] = (),
        times: int | None = None,
    ) -> Iterator[Fault]:
        """Fail the requests whose path matches `pattern` (re.search) while the context lasts.

        Args:
            pattern: A regular expression; `""` matches every request.
            status: The status to answer with.
            message: The text of `X-Error-Message`.
            error_code: The text of `X-Error-Code`: `RepoNotFound`, `GatedRepo`, ...
            headers: More headers, such as `Retry-After`.
            cut_after: Close the connection after so many bytes of the true answer's body; 0: before it. What was
                asked is done all the same.
            read_bytes: Close the connection after so many bytes of the request's body; 0: without reading any, as
                if nobody were there. Nothing is done.
            methods: Only these methods; empty: all.
            times: Only so many requests; None: all.
        """
        is_cut = cut_after is not None or read_bytes is not None
        reply = None if is_cut else Reply.error(status, message, error_code, headers)
        fault = Fault(re.compile(pattern), methods, reply, cut_after, read_bytes, times)
        with self._faults_lock:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            with self._faults_lock:
                self._faults.remove(fault)

    def struck(self, request: Request) -> Fault | None:
        """The failure that this request meets; it counts as used."""
        with self._faults_lock:
            fault = next((fault for fault in self._faults if fault.strikes(request)), None)
            if fault is not None and fault.remaining is not None:
                fault.remaining -= 1
            return fault
