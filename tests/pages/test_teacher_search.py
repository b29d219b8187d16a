"""The search for teachers on the Hub, behind a network that says nothing."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from huggingface_hub import constants

from pages.components import teacher_search
from pages.components.teacher_search import has_hub, search


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_search, "_reached", [])


def test_one_at_a_time_asks_whether_there_is_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as others:
        silent.settimeout(60)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        first = others.submit(has_hub)
        connection, _ = silent.accept()
        with connection:
            # It waits for an answer; who comes meanwhile does not.
            assert [has_hub() for _ in range(3)] == [False] * 3 and not first.done()
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            assert first.result(60) is True
        assert has_hub() is True
        silent.settimeout(0.2)
        with pytest.raises(TimeoutError):  # nobody else has asked
            silent.accept()


def test_a_search_that_fails_offers_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(teacher_search, "is_reachable", fail)
    typed = gr.KeyUpData(None, {"key": "a", "input_value": "abc"})
    assert search(typed) == gr.skip()
    assert search(typed) == gr.skip()  # the lock is free again
