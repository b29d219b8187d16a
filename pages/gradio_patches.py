"""Everything here that relies on Gradio's internals.

Each function names what it relies on, and `tests/pages/test_gradio_patches.py` fails when Gradio changes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import gradio.mcp
import gradio.utils
from gradio.context import Context, LocalContext
from gradio.events import api

logger = logging.getLogger(__name__)


def current_page() -> gr.Blocks:
    """Return the page being built, whose `load` event fires when it is opened.

    Relies on `Context.root_block`.

    Raises:
        RuntimeError: No page is being built.
    """
    page = Context.root_block
    if page is None:
        raise RuntimeError("No page is being built. Call this inside `with gr.Blocks()`.")
    return page


def add_endpoint(handler: Callable[..., Any]) -> None:
    """Add a named endpoint for programs to the page being built, without any component.

    Relies on `gradio.events.api`, which is documented as `gr.api` but not exported.
    """
    api(handler, api_name=getattr(handler, "__name__"))  # noqa: B009 - mypy: not every callable has one


def current_request() -> gr.Request | None:
    """Return the request being answered; None outside a handler.

    Relies on `LocalContext.request`, which is also set where a handler doesn't ask for the request.
    """
    return LocalContext.request.get(None)


def current_session() -> str | None:
    """Return the id of the open browser page being answered, a new one after each refresh; None outside a handler."""
    request = current_request()
    return None if request is None else request.session_hash


def current_address() -> str | None:
    """Return the address of this app as the browser sees it, without a slash at the end; None outside a handler.

    Relies on `gr.Request.request` being Starlette's request.
    """
    request = current_request()
    if request is None or request.request is None:
        return None
    return str(request.request.base_url).rstrip("/")


def serve_file(path: Path) -> str:
    """Serve one file to everyone, and return its address relative to any page.

    Relies on the route `gradio_api/file=`.
    """
    gr.set_static_paths([path])
    return f"gradio_api/file={quote(path.as_posix())}"


def disable_heartbeat() -> None:
    """Stop pages from keeping a connection open.

    A browser opens at most six connections to one address, so the seventh tab would never load. The heartbeat only
    frees a session's state; `launch(state_session_capacity=...)` bounds that instead.

    Relies on `gradio.utils.connect_heartbeat`, which decides for each page.
    """
    gradio.utils.connect_heartbeat = lambda *_, **__: False


def start_queue(app: gr.Blocks, concurrency_limit: int) -> None:
    """Start the queue of `app` so that an idle app uses little CPU time.

    By default Gradio polls for events a thousand times per second, which takes 5 % of a core, and each finished event
    waits for statistics over all earlier events.

    Relies on `Queue.sleep_when_free` and `Queue.progress_update_sleep_when_free`, in seconds, and on
    `GRADIO_ANALYTICS_CACHE_FREQUENCY`, the number of events between two statistics.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
    app.queue(default_concurrency_limit=concurrency_limit)
    app._queue.sleep_when_free, app._queue.progress_update_sleep_when_free = 0.01, 0.1


def restrict_tools(app: gr.Blocks, read_only: AbstractSet[str]) -> bool:
    """Make the MCP server offer only the endpoints in `read_only` as tools; return whether to start that server.

    By default Gradio makes a tool of every endpoint, including those that delete. The server must not start unless the
    tools that it lists, and those that it would call, are exactly `read_only`.

    Relies on `GradioMCPServer.get_tool_to_endpoint`, whose keys are the only tools that are listed or called.

    Args:
        app: With all its endpoints.
        read_only: Names of endpoints, without a slash.
    """
    all_tools = gradio.mcp.GradioMCPServer.get_tool_to_endpoint

    def only_read_only(server: gradio.mcp.GradioMCPServer) -> dict[str, str]:
        return {tool: name for tool, name in all_tools(server).items() if name.lstrip("/") in read_only}

    # On the class, so that it counts wherever Gradio takes the class from.
    setattr(gradio.mcp.GradioMCPServer, "get_tool_to_endpoint", only_read_only)  # noqa: B010 - mypy: not a variable
    try:
        offered = _offered_tools(app)
    except Exception:  # whatever Gradio has changed, no tool is offered
        logger.exception("The MCP server is off: its tools can't be listed. Install the gradio of constraints.txt.")
        return False
    extra, missing = sorted(offered - read_only), sorted(read_only - offered)
    if extra or missing:
        logger.error(
            "The MCP server is off, because its tools are not the read-only ones. Too many: %s. Missing: %s. "
            "Install the gradio of constraints.txt, or correct READ_ONLY in pages/api.py.",
            ", ".join(extra) or "none",
            ", ".join(missing) or "none",
        )
    return not (extra or missing)


def _offered_tools(app: gr.Blocks) -> set[str]:
    """The endpoints behind all tools that an agent is shown or could call."""
    from mcp.shared.memory import create_connected_server_and_client_session

    server: Any = gradio.mcp.GradioMCPServer(app)

    async def listed() -> list[str]:
        async with create_connected_server_and_client_session(server.mcp_server) as session:
            return [tool.name for tool in (await session.list_tools()).tools]

    endpoints = {tool: name.lstrip("/") for tool, name in server.tool_to_endpoint.items()}
    return {endpoints.get(tool, tool) for tool in asyncio.run(listed())} | set(endpoints.values())
