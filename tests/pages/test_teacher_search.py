"""The search for teachers on the Hub, behind a network that says nothing."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from huggingface_hub import constants

from m2v_core.hub.info import FoundTeacher
from pages.components import teacher_search
from pages.components.teacher_search import has_hub, search


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_search, "_last_check", [])


def typed(text: str) -> gr.KeyUpData:
    return gr.KeyUpData(None, {"key": text[-1], "input_value": text})


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
    assert search([""], typed("abc")) == gr.skip()
    assert search([""], typed("abc")) == gr.skip()  # the lock is free again


def test_the_newest_text_is_answered_even_while_the_first_search_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def slow_hub() -> bool:
        asked.set()
        return may_answer.wait(60)

    monkeypatch.setattr(teacher_search, "is_reachable", slow_hub)
    monkeypatch.setattr(teacher_search, "_found", lambda query: [FoundTeacher(f"someone/{query}", 1, 1)])
    newest = [""]
    with ThreadPoolExecutor(1) as others:
        first = others.submit(search, newest, typed("tin"))
        assert asked.wait(60)
        assert search(newest, typed("tiny")) == gr.skip()
        may_answer.set()
        assert next(name for _, name in first.result(60).choices) == "someone/tiny"


def test_an_older_search_that_ends_last_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = [""]

    def found(query: str) -> list[FoundTeacher]:
        if query == "tin":
            search(newest, typed("tiny"))
        return [FoundTeacher("someone/tiny", 1, 1)]

    monkeypatch.setattr(teacher_search, "is_reachable", lambda: True)
    monkeypatch.setattr(teacher_search, "_found", found)
    assert search(newest, typed("tin")) == gr.skip()
