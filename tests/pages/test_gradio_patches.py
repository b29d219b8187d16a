"""Each assumption about Gradio's internals, with the behavior that would change if it no longer held."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import gradio.mcp
import gradio.queueing
import gradio.routes
import gradio.utils
import httpx
import pytest
from gradio_client import Client

from app import build_app
from pages import api
from pages.gradio_patches import (
    add_endpoint,
    current_address,
    current_page,
    current_request,
    current_session,
    disable_heartbeat,
    replace_preview,
    restrict_tools,
    serve_file,
    start_queue,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what `start_queue` sets."""
    monkeypatch.setenv("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1")
    monkeypatch.delenv("GRADIO_ANALYTICS_CACHE_FREQUENCY")


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[gr.Blocks], str]]:
    """Serve an app from this process, and return its address."""
    apps: list[gr.Blocks] = []
    # On a Space the address would be another.
    monkeypatch.delenv("SPACE_ID", raising=False)

    def serve(app: gr.Blocks) -> str:
        apps.append(app)
        _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", server_port=None)
        return str(address).rstrip("/")

    yield serve
    for app in apps:
        app.close()


def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """Playwright's synchronous interface keeps an event loop in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *arguments).result()


def test_a_page_has_a_load_event_and_is_the_one_being_built() -> None:
    with gr.Blocks() as app:
        assert current_page() is app
        current_page().load(lambda: None)
    with app.route("Two"):
        current_page().load(lambda: None)
    loads = [function.page for function in app.fns.values() if function.targets[0][1] == "load"]
    assert loads == ["", "two"]
    with pytest.raises(RuntimeError, match="No page is being built"):
        current_page()


def test_a_handler_has_a_request_without_asking_for_it(launch: Callable[[gr.Blocks], str]) -> None:
    def told() -> list[str | None]:
        request = current_request()
        assert isinstance(request, gr.Request)
        return [request.session_hash, current_session(), current_address()]

    with gr.Blocks() as app:
        add_endpoint(told)
    address = launch(app)
    client = Client(address, verbose=False)
    assert client.predict(api_name="/told") == [client.session_hash, client.session_hash, address]
    assert (current_request(), current_session(), current_address()) == (None, None, None)


def test_a_served_file_can_be_fetched_and_its_neighbor_cannot(
    launch: Callable[[gr.Blocks], str], tmp_path: Path
) -> None:
    file, secret = tmp_path / "a b.js", tmp_path / "secret"
    file.write_text("let a")
    secret.write_text("no")
    with gr.Blocks() as app:
        relative = serve_file(file)
    address = launch(app)
    assert httpx.get(f"{address}/{relative}").text == "let a"
    assert httpx.get(f"{address}/gradio_api/file={secret}").status_code == 403


def test_a_link_to_the_app_is_shown_as_ours(
    launch: Callable[[gr.Blocks], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = gradio.routes.templates.env
    monkeypatch.setattr(environment, "loader", environment.loader)
    monkeypatch.setattr(environment, "cache", environment.cache)
    with gr.Blocks() as blocks:
        gr.Textbox()
    address = launch(blocks)
    assert "header-image.jpg" in httpx.get(address).text
    replace_preview("Studio", 'Small "static" models')
    page = httpx.get(address).text
    assert page.count("og:title") == 1 and '<meta property="og:title" content="Studio" />' in page
    assert "Small &#34;static&#34; models" in page and "gradio_config" in page
    assert "og:image" not in page and "twitter:image" not in page and "@Gradio" not in page


def test_no_page_keeps_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with gr.Blocks() as app:
        gr.State(1)
        current_page().unload(lambda: None)
    assert app.get_config_file()["connect_heartbeat"] is True
    monkeypatch.setattr(gradio.utils, "connect_heartbeat", gradio.utils.connect_heartbeat)
    disable_heartbeat()
    assert app.get_config_file()["connect_heartbeat"] is False


@pytest.mark.parametrize(("loop", "least_seconds"), [("start_processing", 0.01), ("start_progress_updates", 0.1)])
def test_an_idle_queue_sleeps(monkeypatch: pytest.MonkeyPatch, loop: str, least_seconds: float) -> None:
    with gr.Blocks() as app:
        pass
    start_queue(app, concurrency_limit=16)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        app._queue.stopped = len(slept) == 3

    monkeypatch.setattr(gradio.queueing.asyncio, "sleep", sleep)
    in_thread(asyncio.run, getattr(app._queue, loop)())
    assert slept == [least_seconds] * 3


def test_events_make_no_statistics(monkeypatch: pytest.MonkeyPatch, launch: Callable[[gr.Blocks], str]) -> None:
    made: list[int] = []
    make = gradio.queueing.Queue._get_df
    monkeypatch.setattr(gradio.queueing.Queue, "_get_df", lambda *records: made.append(1) or make(*records))

    def statistics_after_two_events(start: Callable[[gr.Blocks], Any]) -> int:
        def answer() -> str:
            return "yes"

        with gr.Blocks() as app:
            add_endpoint(answer)
        start(app)
        client = Client(launch(app), verbose=False)
        made.clear()
        client.predict(api_name="/answer")
        client.predict(api_name="/answer")
        return len(made)

    assert statistics_after_two_events(lambda app: app.queue()) > 0
    assert statistics_after_two_events(lambda app: start_queue(app, concurrency_limit=16)) == 0


@pytest.fixture
def gradios_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the restriction afterwards."""
    pytest.importorskip("mcp")
    server = gradio.mcp.GradioMCPServer
    monkeypatch.setattr(server, "get_tool_to_endpoint", server.get_tool_to_endpoint)


@pytest.fixture(scope="module")
def app() -> gr.Blocks:
    return build_app()


def erase_everything(owner: str) -> str:
    """Erase it all."""
    return owner


def with_erasing() -> gr.Blocks:
    with gr.Blocks() as app:
        for handler in (api.list_models, api.delete, erase_everything):
            add_endpoint(handler)
    return app


def test_gradio_would_make_a_tool_of_every_endpoint(gradios_tools: None) -> None:
    assert set(gradio.mcp.GradioMCPServer(with_erasing()).tool_to_endpoint) == {
        "list_models",
        "delete",
        "erase_everything",
    }


def test_only_read_only_endpoints_are_tools(app: gr.Blocks, gradios_tools: None) -> None:
    assert in_thread(restrict_tools, app, api.READ_ONLY)
    tools = gradio.mcp.GradioMCPServer(app).tool_to_endpoint
    assert {endpoint.lstrip("/") for endpoint in tools.values()} == api.READ_ONLY
    assert in_thread(restrict_tools, with_erasing(), {"list_models"})


def test_an_extra_tool_turns_the_server_off(
    gradios_tools: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = gradio.mcp.GradioMCPServer
    everything = server.get_tool_to_endpoint

    def unfiltered(self: Any) -> None:
        """As after a rename of the method that is replaced."""
        self.tool_to_endpoint = everything(self)

    monkeypatch.setattr(server, "warn_about_state_inputs", unfiltered)
    with caplog.at_level(logging.ERROR):
        assert not in_thread(restrict_tools, with_erasing(), {"list_models"})
    assert "Extra: delete, erase_everything. Missing: none." in caplog.text
    assert "Install the gradio of constraints.txt" in caplog.text


def test_a_missing_tool_turns_the_server_off(gradios_tools: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert not in_thread(restrict_tools, with_erasing(), {"list_models", "encode"})
    assert "Extra: none. Missing: encode." in caplog.text


def test_tools_that_cannot_be_listed_turn_the_server_off(
    gradios_tools: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gradio.mcp, "GradioMCPServer", type("Server", (), {"get_tool_to_endpoint": dict}))
    with caplog.at_level(logging.ERROR):
        assert not in_thread(restrict_tools, with_erasing(), {"list_models"})
    assert "listing its tools failed" in caplog.text
